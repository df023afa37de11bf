"""Episodes to goals that were held out from training: what a policy makes of goals it never had.

The recipe names a region of goal space; reset seeds are tried until their episode asks for a goal in it.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from offline_gcrl.config import Evaluation, Goal, Recipe
from offline_gcrl.environments.making import seeded_episode, shared_environment
from offline_gcrl.environments.selection import as_tree, evaluated_goal, select
from offline_gcrl.goals.held_out import in_region
from offline_gcrl.support.errors import SettingsError

TRIES = 200
"""Reset seeds that are tried for each episode that is wanted."""


def held_out_seeds(
    recipe: Recipe, candidates: NDArray[Any], wanted: int, where: str = "the recipe"
) -> list[int]:
    """Reset seeds whose episode asks for a goal in the recipe's region: the first among the candidates.

    Raises:
        SettingsError: there is none.
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
            f"{recipe.evaluation.environment.id} asks for a goal between {list(recipe.held_out.low)} and "
            f"{list(recipe.held_out.high)}; name a region that its goals lie in"
        )
    return found


def goal_at_reset(
    evaluation: Evaluation, goal: Goal, seed: int, options: dict[str, Any] | None = None
) -> NDArray[Any]:
    """The goal, (goal,), that an environment asks for after a reset with this seed."""
    environment = shared_environment(evaluation.environment)
    assert goal.desired is not None
    with seeded_episode(environment, seed):
        return np.asarray(
            select(as_tree(*environment.reset(seed=seed, options=options)), goal.desired)
        )


def check_region(recipe: Recipe, where: str) -> None:
    """Check that a recipe's region is one of goals, and that episodes ask for them.

    Raises:
        SettingsError: naming ``where`` the recipe stands, the key and the remedy.
    """
    if recipe.held_out is None or recipe.evaluation is None:
        return
    if recipe.evaluation.fixed_tasks is not None:
        raise SettingsError(
            f"{where}: held_out: the goals of evaluation.fixed_tasks are fixed; leave one of both out"
        )
    size = len(goal_at_reset(recipe.evaluation, evaluated_goal(recipe), 0))
    if size != len(recipe.held_out.low):
        raise SettingsError(
            f"{where}: held_out: a goal has {size} numbers, and 'low' {len(recipe.held_out.low)}"
        )
    candidates = np.random.SeedSequence(0).generate_state(TRIES)
    held_out_seeds(recipe, candidates, 1, where)
