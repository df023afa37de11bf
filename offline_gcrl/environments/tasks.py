"""Checks that one policy fits all environments of a dataset, before any work starts."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from offline_gcrl.config import Dataset, Environment, Goal, Recipe
from offline_gcrl.environments.actions import NEEDED, is_scalable
from offline_gcrl.environments.making import first_options, shared_environment
from offline_gcrl.environments.selection import as_tree, evaluated_goal, select
from offline_gcrl.goals.instructions import check_sentences
from offline_gcrl.goals.success import size_mismatch
from offline_gcrl.support.errors import SettingsError


@dataclass(frozen=True)
class Shape:
    """Sizes of the inputs and outputs of a policy in an environment."""

    observation: int
    goal: int
    action: tuple[tuple[float, float], ...]
    """Bounds of each dimension of an action."""

    @property
    def sizes(self) -> dict[str, int]:
        """Number of dimensions of observations, goals and actions."""
        return {"observation": self.observation, "goal": self.goal, "action": len(self.action)}


def check_tasks(dataset: Dataset, where: str) -> None:
    """Check that one policy fits all environments of a dataset.

    The environments of each recipe must have been checked. Tasks without an environment are checked in ``ingest``.

    Raises:
        SettingsError: naming the recipe or suite (``where``) and the difference.
    """
    shapes = {recipe.task: _shapes(recipe, where) for recipe in dataset.recipes}
    for task, own in shapes.items():
        difference = _difference(own, pad=False)
        if difference:
            raise SettingsError(
                f"{where}: the environments for collecting and evaluation of '{task}' have {difference}"
            )
    known = {task: own[0] for task, own in shapes.items() if own}
    for task, shape in known.items():
        first = next(iter(known))
        difference = _difference([known[first], shape], pad=dataset.pad)
        if difference:
            raise SettingsError(f"{where}: members: '{first}' and '{task}' have {difference}")
    largest = max((shape.goal for shape in known.values()), default=0)
    check_sentences(dataset, largest or None, where)
    wrong = size_mismatch(dataset.success, largest) if known else None
    if wrong:
        raise SettingsError(
            f"{where}: members: {wrong}, and padded goals have {largest} dimensions"
        )


def _shapes(recipe: Recipe, where: str) -> list[Shape]:
    """Shapes of the environments of a recipe, for collecting and for evaluation."""
    shapes = []
    if recipe.environment is not None:
        shapes.append(_shape(recipe.environment, recipe.goal, None, where))
    if recipe.evaluation is not None:
        options = first_options(recipe)
        shapes.append(_shape(recipe.evaluation.environment, evaluated_goal(recipe), options, where))
    return shapes


def _shape(settings: Environment, goal: Goal, options: dict[str, Any] | None, where: str) -> Shape:
    environment = shared_environment(settings)
    tree = as_tree(*environment.reset(seed=0, options=options))
    space = environment.action_space
    if not is_scalable(space):
        raise SettingsError(f"{where}: {settings.id}: the action space is {space}; {NEEDED}")
    return Shape(
        observation=select(tree, goal.observation).size,
        goal=select(tree, goal.achieved).size,
        action=tuple(
            zip(space.low.reshape(-1).tolist(), space.high.reshape(-1).tolist(), strict=True)
        ),
    )


def _difference(shapes: Sequence[Shape], *, pad: bool) -> str | None:
    """The difference of the first and last shape that prevents one policy for both; None if there is none."""
    if not shapes:
        return None
    first, second = shapes[0], shapes[-1]
    for name, size in first.sizes.items():
        other = second.sizes[name]
        if size != other and not pad:
            return f"{name}s of {size} and of {other} numbers; 'pad: true' in a suite adds zeros"
    for number, bounds in enumerate(zip(first.action, second.action, strict=False)):
        if bounds[0] != bounds[1]:
            return (
                f"different bounds of actions: the range of dimension {number} is {list(bounds[0])} in one and "
                f"{list(bounds[1])} in the other"
            )
    return None
