"""The models of a recipe, of a suite of recipes, and of the dataset of a run.

A recipe defines one dataset: the sources of its episodes, its goals, when a goal counts as reached, and how policies
are evaluated. A suite joins several recipes as tasks. ``resolving.resolve`` turns either into a ``Dataset``, in which
the numbers of episodes are filled in; later stages read only that.
"""

from typing import Annotated, Literal, Self

from pydantic import Field, PositiveInt, field_validator, model_validator
from pydantic_core import PydanticCustomError

from offline_gcrl.config.goals import Goal, Region, Selection, Success
from offline_gcrl.config.images import Images
from offline_gcrl.config.language import Language
from offline_gcrl.config.reading import Name, Section, reject_repeats
from offline_gcrl.config.sources import Environment, Source


class FixedTasks(Section):
    """Numbered starts and goals of the environment; evaluation episodes go through them in turn."""

    option: str
    """Key for the number in the ``options`` of ``reset``."""
    values: Annotated[tuple[int, ...], Field(min_length=1)]


class Evaluation(Section):
    """The environment and the success test that policies are evaluated with."""

    environment: Environment
    desired: Selection | None = None
    """Selection of the goal in this environment; if left out, that of ``goal.desired``."""
    fixed_tasks: FixedTasks | None = None
    success: Literal["goal", "environment"] = "goal"
    """The test that decides success: ``goal``, that of the recipe; ``environment``, that of the environment."""
    criterion: Literal["last_step", "any_step"] = "last_step"
    """The success that is usually reported for this task; tables show it first."""


class Recipe(Section):
    """One dataset: its sources, its goals, and the evaluation of policies that are trained on it."""

    title: str
    environment: Environment | None = None
    """Environment in which the data was collected; null if it is not available."""
    sources: Annotated[tuple[Source, ...], Field(min_length=1)]
    episodes: PositiveInt | None = None
    """Total number of episodes, for sources with a ``share``."""
    full_episodes: PositiveInt | None = None
    """The published size, for ``collect.episodes: full``."""
    goal: Goal
    evaluation: Evaluation | None = None
    """How policies are evaluated; null for training without evaluation."""
    task: Name
    instruction: str
    language: Language | None = None
    """Sentences that are true of achieved goals, for policies that take instructions."""
    images: Images | None = None
    """Images of states, for policies that see; null for policies that read states alone."""
    validation_share: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.1
    """Share of the episodes of each source that is used for validation losses only."""
    action_bounds: Literal["space", "data"] = "space"
    """Bounds to which actions are scaled: those of the action space, or the extremes of the data, where the bounds of
    the space are far wider than what is used of them."""
    held_out: Region | None = None
    """Region of unseen goals: training uses no goals in it, neither hindsight goals nor original goals, and policies
    are evaluated on them separately."""
    licence: str = "not stated"
    citation: str = "none"

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        reject_repeats(source.dataset for source in self.sources)
        shares = [source.share is not None for source in self.sources]
        if any(shares) and not all(shares):
            raise PydanticCustomError("count", "either all sources need a 'share' or none")
        if any(shares) and self.episodes is None:
            raise PydanticCustomError(
                "count", "sources with a 'share' need the recipe's 'episodes'"
            )
        if self.environment is None and any(source.collect for source in self.sources):
            raise PydanticCustomError(
                "environment", "sources with 'collect' need the recipe's 'environment'"
            )
        self._check_images()
        self._check_actions()
        if self.evaluation and not (self.evaluation.desired or self.goal.desired):
            raise PydanticCustomError(
                "desired", "evaluation needs a goal; select it in 'evaluation.desired'"
            )
        return self

    def _check_actions(self) -> None:
        """Policies act in evaluation as in the data, so both environments have the same order of actions."""
        if self.environment is None or self.evaluation is None:
            return
        orders = (self.environment.action_order, self.evaluation.environment.action_order)
        if orders[0] != orders[1]:
            own, other = ("left out" if order is None else str(list(order)) for order in orders)
            raise PydanticCustomError(
                "action_order",
                "'environment.action_order' is {own} and 'evaluation.environment.action_order' is {other}; set both to "
                "the same order",
                {"own": own, "other": other},
            )

    def _check_images(self) -> None:
        """Rendered images need an environment, and recorded ones cannot be made in evaluation."""
        if self.images is None:
            return
        if self.images.recorded is None and self.environment is None:
            raise PydanticCustomError(
                "environment",
                "'images' are rendered in the recipe's 'environment', which is missing; for images in the data, set "
                "'images.recorded' to their key",
            )
        if self.evaluation is not None and not self.images.can_be_rendered:
            raise PydanticCustomError(
                "images",
                "the camera of 'images.recorded' is unknown, so evaluation cannot render what policies would see; set "
                "'evaluation: null', or name the environment that renders such images in 'images.environment', or render the images of "
                "the data, too, with 'images.goal' instead of 'images.recorded'",
            )


class Suite(Section):
    """Several recipes that are the tasks of one dataset."""

    title: str
    members: Annotated[tuple[Name, ...], Field(min_length=2)]
    """Names of recipes."""
    pad: bool = False
    """Pad smaller observations, goals and actions with zeros to the largest size."""

    @field_validator("members")
    @classmethod
    def _distinct(cls, members: tuple[str, ...]) -> tuple[str, ...]:
        reject_repeats(members)
        return members


class Dataset(Section):
    """A recipe or suite with all numbers of episodes filled in: one recipe per task."""

    name: Name
    title: str
    recipes: tuple[Recipe, ...]
    pad: bool = False
    code: dict[str, str] = {}
    """Digests of the modules in the project's folder that its environments are made by, by name."""

    def as_json(self) -> str:
        """The content of a file of the resolved dataset."""
        return self.model_dump_json(indent=2, exclude_defaults=True) + "\n"

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of the tasks; the index of a task is its number."""
        return tuple(recipe.task for recipe in self.recipes)

    @property
    def success(self) -> Success:
        """The success test, which is the same for all tasks."""
        return self.recipes[0].goal.success

    @property
    def images(self) -> Images | None:
        """How states are rendered; all tasks have images of the same size, or none has any."""
        return self.recipes[0].images

    @property
    def has_evaluation(self) -> bool:
        """Whether every task has an environment to evaluate policies in."""
        return all(recipe.evaluation is not None for recipe in self.recipes)

    @property
    def criterion(self) -> str:
        """The success that tables show first, ``last_step`` or ``any_step``; the same for all tasks."""
        criteria = [recipe.evaluation.criterion for recipe in self.recipes if recipe.evaluation]
        return criteria[0] if criteria else "last_step"
