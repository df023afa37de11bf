"""Offline goal-conditioned reinforcement learning as a data pipeline.

Data flows in one direction: recipe, Minari dataset, episodes, hindsight table, policy, results, report. Each step is a
stage in ``dvc.yaml``, a script in ``pipelines/`` and a folder of this package.
"""

import os
from ctypes.util import find_library
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from offline_gcrl.policies.policy import Policy, load_policy

__all__ = ["Policy", "__version__", "load_policy"]
__version__ = "0.1.0"


def _rendering_backend() -> str:
    """The off-screen GL library of this machine; MuJoCo fails at import with a library that is not installed."""
    found = (
        name for name, library in (("egl", "EGL"), ("osmesa", "OSMesa")) if find_library(library)
    )
    return next(found, "disabled")


# MuJoCo reads this variable once, at its import, so it must be set before any module of the package imports MuJoCo.
os.environ.setdefault("MUJOCO_GL", _rendering_backend())


def __getattr__(name: str) -> Any:
    """Import the policy module, and torch with it, only when a policy is used."""
    if name in {"Policy", "load_policy"}:
        from offline_gcrl.policies import policy

        return getattr(policy, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
