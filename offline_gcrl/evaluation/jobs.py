"""The episodes in which a policy is evaluated: their seeds, tasks and goals."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from offline_gcrl.config import (
    Dataset,
    Evaluate,
    Evaluation,
    Goal,
    Images,
    Planner,
    Recipe,
    Region,
)
from offline_gcrl.environments.selection import evaluated_goal
from offline_gcrl.goals.instructions import InstructionSet

FINAL, CURVE, HELD_OUT, NOISE, SENTENCES = 1, 2, 3, 4, 5
"""Purposes of evaluation episodes. The seeds of the final evaluation, of the learning curve and of episodes with
held-out goals all differ.

``NOISE`` and ``SENTENCES`` are the purposes of the generators of noise on actions and of sentences, whose seeds are
[seed of the episode, purpose] and [seed of the episode, purpose, set of sentences + 1].

A purpose is never 0: NumPy pads seed sequences with zeros, so [seed, n, 0] would equal the collector's [seed, n].
"""


@dataclass(frozen=True)
class Planning:
    """Planning in an episode: its settings, and the data that paths consist of."""

    settings: Planner
    data: Path
    """The folder of the ingested dataset."""


@dataclass(frozen=True)
class Instructed:
    """How an episode is run with a sentence."""

    set: InstructionSet = "seen"
    """The set of sentences that one is drawn from."""
    given: Literal["sentence", "goal", "wrong", "none"] = "sentence"
    """What the policy is conditioned on: the ``sentence``; the ``goal`` of the episode, of which the sentence is true; a
    ``wrong`` sentence, of the same kind and about other values; or ``none``."""
    text: str | None = None
    """A certain sentence of the dataset, in an episode that starts at its own seed."""


@dataclass(frozen=True)
class EpisodeJob:
    """One evaluation episode to run."""

    policy: Path
    evaluation: Evaluation
    goal: Goal
    """The goal spec for the evaluation environment."""
    task: str
    task_id: int | None
    """The number of the environment's fixed task, if it has any."""
    discount: float
    number: int
    seed: int
    held_out: Region | None = None
    """The region of goals that were held out from training, if any."""
    stop_at_success: bool = False
    conditioned_task: str | None = None
    """A wrong task that the policy is conditioned on instead of ``task``."""
    conditioned_goal: tuple[float, ...] | None = None
    """A wrong goal that the policy is conditioned on; success is measured on the episode's own goal."""
    chosen_goal: tuple[float, ...] | None = None
    """A goal instead of that of the environment: the policy is conditioned on it, and success is measured on it."""
    planning: Planning | None = None
    """The planner in front of the policy, if any."""
    action_noise: float = 0.0
    """Standard deviation of the noise on actions, in units of the largest action."""
    instructed: Instructed | None = None
    """The sentence that is to become true, if success is not that of the goal."""
    images: Images | None = None
    """How states and goals are rendered for policies that see; None in a dataset without images."""

    @property
    def reset_options(self) -> dict[str, Any] | None:
        """What chooses the numbered task when the environment is reset, if it has numbered tasks."""
        fixed = self.evaluation.fixed_tasks
        return {fixed.option: self.task_id} if fixed else None


def evaluation_seeds(seed: int, training_seed: int, purpose: int, count: int) -> list[int]:
    """Reset seeds of evaluation episodes; each determines a start and a goal.

    The seeds depend on the training seed and not on the agent. Agents are therefore compared on the same
    episodes, and more training seeds cover more goals.
    """
    states = np.random.SeedSequence([seed, training_seed, purpose]).generate_state(count)
    return [int(state) for state in states]


def episode_jobs(
    policy: Path, dataset: Dataset, settings: Evaluate, training_seed: int, purpose: int
) -> list[EpisodeJob]:
    """The evaluation episodes of one policy, alternating between tasks, and between the fixed tasks of each."""
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
    """The recipes that have an evaluation environment."""
    return [recipe for recipe in dataset.recipes if recipe.evaluation]


def episode_job(
    policy: Path, recipe: Recipe, settings: Evaluate, number: int, seed: int, turn: int = 0
) -> EpisodeJob:
    """One episode of a task; ``turn`` selects one of its fixed tasks, if it has any."""
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
        images=recipe.images,
        stop_at_success=settings.stop_at_success and recipe.evaluation.criterion == "any_step",
    )
