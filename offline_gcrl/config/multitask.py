"""Sections ``train.tasks`` and ``train.sequence`` of ``params.yaml``: training on several tasks."""

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import (
    Field,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from offline_gcrl.config.reading import Section, nearest, reject_repeats
from offline_gcrl.support.errors import SettingsError

Share = Annotated[float, Field(gt=0.0, lt=1.0)]
Combination = Literal[
    "sum", "pcgrad", "gradnorm", "aligned_mtl", "imtl_g", "mgda", "cagrad", "upgrad", "dualproj"
]
SOLVERS = {
    "cagrad": ("cvxpy", "clarabel"),
    "upgrad": ("quadprog", "qpsolvers"),
    "dualproj": ("quadprog", "qpsolvers"),
}
"""Packages in addition to torchjd that some combinations of gradients need."""


class Tasks(Section):
    """How the tasks of a suite are trained at the same time."""

    weights: Literal["uniform"] | dict[str, PositiveFloat] | None = None
    """Weights of the losses of the tasks, scaled to sum to 1; the objective is the weighted sum, independent of the
    sampling. If left out, the objective is the mean over the sampled transitions."""
    sampling: Literal["data", "uniform", "performance", "gradient", "uncertainty"] = "data"
    """Probability of a task in a batch: ``data``, its share of the transitions; ``uniform``, equal. The others are
    updated at each snapshot: the error of the policy on validation episodes of the task (``performance``), the
    norm of its gradient (``gradient``), or the disagreement of the agent's critics (``uncertainty``)."""
    uniform_share: Share = 0.2
    """With ``performance``, ``gradient`` and ``uncertainty``: the share of draws that is uniform over all tasks, so
    that every task is still sampled."""
    gradients: Combination = "sum"
    """How the gradients of the tasks are combined: their sum, PCGrad, GradNorm with learned weights, or an
    aggregator of torchjd."""
    gradnorm_alpha: NonNegativeFloat = 1.5
    """GradNorm: strength of the preference for tasks that learn slowly."""
    gradnorm_learning_rate: PositiveFloat = 0.025
    """GradNorm: learning rate of the weights."""

    @model_validator(mode="after")
    def _solver_is_installed(self) -> Self:
        missing = [name for name in SOLVERS.get(self.gradients, ()) if find_spec(name) is None]
        if missing:
            raise PydanticCustomError(
                "solver",
                "'gradients: {name}' needs {missing}; install them with pip install 'offline-gcrl[multitask]'",
                {"name": self.gradients, "missing": ", ".join(missing)},
            )
        return self

    @model_validator(mode="after")
    def _one_source_of_weights(self) -> Self:
        if self.weights is not None and self.gradients == "gradnorm":
            raise PydanticCustomError(
                "weights", "'gradients: gradnorm' learns the weights of tasks; leave 'weights' out"
            )
        return self


class TaskSequence(Section):
    """Tasks in sequence, each trained for an equal number of updates."""

    tasks: Annotated[tuple[str, ...], Field(min_length=2)] | None = None
    """Order of the tasks; if left out, the order of the suite. Tasks that are not listed are not trained."""
    method: Literal["finetune", "replay", "ewc", "heads"] = "finetune"
    """Method against forgetting: ``finetune``, none; ``replay``, replay of the data of earlier tasks; ``ewc``, elastic
    weight consolidation; ``heads``, frozen output layers of earlier tasks (with ``task_network: heads``)."""
    replay_share: Share = 0.5
    """``replay``: the share of each batch that is drawn uniformly from all earlier tasks."""
    ewc_weight: PositiveFloat = 100.0
    """``ewc``: weight of the penalty."""
    fisher_samples: PositiveInt = 512
    """``ewc``: number of transitions that estimate the Fisher information of a finished task."""

    @field_validator("tasks")
    @classmethod
    def _distinct(cls, names: tuple[str, ...] | None) -> tuple[str, ...] | None:
        reject_repeats(names or ())
        return names


def check_tasks_of(
    tasks: Tasks | None,
    sequence: TaskSequence | None,
    names: Sequence[str],
    snapshots: int,
    dataset: str,
    path: Path,
) -> None:
    """Check settings that name tasks, or depend on the number of tasks, against the tasks of a dataset.

    Args:
        tasks: section ``train.tasks``.
        sequence: section ``train.sequence``.
        names: tasks of the dataset.
        snapshots: number of snapshots.
        dataset: its name, for errors.
        path: the file of the settings, for errors.

    Raises:
        SettingsError: naming file, key, expectation and remedy.
    """
    if tasks is not None and isinstance(tasks.weights, Mapping):
        _check_known(tasks.weights, names, "train.tasks.weights", dataset, path)
        missing = [name for name in names if name not in tasks.weights]
        if missing:
            raise SettingsError(
                f"{path}: train.tasks.weights: every task of '{dataset}' needs a weight; missing: "
                f"{', '.join(missing)}"
            )
    if sequence is None:
        return
    _check_known(sequence.tasks or (), names, "train.sequence.tasks", dataset, path)
    phases = len(sequence.tasks or names)
    if len(names) == 1:
        raise SettingsError(
            f"{path}: train.sequence: '{dataset}' has one task; name a suite, or leave it out"
        )
    if snapshots % phases:
        raise SettingsError(
            f"{path}: train.snapshots: {snapshots} must be a multiple of the number of tasks in sequence, "
            f"{phases}, so that each task ends with a snapshot; set {phases * max(1, snapshots // phases)}"
        )


def _check_known(
    given: Sequence[str] | Mapping[str, float],
    names: Sequence[str],
    key: str,
    dataset: str,
    path: Path,
) -> None:
    for name in given:
        if name not in names:
            raise SettingsError(
                f"{path}: {key}: '{dataset}' has no task '{name}'; {nearest(name, names)}"
            )
