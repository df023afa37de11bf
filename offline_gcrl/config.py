"""``params.yaml`` and recipes, validated into frozen typed settings: the one place that knows their keys.

An agent's own settings are declared in its file in ``agents/``; they are read with the same rules by
``agent_settings``. Every error names the file, the key, what was expected, and the nearest valid name.
"""

import difflib
import json
import pkgutil
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar, get_args

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import ErrorDetails, PydanticCustomError

from offline_gcrl.errors import SettingsError

PARAMS = Path("params.yaml")
RECIPES = Path("datasets/recipes")

Strategy = Literal["final", "future", "geometric", "episode", "random", "current", "original"]
DrawnStrategy = Literal["final", "future", "geometric", "episode", "random"]
Discount = Annotated[float, Field(gt=0.0, lt=1.0)]
Mixture = Annotated[dict[Strategy, PositiveFloat], Field(min_length=1)]
Units = Annotated[tuple[PositiveInt, ...], Field(min_length=1)]
Activation = Literal["relu", "gelu", "tanh"]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")]


def nearest(name: object, known: Iterable[str]) -> str:
    """A hint for an unknown name: the nearest known one, and all of them."""
    known = sorted(known)
    close = difflib.get_close_matches(str(name), known, n=1, cutoff=0.5)
    guess = f"did you mean '{close[0]}'? " if close else ""
    return f"{guess}known: {', '.join(known)}"


class Section(BaseModel):
    """A group of settings: frozen, strictly typed, without unknown keys or values that are no numbers."""

    model_config = ConfigDict(
        frozen=True, strict=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True
    )


# ------------------------------------------------------------------------------------------ recipes


class Environment(Section):
    """A Gymnasium environment."""

    id: str
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


class Source(Section):
    """One Minari dataset that goes into a recipe; without ``collect`` it is a published one."""

    dataset: Annotated[
        str,
        Field(
            pattern=r"^[A-Za-z0-9_-]{2,}(/[A-Za-z0-9_-]+)+-v\d+$",
            description="namespace/name-vN, a Minari id",
        ),
    ]
    kind: Literal["exploration", "demonstration"]
    episodes: PositiveInt | None = None
    """How many to collect, or to take of a published dataset (all of them when left out)."""
    collect: Collect | None = None
    task: Name | None = None
    """The task that this source shows, when it is not the recipe's."""

    @model_validator(mode="after")
    def _count_what_is_collected(self) -> Self:
        if self.collect is not None and self.episodes is None:
            raise PydanticCustomError(
                "episodes", "a source with 'collect' needs 'episodes', the number to collect"
            )
        return self


class Success(Section):
    """When a goal counts as reached."""

    kind: Literal["distance", "same_step"]
    tolerance: PositiveFloat | None = None
    """Largest Euclidean distance that still counts, in units of the goal (``distance`` only)."""

    @model_validator(mode="after")
    def _tolerance_where_it_means_something(self) -> Self:
        if (self.kind == "distance") != (self.tolerance is not None):
            raise PydanticCustomError(
                "tolerance", "'tolerance' belongs to kind 'distance', and only to it"
            )
        return self


class Goal(Section):
    """Which observation keys hold the goals, and the success test."""

    observation: str = "observation"
    achieved: str = "achieved_goal"
    desired: str = "desired_goal"
    success: Success


class Evaluation(Section):
    """Where policies are judged."""

    environment: Environment


class Recipe(Section):
    """One dataset: where it comes from, what its goals are, how policies trained on it are judged."""

    title: str
    environment: Environment
    sources: Annotated[tuple[Source, ...], Field(min_length=1)]
    goal: Goal
    evaluation: Evaluation
    task: Name
    instruction: str
    validation_share: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.1
    """Share of the episodes of each source that are kept for validation losses."""

    @field_validator("sources")
    @classmethod
    def _distinct_sources(cls, sources: tuple[Source, ...]) -> tuple[Source, ...]:
        _reject_repeats([source.dataset for source in sources])
        return sources

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of the tasks in the data, the recipe's own first."""
        named = [source.task or self.task for source in self.sources]
        return tuple(dict.fromkeys([self.task, *named]))


# ------------------------------------------------------------------------------------------- params


class Experiment(Section):
    """What runs."""

    name: str = "offline-gcrl"
    datasets: Annotated[tuple[Name, ...], Field(min_length=1)]
    agents: Annotated[tuple[Name, ...], Field(min_length=1)]
    seeds: Annotated[tuple[NonNegativeInt, ...], Field(min_length=1)]

    @field_validator("datasets", "agents", "seeds")
    @classmethod
    def _distinct(cls, names: tuple[Any, ...]) -> tuple[Any, ...]:
        _reject_repeats(names)
        return names


class Relabel(Section):
    """How hindsight goals are drawn."""

    strategies: tuple[DrawnStrategy, ...] = ("final", "future", "geometric", "episode", "random")
    k: Annotated[int, Field(ge=1, le=64)] = 4
    """Goals drawn for each transition and strategy (``final`` has one)."""
    discount: Discount = 0.99
    """Of strategy ``geometric``: the offset is Geom(1 - discount)."""
    reward: Literal["sparse", "dense"] = "sparse"
    """-1 until the goal is reached and 0 then, or minus the distance to it."""
    seed: NonNegativeInt = 0

    @field_validator("strategies")
    @classmethod
    def _distinct(cls, names: tuple[Any, ...]) -> tuple[Any, ...]:
        _reject_repeats(names)
        return names


class Train(Section):
    """How agents are trained."""

    updates: PositiveInt
    batch_size: PositiveInt = 256
    snapshots: PositiveInt = 10
    """Snapshots of the policy for the learning curve; each is also a checkpoint to resume from."""
    updates_per_step: PositiveInt = 25
    """Updates within one Lightning ``training_step``; changes the speed, never the result."""
    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    compile: bool = False
    """Compile the loss with ``torch.compile``; pays back in long runs."""

    @model_validator(mode="after")
    def _whole_rounds(self) -> Self:
        if self.updates % self.snapshots:
            raise PydanticCustomError(
                "snapshots",
                "'updates' ({updates}) must be a multiple of 'snapshots' ({snapshots})",
                {"updates": self.updates, "snapshots": self.snapshots},
            )
        return self


class Video(Section):
    """The rollout video of each policy."""

    episodes: NonNegativeInt = 4
    size: Annotated[int, Field(ge=32, multiple_of=16)] = 240
    """Height and width of one episode's picture, in pixels."""


class Evaluate(Section):
    """How policies are judged."""

    episodes: PositiveInt = 100
    """Episodes of the final judgement, for each training seed."""
    curve_episodes: PositiveInt = 20
    """Episodes at each snapshot of the learning curve, on seeds of their own."""
    seed: NonNegativeInt = 0
    """Chooses starts and goals; the same for every agent, so that comparisons are paired."""
    discount: Discount = 0.99
    """Of the discounted return (reward 1 where the goal is reached, else 0)."""
    workers: PositiveInt | None = None
    """Worker processes (all cores when left out); never changes the result."""
    video: Video = Video()


class Sampling(Section):
    """What an agent asks of a batch; the rest is left out of it."""

    actor_goals: Mixture
    """Shares of the strategies that the actor's goals come from."""
    value_goals: dict[Strategy, PositiveFloat] = {}
    """The same for values and critics; empty for agents without any."""
    discount: Discount = 0.99
    n_step: PositiveInt = 1
    """Steps until the target bootstraps."""
    reward: Literal["negative", "binary"] = "negative"
    """-1 until the goal is reached and 0 then, or 0 until then and 1."""
    initial_states: Literal["episode", "any"] | None = None
    """Initial states for the value: the first of the same episode, or any state of the data."""


class AgentSettings(Section):
    """What every agent's settings have; each file in ``agents/`` adds its own."""

    algorithm: Name
    """Name of a file in ``offline_gcrl/agents``."""
    learning_rate: PositiveFloat
    hidden: Units
    """Units of each hidden layer of every network."""
    goal_encoder: Literal["concatenate", "separate"] = "concatenate"
    """UVFA: one network on [s, g], or an encoder for each of them before the trunk."""
    activation: Activation = "relu"

    @property
    def sampling(self) -> Sampling:
        """What the agent asks of a batch."""
        raise NotImplementedError


class Params(Section):
    """All of ``params.yaml``, except that agents' sections stay plain until their file reads them."""

    experiment: Experiment
    relabel: dict[str, Any]
    train: dict[str, Any]
    evaluate: dict[str, Any]
    agents: dict[Name, dict[str, Any]]
    _path: Path = PARAMS

    @property
    def path(self) -> Path:
        """The file that was read."""
        return self._path

    def relabel_for(self, dataset: str) -> Relabel:
        """Settings of relabelling for one dataset."""
        return _for_dataset(Relabel, self.relabel, ("relabel",), dataset, self._path)

    def train_for(self, dataset: str) -> Train:
        """Settings of training for one dataset."""
        return _for_dataset(Train, self.train, ("train",), dataset, self._path)

    def evaluate_for(self, dataset: str) -> Evaluate:
        """Settings of evaluation for one dataset."""
        return _for_dataset(Evaluate, self.evaluate, ("evaluate",), dataset, self._path)


Settings = TypeVar("Settings", bound=Section)


def load_params(path: Path = PARAMS) -> Params:
    """Read and check ``params.yaml``: every key and value but those of the agents' own sections.

    Raises:
        SettingsError: naming file, key, expectation and remedy.
    """
    params = _validate(Params, _read_yaml(path), path)
    params._path = path
    known = recipe_names(path.parent / RECIPES)
    _check_names(params, known, path)
    for title, section in (("relabel", Relabel), ("train", Train), ("evaluate", Evaluate)):
        data = getattr(params, title)
        _check_per_dataset(data, (title,), known, path)
        for dataset in ("", *(data.get("per_dataset") or {})):  # First what holds for all.
            _for_dataset(section, data, (title,), dataset, path)
    return params


def load_recipe(name: str, folder: Path = RECIPES) -> Recipe:
    """Read and check one recipe.

    Raises:
        SettingsError: naming file, key, expectation and remedy.
    """
    path = folder / f"{name}.yaml"
    if not path.exists():
        raise SettingsError(f"{folder}: no recipe '{name}'; {nearest(name, recipe_names(folder))}")
    return _validate(Recipe, _read_yaml(path), path)


def recipe_names(folder: Path = RECIPES) -> list[str]:
    """Names of all recipes in a folder."""
    return sorted(path.stem for path in folder.glob("*.yaml"))


def algorithm_names() -> list[str]:
    """Names of the files in ``agents/``, read without importing them: torch is heavy."""
    folder = Path(__file__).parent / "agents"
    return sorted(module.name for module in pkgutil.iter_modules([str(folder)]))


def agent_settings(
    params: Params, agent: str, dataset: str, settings_type: type[Settings]
) -> Settings:
    """The section ``agents.<agent>`` as its algorithm reads it, for one dataset.

    Raises:
        SettingsError: naming file, key, expectation and remedy.
    """
    key, path = ("agents", agent), params.path
    recipes = path.parent / RECIPES
    _check_per_dataset(params.agents[agent], key, recipe_names(recipes), path)
    _for_dataset(settings_type, params.agents[agent], key, "", path)  # First what holds for all.
    settings = _for_dataset(settings_type, params.agents[agent], key, dataset, path)
    if isinstance(settings, AgentSettings):
        success = load_recipe(dataset, recipes).goal.success
        _check_mixtures(settings, params.relabel_for(dataset), success, key, path)
    return settings


# ------------------------------------------------------------------------------------ how it is read


class _Loader(yaml.SafeLoader):
    """YAML in which a repeated key is an error, not a silent last word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(
                    None, None, f"key '{key}' is given twice", node.start_mark
                )
        return super().construct_mapping(node, deep)


def _read_yaml(path: Path) -> Any:
    try:
        return yaml.load(path.read_text(), _Loader)  # noqa: S506 - a SafeLoader that is stricter
    except FileNotFoundError:
        raise SettingsError(f"{path}: no such file; run from the project's root") from None
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else "?"
        raise SettingsError(f"{path}: line {line}: {error.problem}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: not YAML: {error}") from None


def _validate(
    section: type[Settings], data: Any, path: Path, key: tuple[str, ...] = ()
) -> Settings:
    if not isinstance(data, dict):
        raise SettingsError(f"{path}: {_dotted(key) or 'the file'}: expected keys and values")
    try:
        # By way of JSON, whose strict mode reads lists as tuples and nothing else as anything else.
        return section.model_validate_json(json.dumps(data, default=str))
    except ValidationError as error:
        lines = [f"{path}: {_explain(details, key, section)}" for details in error.errors()]
        raise SettingsError("\n".join(lines)) from None


def _explain(details: ErrorDetails, key: tuple[str, ...], section: type[Section]) -> str:
    where = _dotted((*key, *map(str, details["loc"])))
    message, value = details["msg"], details["input"]
    if details["type"] == "extra_forbidden":
        return f"{where}: unknown key; {nearest(details['loc'][-1], _keys_at(section, details['loc']))}"
    if details["type"] in {"missing", "repeated"} or isinstance(value, dict):
        return f"{where}: {message}" if where else message
    hint = ""
    if details["type"] == "literal_error":
        choices = re.findall("'([^']+)'", details["ctx"]["expected"])
        hint = f"; {nearest(value, choices)}"
    elif isinstance(value, str) and "e" in value.lower() and _is_number(value):
        hint = "; YAML reads this as text: write 3.0e-4, not 3e-4"
    return f"{where}: {message}, not {value!r}{hint}"


def _keys_at(section: type[Section], location: tuple[int | str, ...]) -> list[str]:
    """The keys that are known beside the one that ``location`` ends in."""
    for part in location[:-1]:
        if isinstance(part, str) and part in section.model_fields:
            section = _section_within(section.model_fields[part].annotation) or section
    return list(section.model_fields)


def _section_within(annotation: Any) -> type[Section] | None:
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return annotation
    found = [_section_within(argument) for argument in get_args(annotation)]
    return next((section for section in found if section), None)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _dotted(key: tuple[str, ...]) -> str:
    return ".".join(key)


def _reject_repeats(names: Iterable[Any]) -> None:
    names = list(names)
    for name in names:
        if names.count(name) > 1:
            raise PydanticCustomError("repeated", "'{name}' is given twice", {"name": name})


def _for_dataset(
    section: type[Settings],
    data: Mapping[str, Any],
    key: tuple[str, ...],
    dataset: str,
    path: Path,
) -> Settings:
    """A section with what its ``per_dataset.<dataset>`` says laid over it."""
    general = {name: value for name, value in data.items() if name != "per_dataset"}
    special = (data.get("per_dataset") or {}).get(dataset) or {}
    if not special:
        return _validate(section, general, path, key)
    return _validate(section, _overlaid(general, special), path, (*key, "per_dataset", dataset))


def _overlaid(general: Mapping[str, Any], special: Mapping[str, Any]) -> dict[str, Any]:
    """``special`` over ``general``, key by key; mixtures of goals are replaced whole."""
    merged = dict(general)
    for name, value in special.items():
        nested = isinstance(value, dict) and isinstance(merged.get(name), dict)
        merged[name] = {**merged[name], **value} if nested and "goals" not in name else value
    return merged


def _check_names(params: Params, recipes: Iterable[str], path: Path) -> None:
    """Every dataset is a recipe, every agent has a section, every section an algorithm."""
    for name in params.experiment.datasets:
        if name not in recipes:
            raise SettingsError(
                f"{path}: experiment.datasets: no recipe '{name}'; {nearest(name, recipes)}"
            )
    for name in params.experiment.agents:
        if name not in params.agents:
            raise SettingsError(
                f"{path}: experiment.agents: no section agents.{name}; "
                f"{nearest(name, params.agents)}"
            )
    for name, section in params.agents.items():
        algorithm = section.get("algorithm")
        if algorithm not in algorithm_names():
            raise SettingsError(
                f"{path}: agents.{name}.algorithm: no algorithm '{algorithm}'; "
                f"{nearest(algorithm, algorithm_names())}"
            )


def _check_per_dataset(
    data: Mapping[str, Any], key: tuple[str, ...], known: Iterable[str], path: Path
) -> None:
    special = data.get("per_dataset") or {}
    where = _dotted((*key, "per_dataset"))
    if not isinstance(special, dict):
        raise SettingsError(f"{path}: {where}: expected names of recipes, each with settings")
    for name, settings in special.items():
        if name not in known:
            raise SettingsError(f"{path}: {where}: no recipe '{name}'; {nearest(name, known)}")
        if not isinstance(settings, dict):
            raise SettingsError(f"{path}: {where}.{name}: expected keys and values")


def _check_mixtures(
    settings: AgentSettings, relabel: Relabel, success: Success, key: tuple[str, ...], path: Path
) -> None:
    """A strategy that an agent mixes in must be in the table that relabelling makes of the data."""
    where = _dotted(key)
    for name, mixture in settings:
        for strategy in mixture if name.endswith("goals") else ():
            if strategy == "original" and success.kind == "same_step":
                raise SettingsError(
                    f"{path}: {where}.{name}: 'original' has no reward where goals are single states "
                    "('same_step'); use a hindsight strategy"
                )
            if strategy not in {*relabel.strategies, "current", "original"}:
                raise SettingsError(
                    f"{path}: {where}.{name}: '{strategy}' is not in relabel.strategies; add it there"
                )
    if relabel.reward == "dense" and success.kind == "same_step":
        raise SettingsError(
            f"{path}: relabel.reward: 'dense' needs goals with a distance, not 'same_step'"
        )
    if relabel.reward == "dense" and settings.sampling.n_step > 1:
        raise SettingsError(
            f"{path}: {where}.n_step: must be 1 with relabel.reward 'dense', "
            f"not {settings.sampling.n_step}"
        )
