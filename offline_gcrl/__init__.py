"""Offline goal-conditioned reinforcement learning as a data pipeline.

Data flows in one direction: recipe, Minari dataset, episodes, hindsight table, policy, results, report. Each step is a
stage in ``dvc.yaml``, a script in ``pipelines/`` and a folder of this package. ``load_dataset``, ``train`` and
``evaluate`` do the same in a Python program, without a project folder.
"""

import os
from ctypes.util import find_library
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from offline_gcrl.library.datasets import LearningData, load_dataset
    from offline_gcrl.library.evaluating import evaluate, evaluation_episodes
    from offline_gcrl.library.policies import TrainedPolicy, load_policy
    from offline_gcrl.library.training import train
    from offline_gcrl.policies.policy import Policy
    from offline_gcrl.support.errors import OfflineGCRLError

__all__ = [
    "LearningData",
    "OfflineGCRLError",
    "Policy",
    "TrainedPolicy",
    "__version__",
    "evaluate",
    "evaluation_episodes",
    "load_dataset",
    "load_policy",
    "train",
]
__version__ = "0.1.0"


def _rendering_backend() -> str:
    """The off-screen GL library of this machine; MuJoCo fails at import with a library that is not installed."""
    found = (
        name for name, library in (("egl", "EGL"), ("osmesa", "OSMesa")) if find_library(library)
    )
    return next(found, "disabled")


# MuJoCo reads this variable once, at its import, so it must be set before any module of the package imports MuJoCo.
if not os.environ.get("MUJOCO_GL"):
    os.environ["MUJOCO_GL"] = _rendering_backend()
# An empty variable is as good as none; Minari takes it for a folder.
if os.environ.get("MINARI_DATASETS_PATH") == "":
    del os.environ["MINARI_DATASETS_PATH"]


_MODULES = {
    "LearningData": "library.datasets",
    "OfflineGCRLError": "support.errors",
    "Policy": "policies.policy",
    "TrainedPolicy": "library.policies",
    "evaluate": "library.evaluating",
    "evaluation_episodes": "library.evaluating",
    "load_dataset": "library.datasets",
    "load_policy": "library.policies",
    "train": "library.training",
}
"""The modules that define the names of this package; each is imported when one of its names is used."""


def __getattr__(name: str) -> Any:
    """Import the module of a name, and torch or MuJoCo with it, only when the name is used."""
    if name in _MODULES:
        return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
