"""Evaluation episodes with unseen goals: reset seeds whose episode has a goal in the held-out region of the recipe."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from offline_gcrl.config import Evaluation, Goal, Recipe
from offline_gcrl.environments.making import seeded_episode, shared_environment
from offline_gcrl.environments.selection import as_tree, evaluated_goal, select
from offline_gcrl.goals.held_out import check_size, in_region
from offline_gcrl.support.errors import SettingsError

TRIES = 200
"""Number of reset seeds that ``check_region`` tries."""


def held_out_seeds(
    recipe: Recipe, candidates: NDArray[Any], wanted: int, where: str = "the recipe"
) -> list[int]:
    """The first reset seeds among the candidates whose episode has a goal in the region of the recipe.

    Args:
        recipe: a recipe with ``held_out`` and ``evaluation``.
        candidates: reset seeds to try, in order.
        wanted: number of seeds to return; fewer if the candidates have fewer.
        where: name of the recipe, for errors.

    Raises:
        SettingsError: no candidate has a goal in the region.
    """
    assert recipe.evaluation is not None
    assert recipe.held_out is not None
    found: list[int] = []
    for seed in candidates:
        if len(found) == wanted:
            break
        goal = goal_at_reset(recipe.evaluation, evaluated_goal(recipe), int(seed))
        if in_region(goal.astype(np.float32), recipe.held_out):
            found.append(int(seed))
    if not found:
        raise SettingsError(
            f"{where}: held_out: none of {len(candidates)} resets of "
            f"{recipe.evaluation.environment.id} has a goal between {list(recipe.held_out.low)} and "
            f"{list(recipe.held_out.high)}; set a region that contains goals of the environment"
        )
    return found


def goal_at_reset(
    evaluation: Evaluation, goal: Goal, seed: int, options: dict[str, Any] | None = None
) -> NDArray[Any]:
    """The goal of an environment, (goal,), after a reset with this seed."""
    environment = shared_environment(evaluation.environment)
    assert goal.desired is not None
    with seeded_episode(environment, seed):
        return np.asarray(
            select(as_tree(*environment.reset(seed=seed, options=options)), goal.desired)
        )


def check_region(recipe: Recipe, where: str) -> None:
    """Check that the held-out region of a recipe fits its goals, and contains the goals of some episodes but not of all.

    Raises:
        SettingsError: naming the recipe (``where``), the key and the remedy.
    """
    if recipe.held_out is None or recipe.evaluation is None:
        return
    if recipe.evaluation.fixed_tasks is not None:
        raise SettingsError(
            f"{where}: held_out: the goals of evaluation.fixed_tasks are fixed; leave one of the two out"
        )
    size = len(goal_at_reset(recipe.evaluation, evaluated_goal(recipe), 0))
    check_size(recipe.held_out, size, where)
    candidates = np.random.SeedSequence(0).generate_state(TRIES)
    if len(held_out_seeds(recipe, candidates, TRIES, where)) == TRIES:
        raise SettingsError(
            f"{where}: held_out: the goals of all {TRIES} resets of {recipe.evaluation.environment.id} are between "
            f"{list(recipe.held_out.low)} and {list(recipe.held_out.high)}; set a smaller region, so that some goals are seen"
        )
