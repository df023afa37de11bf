"""Loader of logged policies for ``mlflow.pyfunc.load_model``, which needs this package to be installed."""

from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from offline_gcrl.policies.policy import Policy, load_policy


class ServedPolicy:
    """A policy with the interface of MLflow's models."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy

    def predict(
        self, model_input: Mapping[str, NDArray[Any]], params: Mapping[str, Any] | None = None
    ) -> NDArray[Any]:
        """Compute actions.

        Args:
            model_input: ``observation``, (batch, observation), and ``goal``, (batch, goal).
            params: ``task``, for policies of several tasks.

        Returns:
            Actions, (batch, action).

        Raises:
            PolicyError: a shape or a task does not fit the policy.
        """
        task = (params or {}).get("task")
        return self.policy.act(model_input["observation"], model_input["goal"], task)


def _load_pyfunc(path: str) -> ServedPolicy:
    """MLflow's entry point: load the policy of a file."""
    return ServedPolicy(load_policy(path))
