"""Judging policies in MuJoCo: whole episodes in worker processes, each with a seed and goal of its own.

An episode is a function of (policy, environment, seed) alone, so any number of workers gives the same
table, row for row.
"""

import functools
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import gymnasium
import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from offline_gcrl.config import Dataset, Evaluate, Evaluation, Goal, Recipe, Region
from offline_gcrl.environments import reported_success, seeded_episode, shared_environment
from offline_gcrl.errors import SettingsError
from offline_gcrl.files import write_json
from offline_gcrl.goals import reaches, squared_distance
from offline_gcrl.held_out import lies_within
from offline_gcrl.intervals import Estimate, across_seeds, rate_across_seeds, wilson
from offline_gcrl.parallel import announced, cores, ordered_map
from offline_gcrl.policy import POLICY, SNAPSHOTS, Policy, load_policy
from offline_gcrl.selection import INFOS, as_tree, evaluated_goal, select

EPISODES, LEARNING_CURVE, METRICS = "episodes.parquet", "curve.parquet", "metrics.json"
TASK_CURVES = "task_curves.parquet"
"""Learning curves of each task, where there are several."""
FINAL, CURVE, HELD_OUT = 1, 2, 3
"""Purposes of evaluation seeds: those of the learning curve are not those of the final judgement, nor are those
of episodes to goals that were held out from training.

Never 0: NumPy pads seed sequences with zeros, and [seed, n, 0] would be the collector's [seed, n].
"""

SKIPPED = "skipped.json"
"""Written in place of results where there is no environment to judge in."""
SUCCESS_COLUMNS = {"last_step": "success", "any_step": "success_any"}
HEADLINES = {"last_step": "success_rate", "any_step": "success_any_rate"}
"""Column of episodes, and metric, of the success that is put first, by a recipe's criterion."""
EPISODE_COLUMNS: dict[str, Any] = {
    "update": pl.Int64,
    "episode": pl.Int32,
    "seed": pl.Int64,
    "task": pl.String,
    "task_id": pl.Int32,
    "start": pl.List(pl.Float64),
    "goal": pl.List(pl.Float64),
    "held_out": pl.Boolean,
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
    evaluation: Evaluation
    goal: Goal
    """As it holds in the evaluation environment."""
    task: str
    task_id: int | None
    """Which of the environment's own numbered tasks, if it has any."""
    discount: float
    number: int
    seed: int
    held_out: Region | None = None
    """Goals that training left out, if any."""
    stop_at_success: bool = False
    told_task: str | None = None
    """What the policy is told in place of the task, to see what it makes of a wrong one."""
    told_goal: tuple[float, ...] | None = None
    """The same of the goal; success is still about the episode's own."""


def evaluation_seeds(seed: int, training_seed: int, purpose: int, count: int) -> list[int]:
    """Reset seeds of evaluation episodes: each chooses a start and a goal.

    They depend on the training seed and not on the agent: agents are compared on the same episodes,
    and more training seeds cover more of the goals.
    """
    states = np.random.SeedSequence([seed, training_seed, purpose]).generate_state(count)
    return [int(state) for state in states]


def episode_jobs(
    policy: Path, dataset: Dataset, settings: Evaluate, training_seed: int, purpose: int
) -> list[EpisodeJob]:
    """The episodes that judge one policy: the tasks take turns, and within each its numbered tasks."""
    count = settings.episodes if purpose == FINAL else settings.curve_episodes
    seeds = evaluation_seeds(settings.seed, training_seed, purpose, count)
    recipes = judged_recipes(dataset)
    return [
        single_job(
            policy, recipes[number % len(recipes)], settings, number, seed, number // len(recipes)
        )
        for number, seed in enumerate(seeds)
    ]


def judged_recipes(dataset: Dataset) -> list[Recipe]:
    """The tasks that have an environment to judge policies in."""
    return [recipe for recipe in dataset.recipes if recipe.evaluation]


def single_job(
    policy: Path, recipe: Recipe, settings: Evaluate, number: int, seed: int, turn: int = 0
) -> EpisodeJob:
    """One episode of a task; ``turn`` chooses among its numbered tasks, if it has any."""
    assert recipe.evaluation is not None
    fixed = recipe.evaluation.fixed_tasks
    return EpisodeJob(
        policy=policy,
        evaluation=recipe.evaluation,
        goal=evaluated_goal(recipe),
        task=recipe.task,
        task_id=fixed.values[turn % len(fixed.values)] if fixed else None,
        discount=settings.discount,
        number=number,
        seed=seed,
        held_out=recipe.held_out,
        stop_at_success=settings.stop_at_success and recipe.evaluation.criterion == "any_step",
    )


def run_episodes(
    jobs: Iterable[EpisodeJob], workers: int | None = None
) -> Iterator[dict[str, Any]]:
    """Rows of the table of episodes (``EPISODE_COLUMNS``), in the order of the jobs."""
    yield from ordered_map(run_episode, jobs, workers or cores())


@dataclass(frozen=True)
class Moment:
    """What is seen at one step of an episode."""

    achieved: NDArray[Any]
    desired: NDArray[Any]
    reached: bool
    ended: bool


def rollout(
    environment: gymnasium.Env[Any, Any], policy: Policy, job: EpisodeJob
) -> Iterator[Moment]:
    """Run one episode from its seed until the environment ends it: the start, then every step.

    A goal that is told at the reset holds for the episode. In a suite with padding, observations and goals
    are filled with zeros to the size that the policy knows, and its action is cut to the environment's.
    """
    fixed, sizes = job.evaluation.fixed_tasks, policy.dimensions
    options = {fixed.option: job.task_id} if fixed else None
    assert job.goal.desired is not None
    actions = environment.action_space.shape or (0,)
    observation, told = environment.reset(seed=job.seed, options=options)
    info, ended, reached = told, False, False
    while True:
        tree = as_tree(observation, {**told, **info})
        achieved, desired = select(tree, job.goal.achieved), select(tree, job.goal.desired)
        yield Moment(achieved, desired, reached, ended)
        if ended:
            return
        state = _padded(select(tree, job.goal.observation), sizes.observation)
        goal = desired if job.told_goal is None else np.array(job.told_goal)
        task = job.told_task or job.task
        action = policy.act(state, _padded(goal, sizes.goal), task)[: actions[0]]
        observation, _, terminated, truncated, info = environment.step(action)
        ended = terminated or truncated
        tree = as_tree(observation, {**told, **info})
        reached = has_reached(tree, job.goal, job.evaluation.success)
        ended = ended or (reached and job.stop_at_success)


def run_episode(job: EpisodeJob) -> dict[str, Any]:
    """Run one episode and say how it went, as a row of ``EPISODE_COLUMNS``."""
    policy = _policy(job.policy)
    environment = shared_environment(job.evaluation.environment)
    with seeded_episode(environment, job.seed):
        moments = list(rollout(environment, policy, job))
    start, end = moments[0], moments[-1]
    reached = [moment.reached for moment in moments[1:]]
    rewards = np.array(reached, dtype=np.float64)
    return {
        "update": policy.training["updates"],
        "episode": job.number,
        "seed": job.seed,
        "task": job.task,
        "task_id": job.task_id,
        "start": start.achieved.tolist(),
        "goal": start.desired.tolist(),
        "held_out": job.held_out is not None and bool(lies_within(start.desired, job.held_out)),
        "success": reached[-1],
        "success_any": any(reached),
        "final_distance": float(np.sqrt(squared_distance(end.achieved, end.desired))),
        "return": float(rewards.sum()),
        "discounted_return": float(rewards @ job.discount ** np.arange(len(rewards))),
        "steps_to_goal": reached.index(True) + 1 if any(reached) else None,
        "length": len(reached),
    }


def has_reached(tree: dict[str, Any], goal: Goal, says: str = "goal") -> bool:
    """The recipe's success test; what the environment says, where the recipe asks for that.

    Raises:
        SettingsError: the environment is asked, and does not say.
    """
    if says == "goal" and goal.success.kind != "same_step":
        assert goal.desired is not None
        return bool(reaches(select(tree, goal.achieved), select(tree, goal.desired), goal.success))
    said = reported_success(tree[INFOS])
    if said is None:
        raise SettingsError(
            "success is asked of the environment (goal.success.kind 'same_step', or evaluation.success "
            "'environment'), and it tells neither 'success' nor 'is_success'"
        )
    return said


def _padded(values: NDArray[Any], size: int) -> NDArray[Any]:
    missing = size - len(values)
    return np.pad(values, (0, missing)) if missing > 0 else values


def episode_table(rows: Iterable[dict[str, Any]]) -> pl.DataFrame:
    """The rows as a table."""
    return pl.DataFrame(list(rows), schema=EPISODE_COLUMNS)


Metrics = dict[str, dict[str, float | int | None]]
"""By metric: mean, low, high, and how many episodes and seeds they are of."""
Judgement = dict[tuple[int, int], list[EpisodeJob]]
"""Episodes by (training seed, purpose)."""


def plan_judgement(policies: Mapping[int, Path], dataset: Dataset, settings: Evaluate) -> Judgement:
    """The episodes that judge the policies, and their snapshots, of several training seeds.

    Args:
        policies: the folder of each training seed, with its policy and snapshots.
        dataset: the environments, goals and success tests.
        settings: how many episodes, on which seeds.
    """
    return {
        (seed, purpose): [
            job
            for policy in paths
            for job in episode_jobs(policy, dataset, settings, seed, purpose)
        ]
        for seed, folder in policies.items()
        for purpose, paths in (
            (FINAL, [folder / POLICY]),
            (CURVE, sorted((folder / SNAPSHOTS).iterdir())),
        )
    }


Key = TypeVar("Key", bound=Hashable)


def run_plan(
    plan: Mapping[Key, Sequence[EpisodeJob]],
    workers: int | None = None,
    on_episode: Callable[[], None] = lambda: None,
) -> dict[Key, pl.DataFrame]:
    """The table of episodes of each part of a plan; ``on_episode`` hears of each episode."""
    rows = run_episodes((job for jobs in plan.values() for job in jobs), workers)
    return {
        key: episode_table(announced(islice(rows, len(jobs)), lambda row: on_episode()))
        for key, jobs in plan.items()
    }


def judge(
    judgement: Judgement,
    workers: int | None = None,
    on_episode: Callable[[], None] = lambda: None,
) -> dict[int, "SeedResult"]:
    """Run all episodes of a plan; ``on_episode`` hears of each. Returns the results by training seed."""
    tables = run_plan(judgement, workers, on_episode)
    return {
        seed: seed_result(tables[seed, FINAL], tables[seed, CURVE], judgement[seed, CURVE])
        for seed in sorted({seed for seed, _ in judgement})
    }


def seed_result(
    final: pl.DataFrame, snapshots: pl.DataFrame, jobs: Sequence[EpisodeJob]
) -> "SeedResult":
    """How one policy was judged, from the episodes of it and of its snapshots.

    Args:
        final: episodes of the policy.
        snapshots: episodes of all its snapshots.
        jobs: of the snapshots; they say which success counts.
    """
    success = headline(jobs)
    return SeedResult(final, learning_curve(snapshots, success), task_curves(snapshots, success))


def headline(jobs: Sequence[EpisodeJob]) -> str:
    """The column of the success that the field reports of these episodes."""
    return SUCCESS_COLUMNS[jobs[0].evaluation.criterion]


@dataclass(frozen=True)
class SeedResult:
    """How one trained seed was judged."""

    episodes: pl.DataFrame
    curve: pl.DataFrame
    task_curves: pl.DataFrame = field(default_factory=pl.DataFrame)
    """Empty where there is one task."""

    @functools.cached_property
    def metrics(self) -> Metrics:
        """Metrics with intervals."""
        return summarise([self.episodes])

    @functools.cached_property
    def by_task(self) -> dict[str, Metrics]:
        """The same of each task; empty where there is one."""
        return summarise_by_task([self.episodes])

    def write(self, folder: Path) -> None:
        """Write ``episodes.parquet``, ``curve.parquet`` and ``metrics.json``; of suites, curves of tasks too."""
        folder.mkdir(parents=True)
        self.episodes.write_parquet(folder / EPISODES)
        self.curve.write_parquet(folder / LEARNING_CURVE)
        if len(self.task_curves):
            self.task_curves.write_parquet(folder / TASK_CURVES)
        write_json(folder / METRICS, with_tasks(self.metrics, self.by_task))


@dataclass(frozen=True)
class Summary:
    """How several trained seeds were judged together."""

    episodes: pl.DataFrame
    curve: pl.DataFrame
    task_curves: pl.DataFrame
    metrics: Metrics
    by_task: dict[str, Metrics]

    def said(self, headline: str) -> str:
        """What a stage says of it."""
        rate = self.metrics[headline]
        return (
            f"success {rate['mean']:.2f} [{rate['low']:.2f}, {rate['high']:.2f}], "
            f"{rate['seeds']} seed(s), {rate['episodes']} episodes"
        )


def over_seeds(results: Sequence[SeedResult]) -> Summary:
    """The results of several seeds together, with intervals across seeds."""
    tables = [result.episodes for result in results]
    return Summary(
        pl.concat(tables),
        curve_across_seeds([result.curve for result in results]),
        task_curves_across_seeds([result.task_curves for result in results]),
        summarise(tables),
        summarise_by_task(tables),
    )


def with_tasks(metrics: Metrics, by_task: Mapping[str, Metrics]) -> dict[str, Any]:
    """Metrics as they are written: those of each task under ``tasks``, where there are several."""
    return {**metrics, "tasks": dict(by_task)} if by_task else dict(metrics)


def flat_metrics(result: SeedResult | Summary) -> dict[str, float]:
    """Metrics as ``name``, ``name_low`` and ``name_high``; with ``/task`` behind it, those of each task."""
    flat = _flat(result.metrics)
    for task, metrics in result.by_task.items():
        flat |= {f"{name}/{task}": value for name, value in _flat(metrics).items()}
    return flat


def _flat(metrics: Metrics) -> dict[str, float]:
    return {
        name if part == "mean" else f"{name}_{part}": float(value)
        for name, values in metrics.items()
        for part in ("mean", "low", "high")
        if (value := values[part]) is not None
    }


def _task_name(task: str, task_id: int | None) -> str:
    return task if task_id is None else f"{task}/{task_id}"


def summarise(tables: list[pl.DataFrame]) -> Metrics:
    """Metrics with 95% intervals over the episodes of one or several training seeds.

    Each says how many episodes it is of: steps to the goal, of those that reached it.
    """
    counts = {"episodes": sum(map(len, tables)), "seeds": len(tables)}
    summary: Metrics = {}
    for name, column in (("success_rate", "success"), ("success_any_rate", "success_any")):
        groups = [table[column].cast(pl.Float64).to_numpy() for table in tables]
        summary[name] = {**rate_across_seeds(groups).__dict__, **counts}
    for name in ("final_distance", "return", "discounted_return", "steps_to_goal"):
        groups = [table[name].drop_nulls().cast(pl.Float64).to_numpy() for table in tables]
        groups = [group for group in groups if len(group)]
        estimate_or_none = across_seeds(groups) if groups else None
        used = {"episodes": sum(map(len, groups)), "seeds": len(groups)}
        summary[name] = {**_fields(estimate_or_none), **used}
    return summary


def summarise_by_task(tables: list[pl.DataFrame]) -> dict[str, Metrics]:
    """``summarise`` for each task, and each of its numbered tasks; empty where there is but one."""
    every = pl.concat(tables)
    keys = every.select("task", "task_id").unique(maintain_order=True).sort("task", "task_id")
    if len(keys) < 2:
        return {}
    return {
        _task_name(task, task_id): summarise(
            [
                table.filter(pl.col("task") == task, pl.col("task_id").eq_missing(task_id))
                for table in tables
            ]
        )
        for task, task_id in keys.iter_rows()
    }


def learning_curve(table: pl.DataFrame, success: str = "success") -> pl.DataFrame:
    """Success rate with Wilson's interval at each snapshot: update, mean, low, high, episodes."""
    counts = (
        table.group_by("update")
        .agg(successes=pl.col(success).sum(), episodes=pl.len())
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


def task_curves(table: pl.DataFrame, success: str = "success") -> pl.DataFrame:
    """The learning curve of each task: task, update, mean, low, high, episodes; none where there is one."""
    tasks = table["task"].unique(maintain_order=True)
    if len(tasks) < 2:
        return pl.DataFrame()
    return pl.concat(
        learning_curve(table.filter(pl.col("task") == task), success).select(
            pl.lit(task).alias("task"), pl.all()
        )
        for task in tasks
    )


def task_curves_across_seeds(curves: list[pl.DataFrame]) -> pl.DataFrame:
    """The learning curves of each task over the seeds: task, update, mean, low, high."""
    if not len(curves[0]):
        return pl.DataFrame()
    return pl.concat(
        curve_across_seeds([curve.filter(pl.col("task") == task) for curve in curves]).select(
            pl.lit(task).alias("task"), pl.all()
        )
        for task in curves[0]["task"].unique(maintain_order=True)
    )


def curve_across_seeds(curves: list[pl.DataFrame]) -> pl.DataFrame:
    """The learning curve over the seeds, from that of each: update, mean, low, high."""
    rows = []
    for (update,), group in pl.concat(curves).group_by("update", maintain_order=True):
        rates = [_outcomes(row["mean"], row["episodes"]) for row in group.iter_rows(named=True)]
        rows.append({"update": update, **rate_across_seeds(rates).__dict__})
    return pl.DataFrame(rows)


def _outcomes(rate: float, episodes: int) -> NDArray[np.float64]:
    """Ones and zeros with this rate."""
    return (np.arange(episodes) < round(rate * episodes)).astype(np.float64)


def _fields(estimate: Estimate | None) -> dict[str, float | None]:
    if estimate is None:  # No episode reached its goal, so there are no steps to it.
        return {"mean": None, "low": None, "high": None}
    return dict(estimate.__dict__)


@functools.lru_cache(maxsize=2)
def _policy(path: Path) -> Policy:
    torch.set_num_threads(1)
    return load_policy(path)
