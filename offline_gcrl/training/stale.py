"""Checkpoints that no job of a stage continues, because they were made with other data, settings, code or fast paths."""

import re
import shutil
from collections.abc import Iterable

from offline_gcrl.training.jobs import TrainingJob, last_snapshot

FINGERPRINT = re.compile("[0-9a-f]{16}")
"""Name of a folder of checkpoints; nothing else is deleted."""


def discard_stale(jobs: Iterable[TrainingJob]) -> list[str]:
    """Delete the checkpoints next to those of jobs, and return a sentence for each number of updates that they had."""
    deleted: dict[int, list[str]] = {}
    for job in jobs:
        for other in sorted(job.checkpoints.parent.glob("*")):
            if other == job.checkpoints or not FINGERPRINT.fullmatch(other.name):
                continue
            label = f"{job.task} seed {job.seed}" if job.task else f"seed {job.seed}"
            deleted.setdefault(last_snapshot(other), []).append(label)
            shutil.rmtree(other)
    deleted.pop(0, None)
    return [
        f"{', '.join(labels)}: the checkpoint of {updates:,} updates is deleted, because it was made with other data, "
        "settings, code or fast paths"
        for updates, labels in deleted.items()
    ]
