"""Relabelling: goals and rewards compared with vectorised NumPy, out of core, and batches compared with other libraries."""

import math
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from benchmarks import her
from benchmarks.floors import memory_bandwidth
from benchmarks.harness import Measurement, compare, cpu_seconds, main, peak_memory
from benchmarks.synthetic import GOAL, write_steps
from offline_gcrl.config import Relabel
from offline_gcrl.config.outputs import EPISODES, STEPS, TABLE
from offline_gcrl.hindsight.relabel import (
    TRANSITIONS_PER_CHUNK,
    episode_columns,
    iterate_transitions,
    label_transitions,
    relabel,
)
from offline_gcrl.hindsight.stored import StoredGoals
from offline_gcrl.hindsight.strategies import goal_rows

K, DISCOUNT = 4, 0.99
SETTINGS = Relabel(strategies=("geometric",), k=K, discount=DISCOUNT)
SMALL, LARGE = 1_000, 50_000
"""Numbers of episodes, with 1,000 transitions each, in memory and out of core."""


def measurements() -> Iterator[Measurement]:
    """Relabelling in memory, to Parquet and out of core, and batches."""
    with tempfile.TemporaryDirectory() as folder:
        write_steps(Path(folder), SMALL)
        yield from in_memory(Path(folder))
    with tempfile.TemporaryDirectory() as folder:
        yield from out_of_core(Path(folder))
    yield from her.measurements()


def in_memory(folder: Path) -> Iterator[Measurement]:
    """Geometric goals of a million transitions, four per transition."""
    case = Case(folder)
    ceiling = f"{memory_bandwidth() / 2 / 5 / 1e6:,.0f} M goal rows/s: a copy of the table"
    for what, plain, ours, target in (
        ("geometric goals and rewards, k = 4", case.numpy_labels, case.our_labels, 3.0),
        ("rows of these goals only", case.numpy_rows, case.our_rows, None),
        ("these goals and rewards, from and to Parquet", case.numpy_file, case.our_file, None),
    ):
        yield compare(
            what,
            plain,
            ours,
            unit="goal rows",
            names=("NumPy", "ours"),
            at_least=target,
            floor=ceiling if target else "",
        )


class Case:
    """A dataset and two programs that relabel it; each returns the number of goals that it drew."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.episodes = pl.read_parquet(folder / EPISODES, columns=episode_columns(SETTINGS))
        self.goals = pl.read_parquet(folder / STEPS)["achieved_goal"].to_numpy()
        self.lengths = self.episodes["length"].to_numpy().astype(np.int64)
        self.count = int(self.lengths.sum()) * K

    def numpy_rows(self) -> int:
        numpy_goal_rows(self.lengths)
        return self.count

    def our_rows(self) -> int:
        for part in iterate_transitions(self.episodes, TRANSITIONS_PER_CHUNK):
            goal_rows(part, "geometric", K, 0, DISCOUNT)
        return self.count

    def numpy_labels(self) -> int:
        numpy_table(self.lengths, self.goals)
        return self.count

    def our_labels(self) -> int:
        stored = {"achieved_goal": StoredGoals(self.goals)}
        for part in iterate_transitions(self.episodes, TRANSITIONS_PER_CHUNK):
            label_transitions(part, stored, SETTINGS, GOAL)
        return self.count

    def numpy_file(self) -> int:
        goals = pl.read_parquet(self.folder / STEPS)["achieved_goal"].to_numpy()
        row, chosen, reward, current = numpy_table(self.lengths, goals)
        columns = {"row": row.astype(np.uint32)}
        columns |= {f"geometric_goal_{n}": chosen[:, n].astype(np.uint32) for n in range(K)}
        columns |= {f"geometric_reward_{n}": reward[:, n] for n in range(K)}
        columns |= {"current_reward_0": current}
        pq.write_table(pa.table(columns), self.folder / "plain.parquet", compression="zstd")
        return self.count

    def our_file(self) -> int:
        relabel(self.folder, self.folder, SETTINGS, GOAL)
        return self.count


def numpy_goal_rows(lengths: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows of transitions and of their geometric goals, in fast NumPy: vectorised and in place."""
    random = np.random.default_rng(0)
    count = int(lengths.sum())
    starts = np.cumsum(lengths) - lengths
    row = np.arange(count) + np.repeat(np.arange(len(lengths)), lengths)
    left = np.repeat(starts + lengths, lengths) - np.arange(count)
    draws = random.random((count, K))
    np.subtract(1.0, draws, out=draws)
    np.log(draws, out=draws)
    draws /= math.log(DISCOUNT)
    offset = draws.astype(np.int64)
    offset += 1
    np.minimum(offset, left[:, None], out=offset)
    offset += row[:, None]
    return row, offset


def numpy_table(
    lengths: NDArray[np.int64], goals: NDArray[np.float32]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int8], NDArray[np.int8]]:
    """Rows of transitions and goals, and the rewards of these goals and of the current goal (-1, or 0 if reached)."""
    row, chosen = numpy_goal_rows(lengths)
    following = goals[row + 1]
    reward = numpy_rewards(goals[chosen], following[:, None])
    return row, chosen, reward, numpy_rewards(goals[row], following)


def numpy_rewards(goals: NDArray[np.float32], following: NDArray[np.float32]) -> NDArray[np.int8]:
    """Rewards for goals; the array of goals is overwritten."""
    goals -= following
    squared = np.einsum("...d,...d->...", goals, goals)
    tolerance = np.float32(GOAL.success.tolerance or 0.0)
    return (squared <= tolerance**2).astype(np.int8) - np.int8(1)


def out_of_core(folder: Path) -> Iterator[Measurement]:
    """Relabelling of 50 million transitions from Parquet to Parquet."""
    transitions = write_steps(folder, LARGE)
    before = peak_memory(reset=True)
    began, spent = time.perf_counter(), cpu_seconds()
    relabel(folder, folder, SETTINGS, GOAL)
    seconds, spent = time.perf_counter() - began, cpu_seconds() - spent
    above = peak_memory() - before
    rows, size = transitions * K, (folder / TABLE).stat().st_size
    what = f"{transitions // 10**6} million transitions to Parquet, k = {K}"
    yield Measurement(
        f"{what}: goal rows per second",
        [rows / seconds / 1e6],
        "M",
        at_least=10.0,
        detail=f"{seconds:.1f} s, {rows / spent / 1e6:.0f} M/CPU-s, {os.cpu_count()} cores",
        floor=f"{size / 1e6:,.0f} MB written, {size / rows:.2f} bytes per goal with its reward",
    )
    yield Measurement(f"{what}: memory above start", [above], "MB", at_most=300.0)


if __name__ == "__main__":
    main(__doc__, measurements)
