"""Evaluation of the policies of several training seeds and of their snapshots."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TypeVar

import polars as pl

from offline_gcrl.config import Dataset, Evaluate
from offline_gcrl.config.outputs import POLICY, SNAPSHOTS
from offline_gcrl.evaluation.jobs import CURVE, FINAL, EpisodeJob, episode_jobs
from offline_gcrl.evaluation.results import (
    SUCCESS_COLUMNS,
    SeedResult,
    episode_table,
    learning_curve,
    task_curves,
)
from offline_gcrl.evaluation.rollouts import run_episodes
from offline_gcrl.support.digests import intact
from offline_gcrl.support.processes import with_callback

EvaluationPlan = dict[tuple[int, int], list[EpisodeJob]]
"""Evaluation episodes by (training seed, purpose)."""


def plan_evaluation(
    policies: Mapping[int, Path], dataset: Dataset, settings: Evaluate
) -> EvaluationPlan:
    """Plan the evaluation of the policies and snapshots of several training seeds.

    Args:
        policies: the folder with policy and snapshots of each training seed.
        dataset: environments, goals and success tests.
        settings: number of episodes and evaluation seed.
    """
    return {
        (seed, purpose): [
            job
            for policy in paths
            for job in episode_jobs(policy, dataset, settings, seed, purpose)
        ]
        for seed, folder in policies.items()
        for purpose, paths in (
            (FINAL, [intact(folder / POLICY)]),
            (CURVE, sorted(map(intact, (folder / SNAPSHOTS).glob("*.pt")))),
        )
    }


Key = TypeVar("Key", bound=Hashable)


def run_plan(
    plan: Mapping[Key, Sequence[EpisodeJob]],
    workers: int | None = None,
    on_episode: Callable[[], None] = lambda: None,
) -> dict[Key, pl.DataFrame]:
    """Run the episodes of a plan and return one table of episodes per key.

    ``on_episode`` is called after each episode.
    """
    rows = run_episodes((job for jobs in plan.values() for job in jobs), workers)
    return {
        key: episode_table(with_callback(islice(rows, len(jobs)), lambda row: on_episode()))
        for key, jobs in plan.items()
    }


def evaluate(
    plan: EvaluationPlan,
    workers: int | None = None,
    on_episode: Callable[[], None] = lambda: None,
) -> dict[int, "SeedResult"]:
    """Run all episodes of a plan and return the results by training seed.

    Args:
        plan: the episodes, from ``plan_evaluation``.
        workers: number of worker processes; one per core by default.
        on_episode: called after each episode.
    """
    tables = run_plan(plan, workers, on_episode)
    return {
        seed: seed_result(tables[seed, FINAL], tables[seed, CURVE], plan[seed, CURVE])
        for seed in sorted({seed for seed, _ in plan})
    }


def seed_result(
    final: pl.DataFrame, snapshots: pl.DataFrame, jobs: Sequence[EpisodeJob]
) -> "SeedResult":
    """The results of one training seed.

    Args:
        final: episodes of the final policy.
        snapshots: episodes of all its snapshots.
        jobs: jobs of the snapshots; their criterion selects the main success.
    """
    success = headline(jobs)
    return SeedResult(final, learning_curve(snapshots, success), task_curves(snapshots, success))


def headline(jobs: Sequence[EpisodeJob]) -> str:
    """The column of the main success: at the last step or at any step, by the recipe's criterion."""
    return SUCCESS_COLUMNS[jobs[0].evaluation.criterion]
