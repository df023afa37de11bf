"""The episodes that evaluate a policy: their seeds, tasks and goals."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from offline_gcrl.config import Dataset, Evaluate, Evaluation, Goal, Recipe, Region
from offline_gcrl.environments.selection import evaluated_goal

FINAL, CURVE, HELD_OUT = 1, 2, 3
"""Purposes of evaluation seeds: those of the learning curve are not those of the final judgement, nor are those
of episodes to goals that were held out from training.

Never 0: NumPy pads seed sequences with zeros, and [seed, n, 0] would be the collector's [seed, n].
"""


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
    conditioned_task: str | None = None
    """What the policy is told in place of the task, to see what it makes of a wrong one."""
    conditioned_goal: tuple[float, ...] | None = None
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
    recipes = evaluated_recipes(dataset)
    return [
        episode_job(
            policy, recipes[number % len(recipes)], settings, number, seed, number // len(recipes)
        )
        for number, seed in enumerate(seeds)
    ]


def evaluated_recipes(dataset: Dataset) -> list[Recipe]:
    """The tasks that have an environment to judge policies in."""
    return [recipe for recipe in dataset.recipes if recipe.evaluation]


def episode_job(
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
