"""Probes: further evaluations of a policy, in addition to its success rate.

- Specialists: the same algorithm, trained on one task only, is evaluated in the same episodes of that task as the
  multi-task policy.
- Wrong identifiers: the same episodes are run with the policy conditioned on another task or another goal. The
  success of a policy that uses its conditioning drops.
- Held-out goals: episodes with goals from the region that the recipe holds out from training.
- Planning: the same episodes are run with a planner in front of the policy.
- Noise: the same episodes are run with noise on the actions, as in GoFAR's paper (Ma et al. 2022).
- Instructions: episodes with sentences of each set, with wrong ones and with none, for policies that take sentences.
  Success is that a sentence about goals is true, or that a sentence's task succeeds.

Each probe writes its own files, so the main results do not depend on which probes run.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from offline_gcrl.config import Dataset, Evaluate, Recipe, Success
from offline_gcrl.config.outputs import (
    HELD_OUT_EPISODES,
    INSTRUCTED_EPISODES,
    NOISY_EPISODES,
    PLANNED_EPISODES,
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
    Instructed,
    Planning,
    episode_job,
    evaluated_recipes,
)
from offline_gcrl.evaluation.plan import EvaluationPlan, run_plan, seed_result
from offline_gcrl.evaluation.results import SeedResult
from offline_gcrl.goals.instructions import SETS
from offline_gcrl.goals.success import reaches
from offline_gcrl.policies.policy import Policy, load_policy
from offline_gcrl.support.digests import intact
from offline_gcrl.support.tables import write_parquet


class Probe(NamedTuple):
    """The key of a group of probe episodes."""

    kind: str
    """``specialist``, ``wrong``, ``held_out``, ``planned``, ``noisy`` or ``instructed``."""
    subject: str
    """The task of a specialist, the identifier that is wrong (``task`` or ``goal``), the level of noise, or the set of
    sentences with what the policy is given."""
    seed: int
    purpose: int = FINAL


ProbePlan = dict[Probe, list[EpisodeJob]]


@dataclass(frozen=True)
class ProbeResults:
    """Results of the probes by training seed."""

    specialists: dict[str, dict[int, SeedResult]]
    """Results by task and training seed."""
    wrong: dict[int, pl.DataFrame]
    """Tables of episodes with the additional column ``wrong``, the identifier that is wrong."""
    held_out: dict[int, pl.DataFrame]
    planned: dict[int, pl.DataFrame] = field(default_factory=dict)
    """The final episodes with a planner."""
    instructed: dict[int, pl.DataFrame] = field(default_factory=dict)
    """Episodes with sentences, with the additional columns ``set`` and ``given``."""

    noisy: dict[int, pl.DataFrame] = field(default_factory=dict)
    """The final episodes with noise on the actions, with the additional column ``noise``, the level."""

    def write(self, folder: Path) -> None:
        """Write the results into the folder of an agent's results; probes that did not run write no file."""
        for task, results in self.specialists.items():
            for seed, result in results.items():
                result.write(folder / SPECIALISTS / task / f"seed-{seed}")
        for name, tables in (
            (WRONG_IDENTIFIER, self.wrong),
            (HELD_OUT_EPISODES, self.held_out),
            (PLANNED_EPISODES, self.planned),
            (INSTRUCTED_EPISODES, self.instructed),
            (NOISY_EPISODES, self.noisy),
        ):
            for seed, table in tables.items():
                write_parquet(table, folder / f"seed-{seed}" / name)


def plan_probes(
    models: Path,
    dataset: Dataset,
    settings: Evaluate,
    evaluation_plan: EvaluationPlan,
    results: Mapping[int, SeedResult],
    data: Path | None = None,
) -> ProbePlan:
    """Plan all probes of one agent.

    Args:
        models: the agent's folder with ``seed-<n>`` and, if there are specialists, ``specialists/<task>/seed-<n>``.
        dataset: the tasks of the evaluation.
        settings: number of episodes.
        evaluation_plan: the plan of the main evaluation, whose episodes are run again.
        results: results of the main evaluation; they contain the goals of the episodes.
        data: folder of the ingested dataset, for planners; without it, there is no planner.
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
        if data is not None:
            plan[Probe("planned", "", seed)] = planned_jobs(policy, final, settings, data)
        for level in settings.action_noise:
            plan[Probe("noisy", repr(level), seed)] = [
                replace(job, action_noise=level) for job in final
            ]
        for how in instructed_episodes(policy):
            name = f"{how.set} {how.given}"
            count = settings.instructed_count
            jobs = [replace(job, instructed=how) for job in final[:count]]
            plan[Probe("instructed", name, seed)] = jobs
        plan[Probe("held_out", "", seed)] = held_out_jobs(final[0].policy, dataset, settings, seed)
    return {probe: jobs for probe, jobs in plan.items() if jobs}


def run_probes(
    plan: ProbePlan, workers: int | None = None, on_episode: Callable[[], None] = lambda: None
) -> ProbeResults:
    """Run all episodes of a plan; ``on_episode`` is called after each."""
    tables = run_plan(plan, workers, on_episode)
    specialists: dict[str, dict[int, SeedResult]] = {}
    wrong: dict[int, list[pl.DataFrame]] = {}
    instructed: dict[int, list[pl.DataFrame]] = {}
    noisy: dict[int, list[pl.DataFrame]] = {}
    held_out, planned = {}, {}
    for probe, table in tables.items():
        if probe.kind == "wrong":
            named = table.with_columns(pl.lit(probe.subject).alias("wrong"))
            wrong.setdefault(probe.seed, []).append(named)
        elif probe.kind == "instructed":
            kind, given = map(pl.lit, probe.subject.split())
            instructed.setdefault(probe.seed, []).append(
                table.with_columns(kind.alias("set"), given.alias("given"))
            )
        elif probe.kind == "noisy":
            level = pl.lit(float(probe.subject)).alias("noise")
            noisy.setdefault(probe.seed, []).append(table.with_columns(level))
        elif probe.kind == "held_out":
            held_out[probe.seed] = table
        elif probe.kind == "planned":
            planned[probe.seed] = table
        elif probe.purpose == FINAL:
            snapshots = probe._replace(purpose=CURVE)
            result = seed_result(table, tables[snapshots], plan[snapshots])
            specialists.setdefault(probe.subject, {})[probe.seed] = result
    joined = [
        {seed: pl.concat(parts) for seed, parts in found.items()}
        for found in (wrong, instructed, noisy)
    ]
    return ProbeResults(specialists, joined[0], held_out, planned, joined[1], joined[2])


def _specialist_probes(
    folder: Path, task: str, seed: int, evaluation_plan: EvaluationPlan
) -> ProbePlan:
    """The multi-task policy's episodes of a task, run with the specialist and with its snapshots."""
    by_number = {job.number: job for job in evaluation_plan[seed, CURVE] if job.task == task}
    snapshots = sorted(map(intact, (folder / SNAPSHOTS).glob("*.pt")))
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


def instructed_episodes(policy: Policy) -> list[Instructed]:
    """The kinds of episodes with sentences that a policy is evaluated in; none for policies that take no such sentences.

    Each set of sentences; the floors, with a wrong sentence and with none; and, for a policy that takes goals as well,
    the goal itself. Sentences of a suite name its tasks, and success is that of the task.
    """
    vocabulary = policy.vocabulary
    if vocabulary is None:
        return []
    reads_new_text = vocabulary.encoder != "attributes"
    sets = [kind for kind in SETS if vocabulary.sentences.numbers(kind)]
    kinds = [Instructed(kind) for kind in sets if reads_new_text or kind in {"seen", "combination"}]
    kinds += [Instructed(given="wrong"), Instructed(given="none")]
    if vocabulary.has_captions and policy.settings.conditioning != "language":
        kinds.append(Instructed(given="goal"))
    return kinds


def planned_jobs(
    policy: Policy, jobs: Sequence[EpisodeJob], settings: Evaluate, data: Path
) -> list[EpisodeJob]:
    """The same episodes with a planner; none if there is no planner, or if the policy sees images or estimates no steps."""
    sees = policy.dimensions.image is not None  # Paths consist of states of the data.
    if settings.planner is None or sees or policy.why_no_steps():
        return []
    planning = Planning(settings.planner, data)
    return [replace(job, planning=planning) for job in jobs]


def conditioned_identifiers(policy: Policy, dataset: Dataset) -> list[str]:
    """The identifiers that a policy is conditioned on and that can be wrong: ``task``, ``goal``, both or none."""
    inputs = policy.settings.conditioning.split("+")
    kinds = ["task"] if policy.settings.depends_on_task and len(dataset.tasks) > 1 else []
    return kinds + (["goal"] if "goal" in inputs else [])


def with_wrong_identifier(
    kind: str, jobs: Sequence[EpisodeJob], episodes: pl.DataFrame, dataset: Dataset
) -> list[EpisodeJob]:
    """The same episodes with the policy conditioned on the next task of the suite, or on another episode's goal.

    The other goal is that of the next episode of the same task whose goal does not count as the same. Episodes
    without such a goal are left out.

    Args:
        kind: ``task`` or ``goal``.
        jobs: the original episodes.
        episodes: the results of ``jobs``, in the same order.
        dataset: the tasks, and the test of whether goals count as the same.
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
    """Episodes with held-out goals: the share of one task, for each task that holds any out.

    Raises:
        SettingsError: no reset of the environment gives such a goal.
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
