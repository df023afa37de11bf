"""Settings of training on several tasks: weights, sampling, conflicts, and one task after another."""

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator
from pydantic_core import PydanticCustomError

from offline_gcrl.config.reading import Section, nearest
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
"""Packages beyond torchjd itself that some combinations of gradients solve their problems with."""


class Tasks(Section):
    """How the tasks of a suite are learned together."""

    weights: Literal["uniform"] | dict[str, PositiveFloat] | None = None
    """Of each task's loss, scaled to sum to 1: the objective is then the sum of them, whatever the sampling.
    Left out, it is the mean over the transitions that are sampled."""
    sampling: Literal["data", "uniform", "performance", "gradient", "uncertainty"] = "data"
    """How often a task is drawn: by its share of the transitions; each as often; or, anew at each snapshot, by
    the error of its policy on validation episodes, by the norm of its gradient, or by how much the agent's
    critics disagree."""
    uniform_share: Share = 0.2
    """Of the draws, under the last three: spread over all tasks evenly, so that none is given up."""
    gradients: Combination = "sum"
    """How the gradients of tasks become one: added; PCGrad; GradNorm's learned weights; or an aggregator of
    torchjd."""
    gradnorm_alpha: NonNegativeFloat = 1.5
    """GradNorm: how strongly tasks that learn slowly are favoured."""
    gradnorm_learning_rate: PositiveFloat = 0.025
    """GradNorm: of the weights."""

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
    def _one_who_weighs(self) -> Self:
        if self.weights is not None and self.gradients == "gradnorm":
            raise PydanticCustomError(
                "weights", "'gradients: gradnorm' learns the weights of tasks; leave 'weights' out"
            )
        return self


class TaskSequence(Section):
    """Tasks that arrive one after another, each for an equal part of the updates."""

    tasks: Annotated[tuple[str, ...], Field(min_length=2)] | None = None
    """Their order (that of the suite when left out); tasks that are not named are not trained on."""
    method: Literal["finetune", "replay", "ewc", "heads"] = "finetune"
    """Against forgetting: nothing; replay of earlier tasks' data; elastic weight consolidation; or the output
    layers of earlier tasks frozen (with ``task_network: heads``)."""
    replay_share: Share = 0.5
    """Of each batch, under ``replay``: drawn from all earlier tasks evenly."""
    ewc_weight: PositiveFloat = 100.0
    """Of the penalty, under ``ewc``."""
    fisher_samples: PositiveInt = 512
    """Transitions that the Fisher information of a finished task is taken over."""


def check_tasks_of(
    tasks: Tasks | None,
    sequence: TaskSequence | None,
    names: Sequence[str],
    snapshots: int,
    dataset: str,
    path: Path,
) -> None:
    """Check settings that name tasks, or that depend on their number, against those of a dataset.

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
            f"{path}: train.snapshots: {snapshots} must be a multiple of the {phases} tasks that follow each "
            f"other, so that there is one where each ends; say {phases * max(1, snapshots // phases)}"
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
