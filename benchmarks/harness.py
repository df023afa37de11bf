"""What every benchmark needs: a baseline and ours in turn, medians per CPU-second, a table with targets.

A benchmark is a module of this folder with a function ``figures()`` that yields a ``Figure`` a row and ends in
``main(__doc__, figures)``. Alone, ``python -m benchmarks.<part>`` prints its table; with ``--json`` it also
writes what ``benchmarks.run`` gathers into ``RESULTS.md``. The two ways to get a figure:

    yield compare("GC-IQL, batch 256", plain, ours, unit="updates", at_least=1.6, floor="182 updates/CPU-s")
    yield Figure("Lightning's share", [8.9, 9.1, 9.0], "us", at_most=10.0)

``plain`` and ``ours`` are functions that do the work once and return how much they did (rows, updates, ...).
CPU time is that of the process, its threads and its worker processes.
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
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

VERSIONED = (
    ("python", None),
    *((name, name) for name in ("torch", "polars", "numpy", "h5py", "minari", "gymnasium")),
    *((name, name) for name in ("gymnasium-robotics", "mujoco", "lightning", "dvc")),
    *((name, name) for name in ("stable-baselines3", "torchrl")),
)


@dataclass(frozen=True)
class Figure:
    """One row of the table."""

    name: str
    values: list[float]
    """One a round; the median is reported, with the lowest and the highest."""
    unit: str = "times"
    at_least: float | None = None
    at_most: float | None = None
    detail: str = ""
    """What was compared with what, and at which rates."""
    floor: str = ""
    """The physical limit, computed or measured."""
    skipped: str = ""
    """Why there is no value, in place of one."""

    @property
    def median(self) -> float:
        """The middle of the rounds."""
        return statistics.median(self.values)

    @property
    def verdict(self) -> str:
        """Whether the target was met; empty where there is none."""
        if self.skipped or (self.at_least is None and self.at_most is None):
            return ""
        enough = self.at_least is None or self.median >= self.at_least
        few = self.at_most is None or self.median <= self.at_most
        return "met" if enough and few else "**missed**"

    @property
    def target(self) -> str:
        """The target in words; empty where there is none."""
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
    """Work a CPU-second over several rounds."""

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
) -> Figure:
    """How many times as much work ours does in a CPU-second as the baseline.

    They run in turn, and each round gives one ratio, so that a slow moment of the machine touches both.
    One round before, not counted, warms caches and compiles.

    Args:
        name: of the row.
        baseline: does the work once, and returns how much it did.
        ours: the same.
        unit: of the work, in the plural.
        names: what the two are called.
        rounds: that are counted.
        at_least: the target.
        floor: the limit, in words.
    """
    baseline(), ours()
    plain, own = [], []
    for _ in range(rounds):
        plain.append(rate(baseline))
        own.append(rate(ours))
    ratios = [mine / theirs for mine, theirs in zip(own, plain, strict=True)]
    rates = f"{names[0]} {Rate(plain, unit)}, {names[1]} {Rate(own, unit)}"
    return Figure(name, ratios, at_least=at_least, detail=rates, floor=floor)


def rate(work: Callable[[], float]) -> float:
    """Work a CPU-second of one call."""
    gc.collect()
    # Looking for workers takes a millisecond, which is not the work's: it comes before and after.
    workers, own = _worker_seconds(), time.process_time()
    done = work()
    own = time.process_time() - own
    return done / (own + _worker_seconds() - workers)


def cpu_seconds() -> float:
    """CPU time of this process and all below it, living or ended."""
    return time.process_time() + _worker_seconds()


def _worker_seconds() -> float:
    """CPU time of the processes below this one.

    Workers are children of a fork server, which hides them from ``getrusage``. A process that ends passes
    its time to the one that waits for it, so that the sum over the tree loses none.
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
    """Highest resident memory of this process in MB, since the last ``reset``."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    status = Path("/proc/self/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024 / 1e6


def main(description: str | None, figures: Callable[[], Iterator[Figure]]) -> None:
    """Print the table of one benchmark, a row as soon as it is measured; write it as JSON if asked to."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--json", type=Path, help="where to write the figures, for benchmarks.run")
    target = parser.parse_args().json
    print(HEADER, flush=True)
    rows = []
    for figure in figures():
        print(figure.row(), flush=True)
        rows.append(asdict(figure))
        measured = any(row["values"] for row in rows)
        # After each row: what ran out of time keeps what it has. What cannot be measured here leaves what was
        # measured elsewhere.
        if target is not None and (measured or not target.exists()):
            target.parent.mkdir(parents=True, exist_ok=True)
            title = (description or "").strip().splitlines()[0]
            content = {"title": title, **circumstances(), "figures": rows}
            target.write_text(json.dumps(content, indent=2) + "\n")


def circumstances() -> dict[str, Any]:
    """Date, machine, how busy it is, and versions."""
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "machine": machine(),
        "load": round(os.getloadavg()[0], 1),
        "versions": {name: _version(package) for name, package in VERSIONED},
    }


def machine() -> str:
    """Processor, cores that may be used, memory."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    models = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    memory = psutil.virtual_memory().total / 2**30
    model = models[0] if models else platform.machine()
    return f"{model}, {len(os.sched_getaffinity(0))} cores, {memory:.0f} GiB"


def _version(package: str | None) -> str:
    try:
        return platform.python_version() if package is None else version(package)
    except PackageNotFoundError:
        return "not installed"


def _measured(figure: Figure) -> str:
    low, high = min(figure.values), max(figure.values)
    middle = f"**{_short(figure.median)}** {figure.unit}"
    return middle if len(figure.values) == 1 else f"{middle} ({_short(low)} to {_short(high)})"


def _short(value: float) -> str:
    """Three digits that matter: 0.0123, 1.23, 12.3, 12,345."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _scaled(value: float) -> str:
    """With thousands as k and millions as M."""
    for size, letter in ((1e6, " M"), (1e3, " k")):
        if abs(value) >= size:
            return f"{_short(value / size)}{letter}"
    return _short(value)
