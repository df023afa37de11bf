"""Loader of logged policies for ``mlflow.pyfunc.load_model``, which needs this package to be installed."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from numpy.typing import NDArray

from offline_gcrl.policies.policy import Policy, load_policy
from offline_gcrl.support.errors import PolicyError


class ServedPolicy:
    """A policy with the interface of MLflow's models."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy

    def predict(self, model_input: Any, params: Mapping[str, Any] | None = None) -> NDArray[Any]:
        """Compute actions.

        Args:
            model_input: a table or a dict with ``observation`` and ``goal``, of numbers of any type: one state, a batch
                in one cell, or one state per row. With an instruction the goal may be missing.
            params: ``task``, for policies of several tasks that are conditioned on it, and ``instruction``, a sentence for
                policies that take instructions.

        Returns:
            Actions, (batch, action); one state is a batch of one.

        Raises:
            MlflowException: the input does not fit the policy, or is not finite. A server answers with status 400.
        """
        task, instruction = ((params or {}).get(name) or None for name in ("task", "instruction"))
        observation = _given(model_input["observation"])
        goal = _given(model_input["goal"]) if "goal" in model_input else None
        try:
            return np.atleast_2d(self.policy.act(observation, goal, task, instruction))
        except PolicyError as error:
            raise MlflowException(str(error), INVALID_PARAMETER_VALUE) from error


def _given(column: Any) -> Any:
    """What the user passed, from the column of a table into which MLflow puts it, as one cell or one per row."""
    if isinstance(column, np.ndarray):
        return column
    cells = list(column)
    return cells[0] if len(cells) == 1 else cells


def _load_pyfunc(path: str) -> ServedPolicy:
    """MLflow's entry point: load the policy of a file."""
    return ServedPolicy(load_policy(path))
