"""What a training run knows of its tasks: who runs its updates, what each round draws, what is logged of it.

A round's probabilities, penalties and frozen heads are settled before it begins, from what the rounds
before it saw, and are part of the checkpoint: a run that is resumed goes on as one that was not.
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
from offline_gcrl.training.updates import PlainUpdater, Updater

PROBES = 4
"""Batches, with as many transitions of each task as of any other, that a round's end is measured on."""
GRADIENTS_SCHEMA: dict[str, Any] = {
    "update": pl.Int64,
    "network": pl.String,
    "task_a": pl.String,
    "task_b": pl.String,
    "cosine": pl.Float64,
}
Samplers = Mapping[str, BatchSampler]


class SeveralTasks:
    """The part of a training run that is about its tasks.

    Args:
        train: with ``tasks`` or ``sequence``.
        agent: on its device.
        loss_function: the agent's loss, compiled or not.
        optimizer: of the agent's parameters.
        samplers: by split.
        names: of the tasks, in the order of their numbers.
        seed: of the run.
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
    ) -> None:
        self.train, self.agent, self.samplers, self.names = train, agent, samplers, names
        self.device = samplers["train"].data.device
        self.penalty: ElasticPenalty | None = None
        self.gradnorm: GradNorm | None = None
        self.cosines: list[dict[str, Any]] = []
        self.shares: Tensor | None
        """(tasks,), the probabilities of the round that comes; None where they are as the transitions are."""
        if train.sequence is not None:
            self.updater = self._sequential(train.sequence, loss_function, optimizer)
            self.order = order_of(train.sequence, names)
            self._begin_phase(train.sequence, 0)
        else:
            assert train.tasks is not None
            self.shares = self._placed(initial_shares(train.tasks, len(names)))
            self.updater = self._joint(train.tasks, loss_function, optimizer, seed)

    def end_round(self, done: int) -> dict[str, float]:
        """Measure the tasks after ``done`` updates, settle the next round, and return what to log."""
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
        """Write how far the gradients of tasks agreed, over training."""
        pl.DataFrame(self.cosines, GRADIENTS_SCHEMA).write_parquet(folder / GRADIENTS)

    def state_dict(self) -> dict[str, Any]:
        """What the rounds that come depend on, beside the updater's own state; and what is to be exported."""
        penalty = self.penalty.state_dict() if self.penalty is not None else {}
        return {"shares": self.shares, "penalty": penalty, "cosines": self.cosines}

    def load_state_dict(self, state: dict[str, Any], done: int) -> None:
        """Take up again what a checkpoint after ``done`` updates has."""
        self.shares, self.cosines = self._placed(state["shares"]), state["cosines"]
        if self.penalty is not None:
            self.penalty.load_state_dict(state["penalty"])
        if self.train.sequence is not None and done < self.train.updates:
            self._begin_phase(self.train.sequence, done // self._updates_a_phase)

    @property
    def _updates_a_phase(self) -> int:
        return self.train.updates // len(self.order)

    # ------------------------------------------------------------------------------- all at once

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
            )
        if weights is None:
            return PlainUpdater(self.agent, loss_function, optimizer)
        return WeightedUpdater(self.agent, loss_function, optimizer, weights)

    def _weights(self, tasks: Tasks) -> Tensor | None:
        """(tasks,), which sum to 1; None where the objective is the mean over transitions."""
        if tasks.weights is None:
            return None
        given = tasks.weights
        weights = torch.tensor([1.0 if given == "uniform" else given[name] for name in self.names])
        return weights / weights.sum()

    # ------------------------------------------------------------------------- one after another

    def _sequential(
        self,
        sequence: TaskSequence,
        loss_function: Callable[[Batch], Losses],
        optimizer: torch.optim.Optimizer,
    ) -> Updater:
        if sequence.method != "ewc":
            return PlainUpdater(self.agent, loss_function, optimizer)
        penalty = self.penalty = ElasticPenalty(self.agent.actor, sequence.ewc_weight)

        def penalised(batch: Batch) -> Losses:
            loss, info = loss_function(batch)
            held = penalty()
            return loss + held, info | {"actor/penalty": held.detach()}

        return PlainUpdater(self.agent, penalised, optimizer)

    def _begin_phase(self, sequence: TaskSequence, phase: int) -> None:
        shares = phase_shares(sequence, self.order, phase, len(self.names))
        self.shares = self._placed(shares)
        if sequence.method == "heads":
            freeze_heads(self.agent, self.order[:phase])  # type: ignore[arg-type]

    def _end_of_phase(self, sequence: TaskSequence, done: int) -> None:
        """Where a phase ends and another follows: hold on to what was learned, and begin the next."""
        if done % self._updates_a_phase or done >= self.train.updates:
            return
        phase = done // self._updates_a_phase
        if self.penalty is not None:
            self.penalty.consolidate(self._fisher(sequence, self.order[phase - 1]))
        self._begin_phase(sequence, phase)

    def _fisher(self, sequence: TaskSequence, task: int) -> dict[str, Tensor]:
        """Of the policy, over transitions of one task; the same ones for any number of workers."""
        sampler = self.samplers["train"]
        only = torch.zeros(len(self.names), device=self.device)
        only[task] = 1.0
        needed = -(-sequence.fisher_samples // sampler.batch_size)
        batches = sampler.batches(self.train.updates + PROBES, needed, only)
        observations, goals, tasks = (
            batches[name].flatten(0, 1)[: sequence.fisher_samples]
            for name in ("observations", "actor_goals", "tasks")
        )
        return diagonal_fisher(self.agent.actor, observations, goals, tasks)

    # ---------------------------------------------------------------------------------- measures

    def _probe(self, split: str) -> dict[str, Tensor]:
        """One large batch, with as many transitions of each task; not one that training sees."""
        uniform = torch.full((len(self.names),), 1.0 / len(self.names), device=self.device)
        batches = self.samplers[split].batches(self.train.updates, PROBES, uniform)
        return {name: values.flatten(0, 1) for name, values in batches.items()}

    def _validate(self) -> tuple[dict[str, float], Tensor, Tensor]:
        """To log: loss and policy's error of each task on validation episodes; also the error, and of whom."""
        split = "validation" if "validation" in self.samplers else "train"
        found = losses_by_task(self.agent.loss, self._probe(split), len(self.names))
        losses, info, known = stacked(found)
        errors = info["actor/mse"]
        points = self._named("validation/tasks/loss", losses, known)
        return points | self._named("validation/tasks/mse", errors, known), errors, known

    def _measure_gradients(self, done: int) -> Tensor:
        """Log the cosines between gradients of tasks, of each network; return the norm of each task's."""
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
        """How much the agent's critics disagree on each task, and of which tasks that is known."""
        probe = self._probe("train")
        with torch.no_grad():
            values: Tensor = self.agent.disagreement(probe)  # type: ignore[attr-defined]
        return means_by_task(values, probe["tasks"], len(self.names))

    def _named(self, title: str, values: Tensor, known: Tensor | None = None) -> dict[str, float]:
        told = known.tolist() if known is not None else [True] * len(self.names)
        return {
            f"{title}/{name}": value
            for name, value, is_known in zip(self.names, values.tolist(), told, strict=True)
            if is_known
        }

    def _placed(self, values: Tensor | None) -> Tensor | None:
        return values.to(self.device) if values is not None else None


def several_tasks(train: Train, *parts: Any) -> SeveralTasks | None:
    """What tasks ask of a training run; None where they are one set of transitions."""
    return SeveralTasks(train, *parts) if train.tasks or train.sequence else None
