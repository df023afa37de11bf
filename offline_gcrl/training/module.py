"""Training in Lightning: several updates a step, checkpoints, bit-exact resume.

Training runs in rounds (Lightning's epochs). At the end of each, the state of each seed is saved, a snapshot
of its policy is kept for the learning curve, and losses on the validation episodes are taken. Since a batch is
a function of (seed, step), a run that is killed and resumed gives the weights of one that was not.
"""

import logging
import warnings
from collections.abc import Iterator
from itertools import groupby
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn

from offline_gcrl.episodes.dataset import open_stored
from offline_gcrl.support.memory import require_memory
from offline_gcrl.support.terminal import note
from offline_gcrl.training.batches.data import DeviceData
from offline_gcrl.training.batches.resident import ResidentSampler
from offline_gcrl.training.batches.sampler import BatchSampler
from offline_gcrl.training.batches.tables import NoneLeftError
from offline_gcrl.training.captured import CapturedUpdater, recorded_by_cuda
from offline_gcrl.training.events import Listener
from offline_gcrl.training.jobs import TrainingJob
from offline_gcrl.training.learners import Learner, points_of
from offline_gcrl.training.placement import is_resident, storage_for
from offline_gcrl.training.ranks import ALONE, Ranks
from offline_gcrl.training.speed import Plan, plan_for
from offline_gcrl.training.stacked import StackedUpdater
from offline_gcrl.training.strategy import ExplicitDDP
from offline_gcrl.training.updates import PlainUpdater, Updater

IMAGE_BYTES = 2**28
"""Largest size of the images in a chunk of updates, if that is more than one update."""


class TrainingModule(L.LightningModule):
    """Runs the updates of seeds that are at the same round; the updater knows how they are computed."""

    def __init__(self, learners: list[Learner], plan: Plan, on_event: Listener) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.learners, self.on_event = learners, on_event
        self.agents = nn.ModuleList([learner.agent for learner in learners])
        self.updater = updater_for(learners, plan)
        self.first_round, self.train_settings = learners[0].round, learners[0].job.train
        self.recent: list[tuple[int, dict[str, Tensor]]] = []

    @property
    def round_updates(self) -> tuple[int, int]:
        """Numbers of updates before and after the current round, which ends with a snapshot."""
        ends = (0, *self.train_settings.snapshot_updates)
        number = self.first_round + self.current_epoch
        return ends[number], ends[number + 1]

    @property
    def updates_per_step(self) -> int:
        """Updates in a chunk: as set, or as many as have 256 MiB of images, because a chunk is made at once."""
        sampler = self.learners[0].samplers["train"]
        size = len(self.learners) * sampler.image_bytes
        wanted = self.train_settings.updates_per_step
        return min(wanted, max(1, IMAGE_BYTES // size)) if size else wanted

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """One Adam per seed over its agent's parameter groups, stepped by the updater."""
        return [learner.optimizer for learner in self.learners]

    def train_dataloader(self) -> "RoundOfChunks":
        """The batches of the current round, in chunks of several updates."""
        return RoundOfChunks(self)

    def batches(self, first: int, count: int) -> dict[str, Tensor]:
        """Batches of the updates from ``first`` on: (count, batch, ...), or (count, seeds, batch, ...)."""
        parts = [learner.batches(first, count) for learner in self.learners]
        if len(parts) == 1:
            return parts[0]
        return {name: torch.stack([part[name] for part in parts], 1) for name in parts[0]}

    def training_step(self, chunk: "Chunk", index: int) -> None:
        """Run the updates of one chunk."""
        first, count, batches = chunk
        self.recent.append((first + count, self.updater.run(batches, first, count)))
        for learner in self.learners:
            self.on_event(learner.event(first + count))

    def on_train_epoch_end(self) -> None:
        """End the round of each seed, and report its part of the curve."""
        self.updater.finish_round()
        numbers, infos = zip(*self.recent, strict=True)
        self.recent.clear()
        for place, learner in enumerate(self.learners):
            points = [
                point | {"update": float(number)}
                for number, point in zip(numbers, points_of(infos, place), strict=True)
            ]
            learner.end_round(points, self.updater.state_dict())
            self.on_event(learner.event(numbers[-1], points))


Chunk = tuple[int, int, dict[str, Tensor]]
"""Number of the first update, number of updates, and their stacked batches."""


class RoundOfChunks:
    """The chunks of the round of training that is current when this is made."""

    def __init__(self, module: TrainingModule) -> None:
        self.module = module
        self.start, self.end = module.round_updates

    def __iter__(self) -> Iterator[Chunk]:
        """Chunks of at most ``updates_per_step`` updates, in order."""
        size = self.module.updates_per_step
        for first in range(self.start, self.end, size):
            count = min(size, self.end - first)
            yield first, count, self.module.batches(first, count)

    def __len__(self) -> int:
        """Chunks in a round."""
        return -(-(self.end - self.start) // self.module.updates_per_step)


def updater_for(learners: list[Learner], plan: Plan) -> Updater:
    """The updater that fits: for several tasks, one update after another, stacked seeds, or recorded as a CUDA graph."""
    updater: PlainUpdater | StackedUpdater
    first = learners[0]
    if first.several:
        return first.several.updater
    if len(learners) == 1:
        updater = PlainUpdater(
            first.agent, first.loss, first.optimizer, plan.prepared_step, ranks=first.ranks
        )
    else:
        updater = StackedUpdater(
            [learner.agent for learner in learners],
            [learner.optimizer for learner in learners],
            plan,
        )
    if first.updater_state is not None:
        updater.load_state_dict(first.updater_state)
    # A graph would have to contain the messages between ranks.
    is_recorded = plan.device == "cuda" and first.ranks.world == 1
    return CapturedUpdater(updater, recorded_by_cuda) if is_recorded else updater


def train_seed(job: TrainingJob, on_event: Listener) -> None:
    """Train one seed, from its last checkpoint if there is one, and export it to ``job.output``."""
    train_together([job], on_event)


def train_together(
    jobs: list[TrainingJob], on_event: Listener, processes: int = 1, ranks: Ranks = ALONE
) -> None:
    """Train seeds of one dataset and agent in this process, in one batched update where there are several.

    Each seed resumes from its own checkpoint; seeds at the same round train together.

    Args:
        jobs: one per seed.
        on_event: called with the events of all seeds.
        processes: number of processes that read the data at the same time.
        ranks: the processes that train these seeds, which have joined.
    """
    torch.set_num_threads(1)  # The same bytes whether seeds run alone or side by side.
    _quiet_lightning()
    plan = plan_for(jobs[0].train, jobs[0].settings)
    for job in jobs if ranks.is_first else ():
        job.checkpoints.mkdir(parents=True, exist_ok=True)
    with plan.in_force():
        learners = _learners(jobs, plan, processes, ranks)
        in_order = sorted(learners, key=lambda learner: learner.round)
        for _, together in groupby(in_order, key=lambda learner: learner.round):
            _fit(list(together), plan, on_event, ranks)
    for learner in learners if ranks.is_first else ():
        learner.export()
        on_event(learner.event(learner.job.train.updates, learner.curve))


def _learners(jobs: list[TrainingJob], plan: Plan, processes: int, ranks: Ranks) -> list[Learner]:
    """Learners of all seeds, which share one copy of the data."""
    job = jobs[0]
    if is_resident(job):
        require_memory(
            job.train.resident.memory * len(jobs), "train.resident: the sets of a process"
        )
    episodes = open_stored(job.episodes)
    data = DeviceData(
        episodes,
        plan.device,
        normalise=job.settings.normalise,
        storage=storage_for(job, processes),
        vision=job.settings.images,
    )
    samplers = {"train": _sampler(job, data, "train")}
    if episodes.has_transitions("validation", job.task):
        try:
            samplers["validation"] = _sampler(job, data, "validation")
        except NoneLeftError as error:
            note(f"no validation losses: in the validation episodes, {error}")
    return [
        Learner(
            job,
            {split: sampler.of_seed(job.seed) for split, sampler in samplers.items()},
            plan,
            ranks,
        )
        for job in jobs
    ]


def _sampler(job: TrainingJob, data: DeviceData, split: str) -> BatchSampler:
    """The sampler of a split; batches of the validation episodes are few, and never of resident sets."""
    train, parts = job.train, (data, job.hindsight, job.settings.batch_sampling)
    chosen: dict[str, Any] = {
        "split": split, "batch_size": train.batch_size, "seed": job.seed, "task": job.task
    }  # fmt: skip
    if split == "train" and is_resident(job):
        return ResidentSampler(*parts, train.resident, updates=train.updates, **chosen)
    return BatchSampler(*parts, **chosen)


def _fit(learners: list[Learner], plan: Plan, on_event: Listener, ranks: Ranks) -> None:
    """Train seeds that are at the same round until the last round."""
    train = learners[0].job.train
    left = len(train.snapshot_updates) - learners[0].round
    if left == 0:
        return
    trainer = L.Trainer(
        accelerator="gpu" if plan.device == "cuda" else "cpu",
        devices=ranks.world,
        strategy=ExplicitDDP(ranks) if ranks.world > 1 else "auto",
        use_distributed_sampler=False,  # Every rank makes the global batch.
        max_epochs=left,
        reload_dataloaders_every_n_epochs=1,  # Rounds may differ in length.
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(TrainingModule(learners, plan, on_event))


def _quiet_lightning() -> None:
    """Silence hints on devices, loaders and compiling, which a user of this pipeline cannot act on."""
    for name in ("lightning.pytorch", "torch._dynamo", "torch._inductor"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")
    # `train.precision` chooses TF32.
    warnings.filterwarnings("ignore", message="TensorFloat32 tensor cores", category=UserWarning)
