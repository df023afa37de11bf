"""One seed in training: its agent, optimizer, batches and curve, with its checkpoints and exports."""

import csv
import io
import math
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from offline_gcrl.agents import make_agent
from offline_gcrl.config.outputs import (
    CHECKPOINT,
    POLICY,
    PREVIOUS_CHECKPOINT,
    ROUTING,
    SNAPSHOTS,
    TRAINING_CURVE,
)
from offline_gcrl.hindsight.draws import stream_key
from offline_gcrl.policies.instructions import Vocabulary
from offline_gcrl.policies.policy import save_policy
from offline_gcrl.policies.saved import read_content, write_content
from offline_gcrl.support.errors import DivergedError, PolicyError
from offline_gcrl.support.files import write_text
from offline_gcrl.support.tables import write_parquet
from offline_gcrl.training.batches.data import DeviceData
from offline_gcrl.training.batches.sampler import BatchSampler
from offline_gcrl.training.events import Event, Point
from offline_gcrl.training.jobs import TrainingJob
from offline_gcrl.training.multitask.plan import several_tasks
from offline_gcrl.training.multitask.routing import routing_table
from offline_gcrl.training.ranks import ALONE, Ranks
from offline_gcrl.training.speed import Plan
from offline_gcrl.training.updates import diagnostics, mean, one

VALIDATION_BATCHES = 4


class Learner:
    """A seed in training, which starts at the round of its checkpoint, or at the first where there is none.

    Args:
        job: data, settings and folders.
        samplers: samplers of batches, by split.
        plan: the fast paths of its updates.
        ranks: the processes that train the seed; only the first writes files.
    """

    def __init__(
        self,
        job: TrainingJob,
        samplers: dict[str, BatchSampler],
        plan: Plan,
        ranks: Ranks = ALONE,
    ) -> None:
        self.job, self.samplers, self.ranks = job, samplers, ranks
        self.data: DeviceData = samplers["train"].data
        # The seed of the initial weights; nothing else draws from this generator.
        torch.manual_seed(stream_key(job.seed) % 2**63)
        self.vocabulary = _vocabulary(samplers["train"])
        self.dimensions = self.data.dimensions
        if self.vocabulary:
            size = self.vocabulary.embeddings.shape[1]
            self.dimensions = replace(self.dimensions, language=size)
        agent = make_agent(job.settings, self.dimensions)
        self.agent = agent.to(self.data.target)
        self.optimizer = plan.adam(self.agent.parameter_groups())
        self.loss = plan.prepared(self.agent.loss)
        self.tasks = tuple(self.data.episodes.schema["tasks"])
        self.several = several_tasks(
            job.train, self.agent, self.loss, self.optimizer, samplers, self.tasks, job.seed, ranks
        )
        self.round = 0
        self.curve: list[Point] = []
        self.updater_state: dict[str, Any] | None = None
        self._resume()

    def batches(self, first: int, count: int) -> dict[str, Tensor]:
        """Batches of the updates from ``first`` on: (count, batch, ...)."""
        shares = self.several.shares if self.several else None
        return self.samplers["train"].batches(first, count, shares)

    def event(self, updates: int, points: Sequence[Point] = ()) -> Event:
        """The event to report after a number of updates."""
        return Event(self.job.seed, updates, tuple(points), task=self.job.task)

    def end_round(self, points: list[Point], updater_state: dict[str, Any]) -> None:
        """Validate, save a snapshot of the policy, extend the curve, and save a checkpoint."""
        self._check_finite(points)
        self.round += 1
        done = self._updates_until(self.round)
        points[-1] |= self._validate(done)
        if self.several:
            points[-1] |= self.several.end_round(done)
        self.curve += points
        self.ranks.check_equal(self.agent.state_dict().values(), self.data.target)
        if self.ranks.is_first:
            self._save(done, updater_state)

    def _save(self, done: int, updater_state: dict[str, Any]) -> None:
        """Save a snapshot of the policy and a checkpoint after a number of updates."""
        self._save_policy(self._snapshot(self.round), done)
        state = {
            "round": self.round,
            "agent": self.agent.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "updater": updater_state,
            "tasks": self.several.state_dict() if self.several else {},
            "curve": self.curve,
        }
        last = self.job.checkpoints / CHECKPOINT
        if last.exists():
            last.replace(self.job.checkpoints / PREVIOUS_CHECKPOINT)
        write_content(last, state)

    def _check_finite(self, points: Sequence[Point]) -> None:
        """Check the round before anything of it is saved: diagnostics and weights are numbers.

        Raises:
            DivergedError: naming the first update and the diagnostics that are not finite.
        """
        for point in points:
            wrong = [name for name, value in point.items() if not math.isfinite(value)]
            if wrong:
                raise self._diverged(
                    f"at update {point['update']:,.0f} {', '.join(wrong)} is not finite"
                )
        weights = self.agent.state_dict().items()
        wrong = [name for name, value in weights if not torch.isfinite(value).all()]
        if wrong:
            raise self._diverged(f"weights are not finite: {', '.join(wrong[:3])}")

    def _diverged(self, what: str) -> DivergedError:
        job = self.job
        return DivergedError(
            f"{job.agent} on {job.dataset}, seed {job.seed}: training diverged: {what}; set a smaller "
            f"agents.{job.agent}.learning_rate, or train.precision: fp32, and check the scale of the data on its card"
        )

    def export(self) -> None:
        """Write the policy, its snapshots and the training curve."""
        output = self.job.output
        self._save_policy(output / POLICY, self.job.train.updates, with_value=True)
        shutil.copytree(self.job.checkpoints / SNAPSHOTS, output / SNAPSHOTS)
        write_text(output / TRAINING_CURVE, _as_csv(self.curve))
        if self.several:
            self.several.export(output)
        if self.job.task is None:
            train, step = self.samplers["train"], self.job.train.updates
            routing = routing_table(self.agent.actor, train, self.tasks, step)
            if routing is not None:
                write_parquet(routing, output / ROUTING)

    def _resume(self) -> None:
        """Load the state of the checkpoint, if there is one."""
        state = self._readable_checkpoint()
        if state is None:
            return
        self.round, self.curve = state["round"], state["curve"]
        self.updater_state = state["updater"]
        self.agent.load_state_dict(state["agent"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.several:
            self.several.updater.load_state_dict(state["updater"])
            self.several.load_state_dict(state["tasks"], int(self.curve[-1]["update"]))

    def _readable_checkpoint(self) -> dict[str, Any] | None:
        """The last checkpoint that is undamaged and has all snapshots before it; None to start from the beginning."""
        for name in (CHECKPOINT, PREVIOUS_CHECKPOINT):
            file = self.job.checkpoints / name
            if not file.exists():
                continue
            try:
                state = read_content(file, self.data.target)
                self._check_checkpoint(state, file)
            except (PolicyError, FileNotFoundError) as error:
                if self.ranks.is_first:
                    print(f"  seed {self.job.seed}: a checkpoint is discarded: {error}", flush=True)
                file.unlink(missing_ok=True)  # Another rank may have done it.
            else:
                return state
        return None

    def _check_checkpoint(self, state: dict[str, Any], file: Path) -> None:
        """Check that a file is a checkpoint, and that all snapshots before it are there and undamaged.

        Raises:
            PolicyError: one of them is not; the message names it.
            FileNotFoundError: a snapshot is missing.
        """
        if "round" not in state:
            raise PolicyError(f"{file}: not a checkpoint")
        for number in range(1, state["round"] + 1):
            path = self._snapshot(number)
            saved = read_content(path).get("training", {}).get("updates")
            if saved != self._updates_until(number):
                raise PolicyError(f"{path}: not the policy after {self._updates_until(number)} updates")  # fmt: skip

    def _updates_until(self, number: int) -> int:
        """Updates in a number of rounds."""
        return self.job.train.snapshot_updates[number - 1]

    def _snapshot(self, number: int) -> Path:
        """File of the policy after a number of rounds."""
        return self.job.snapshot(self._updates_until(number))

    def _validate(self, done: int) -> Point:
        """Mean diagnostics on fixed batches of the validation episodes, as those of the last of ``done`` updates."""
        if "validation" not in self.samplers:
            return {}
        batches = self.samplers["validation"].batches(0, VALIDATION_BATCHES)
        if "update" in batches:  # The same batches each time, and not the first updates' weights.
            batches["update"] = torch.full_like(batches["update"], done - 1)
        with torch.enable_grad():  # GoFAR's penalty is a gradient.
            infos = [
                diagnostics(self.agent.loss(one(batches, i))[1]) for i in range(VALIDATION_BATCHES)
            ]
        (point,) = points_of([mean(infos)])
        return {f"validation/{name}": value for name, value in point.items()}

    def _save_policy(self, path: Path, updates: int, *, with_value: bool = False) -> None:
        job, data = self.job, self.data
        save_policy(
            path,
            self.agent,
            job.settings.algorithm,
            job.settings,
            data.scaling,
            self.dimensions,
            self.tasks,
            self._facts(updates),
            with_value=with_value,
            vocabulary=self.vocabulary,
        )

    def _facts(self, updates: int) -> dict[str, Any]:
        """What a policy says of its training; policies that differ in more than the seed are not evaluated as one agent."""
        job = self.job
        return {
            "dataset": job.dataset,
            "agent": job.agent,
            "seed": job.seed,
            "updates": updates,
            **({} if job.task is None else {"task": job.task}),
            "batch_size": job.train.batch_size,
            "transitions": self.data.episodes.schema["counts"]["transitions"],
        }


def _vocabulary(sampler: BatchSampler) -> Vocabulary | None:
    """The sentences of the policy, if the agent takes instructions."""
    spoken = sampler.transitions.spoken
    if spoken is None:
        return None
    embeddings = spoken.embeddings[:-1].cpu().numpy()
    return Vocabulary(spoken.sentences, embeddings, spoken.speech.encoder)


def points_of(infos: Sequence[dict[str, Tensor]], seed: int = 0) -> list[Point]:
    """Diagnostics as numbers, moved to the host in one copy; those of one seed where they are stacked."""
    names = list(infos[0])
    values = torch.stack(
        [torch.stack([info[name].reshape(-1) for name in names]) for info in infos]
    )
    return [dict(zip(names, row, strict=True)) for row in values[:, :, seed].tolist()]


def _as_csv(curve: list[Point]) -> str:
    names = ["update", *sorted({name for point in curve for name in point} - {"update"})]
    text = io.StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(curve)
    return text.getvalue()
