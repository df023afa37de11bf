"""Resource usage of training: processor, memory and update rate, sampled when a worker sends an event."""

import time
from dataclasses import dataclass

import psutil

from offline_gcrl.tracking.runs import Sample
from offline_gcrl.training.events import Event

SECONDS_BETWEEN_SAMPLES = 2.0
MEGABYTE = 2**20


@dataclass
class _Worker:
    process: psutil.Process
    time: float
    updates: int
    samples: list[Sample]


class Usage:
    """Samples the process of each seed, at most once per ``SECONDS_BETWEEN_SAMPLES``."""

    def __init__(self) -> None:
        self.workers: dict[int, _Worker] = {}

    def sample(self, event: Event) -> list[Sample]:
        """Take a sample if it is due; if the event has points, return the samples since the last points."""
        try:
            worker = self._worker(event)
            if time.monotonic() - worker.time >= SECONDS_BETWEEN_SAMPLES:
                self._sample(worker, event)
        except (
            psutil.Error
        ):  # The worker ended before its last event was received, or may not be observed.
            return []
        if not event.points:
            return []
        taken, worker.samples = worker.samples, []
        return taken

    def _worker(self, event: Event) -> _Worker:
        if event.seed not in self.workers:
            process = psutil.Process(event.process)
            process.cpu_percent()  # Later calls measure the time since this call.
            self.workers[event.seed] = _Worker(process, time.monotonic(), event.updates, [])
        return self.workers[event.seed]

    def _sample(self, worker: _Worker, event: Event) -> None:
        now = time.monotonic()
        values = {
            "system/cpu_percent": worker.process.cpu_percent(),
            "system/memory_megabytes": worker.process.memory_info().rss / MEGABYTE,
            "system/updates_per_second": (event.updates - worker.updates) / (now - worker.time),
        }
        worker.samples.append(Sample(event.updates, int(time.time() * 1000), values))
        worker.time, worker.updates = now, event.updates
