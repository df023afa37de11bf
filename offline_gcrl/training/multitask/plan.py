"""Training on several tasks: the updater, the sampling probabilities of each round, and its logs per task.

Probabilities, penalties and frozen heads of a round are determined before it starts, from earlier rounds, and are
part of the checkpoint, so that a resumed run continues as an uninterrupted one.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import polars as pl
import torch
from torch import Tensor

from offline_gcrl.agents import Agent, Batch, Losses
from offline_gcrl.config import Tasks, TaskSequence, Train
from offline_gcrl.config.outputs import GRADIENTS
from offline_gcrl.support.tables import write_parquet
from offline_gcrl.training.batches.sampler import BatchSampler
from offline_gcrl.training.multitask.forgetting import ElasticPenalty, diagonal_fisher, freeze_heads
from offline_gcrl.training.multitask.gradients import GradNorm, combination, cosines, task_gradients
from offline_gcrl.training.multitask.losses import losses_by_task, means_by_task, stacked
from offline_gcrl.training.multitask.sampling import (
    adapted_shares,
    initial_shares,
    order_of,
    phase_shares,
)
from offline_gcrl.training.multitask.updates import TaskGradientUpdater, WeightedUpdater
from offline_gcrl.training.ranks import ALONE, Ranks
from offline_gcrl.training.updates import PlainUpdater, Updater

PROBES = 4
"""Batches, with as many transitions of each task, for the measurements at the end of a round."""
GRADIENTS_SCHEMA: dict[str, Any] = {
    "update": pl.Int64,
    "network": pl.String,
    "task_a": pl.String,
    "task_b": pl.String,
    "cosine": pl.Float64,
}
Samplers = Mapping[str, BatchSampler]


class SeveralTasks:
    """The part of a training run that concerns its tasks.

    Args:
        train: with ``tasks`` or ``sequence``.
        agent: the agent, on its device.
        loss_function: the agent's loss, compiled or not.
        optimizer: the optimizer of the agent's parameters.
        samplers: samplers of batches, by split.
        names: names of the tasks, in the order of their numbers.
        seed: training seed.
        ranks: the processes that train the seed.
    """

    def __init__(
        self,
        train: Train,
        agent: Agent,
        loss_function: Callable[[Batch], Losses],
        optimizer: torch.optim.Optimizer,
        samplers: Samplers,
        names: tuple[str, ...],
        seed: int,
        ranks: Ranks = ALONE,
    ) -> None:
        self.ranks = ranks
        self.train, self.agent, self.samplers, self.names = train, agent, samplers, names
        self.device = samplers["train"].data.target
        self.penalty: ElasticPenalty | None = None
        self.gradnorm: GradNorm | None = None
        self.cosines: list[dict[str, Any]] = []
        self.shares: Tensor | None
        """(tasks,), sampling probabilities of the next round; None for the shares of the transitions."""
        if train.sequence is not None:
            self.updater = self._sequential(train.sequence, loss_function, optimizer)
            self.order = order_of(train.sequence, names)
            self._begin_phase(train.sequence, 0)
        else:
            assert train.tasks is not None
            self.shares = self._placed(initial_shares(train.tasks, len(names)))
            self.updater = self._joint(train.tasks, loss_function, optimizer, seed)

    def end_round(self, done: int) -> dict[str, float]:
        """Measure the tasks after ``done`` updates, set up the next round, and return the values to log."""
        with torch.enable_grad():
            points, errors, known = self._validate()
            norms = self._measure_gradients(done)
        tasks, sequence = self.train.tasks, self.train.sequence
        if self.shares is not None:
            points |= self._named("tasks/share", self.shares)
        if self.gradnorm is not None:
            points |= self._named("tasks/weight", self.gradnorm.weights)
        if sequence is not None:
            self._end_of_phase(sequence, done)
        elif tasks is not None and tasks.sampling not in {"data", "uniform"}:
            scores = {"performance": errors, "gradient": norms}.get(tasks.sampling)
            if scores is None:
                scores, known = self._disagreement()
            elif tasks.sampling == "gradient":
                known = torch.ones_like(known)
            self.shares = adapted_shares(scores, known, tasks.uniform_share)
        return points

    def export(self, folder: Path) -> None:
        """Write the cosines between gradients of tasks over training."""
        write_parquet(pl.DataFrame(self.cosines, GRADIENTS_SCHEMA), folder / GRADIENTS)

    def state_dict(self) -> dict[str, Any]:
        """State that later rounds depend on, apart from the updater's own, and the values to be exported."""
        penalty = self.penalty.state_dict() if self.penalty is not None else {}
        return {"shares": self.shares, "penalty": penalty, "cosines": self.cosines}

    def load_state_dict(self, state: dict[str, Any], done: int) -> None:
        """Load the state of a checkpoint after ``done`` updates."""
        self.shares, self.cosines = self._placed(state["shares"]), state["cosines"]
        if self.penalty is not None:
            self.penalty.load_state_dict(state["penalty"])
        if self.train.sequence is not None and done < self.train.updates:
            self._begin_phase(self.train.sequence, done // self._updates_a_phase)

    @property
    def _updates_a_phase(self) -> int:
        return self.train.updates // len(self.order)

    # ---------------------------------------------------------------------------- all tasks jointly

    def _joint(
        self,
        tasks: Tasks,
        loss_function: Callable[[Batch], Losses],
        optimizer: torch.optim.Optimizer,
        seed: int,
    ) -> Updater:
        weights = self._placed(self._weights(tasks))
        if tasks.gradients == "gradnorm":
            self.gradnorm = GradNorm(
                len(self.names), tasks.gradnorm_alpha, tasks.gradnorm_learning_rate
            )
            self.gradnorm.to(torch.device(self.device))
        if tasks.gradients != "sum":
            return TaskGradientUpdater(
                self.agent,
                optimizer,
                combination(tasks.gradients, seed),
                tasks=len(self.names),
                weights=weights,
                gradnorm=self.gradnorm,
                ranks=self.ranks,
            )
        if weights is None:
            return PlainUpdater(self.agent, loss_function, optimizer, ranks=self.ranks)
        return WeightedUpdater(self.agent, loss_function, optimizer, weights, self.ranks)

    def _weights(self, tasks: Tasks) -> Tensor | None:
        """(tasks,), weights that sum to 1; None where the objective is the mean over transitions."""
        if tasks.weights is None:
            return None
        given = tasks.weights
        weights = torch.tensor([1.0 if given == "uniform" else given[name] for name in self.names])
        return weights / weights.sum()

    # ------------------------------------------------------------------------- tasks in sequence

    def _sequential(
        self,
        sequence: TaskSequence,
        loss_function: Callable[[Batch], Losses],
        optimizer: torch.optim.Optimizer,
    ) -> Updater:
        if sequence.method != "ewc":
            return PlainUpdater(self.agent, loss_function, optimizer, ranks=self.ranks)
        penalty = self.penalty = ElasticPenalty(self.agent.actor, sequence.ewc_weight)

        def penalised(batch: Batch) -> Losses:
            loss, info = loss_function(batch)
            held = penalty()
            return loss + held, info | {"actor/penalty": held.detach()}

        return PlainUpdater(self.agent, penalised, optimizer, ranks=self.ranks)

    def _begin_phase(self, sequence: TaskSequence, phase: int) -> None:
        shares = phase_shares(sequence, self.order, phase, len(self.names))
        self.shares = self._placed(shares)
        if sequence.method == "heads":
            freeze_heads(self.agent, self.order[:phase])  # type: ignore[arg-type]

    def _end_of_phase(self, sequence: TaskSequence, done: int) -> None:
        """Where a phase ends and another follows: consolidate the finished task, and begin the next phase."""
        if done % self._updates_a_phase or done >= self.train.updates:
            return
        phase = done // self._updates_a_phase
        if self.penalty is not None:
            self.penalty.consolidate(self._fisher(sequence, self.order[phase - 1]))
        self._begin_phase(sequence, phase)

    def _fisher(self, sequence: TaskSequence, task: int) -> dict[str, Tensor]:
        """Fisher information of the policy over fixed transitions of one task."""
        sampler = self.samplers["train"]
        only = torch.zeros(len(self.names), device=self.device)
        only[task] = 1.0
        needed = -(-sequence.fisher_samples // sampler.batch_size)
        batches = sampler.probes(self.train.updates + PROBES, needed, only)
        observations, goals, tasks = (
            batches[name].flatten(0, 1)[: sequence.fisher_samples]
            for name in ("observations", "actor_goals", "tasks")
        )
        return diagonal_fisher(self.agent.actor, observations, goals, tasks)

    # ---------------------------------------------------------------------------------- measures

    def _probe(self, split: str) -> dict[str, Tensor]:
        """One large batch with equal shares of tasks, which training does not use."""
        uniform = torch.full((len(self.names),), 1.0 / len(self.names), device=self.device)
        batches = self.samplers[split].probes(self.train.updates, PROBES, uniform)
        return {name: values.flatten(0, 1) for name, values in batches.items()}

    def _validate(self) -> tuple[dict[str, float], Tensor, Tensor]:
        """Values to log, loss and error of the policy per task on validation episodes; the errors, and whose are known."""
        split = "validation" if "validation" in self.samplers else "train"
        found = losses_by_task(self.agent.loss, self._probe(split), len(self.names))
        losses, info, known = stacked(found)
        errors = info["actor/mse"]
        points = self._named("validation/tasks/loss", losses, known)
        return points | self._named("validation/tasks/mse", errors, known), errors, known

    def _measure_gradients(self, done: int) -> Tensor:
        """Record the cosines between gradients of tasks per network; return the norm of each task's gradient."""
        found = losses_by_task(self.agent.loss, self._probe("train"), len(self.names))
        matrices = task_gradients(found, self.agent)
        for network, matrix in matrices.items():
            table = cosines(matrix).tolist()
            self.cosines += [
                {"update": done, "network": network, "task_a": a, "task_b": b, "cosine": value}
                for a, row in zip(self.names, table, strict=True)
                for b, value in zip(self.names, row, strict=True)
            ]
        return torch.stack([matrix.square().sum(1) for matrix in matrices.values()]).sum(0).sqrt()

    def _disagreement(self) -> tuple[Tensor, Tensor]:
        """Disagreement of the agent's critics per task, and for which tasks it is known."""
        probe = self._probe("train")
        with torch.no_grad():
            values: Tensor = self.agent.disagreement(probe)  # type: ignore[attr-defined]
        return means_by_task(values, probe["tasks"], len(self.names))

    def _named(self, title: str, values: Tensor, known: Tensor | None = None) -> dict[str, float]:
        is_known_of = known.tolist() if known is not None else [True] * len(self.names)
        return {
            f"{title}/{name}": value
            for name, value, is_known in zip(self.names, values.tolist(), is_known_of, strict=True)
            if is_known
        }

    def _placed(self, values: Tensor | None) -> Tensor | None:
        return values.to(self.device) if values is not None else None


def several_tasks(train: Train, *parts: Any) -> SeveralTasks | None:
    """The part of a training run that concerns its tasks; None where all tasks are one set of transitions."""
    return SeveralTasks(train, *parts) if train.tasks or train.sequence else None
