"""Recipes: one dataset each, or a suite that joins several; and what a run makes of them.

A recipe says where episodes come from, which parts of the observation are the goals, when a goal counts as
reached and how policies are judged. ``resolve`` lays the parameters of collecting over it and fills in
the counts; the result, a ``Dataset``, is what every later stage reads.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BeforeValidator,
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from offline_gcrl.config.reading import Section, nearest, read_yaml, reject_repeats, validated
from offline_gcrl.support.errors import SettingsError

RECIPES = Path("datasets/recipes")
RESOLVED = Path("datasets/resolved")

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")]


class Environment(Section):
    """A Gymnasium environment."""

    id: str
    """As ``gymnasium.make`` takes it; ``module:id`` imports the module that registers it first."""
    kwargs: dict[str, Any] = {}


class Collect(Section):
    """How a source is made here."""

    policy: str
    """Name of a policy in ``offline_gcrl.collect.policies``."""
    noise: Annotated[float, Field(ge=0.0)] = 0.0
    """Standard deviation of the Gaussian noise added to each action, in units of the action."""
    settings: dict[str, Any] = {}
    """Settings of the policy itself."""
    seed: NonNegativeInt = 0
    cut_at_success: bool = False
    """Cut what was collected into episodes that end where a goal was reached, as published data does."""
    attempts: PositiveInt = 1
    """How often an episode may be run, from the same start with another seed of the policy, until its last
    step is a success; the last run is kept in any case. Hard goals then fail more often than easy ones."""


class Source(Section):
    """One Minari dataset that goes into a recipe; without ``collect`` it is a published one."""

    dataset: Annotated[
        str,
        Field(
            pattern=r"^[A-Za-z0-9_-]{2,}(/[A-Za-z0-9_-]+)*-v\d+$",
            description="namespace/name-vN, a Minari id",
        ),
    ]
    kind: Literal["exploration", "demonstration"]
    episodes: PositiveInt | None = None
    """How many to collect, or to take of a published dataset (all of them when left out)."""
    share: Annotated[float, Field(gt=0.0, le=1.0)] | None = None
    """The same as a share of the recipe's ``episodes``."""
    collect: Collect | None = None

    @model_validator(mode="after")
    def _one_way_to_count(self) -> Self:
        if self.episodes is not None and self.share is not None:
            raise PydanticCustomError("count", "a source has 'episodes' or a 'share', not both")
        if self.collect is not None and self.episodes is None and self.share is None:
            raise PydanticCustomError(
                "count",
                "a source with 'collect' needs 'episodes' or a 'share', how many to collect",
            )
        return self


class Part(Section):
    """Some numbers of what an environment shows: a key, columns of it, or a constant."""

    key: str | None = None
    """A key of the observation, with dots into nested ones; ``observation`` is the whole of one that has
    no keys, and ``infos.<key>`` stands for what the environment tells beside it. A key that holds keys
    means all of them, by sorted name."""
    columns: Annotated[tuple[NonNegativeInt, ...], Field(min_length=1)] | None = None
    """Some columns of it, in this order; all when left out."""
    constant: Annotated[tuple[float, ...], Field(min_length=1)] | None = None
    """Always the same numbers, for a goal that the observation does not hold."""

    @model_validator(mode="after")
    def _a_key_or_a_constant(self) -> Self:
        if (self.key is None) == (self.constant is None):
            raise PydanticCustomError(
                "part", "give 'key' (with 'columns', if not all) or 'constant'"
            )
        if self.constant is not None and self.columns is not None:
            raise PydanticCustomError("part", "'columns' belong to a 'key', not to a 'constant'")
        return self


def _as_parts(value: Any) -> Any:
    """One key, one part, or a list of both."""
    parts = value if isinstance(value, list | tuple) else [value]
    return tuple({"key": part} if isinstance(part, str) else _with_tuples(part) for part in parts)


def _with_tuples(part: Any) -> Any:
    """Lists as tuples: what a validator returns is read in strict mode, as Python and not as JSON."""
    if not isinstance(part, dict):
        return part
    return {key: tuple(value) if isinstance(value, list) else value for key, value in part.items()}


Selection = Annotated[tuple[Part, ...], BeforeValidator(_as_parts), Field(min_length=1)]
"""Parts one after another: ``desired_goal``, or ``{key: observation, columns: [0, 1]}``, or a list."""

SUCCESS_KEYS: dict[str, tuple[str, ...]] = {
    "distance": ("tolerance", "parts"),
    "per_dimension": ("tolerances",),
    "predicate": ("predicate", "dimensions", "tolerance"),
    "same_step": (),
}


class Success(Section):
    """When a goal counts as reached."""

    kind: Literal["distance", "per_dimension", "predicate", "same_step"]
    tolerance: Annotated[float, Field(ge=0.0)] | None = None
    """``distance``: the largest Euclidean distance that counts, in units of the goal. ``predicate``: how
    much may be missing."""
    parts: tuple[PositiveInt, ...] | None = None
    """``distance``: sizes of the parts of the goal, each of which must lie within the tolerance."""
    tolerances: tuple[PositiveFloat, ...] | None = None
    """``per_dimension``: the largest absolute difference in each dimension of the goal."""
    predicate: Literal["above", "below"] | None = None
    """``predicate``: reached when the achieved goal is at least as high, or as low, as the goal."""
    dimensions: Annotated[tuple[NonNegativeInt, ...], Field(min_length=1)] | None = None
    """``predicate``: the dimensions of the goal that it is about."""

    @model_validator(mode="after")
    def _keys_of_its_kind(self) -> Self:
        own, optional = SUCCESS_KEYS[self.kind], {"parts"}
        for key in ("tolerance", "parts", "tolerances", "predicate", "dimensions"):
            given = getattr(self, key) is not None
            if given and key not in own:
                raise PydanticCustomError(
                    "success",
                    "'{key}' does not belong to kind '{kind}'",
                    {"key": key, "kind": self.kind},
                )
            if not given and key in own and key not in optional:
                raise PydanticCustomError(
                    "success", "kind '{kind}' needs '{key}'", {"key": key, "kind": self.kind}
                )
        return self

    @property
    def has_distance(self) -> bool:
        """Whether one Euclidean distance decides: what a dense reward needs."""
        return self.kind == "distance" and self.parts is None


class Goal(Section):
    """Which parts of the observation are the goals, and the success test."""

    observation: Selection = (Part(key="observation"),)
    achieved: Selection = (Part(key="achieved_goal"),)
    desired: Selection | None = (Part(key="desired_goal"),)
    """The goal that the behaviour pursued; null where the data holds none."""
    success: Success

    @property
    def is_full_state(self) -> bool:
        """Whether the achieved goal is the observation itself, and need not be stored twice."""
        return self.achieved == self.observation


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


class Region(Section):
    """A box in the space of goals, its bounds belonging to it."""

    low: Annotated[tuple[float, ...], Field(min_length=1)]
    """The least of each number of a goal."""
    high: Annotated[tuple[float, ...], Field(min_length=1)]
    """The most of each number of a goal."""

    @model_validator(mode="after")
    def _low_to_high(self) -> Self:
        if len(self.low) != len(self.high):
            raise PydanticCustomError("region", "'low' and 'high' have as many numbers as a goal")
        if any(low > high for low, high in zip(self.low, self.high, strict=True)):
            raise PydanticCustomError("region", "'low' must not lie above 'high'")
        return self


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
    def is_judged(self) -> bool:
        """Whether every task has an environment to judge policies in."""
        return all(recipe.evaluation is not None for recipe in self.recipes)

    @property
    def criterion(self) -> str:
        """Which success is put first in tables."""
        judged = [recipe.evaluation.criterion for recipe in self.recipes if recipe.evaluation]
        return judged[0] if judged else "last_step"


def has_original_goals(goal: Goal) -> bool:
    """Whether the data says which goals the behaviour pursued, and when they count as reached."""
    return goal.desired is not None and goal.success.kind != "same_step"


def load_recipe(name: str, folder: Path = RECIPES) -> Recipe:
    """Read and check one recipe that is no suite.

    Raises:
        SettingsError: naming file, key, expectation and remedy.
    """
    recipe = _load(name, folder)
    if isinstance(recipe, Suite):
        raise SettingsError(
            f"{_file(name, folder)}: a suite, where a recipe with sources is needed"
        )
    return recipe


def resolve(
    name: str, episodes: int | Literal["full"] | None = None, folder: Path = RECIPES
) -> Dataset:
    """A recipe or suite with the number of episodes of every source filled in.

    Args:
        name: of a recipe or suite.
        episodes: of each task, in place of what its recipe says; ``full`` is the published size.
        folder: where recipes lie.

    Raises:
        SettingsError: naming file, key, expectation and remedy.
    """
    loaded = _load(name, folder)
    members = loaded.members if isinstance(loaded, Suite) else (name,)
    recipes = tuple(
        _counted(load_recipe(member, folder), episodes, _file(member, folder)) for member in members
    )
    pad = isinstance(loaded, Suite) and loaded.pad
    dataset = Dataset(name=name, title=loaded.title, recipes=recipes, pad=pad)
    _check_joined(dataset, _file(name, folder))
    return dataset


def load_dataset(name: str, folder: Path = RESOLVED) -> Dataset:
    """What the ``check`` stage made of a recipe or suite.

    Raises:
        SettingsError: it has not run for this dataset.
    """
    path = _file(name, folder, ".json")
    if not path.exists():
        raise SettingsError(f"{path}: no such file; run `dvc repro`, whose first stage makes it")
    return Dataset.model_validate_json(path.read_text())


def recipe_names(folder: Path = RECIPES) -> list[str]:
    """Names of all recipes and suites in a folder."""
    return sorted(path.stem for path in folder.glob("*.yaml"))


def _file(name: str, folder: Path, suffix: str = ".yaml") -> Path:
    return folder / f"{name}{suffix}"


def _load(name: str, folder: Path) -> Recipe | Suite:
    path = _file(name, folder)
    if not path.exists():
        raise SettingsError(f"{folder}: no recipe '{name}'; {nearest(name, recipe_names(folder))}")
    data = read_yaml(path)
    if isinstance(data, dict) and "members" in data:
        return validated(Suite, data, path)
    return validated(Recipe, data, path)


def _counted(recipe: Recipe, episodes: int | Literal["full"] | None, path: Path) -> Recipe:
    """The recipe with ``episodes`` of each source in place of shares."""
    if episodes == "full":
        if recipe.full_episodes is None:
            raise SettingsError(
                f"{path}: no 'full_episodes', which collect.episodes 'full' of params.yaml asks for; "
                "give a number there"
            )
        episodes = recipe.full_episodes
    total = episodes or recipe.episodes
    weights = [source.share or source.episodes for source in recipe.sources]
    if total is None or None in weights:
        return recipe
    if episodes is None and not any(source.share for source in recipe.sources):
        return recipe
    counts = _apportioned(total, [float(weight or 0.0) for weight in weights])
    sources = tuple(
        source.model_copy(update={"episodes": count, "share": None})
        for source, count in zip(recipe.sources, counts, strict=True)
    )
    return recipe.model_copy(update={"sources": sources, "episodes": total})


def _apportioned(total: int, weights: Sequence[float]) -> list[int]:
    """Whole numbers in proportion to the weights, at least 1 each, by largest remainder."""
    exact = [total * weight / sum(weights) for weight in weights]
    counts = [max(1, int(share)) for share in exact]
    by_remainder = sorted(range(len(exact)), key=lambda index: counts[index] - exact[index])
    for index in by_remainder[: max(0, total - sum(counts))]:
        counts[index] += 1
    return counts


def _check_joined(dataset: Dataset, path: Path) -> None:
    """What the tasks of one dataset must have in common."""
    first = dataset.recipes[0]
    for recipe in dataset.recipes[1:]:
        if recipe.goal.success != first.goal.success:
            raise SettingsError(
                f"{path}: members: '{recipe.task}' and '{first.task}' differ in goal.success; the tasks "
                "of a suite share it"
            )
        if (recipe.goal.desired is None) != (first.goal.desired is None):
            raise SettingsError(
                f"{path}: members: only one of '{recipe.task}' and '{first.task}' has a goal.desired"
            )
        if recipe.goal.is_full_state != first.goal.is_full_state:
            raise SettingsError(
                f"{path}: members: the goals of only one of '{recipe.task}' and '{first.task}' are full "
                "states"
            )
    criteria = {recipe.evaluation.criterion for recipe in dataset.recipes if recipe.evaluation}
    if len(criteria) > 1:
        raise SettingsError(
            f"{path}: members: some are judged at the last_step and some at any_step; the tasks of a "
            "suite share evaluation.criterion"
        )
    sources = [source.dataset for recipe in dataset.recipes for source in recipe.sources]
    for what, names in (("task", dataset.tasks), ("source", sources)):
        repeated = {name for name in names if list(names).count(name) > 1}
        if repeated:
            raise SettingsError(f"{path}: members: {what} '{min(repeated)}' is there twice")
