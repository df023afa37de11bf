"""What ``mlflow.pyfunc.load_model`` runs for a logged policy; this package has to be installed there."""

from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from offline_gcrl.policies.policy import Policy, load_policy


class ServedPolicy:
    """Answers observations and goals with actions, as MLflow asks."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy

    def predict(
        self, model_input: Mapping[str, NDArray[Any]], params: Mapping[str, Any] | None = None
    ) -> NDArray[Any]:
        """Actions, (batch, action).

        Args:
            model_input: ``observation``, (batch, observation), and ``goal``, (batch, goal).
            params: ``task``, for policies of several tasks.

        Raises:
            PolicyError: a shape or a task does not fit the policy.
        """
        task = (params or {}).get("task")
        return self.policy.act(model_input["observation"], model_input["goal"], task)


def _load_pyfunc(path: str) -> ServedPolicy:
    """MLflow's entry point: the model of a policy's file."""
    return ServedPolicy(load_policy(path))
