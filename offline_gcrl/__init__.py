"""Offline goal-conditioned reinforcement learning as a data pipeline.

Data flows one way: recipe, Minari dataset, episodes, hindsight table, policy, results, report. Each
arrow is a stage in ``dvc.yaml``, a script in ``pipelines/`` and a part of this package.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from offline_gcrl.policy import Policy, load_policy

__all__ = ["Policy", "__version__", "load_policy"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Import the policy module, and with it torch, only when somebody asks for a policy."""
    if name in {"Policy", "load_policy"}:
        from offline_gcrl import policy

        return getattr(policy, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
