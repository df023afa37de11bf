"""Tests of claims about hindsight and imitation, for docs/claims.md.

    make claims                    runs the study `claims` and prints the tables of this file
    python -m benchmarks.claims    prints the tables, from the data and results of the study that are there

Every table has the number of samples, episodes and seeds, and 95% intervals.
"""

from collections.abc import Iterator, Sequence
from math import pi
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import polars as pl
from numpy.typing import NDArray

from benchmarks.datasets import success
from offline_gcrl.config import Dataset, Relabel, load_dataset
from offline_gcrl.config.outputs import EPISODES
from offline_gcrl.config.resolving import load_recipe
from offline_gcrl.environments.making import shared_environment
from offline_gcrl.evaluation.results import SUCCESS_COLUMNS
from offline_gcrl.hindsight.relabel import relabel
from offline_gcrl.hindsight.statistics import describe
from offline_gcrl.statistics.contrasts import paired_contrast
from offline_gcrl.statistics.intervals import Estimate, rate_across_seeds, wilson

DATASETS = ("fetch-reach-random", "fetch-reach-noisy", "pointmaze-umaze")
SEEDS = (0, 1, 2)
SAMPLES, CHUNK = 200_000_000, 5_000_000
GOALS = 100_000
KS = (1, 4, 8)
MINARI, PARQUET, RESULTS = Path("datasets/minari"), Path("datasets/parquet"), Path("results")


def main() -> None:
    """Print all tables."""
    for title, rows in (
        ("A random position is at a random goal", chances()),
        ("Positive labels of hindsight goals", labels(PARQUET)),
        ("Value learning with and without hindsight", hindsight(RESULTS)),
        ("Policies compared with the behaviour that made their data", imitation(MINARI, RESULTS)),
    ):
        print(f"\n## {title}\n", flush=True)
        for row in rows:
            print(row, flush=True)


# ----------------------------------------------------------------------------------------- chance


def chances() -> Iterator[str]:
    """Shares of random positions within the tolerance of a goal: in a unit cube, and in the workspace of FetchReach."""
    yield "| where | tolerance | pairs | share | formula: sphere / volume |"
    yield "|---|--:|--:|---|--:|"
    for name, inside in (
        ("goal in the middle of a cube of 1 m", True),
        ("goal anywhere in it", False),
    ):
        found = share_in_cube(inside, 0.02, SAMPLES)
        yield f"| {name} | 2 cm | {SAMPLES:,} | {scientific(found)} | {sphere(0.02):.2e} |"
    goals = sampled_goals(2 * GOALS)
    side = float(np.mean(goals.max(0) - goals.min(0)))
    for tolerance in (0.02, 0.05):
        near = np.linalg.norm(goals[:GOALS] - goals[GOALS:], axis=1) <= tolerance
        found = wilson(int(near.sum()), GOALS)
        formula = sphere(tolerance) / side**3
        where = f"two goals of FetchReach, a cube of {side:.2f} m"
        yield f"| {where} | {100 * tolerance:.0f} cm | {GOALS:,} | {scientific(found)} | {formula:.2e} |"


def sphere(radius: float) -> float:
    """The volume of a sphere, in cubic metres."""
    return 4.0 / 3.0 * pi * radius**3


def share_in_cube(goal_in_the_middle: bool, tolerance: float, samples: int) -> Estimate:
    """Share of uniform positions in a unit cube that are within the tolerance of a goal, by Monte Carlo."""
    random, hits, done = np.random.default_rng(0), 0, 0
    while done < samples:
        count = min(CHUNK, samples - done)
        squared = np.zeros(count, dtype=np.float32)
        for _ in range(3):
            goal = 0.5 if goal_in_the_middle else random.random(count, dtype=np.float32)
            squared += (random.random(count, dtype=np.float32) - goal) ** 2
        hits += int((squared <= tolerance**2).sum())
        done += count
    return wilson(hits, samples)


def sampled_goals(count: int) -> NDArray[np.float64]:
    """Goals that FetchReach draws at resets, (count, 3)."""
    evaluation = load_recipe("fetch-reach").evaluation
    assert evaluation is not None
    environment = shared_environment(evaluation.environment)
    environment.reset(seed=0)
    reaching = environment.unwrapped
    return np.array([reaching._sample_goal() for _ in range(count)])  # type: ignore[attr-defined]


def scientific(found: Estimate) -> str:
    """An estimate of a small probability with its interval."""
    return f"{found.mean:.3e} [{found.low:.3e}, {found.high:.3e}]"


# ----------------------------------------------------------------------------------------- labels


def labels(parquet: Path, datasets: Sequence[str] = DATASETS) -> Iterator[str]:
    """Share of positive labels among each transition with its original goal and k future goals, and k / (1 + k)."""
    yield "| dataset | transitions | k | k / (1 + k) | positive labels | of the future goals | of the original goals | exact next state only |"
    yield "|---|--:|--:|--:|--:|--:|--:|--:|"
    for name in datasets:
        for k in KS:
            settings = Relabel(strategies=("future",), k=k)
            goal = load_dataset(name).recipes[0].goal
            with TemporaryDirectory() as folder:
                relabel(parquet / name, Path(folder), settings, goal)
                found = describe(parquet / name, Path(folder), settings, goal)
            her, of = found["her"], found["strategies"]
            shares = (
                her["relabelled_share"],
                her["positive_share"],
                of["future"]["positive_share"],
            )
            shares = (*shares, of["original"]["positive_share"], her["expected_if_exact"])
            cells = " | ".join(f"{share:.1%}" for share in shares)
            yield f"| {name} | {found['transitions']:,} | {k} | {cells} |"


# ---------------------------------------------------------------------------------------- results


def hindsight(results: Path, datasets: Sequence[str] = DATASETS) -> Iterator[str]:
    """Success of each algorithm with and without hindsight goals, and the difference on the same episodes."""
    yield "| dataset | algorithm | original goals | with hindsight | difference | episodes |"
    yield "|---|---|---|---|---|--:|"
    pairs = (("ddpg", "ddpg-original", "ddpg-hindsight"), ("gciql", "gciql-original", "gciql-hindsight"), ("bc", "bc", "gcbc"))  # fmt: skip
    for name in datasets:
        column = SUCCESS_COLUMNS[load_dataset(name).criterion]
        for algorithm, without, with_hindsight in pairs:
            first, second = (
                episodes(results / name / agent) for agent in (with_hindsight, without)
            )
            found = paired_contrast(algorithm, first, second, column)
            cells = " | ".join(map(interval, (found.second, found.first, found.difference)))
            yield f"| {name} | {algorithm} | {cells} | {found.episodes} |"


def imitation(minari: Path, results: Path, datasets: Sequence[str] = DATASETS) -> Iterator[str]:
    """Success of the behaviour in its own episodes, of behaviour cloning, and of offline RL."""
    yield "| dataset | behaviour | its episodes | bc | gcbc | gciql with hindsight | episodes |"
    yield "|---|---|--:|---|---|---|--:|"
    for name in datasets:
        dataset = load_dataset(name)
        own = behaviour(dataset, minari / name)
        tables = [episodes(results / name / agent) for agent in ("bc", "gcbc", "gciql-hindsight")]
        column = SUCCESS_COLUMNS[dataset.criterion]
        rates = [rate_across_seeds([t[column].cast(pl.Float64).to_numpy() for t in own_tables]) for own_tables in tables]  # fmt: skip
        for kind, rate, count in own:
            cells = " | ".join(map(interval, rates))
            yield f"| {name} | {kind}: {interval(rate)} | {count:,} | {cells} | {sum(map(len, tables[0]))} |"


def behaviour(dataset: Dataset, minari: Path) -> list[tuple[str, Estimate, int]]:
    """Kind, success and number of the recorded episodes of each source; the success is that of ``benchmarks.datasets``."""
    found = []
    for recipe in dataset.recipes:
        for source in recipe.sources:
            rate, when = success(recipe, source, minari)
            found.append((f"{source.kind}, {when}", rate, source.episodes or 0))
    return found


def episodes(folder: Path) -> list[pl.DataFrame]:
    """The evaluation episodes of an agent, one table per training seed."""
    return [pl.read_parquet(folder / f"seed-{seed}" / EPISODES) for seed in SEEDS]


def interval(found: Estimate) -> str:
    """A rate with its interval."""
    return f"{found.mean:.2f} [{found.low:.2f}, {found.high:.2f}]"


if __name__ == "__main__":
    main()
