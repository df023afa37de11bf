"""What else is asked of a policy, beside how often it succeeds.

- Specialists: the same agent, trained on one task alone, in the very episodes of that task that the
  generalist faced.
- Wrong identifiers: the same episodes, while the policy is told another task, or another goal. A policy that
  listens must fail; one that does not was never conditioned, whatever its settings say.
- Held-out goals: episodes that ask for goals which training left out, where the recipe names any.

Each has files of its own: the headline is what it is without them.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from offline_gcrl.config import Dataset, Evaluate, Recipe, Success
from offline_gcrl.config.outputs import (
    HELD_OUT_EPISODES,
    POLICY,
    SNAPSHOTS,
    SPECIALISTS,
    WRONG_IDENTIFIER,
)
from offline_gcrl.environments.held_out_goals import TRIES, held_out_seeds
from offline_gcrl.evaluation.jobs import (
    CURVE,
    FINAL,
    HELD_OUT,
    EpisodeJob,
    episode_job,
    evaluated_recipes,
)
from offline_gcrl.evaluation.plan import EvaluationPlan, run_plan, seed_result
from offline_gcrl.evaluation.results import SeedResult
from offline_gcrl.goals.success import reaches
from offline_gcrl.policies.policy import Policy, load_policy

TASK_IDENTIFIERS = {"one_hot", "embedding"}


class Probe(NamedTuple):
    """One group of episodes."""

    kind: str
    """``specialist``, ``wrong`` or ``held_out``."""
    subject: str
    """The task of a specialist, or the kind of identifier that is wrong."""
    seed: int
    purpose: int = FINAL


ProbePlan = dict[Probe, list[EpisodeJob]]


@dataclass(frozen=True)
class ProbeResults:
    """The answers, by training seed."""

    specialists: dict[str, dict[int, SeedResult]]
    """By task first."""
    wrong: dict[int, pl.DataFrame]
    """Columns of the table of episodes, and ``wrong``: which identifier was."""
    held_out: dict[int, pl.DataFrame]

    def write(self, folder: Path) -> None:
        """Write them below the results of an agent; nothing of what was not asked."""
        for task, results in self.specialists.items():
            for seed, result in results.items():
                result.write(folder / SPECIALISTS / task / f"seed-{seed}")
        for name, tables in ((WRONG_IDENTIFIER, self.wrong), (HELD_OUT_EPISODES, self.held_out)):
            for seed, table in tables.items():
                table.write_parquet(folder / f"seed-{seed}" / name)


def plan_probes(
    models: Path,
    dataset: Dataset,
    settings: Evaluate,
    evaluation_plan: EvaluationPlan,
    results: Mapping[int, SeedResult],
) -> ProbePlan:
    """All episodes of all probes of one agent.

    Args:
        models: its folder, of ``seed-<n>`` and, where there are any, ``specialists/<task>/seed-<n>``.
        dataset: what it is judged on.
        settings: how many episodes.
        evaluation_plan: the plan of the headline; probes run episodes of it again.
        results: what came of it, for other episodes' goals.
    """
    plan: ProbePlan = {}
    for seed, result in results.items():
        for task in dataset.tasks:
            folder = models / SPECIALISTS / task / f"seed-{seed}"
            if folder.exists():
                plan |= _specialist_probes(folder, task, seed, evaluation_plan)
        final = evaluation_plan[seed, FINAL]
        policy = load_policy(final[0].policy)
        for kind in conditioned_identifiers(policy, dataset):
            jobs = with_wrong_identifier(kind, final, result.episodes, dataset)
            plan[Probe("wrong", kind, seed)] = jobs[
                : settings.wrong_identifier_count(len(dataset.tasks))
            ]
        plan[Probe("held_out", "", seed)] = held_out_jobs(final[0].policy, dataset, settings, seed)
    return {probe: jobs for probe, jobs in plan.items() if jobs}


def run_probes(
    plan: ProbePlan, workers: int | None = None, on_episode: Callable[[], None] = lambda: None
) -> ProbeResults:
    """Run all episodes of a plan; ``on_episode`` hears of each."""
    tables = run_plan(plan, workers, on_episode)
    specialists: dict[str, dict[int, SeedResult]] = {}
    wrong: dict[int, list[pl.DataFrame]] = {}
    held_out = {}
    for probe, table in tables.items():
        if probe.kind == "wrong":
            named = table.with_columns(pl.lit(probe.subject).alias("wrong"))
            wrong.setdefault(probe.seed, []).append(named)
        elif probe.kind == "held_out":
            held_out[probe.seed] = table
        elif probe.purpose == FINAL:
            snapshots = probe._replace(purpose=CURVE)
            result = seed_result(table, tables[snapshots], plan[snapshots])
            specialists.setdefault(probe.subject, {})[probe.seed] = result
    return ProbeResults(
        specialists, {seed: pl.concat(parts) for seed, parts in wrong.items()}, held_out
    )


def _specialist_probes(
    folder: Path, task: str, seed: int, evaluation_plan: EvaluationPlan
) -> ProbePlan:
    """The generalist's own episodes of the task, with the specialist and its snapshots in its place."""
    by_number = {job.number: job for job in evaluation_plan[seed, CURVE] if job.task == task}
    snapshots = sorted((folder / SNAPSHOTS).iterdir())
    return {
        Probe("specialist", task, seed, FINAL): [
            replace(job, policy=folder / POLICY)
            for job in evaluation_plan[seed, FINAL]
            if job.task == task
        ],
        Probe("specialist", task, seed, CURVE): [
            replace(job, policy=path) for path in snapshots for job in by_number.values()
        ],
    }


def conditioned_identifiers(policy: Policy, dataset: Dataset) -> list[str]:
    """What a policy is told that can be told wrongly: the ``task``, the ``goal``, both, or neither."""
    told = policy.settings.conditioning.split("+")
    hears_task = bool(set(told) & TASK_IDENTIFIERS) or policy.settings.task_network == "heads"
    kinds = ["task"] if hears_task and len(dataset.tasks) > 1 else []
    return kinds + (["goal"] if "goal" in told else [])


def with_wrong_identifier(
    kind: str, jobs: Sequence[EpisodeJob], episodes: pl.DataFrame, dataset: Dataset
) -> list[EpisodeJob]:
    """Episodes in which the policy is told the next task of the suite, or the goal of another episode.

    That episode is the next one of the same task whose goal would not count as this one's; episodes for which
    there is none are left out.

    Args:
        kind: ``task`` or ``goal``.
        jobs: the episodes as they are.
        episodes: what came of them, in the same order.
        dataset: its tasks, and when goals count as the same.
    """
    if kind == "task":
        following = dict(zip(dataset.tasks, [*dataset.tasks[1:], dataset.tasks[0]], strict=True))
        return [replace(job, conditioned_task=following[job.task]) for job in jobs]
    goals = [np.array(goal) for goal in episodes["goal"]]
    changed = []
    for number, job in enumerate(jobs):
        order = [*range(number + 1, len(jobs)), *range(number)]
        others = (goals[other] for other in order if jobs[other].task == job.task)
        found = next((g for g in others if not _same(g, goals[number], job.goal.success)), None)
        if found is not None:
            changed.append(replace(job, conditioned_goal=tuple(found.tolist())))
    return changed


def _same(goal: NDArray[Any], other: NDArray[Any], success: Success) -> bool:
    if success.kind == "same_step":
        return bool((goal == other).all())
    return bool(reaches(goal, other, success))


def held_out_jobs(
    policy: Path, dataset: Dataset, settings: Evaluate, training_seed: int
) -> list[EpisodeJob]:
    """Episodes to goals that were held out, as many of each task that has any.

    Raises:
        SettingsError: no reset asks for such a goal.
    """
    recipes = evaluated_recipes(dataset)
    jobs: list[EpisodeJob] = []
    for place, recipe in enumerate(recipes):
        if recipe.held_out is not None and settings.held_out_count:
            wanted = settings.held_out_count // len(recipes)
            for seed in _held_out_seeds(recipe, settings, training_seed, place, wanted):
                jobs.append(episode_job(policy, recipe, settings, len(jobs), seed))
    return jobs


def _held_out_seeds(
    recipe: Recipe, settings: Evaluate, training_seed: int, place: int, wanted: int
) -> list[int]:
    sequence = np.random.SeedSequence([settings.seed, training_seed, HELD_OUT, place + 1])
    return held_out_seeds(recipe, sequence.generate_state(TRIES * wanted), wanted, recipe.task)
