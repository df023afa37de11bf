"""Training in Lightning: several updates a step, checkpoints, bit-exact resume.

Training runs in rounds (Lightning's epochs). At the end of each, the state is saved, a snapshot of the
policy is kept for the learning curve, and losses on the validation episodes are taken. Since a batch is
a function of (seed, step), a run that is killed and resumed gives the weights of one that was not.
"""

import csv
import io
import logging
import os
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import Tensor

from offline_gcrl.agents import agent_type
from offline_gcrl.batches import BatchSampler, DeviceData
from offline_gcrl.draws import stream_key
from offline_gcrl.episodes.dataset import open_episodes
from offline_gcrl.errors import OfflineGCRLError
from offline_gcrl.files import write_text
from offline_gcrl.multitask.training import several_tasks
from offline_gcrl.policy import POLICY, SNAPSHOTS, save_policy
from offline_gcrl.training_jobs import CURVE, Event, Listener, Point, TrainingJob
from offline_gcrl.updates import PlainUpdater, Updater, mean, one

CHECKPOINT = "last.ckpt"
VALIDATION_BATCHES = 4


class TrainingModule(L.LightningModule):
    """Runs an agent's updates; knows nothing of what the agent computes."""

    def __init__(self, job: TrainingJob, device: torch.device, on_event: Listener) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.job, self.on_event = job, on_event
        episodes = open_episodes(job.episodes)
        self.tasks = tuple(episodes.schema["tasks"])
        data = DeviceData(episodes, device)
        self.samplers = {
            split: BatchSampler(
                data,
                job.hindsight,
                job.settings.sampling,
                split=split,
                batch_size=job.train.batch_size,
                seed=job.seed,
                task=job.task,
            )
            for split in ("train", "validation")
            if len(episodes.transition_rows(split, job.task))
        }
        # Of the initial weights; nothing else draws.
        torch.manual_seed(stream_key(job.seed) % 2**63)
        self.agent = agent_type(job.settings.algorithm)(job.settings, data.dimensions).to(device)
        self.optimizer = torch.optim.Adam(self.agent.parameter_groups(), fused=True)
        loss = torch.compile(self.agent.loss) if job.train.compile else self.agent.loss
        self.several = several_tasks(
            job.train, self.agent, loss, self.optimizer, self.samplers, self.tasks, job.seed
        )
        self.updater: Updater = (
            self.several.updater if self.several else PlainUpdater(self.agent, loss, self.optimizer)
        )
        self.curve: list[Point] = []
        self.recent: list[dict[str, Tensor]] = []

    @property
    def updates_a_round(self) -> int:
        """Updates between two snapshots."""
        return self.job.train.updates // self.job.train.snapshots

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """One Adam over the agent's parameter groups, stepped by the updater."""
        return self.optimizer

    def train_dataloader(self) -> "RoundOfChunks":
        """The batches of the current round, several updates' at a time."""
        return RoundOfChunks(self)

    def training_step(self, chunk: "Chunk", index: int) -> None:
        """Run the updates of one chunk."""
        first, count, batches = chunk
        done = torch.tensor(float(first + count))
        self.recent.append(self.updater.run(batches, count) | {"update": done})
        self.on_event(Event(self.job.seed, first + count, task=self.job.task))

    def on_train_epoch_end(self) -> None:
        """End a round: validate, keep a snapshot, save the state, and tell the curve."""
        done = (self.current_epoch + 1) * self.updates_a_round
        points = [_plain(info) for info in self.recent]
        points[-1] |= self._validate()
        if self.several:
            points[-1] |= self.several.end_round(done)
        self.recent.clear()
        self.curve += points
        folder = self.job.checkpoints
        self._save_policy(folder / SNAPSHOTS / f"update-{done:08d}.pt", done)
        partial = folder / f".{CHECKPOINT}.partial"
        self.trainer.save_checkpoint(partial)
        os.replace(partial, folder / CHECKPOINT)
        self.on_event(Event(self.job.seed, done, tuple(points), task=self.job.task))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """The curve belongs to the state: a resumed run has all of it."""
        checkpoint["curve"] = self.curve
        checkpoint["updater"] = self.updater.state_dict()
        checkpoint["tasks"] = self.several.state_dict() if self.several else {}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take the curve up again."""
        self.curve = checkpoint["curve"]
        self.updater.load_state_dict(checkpoint["updater"])
        if self.several:
            self.several.load_state_dict(checkpoint["tasks"], int(self.curve[-1]["update"]))

    def export(self, output: Path) -> None:
        """Write the policy, its snapshots and the training curve."""
        self._save_policy(output / POLICY, self.job.train.updates)
        shutil.copytree(self.job.checkpoints / SNAPSHOTS, output / SNAPSHOTS)
        write_text(output / CURVE, _as_csv(self.curve))
        if self.several:
            self.several.export(output)

    def _validate(self) -> Point:
        """Mean diagnostics on fixed batches of the validation episodes."""
        if "validation" not in self.samplers:
            return {}
        batches = self.samplers["validation"].batches(0, VALIDATION_BATCHES)
        with torch.enable_grad():  # GoFAR's penalty is a gradient.
            infos = [self.agent.loss(one(batches, i))[1] for i in range(VALIDATION_BATCHES)]
        return {f"validation/{name}": value for name, value in _plain(mean(infos)).items()}

    def _save_policy(self, path: Path, updates: int) -> None:
        job, data = self.job, self.samplers["train"].data
        save_policy(
            path,
            self.agent,
            job.settings.algorithm,
            job.settings,
            data.scaling,
            data.dimensions,
            self.tasks,
            {"dataset": job.dataset, "agent": job.agent, "seed": job.seed, "updates": updates}
            | ({} if job.task is None else {"task": job.task}),
        )


Chunk = tuple[int, int, dict[str, Tensor]]
"""Number of the first update, how many there are, and their batches, stacked."""


class RoundOfChunks:
    """The chunks of the round that training is in."""

    def __init__(self, module: TrainingModule) -> None:
        self.module = module

    def __iter__(self) -> Iterator[Chunk]:
        """Chunks of at most ``updates_per_step`` updates, in order."""
        module = self.module
        shares = module.several.shares if module.several else None
        start = module.current_epoch * module.updates_a_round
        end, size = start + module.updates_a_round, module.job.train.updates_per_step
        for first in range(start, end, size):
            count = min(size, end - first)
            yield first, count, module.samplers["train"].batches(first, count, shares)

    def __len__(self) -> int:
        """Chunks in a round."""
        return -(-self.module.updates_a_round // self.module.job.train.updates_per_step)


def train_seed(job: TrainingJob, on_event: Listener) -> None:
    """Train one seed, from its last checkpoint where there is one, and export it to ``job.output``."""
    torch.set_num_threads(1)  # The same bytes whether seeds run alone or side by side.
    _quiet_lightning()
    folder = job.checkpoints
    _discard_others(folder)
    accelerator = _accelerator(job.train.accelerator)
    module = TrainingModule(job, torch.device("cuda" if accelerator == "gpu" else "cpu"), on_event)
    trainer = L.Trainer(
        accelerator=accelerator,
        devices=1,
        max_epochs=job.train.snapshots,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    checkpoint = folder / CHECKPOINT
    trainer.fit(
        module,
        ckpt_path=checkpoint if checkpoint.exists() else None,
        weights_only=True,
    )
    module.export(job.output)
    on_event(Event(job.seed, job.train.updates, tuple(module.curve), task=job.task))


def _discard_others(folder: Path) -> None:
    """Make the folder of a fingerprint, and clear what other data, settings or code left."""
    if folder.parent.exists():
        for other in folder.parent.iterdir():
            if other != folder:
                shutil.rmtree(other)
    folder.mkdir(parents=True, exist_ok=True)


def _accelerator(wanted: str) -> str:
    if wanted == "auto":
        return "gpu" if torch.cuda.is_available() else "cpu"
    if wanted == "gpu" and not torch.cuda.is_available():
        raise OfflineGCRLError(
            "train.accelerator in params.yaml asks for a GPU, but torch sees none; "
            "say 'auto' or 'cpu'"
        )
    return wanted


def _quiet_lightning() -> None:
    """Lightning's hints on devices and loaders are of no use to a user of this pipeline."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")


def _plain(info: dict[str, Tensor]) -> Point:
    return {name: float(value) for name, value in info.items()}


def _as_csv(curve: list[Point]) -> str:
    names = ["update", *sorted({name for point in curve for name in point} - {"update"})]
    text = io.StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(curve)
    return text.getvalue()
