"""Checkpoints that no job of a stage continues, because they were made with other data, settings, code or fast paths."""

import re
import shutil
from collections.abc import Iterable
from pathlib import Path

from offline_gcrl.config.outputs import SNAPSHOTS
from offline_gcrl.training.jobs import TrainingJob

FINGERPRINT = re.compile("[0-9a-f]{16}")
"""Name of a folder of checkpoints; nothing else is deleted."""


def discard_stale(jobs: Iterable[TrainingJob]) -> list[str]:
    """Delete the checkpoints next to those of jobs, and return a sentence for each that had updates."""
    sentences = []
    for job in jobs:
        for other in sorted(job.checkpoints.parent.glob("*")):
            if other == job.checkpoints or not FINGERPRINT.fullmatch(other.name):
                continue
            if updates := _updates(other):
                label = f"{job.task}, seed {job.seed}" if job.task else f"seed {job.seed}"
                sentences.append(
                    f"{label}: the checkpoint of {updates:,} updates is deleted, because it was made with other data, "
                    "settings, code or fast paths"
                )
            shutil.rmtree(other)
    return sentences


def _updates(folder: Path) -> int:
    """Updates of the last snapshot in a folder of checkpoints, by its name; 0 if there is none."""
    names = [path.stem for path in (folder / SNAPSHOTS).glob("update-*.pt")]
    return max((int(name.removeprefix("update-")) for name in names), default=0)
