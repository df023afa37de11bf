"""Data larger than memory: relabelling, opening and batches of memory-mapped data, compared with data in memory.

The number of transitions is one million in `make bench`. `python -m benchmarks.scale --transitions 100000000` measures
any other number; it needs 180 bytes of disk per transition.
"""

import argparse
import json
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch

from benchmarks import growth, synthetic
from benchmarks.harness import Measurement, compare, cpu_seconds, main
from benchmarks.ingest import DATASET, make
from offline_gcrl.agents import settings_type
from offline_gcrl.config import Relabel, Resident, Train
from offline_gcrl.config.experiment import Ingesting
from offline_gcrl.episodes.dataset import open_stored
from offline_gcrl.episodes.ingest import ingest
from offline_gcrl.hindsight.relabel import relabel
from offline_gcrl.support.memory import GIB
from offline_gcrl.support.unfinished import Unfinished
from offline_gcrl.training.batches.data import DeviceData
from offline_gcrl.training.batches.resident import ResidentSampler
from offline_gcrl.training.batches.sampler import BatchSampler
from offline_gcrl.training.batches.storage import InMemory, Mapped, Storage
from offline_gcrl.training.jobs import TrainingJob
from offline_gcrl.training.placement import data_bytes

TRANSITIONS, LENGTH = 10**6, 1000
IN_MEMORY_UP_TO = 2 * 10**7
"""Transitions up to which mapped data is compared with data in memory."""
SETS_FROM = 10**7
"""Transitions from which resident sets are measured: fewer are not worth several blocks in a quarter of their memory."""
BATCHES = 400
ROUNDS = 4
MIXTURE = Relabel(k=1, strategies=("geometric", "random", "future"))


def measurements(transitions: int = TRANSITIONS) -> Iterator[Measurement]:
    """Relabelling, opening and batches; each in a process of its own, so that its memory is its own."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part in ("parquet", "hindsight", "arrays"):
            (folder / part).mkdir()
        synthetic.write_dataset(folder / "parquet", transitions // LENGTH, LENGTH)
        size = f"{transitions:,} transitions"
        if transitions <= IN_MEMORY_UP_TO:  # Minari takes 8 s to write a million.
            make(folder / "minari", growth.SIZES, growth.ACTION, LENGTH, transitions // LENGTH)
            yield from costs(f"ingest, {size}", transitions, partial(ingesting, folder))
        yield from costs(f"relabel, {size}", transitions, partial(relabelling, folder))
        data = data_bytes(job(folder)) / 1e6
        for title, work in (
            ("mapped for the first time", partial(opening, folder, is_mapped=True)),
            ("mapped again", partial(opening, folder, is_mapped=True)),
            ("read into memory", partial(opening, folder, is_mapped=False)),
        ):
            if title.startswith("mapped") or transitions <= IN_MEMORY_UP_TO:
                detail = f"the data takes {data:,.0f} MB"
                yield from costs(f"start of training, {title}, {size}", transitions, work, detail)
        if transitions <= IN_MEMORY_UP_TO:
            yield batches(folder, size)
        else:
            yield mapped_alone(folder, size)
        if transitions >= SETS_FROM:
            yield from resident_sets(folder, size, data)


def batches(folder: Path, size: str) -> Measurement:
    """Batches of GC-IQL from mapped files, whose pages are in memory, compared with batches from memory."""
    in_memory, mapped = (
        partial(make_batches, sampler(folder, is_mapped=kind)) for kind in (False, True)
    )
    return compare(
        f"batches of 256, {size}", in_memory, mapped, unit="batches", names=("in memory", "mapped"), at_least=0.9, rounds=9,
    )  # fmt: skip


def mapped_alone(folder: Path, size: str, rounds: int = 3) -> Measurement:
    """Batches per second of wall-clock time, where the data is too large to be compared with data in memory."""
    source = sampler(folder, is_mapped=True)
    rates = []
    for number in range(rounds):
        before = time.monotonic()
        rates.append(make_batches(source, number * BATCHES) / (time.monotonic() - before))
    return Measurement(f"batches of 256, mapped, {size}", rates, "batches/s")


def resident_sets(folder: Path, size: str, data: float) -> Iterator[Measurement]:
    """Resident sets that take a quarter of the data: how quickly they are read, batches while one is read, and memory."""
    memory = data / 4
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        speeds, rates, peak = pool.apply(_resident, (folder, memory))
    sets = f"two sets of {memory / 2:,.0f} MB; the data takes {data:,.0f} MB"
    yield Measurement(f"resident sets, {size}: read", speeds, "MB/s", detail=sets)
    yield Measurement(f"resident sets, {size}: batches of 256", rates, "batches/s")
    allowed = f"{memory:,.0f} MB are allowed"
    yield Measurement(f"resident sets, {size}: memory", [peak], "MB", detail=allowed)


def _resident(folder: Path, megabytes: float) -> tuple[list[float], list[float], float]:
    """Megabytes read and batches made per second of wall-clock time, by round; and memory."""
    torch.set_num_threads(1)
    sets = Resident(memory_gib=megabytes * 1e6 / GIB, updates=ROUNDS * BATCHES)
    data = DeviceData(open_stored(folder / "parquet"), storage=Mapped(folder / "arrays"))
    asked = job(folder).settings.batch_sampling
    source = ResidentSampler(
        data, folder / "hindsight", asked, sets, split="train", batch_size=256, seed=0, updates=2 * ROUNDS * BATCHES
    )  # fmt: skip
    bytes_read = np.array(
        [source.reader.bytes_of_blocks[source.blocks_of(period)].sum() for period in range(ROUNDS)]
    )
    peak, speeds, rates = _Peak(), [], []
    room = source.reader.room(source.places)
    for period in range(ROUNDS):
        before = time.monotonic()
        source.reader.read(np.unique(source.blocks_of(period)), room)
        speeds.append(bytes_read[period] / 1e6 / (time.monotonic() - before))
    del room
    source.resident(0)  # From here on, a thread reads the next set.
    for number in range(ROUNDS):
        before = time.monotonic()
        rates.append(make_batches(source, number * BATCHES) / (time.monotonic() - before))
    source.resident(1)
    return speeds, rates, peak.stop()


def job(folder: Path) -> TrainingJob:
    """A job of GC-IQL with default settings."""
    return TrainingJob(
        dataset="walk",
        agent="gciql",
        seed=0,
        episodes=folder / "parquet",
        hindsight=folder / "hindsight",
        train=Train(updates=1, snapshots=1),
        settings=settings_type("gciql").model_validate_json(json.dumps({"algorithm": "gciql"})),
        checkpoints=folder / "checkpoints",
        output=folder / "model",
    )


def sampler(folder: Path, *, is_mapped: bool) -> BatchSampler:
    torch.set_num_threads(1)
    storage: Storage = Mapped(folder / "arrays") if is_mapped else InMemory()
    data = DeviceData(open_stored(folder / "parquet"), storage=storage)
    asked = job(folder).settings.batch_sampling
    return BatchSampler(data, folder / "hindsight", asked, split="train", batch_size=256, seed=0)


def make_batches(source: BatchSampler, first: int = 0) -> float:
    for start in range(first, first + BATCHES, 25):
        source.batches(start, 25)
    return float(BATCHES)


def ingesting(folder: Path) -> None:
    output = folder / "ingested"
    output.mkdir()
    size = Ingesting().transitions_per_shard
    unfinished = Unfinished(folder / "unfinished")
    ingest(DATASET, folder / "minari", output, transitions_per_shard=size, unfinished=unfinished)


def relabelling(folder: Path) -> None:
    relabel(folder / "parquet", folder / "hindsight", MIXTURE, synthetic.GOAL)


def opening(folder: Path, *, is_mapped: bool) -> None:
    sampler(folder, is_mapped=is_mapped).batches(0, 1)


def costs(
    title: str, transitions: int, work: Callable[[], None], detail: str = ""
) -> Iterator[Measurement]:
    """CPU time per million transitions, and peak memory that is not backed by a file."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        seconds, wall, megabytes = pool.apply(_measured, (work,))
    spent = f"{wall:.1f} s of wall-clock time"
    yield Measurement(title, [1e6 * seconds / transitions], "CPU-s per million", detail=spent)
    yield Measurement(f"{title}: memory", [megabytes], "MB", detail=detail)


def _measured(work: Callable[[], None]) -> tuple[float, float, float]:
    peak = _Peak()
    spent, began = cpu_seconds(), time.monotonic()
    work()
    return cpu_seconds() - spent, time.monotonic() - began, peak.stop()


class _Peak:
    """Samples the anonymous memory of this process: pages of mapped files can be given up at any time."""

    def __init__(self) -> None:
        import threading

        self.start = self.most = self._now()
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._watch, daemon=True)
        self.thread.start()

    def stop(self) -> float:
        self.ended.set()
        self.thread.join()
        return (self.most - self.start) / 1e6

    def _watch(self) -> None:
        while not self.ended.wait(0.01):
            self.most = max(self.most, self._now())

    @staticmethod
    def _now() -> int:
        status = Path("/proc/self/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith("RssAnon"))
        return int(line.split()[1]) * 1024


if __name__ == "__main__":
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--transitions", type=int, default=TRANSITIONS)
    chosen, rest = parser.parse_known_args()
    sys.argv[1:] = rest
    main(__doc__, partial(measurements, chosen.transitions))
