"""The tools of every benchmark: comparison with a baseline, rates per CPU-second, a table with targets.

A benchmark is a module of this folder. Its function ``measurements()`` yields one ``Measurement`` per row of its table,
and it ends with ``main(__doc__, measurements)``. ``python -m benchmarks.<part>`` prints the table. With ``--json`` it
also writes a file, from which ``benchmarks.run`` writes ``RESULTS.md``. There are two ways to get a measurement:

    yield compare("GC-IQL, batch 256", plain, ours, unit="updates", at_least=1.6, floor="182 updates/CPU-s")
    yield Measurement("Lightning's share", [8.9, 9.1, 9.0], "us", at_most=10.0)

``plain`` and ``ours`` are functions that do the work once and return its amount (rows, updates, ...). CPU time
includes all threads and worker processes.
"""

import argparse
import gc
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

from offline_gcrl.support.versions import installed_version

VERSIONED = (
    ("python", None),
    *((name, name) for name in ("torch", "polars", "numpy", "h5py", "minari", "gymnasium")),
    *((name, name) for name in ("gymnasium-robotics", "mujoco", "lightning", "dvc")),
    *((name, name) for name in ("stable-baselines3", "torchrl")),
    *((name, name) for name in ("jax", "flax", "optax")),
)


@dataclass(frozen=True)
class Measurement:
    """One row of the table."""

    name: str
    values: list[float]
    """One value per round; the table has the median, the lowest and the highest."""
    unit: str = "times"
    at_least: float | None = None
    at_most: float | None = None
    detail: str = ""
    """What was compared, and the rates."""
    floor: str = ""
    """The physical limit, computed or measured."""
    skipped: str = ""
    """Why there are no values; empty if there are."""

    @property
    def median(self) -> float:
        """The median of the rounds."""
        return statistics.median(self.values)

    @property
    def verdict(self) -> str:
        """Whether the target was met; empty if there is none."""
        if self.skipped or (self.at_least is None and self.at_most is None):
            return ""
        enough = self.at_least is None or self.median >= self.at_least
        few = self.at_most is None or self.median <= self.at_most
        return "met" if enough and few else "**missed**"

    @property
    def target(self) -> str:
        """The target in words; empty if there is none."""
        if self.at_least is not None:
            return f"at least {_short(self.at_least)}"
        return "" if self.at_most is None else f"at most {_short(self.at_most)}"

    def row(self) -> str:
        """The row of the Markdown table."""
        measured = f"skipped: {self.skipped}" if self.skipped else _measured(self)
        cells = (self.name, measured, self.target, self.verdict, self.detail, self.floor)
        return "| " + " | ".join(cells) + " |"


HEADER = "| what | measured (lowest to highest) | target | | compared | floor |\n|---|---|---|---|---|---|"


@dataclass(frozen=True)
class Rate:
    """Work per CPU-second in several rounds."""

    values: list[float]
    unit: str

    def __str__(self) -> str:
        """The median, as ``12.3 k rows/CPU-s``."""
        return f"{_scaled(statistics.median(self.values))} {self.unit}/CPU-s"


def compare(
    name: str,
    baseline: Callable[[], float],
    ours: Callable[[], float],
    *,
    unit: str,
    names: tuple[str, str] = ("plain", "ours"),
    rounds: int = 5,
    at_least: float | None = None,
    floor: str = "",
) -> Measurement:
    """The work per CPU-second of this package, divided by that of a baseline.

    Both run in turn, and each round gives one ratio, so that variations of the machine's speed affect both. One
    uncounted round before warms up caches and compiles.

    Args:
        name: name of the row.
        baseline: does the work once, and returns its amount.
        ours: does the work with this package, and returns its amount.
        unit: unit of the work, in the plural.
        names: names of the baseline and of this package.
        rounds: number of counted rounds.
        at_least: the target.
        floor: the physical limit, in words.
    """
    baseline(), ours()
    plain, own = [], []
    for _ in range(rounds):
        plain.append(rate(baseline))
        own.append(rate(ours))
    ratios = [mine / theirs for mine, theirs in zip(own, plain, strict=True)]
    rates = f"{names[0]} {Rate(plain, unit)}, {names[1]} {Rate(own, unit)}"
    return Measurement(name, ratios, at_least=at_least, detail=rates, floor=floor)


def rate(work: Callable[[], float]) -> float:
    """Work per CPU-second of one call."""
    gc.collect()
    # Listing the worker processes takes a millisecond, so it is outside the measured interval.
    workers, own = _worker_seconds(), time.process_time()
    done = work()
    own = time.process_time() - own
    return done / (own + _worker_seconds() - workers)


def cpu_seconds() -> float:
    """CPU time of this process and all its descendants, running or ended."""
    return time.process_time() + _worker_seconds()


def _worker_seconds() -> float:
    """CPU time of the descendants of this process.

    Workers are children of a fork server and therefore missing in ``getrusage``. The time of an ended process is added to
    that of its parent, so the sum over all processes is complete.
    """
    process = psutil.Process()
    ended = process.cpu_times()
    spent: float = ended.children_user + ended.children_system
    for child in process.children(recursive=True):
        try:
            times = child.cpu_times()
        except psutil.NoSuchProcess:
            continue
        spent += times.user + times.system + times.children_user + times.children_system
    return spent


def peak_memory(reset: bool = False) -> float:
    """Peak of the resident memory of this process in MB, since the last call with ``reset``."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    status = Path("/proc/self/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024 / 1e6


def main(description: str | None, measurements: Callable[[], Iterator[Measurement]]) -> None:
    """Print the table of one benchmark, each row as soon as it is measured; with ``--json``, also write a file."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument(
        "--json", type=Path, help="file to write the measurements to, for benchmarks.run"
    )
    target = parser.parse_args().json
    print(HEADER, flush=True)
    rows = []
    for measurement in measurements():
        print(measurement.row(), flush=True)
        rows.append(asdict(measurement))
        measured = any(row["values"] for row in rows)
        # Written after each row, so that a benchmark that is ended keeps its rows. If this machine can measure nothing,
        # measurements of another machine are kept.
        if target is not None and (measured or not target.exists()):
            target.parent.mkdir(parents=True, exist_ok=True)
            title = (description or "").strip().splitlines()[0]
            content = {"title": title, **circumstances(), "measurements": rows}
            target.write_text(json.dumps(content, indent=2) + "\n")


def circumstances() -> dict[str, Any]:
    """Date, machine, load average and versions."""
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "machine": machine(),
        "load": round(os.getloadavg()[0], 1),
        "versions": {name: _version(package) for name, package in VERSIONED},
    }


def machine() -> str:
    """Processor, number of usable cores, and memory."""
    memory = psutil.virtual_memory().total / 2**30
    return f"{processor()}, {len(os.sched_getaffinity(0))} cores, {memory:.0f} GiB"


def processor() -> str:
    """Name of the processor, with the numbers of its family and model, since names of virtual machines are general."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    found = dict(map(str.strip, line.split(":", 1)) for line in reversed(lines) if ":" in line)
    if "model name" not in found:
        return platform.machine()
    return f"{found['model name']} (family {found['cpu family']}, model {found['model']})"


def _version(package: str | None) -> str:
    return platform.python_version() if package is None else installed_version(package)


def _measured(measurement: Measurement) -> str:
    low, high = min(measurement.values), max(measurement.values)
    middle = f"**{_short(measurement.median)}** {measurement.unit}"
    return middle if len(measurement.values) == 1 else f"{middle} ({_short(low)} to {_short(high)})"


def _short(value: float) -> str:
    """A number with three significant digits: 0.0123, 1.23, 12.3, 12,345."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _scaled(value: float) -> str:
    """A number with k for thousands and M for millions."""
    for size, letter in ((1e6, " M"), (1e3, " k")):
        if abs(value) >= size:
            return f"{_short(value / size)}{letter}"
    return _short(value)
