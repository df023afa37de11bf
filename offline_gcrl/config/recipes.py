"""Recipes: one dataset each, or a suite that joins several; and what a run makes of them.

A recipe says where episodes come from, which parts of the observation are the goals, when a goal counts as
reached and how policies are judged. ``resolve`` lays the parameters of collecting over it and fills in
the counts; the result, a ``Dataset``, is what every later stage reads.
"""

from typing import Annotated, Literal, Self

from pydantic import Field, PositiveInt, field_validator, model_validator
from pydantic_core import PydanticCustomError

from offline_gcrl.config.goals import Goal, Region, Selection, Success
from offline_gcrl.config.reading import Name, Section, reject_repeats
from offline_gcrl.config.sources import Environment, Source


class FixedTasks(Section):
    """Starts and goals that the environment itself numbers; the episodes take turns at them."""

    option: str
    """Key of the ``options`` of ``reset`` that takes the number."""
    values: Annotated[tuple[int, ...], Field(min_length=1)]


class Evaluation(Section):
    """Where and how policies are judged."""

    environment: Environment
    desired: Selection | None = None
    """Where the goal stands there, if not where ``goal.desired`` says."""
    fixed_tasks: FixedTasks | None = None
    success: Literal["goal", "environment"] = "goal"
    """Who says what counts: the recipe's success test, or the environment."""
    criterion: Literal["last_step", "any_step"] = "last_step"
    """Which success the field reports of this task, and the tables put first."""


class Recipe(Section):
    """One dataset: where it comes from, what its goals are, how policies trained on it are judged."""

    title: str
    environment: Environment | None = None
    """Where the data was collected; null for data whose environment is not to be had."""
    sources: Annotated[tuple[Source, ...], Field(min_length=1)]
    episodes: PositiveInt | None = None
    """How many there are in all, for sources with a share."""
    full_episodes: PositiveInt | None = None
    """The published size, for ``collect.episodes: full``."""
    goal: Goal
    evaluation: Evaluation | None = None
    """Null: policies are trained and not judged."""
    task: Name
    instruction: str
    validation_share: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.1
    """Share of the episodes of each source that are kept for validation losses."""
    held_out: Region | None = None
    """Goals in this region never reach training, neither as hindsight nor as pursued goals; policies are also
    judged on them."""
    licence: str = "not stated"
    citation: str = "none"

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        reject_repeats(source.dataset for source in self.sources)
        shares = [source.share is not None for source in self.sources]
        if any(shares) and not all(shares):
            raise PydanticCustomError("count", "all sources have a 'share', or none")
        if any(shares) and self.episodes is None:
            raise PydanticCustomError(
                "count", "sources with a 'share' need the recipe's 'episodes'"
            )
        if self.environment is None and any(source.collect for source in self.sources):
            raise PydanticCustomError(
                "environment", "'collect' needs an 'environment' to collect in"
            )
        if self.evaluation and not (self.evaluation.desired or self.goal.desired):
            raise PydanticCustomError(
                "desired", "evaluation needs a goal: name it in 'evaluation.desired'"
            )
        return self


class Suite(Section):
    """Several recipes as tasks of one dataset."""

    title: str
    members: Annotated[tuple[Name, ...], Field(min_length=2)]
    """Names of recipes."""
    pad: bool = False
    """Fill smaller observations, goals and actions with zeros to the size of the largest."""

    @field_validator("members")
    @classmethod
    def _distinct(cls, members: tuple[str, ...]) -> tuple[str, ...]:
        reject_repeats(members)
        return members


class Dataset(Section):
    """What a run makes of a recipe or suite: all counts resolved, one recipe a task."""

    name: Name
    title: str
    recipes: tuple[Recipe, ...]
    pad: bool = False

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of the tasks; their places are their numbers."""
        return tuple(recipe.task for recipe in self.recipes)

    @property
    def success(self) -> Success:
        """The success test, which all tasks share."""
        return self.recipes[0].goal.success

    @property
    def has_evaluation(self) -> bool:
        """Whether every task has an environment to judge policies in."""
        return all(recipe.evaluation is not None for recipe in self.recipes)

    @property
    def criterion(self) -> str:
        """Which success is put first in tables."""
        judged = [recipe.evaluation.criterion for recipe in self.recipes if recipe.evaluation]
        return judged[0] if judged else "last_step"
