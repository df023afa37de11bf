"""Judging policies in MuJoCo: whole episodes in worker processes, each with a seed and goal of its own.

An episode is a function of (policy, environment, seed) alone, so any number of workers gives the same
table, row for row.
"""

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from offline_gcrl.config import Environment, Evaluate, Goal, Recipe
from offline_gcrl.environments import reported_success, shared_environment
from offline_gcrl.errors import SettingsError
from offline_gcrl.files import write_json
from offline_gcrl.goals import is_within, squared_distance
from offline_gcrl.intervals import Estimate, across_seeds, rate_across_seeds, wilson
from offline_gcrl.parallel import announced, cores, ordered_map
from offline_gcrl.policy import POLICY, SNAPSHOTS, Policy, load_policy

EPISODES, LEARNING_CURVE, METRICS = "episodes.parquet", "curve.parquet", "metrics.json"
FINAL, CURVE = 1, 2
"""Purposes of evaluation seeds: those of the learning curve are not those of the final judgement.

Never 0: NumPy pads seed sequences with zeros, and [seed, n, 0] would be the collector's [seed, n].
"""

EPISODE_COLUMNS: dict[str, Any] = {
    "update": pl.Int64,
    "episode": pl.Int32,
    "seed": pl.Int64,
    "task": pl.String,
    "start": pl.List(pl.Float64),
    "goal": pl.List(pl.Float64),
    "success": pl.Boolean,
    "success_any": pl.Boolean,
    "final_distance": pl.Float64,
    "return": pl.Float64,
    "discounted_return": pl.Float64,
    "steps_to_goal": pl.Int32,
    "length": pl.Int32,
}


@dataclass(frozen=True)
class EpisodeJob:
    """One episode to run."""

    policy: Path
    environment: Environment
    goal: Goal
    task: str
    discount: float
    number: int
    seed: int


def evaluation_seeds(seed: int, training_seed: int, purpose: int, count: int) -> list[int]:
    """Reset seeds of evaluation episodes: each chooses a start and a goal.

    They depend on the training seed and not on the agent: agents are compared on the same episodes,
    and more training seeds cover more of the goals.
    """
    states = np.random.SeedSequence([seed, training_seed, purpose]).generate_state(count)
    return [int(state) for state in states]


def episode_jobs(
    policy: Path, recipe: Recipe, settings: Evaluate, training_seed: int, purpose: int
) -> list[EpisodeJob]:
    """The episodes that judge one policy."""
    count = settings.episodes if purpose == FINAL else settings.curve_episodes
    seeds = evaluation_seeds(settings.seed, training_seed, purpose, count)
    return [
        EpisodeJob(
            policy,
            recipe.evaluation.environment,
            recipe.goal,
            recipe.task,
            settings.discount,
            number,
            seed,
        )
        for number, seed in enumerate(seeds)
    ]


def run_episodes(
    jobs: Iterable[EpisodeJob], workers: int | None = None
) -> Iterator[dict[str, Any]]:
    """Rows of the table of episodes (``EPISODE_COLUMNS``), in the order of the jobs."""
    yield from ordered_map(run_episode, jobs, workers or cores())


def run_episode(job: EpisodeJob) -> dict[str, Any]:
    """Run one episode from its seed until the environment ends it."""
    policy = _policy(job.policy)
    environment = shared_environment(job.environment)
    observation, info = environment.reset(seed=job.seed)
    start, desired = observation[job.goal.achieved], observation[job.goal.desired]
    reached: list[bool] = []
    ended = False
    while not ended:
        action = policy.act(
            observation[job.goal.observation], observation[job.goal.desired], job.task
        )
        observation, _, terminated, truncated, info = environment.step(action)
        reached.append(has_reached(observation, info, job.goal))
        ended = terminated or truncated
    rewards = np.array(reached, dtype=np.float64)
    achieved, goal = observation[job.goal.achieved], observation[job.goal.desired]
    return {
        "update": policy.training["updates"],
        "episode": job.number,
        "seed": job.seed,
        "task": job.task,
        "start": start.tolist(),
        "goal": desired.tolist(),
        "success": reached[-1],
        "success_any": any(reached),
        "final_distance": float(np.sqrt(squared_distance(achieved, goal))),
        "return": float(rewards.sum()),
        "discounted_return": float(rewards @ job.discount ** np.arange(len(rewards))),
        "steps_to_goal": reached.index(True) + 1 if any(reached) else None,
        "length": len(reached),
    }


def has_reached(observation: dict[str, NDArray[Any]], info: dict[str, Any], goal: Goal) -> bool:
    """The recipe's success test; where goals are single states, what the environment says."""
    if goal.success.tolerance is None:
        said = reported_success(info)
        if said is None:
            raise SettingsError(
                "goal.success.kind: 'same_step' asks the environment for success, and it tells neither "
                "'success' nor 'is_success'"
            )
        return said
    achieved, desired = observation[goal.achieved], observation[goal.desired]
    return bool(is_within(achieved, desired, goal.success.tolerance))


def episode_table(rows: Iterable[dict[str, Any]]) -> pl.DataFrame:
    """The rows as a table."""
    return pl.DataFrame(list(rows), schema=EPISODE_COLUMNS)


Judgement = dict[tuple[int, int], list[EpisodeJob]]
"""Episodes by (training seed, purpose)."""


def plan_judgement(policies: Mapping[int, Path], recipe: Recipe, settings: Evaluate) -> Judgement:
    """The episodes that judge the policies, and their snapshots, of several training seeds.

    Args:
        policies: the folder of each training seed, with its policy and snapshots.
        recipe: the environment, goals and success test.
        settings: how many episodes, on which seeds.
    """
    return {
        (seed, purpose): [
            job for policy in paths for job in episode_jobs(policy, recipe, settings, seed, purpose)
        ]
        for seed, folder in policies.items()
        for purpose, paths in (
            (FINAL, [folder / POLICY]),
            (CURVE, sorted((folder / SNAPSHOTS).iterdir())),
        )
    }


def judge(
    judgement: Judgement,
    workers: int | None = None,
    on_episode: Callable[[], None] = lambda: None,
) -> dict[int, "SeedResult"]:
    """Run all episodes of a plan; ``on_episode`` hears of each. Returns the results by training seed."""
    rows = run_episodes((job for jobs in judgement.values() for job in jobs), workers)
    tables = {
        key: episode_table(announced(islice(rows, len(jobs)), lambda row: on_episode()))
        for key, jobs in judgement.items()
    }
    seeds = sorted({seed for seed, _ in judgement})
    return {
        seed: SeedResult(tables[seed, FINAL], learning_curve(tables[seed, CURVE])) for seed in seeds
    }


@dataclass(frozen=True)
class SeedResult:
    """How one trained seed was judged."""

    episodes: pl.DataFrame
    curve: pl.DataFrame

    @property
    def metrics(self) -> dict[str, dict[str, float | int | None]]:
        """Metrics with intervals."""
        return summarise([self.episodes])

    def write(self, folder: Path) -> None:
        """Write ``episodes.parquet``, ``curve.parquet`` and ``metrics.json``."""
        folder.mkdir(parents=True)
        self.episodes.write_parquet(folder / EPISODES)
        self.curve.write_parquet(folder / LEARNING_CURVE)
        write_json(folder / METRICS, self.metrics)

    def flat_metrics(self) -> dict[str, float]:
        """The same as ``name``, ``name_low`` and ``name_high``."""
        return {
            name if part == "mean" else f"{name}_{part}": float(value)
            for name, values in self.metrics.items()
            for part in ("mean", "low", "high")
            if (value := values[part]) is not None
        }


def summarise(tables: list[pl.DataFrame]) -> dict[str, dict[str, float | int | None]]:
    """Metrics with 95% intervals over the episodes of one or several training seeds.

    Each says how many episodes it is of: steps to the goal, of those that reached it.
    """
    counts = {"episodes": sum(map(len, tables)), "seeds": len(tables)}
    summary: dict[str, dict[str, float | int | None]] = {}
    for name, column in (("success_rate", "success"), ("success_any_rate", "success_any")):
        groups = [table[column].cast(pl.Float64).to_numpy() for table in tables]
        estimate = (
            rate_across_seeds(groups)
            if len(groups) > 1
            else wilson(int(groups[0].sum()), len(groups[0]))
        )
        summary[name] = {**estimate.__dict__, **counts}
    for name in ("final_distance", "return", "discounted_return", "steps_to_goal"):
        groups = [table[name].drop_nulls().cast(pl.Float64).to_numpy() for table in tables]
        groups = [group for group in groups if len(group)]
        estimate_or_none = across_seeds(groups) if groups else None
        used = {"episodes": sum(map(len, groups)), "seeds": len(groups)}
        summary[name] = {**_fields(estimate_or_none), **used}
    return summary


def learning_curve(table: pl.DataFrame) -> pl.DataFrame:
    """Success rate with Wilson's interval at each snapshot: update, mean, low, high, episodes."""
    counts = (
        table.group_by("update")
        .agg(successes=pl.col("success").sum(), episodes=pl.len())
        .sort("update")
    )
    rows = [
        {"update": row["update"], **wilson(row["successes"], row["episodes"]).__dict__}
        | {"episodes": row["episodes"]}
        for row in counts.iter_rows(named=True)
    ]
    return pl.DataFrame(
        rows,
        schema={
            "update": pl.Int64,
            "mean": pl.Float64,
            "low": pl.Float64,
            "high": pl.Float64,
            "episodes": pl.Int64,
        },
    )


def _fields(estimate: Estimate | None) -> dict[str, float | None]:
    if estimate is None:  # No episode reached its goal, so there are no steps to it.
        return {"mean": None, "low": None, "high": None}
    return dict(estimate.__dict__)


@functools.lru_cache(maxsize=2)
def _policy(path: Path) -> Policy:
    torch.set_num_threads(1)
    return load_policy(path)
