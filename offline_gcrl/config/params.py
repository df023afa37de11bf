"""``params.yaml``: what runs and how, with settings for single datasets laid over those for all.

An agent's own settings are declared in its file in ``agents/``; ``agent_settings`` reads them with the same
rules.
"""

import pkgutil
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from offline_gcrl.config.multitask import Tasks, TaskSequence, check_tasks_of
from offline_gcrl.config.reading import (
    Section,
    Settings,
    dotted,
    nearest,
    read_yaml,
    reject_repeats,
    validated,
)
from offline_gcrl.config.recipes import (
    RECIPES,
    Dataset,
    Goal,
    Name,
    has_original_goals,
    recipe_names,
    resolve,
)
from offline_gcrl.support.errors import SettingsError

PARAMS = Path("params.yaml")

Strategy = Literal["final", "future", "geometric", "episode", "random", "current", "original"]
DrawnStrategy = Literal["final", "future", "geometric", "episode", "random"]
Discount = Annotated[float, Field(gt=0.0, lt=1.0)]
Mixture = Annotated[dict[Strategy, PositiveFloat], Field(min_length=1)]
Units = Annotated[tuple[PositiveInt, ...], Field(min_length=1)]
Activation = Literal["relu", "gelu", "tanh"]
Told = Literal["goal", "one_hot", "embedding", "goal+one_hot", "goal+embedding", "none"]


class Experiment(Section):
    """What runs."""

    name: str = "offline-gcrl"
    datasets: Annotated[tuple[Name, ...], Field(min_length=1)]
    agents: Annotated[tuple[Name, ...], Field(min_length=1)]
    seeds: Annotated[tuple[NonNegativeInt, ...], Field(min_length=1)]

    @field_validator("datasets", "agents", "seeds")
    @classmethod
    def _distinct(cls, names: tuple[Any, ...]) -> tuple[Any, ...]:
        reject_repeats(names)
        return names


class Collecting(Section):
    """How much data is made, or taken of what is published."""

    episodes: PositiveInt | Literal["full"] | None = None
    """Of each task, in place of what its recipe says; ``full`` is the published size."""


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
        reject_repeats(names)
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
    compile: Literal["auto"] | bool = "auto"
    """Compile the loss, which takes a minute or two once; ``auto``: where a long run earns it back."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Of products of matrices in the loss; weights, gradients and checkpoints are float32 either way."""
    seeds_together: Literal["auto", "processes", "stacked"] = "auto"
    """A process for each seed, or all in one batched update; ``auto``: the latter on a GPU alone."""
    specialists: bool | tuple[Name, ...] = False
    """Of a suite: also train the same agent on each task alone; true, or names of the agents that get them."""
    specialist_updates: PositiveInt | None = None
    """Updates of each specialist; as many as the generalist has, when left out."""
    tasks: Tasks | None = None
    """How several tasks are weighed, sampled and reconciled; left out, they are one set of transitions."""
    sequence: TaskSequence | None = None
    """Tasks one after another, in place of all at once."""

    @model_validator(mode="after")
    def _one_plan_for_tasks(self) -> Self:
        if self.tasks is not None and self.sequence is not None:
            raise PydanticCustomError(
                "plan",
                "'tasks' is for learning all at once, 'sequence' for one after another; leave one of them out",
            )
        chosen = {"compile": self.compile is True, "precision": self.precision != "fp32"}
        for key in [key for key, is_chosen in chosen.items() if is_chosen]:
            if self.has_task_gradients:
                raise PydanticCustomError(
                    "fast_path",
                    "'{key}' is for the loss of all tasks; leave it out with 'tasks.gradients: {name}'",
                    {"key": key, "name": self.tasks.gradients if self.tasks else ""},
                )
        if self.seeds_together == "stacked" and (self.tasks or self.sequence):
            raise PydanticCustomError(
                "stacked",
                "seeds are not stacked with 'tasks' or 'sequence', where each goes a way of its own; "
                "say 'seeds_together: processes'",
            )
        return self

    @model_validator(mode="after")
    def _whole_rounds(self) -> Self:
        for key in ("updates", "specialist_updates"):
            updates = getattr(self, key)
            if updates is not None and updates % self.snapshots:
                raise PydanticCustomError(
                    "snapshots",
                    "'{key}' ({updates}) must be a multiple of 'snapshots' ({snapshots})",
                    {"key": key, "updates": updates, "snapshots": self.snapshots},
                )
        return self

    @property
    def has_task_gradients(self) -> bool:
        """Whether each task has a gradient of its own, to be reconciled with those of the others."""
        return self.tasks is not None and self.tasks.gradients != "sum"

    def has_specialists(self, agent: str) -> bool:
        """Whether this agent's specialists are trained."""
        return self.specialists if isinstance(self.specialists, bool) else agent in self.specialists

    @property
    def of_generalist(self) -> Self:
        """Without what is about specialists: nothing of it can change a generalist's weights."""
        return self.model_copy(update={"specialists": False, "specialist_updates": None})

    @property
    def of_specialist(self) -> Self:
        """The same settings for one task alone, without what is about several."""
        alone = {"tasks": None, "sequence": None}
        updates = self.specialist_updates or self.updates
        return self.of_generalist.model_copy(update={"updates": updates, **alone})


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
    wrong_identifier_episodes: NonNegativeInt | None = None
    """Episodes in which each policy is told another task, or another goal, than it is judged by: success must
    fall. 0 for none; when left out, as many as ``curve_episodes`` for suites, and none for single tasks."""
    held_out_episodes: NonNegativeInt | None = None
    """Episodes to goals that were held out from training, where a recipe names some; when left out, as many
    as ``episodes``."""
    stop_at_success: bool = False
    """End an episode once its goal is reached, in tasks where success at any step counts. Saves time, and makes
    success at the last step the same as at any."""
    workers: PositiveInt | None = None
    """Worker processes (all cores when left out); never changes the result."""
    video: Video = Video()

    def wrong_identifiers(self, tasks: int) -> int:
        """How many of the final episodes are run again with a wrong identifier."""
        if self.wrong_identifier_episodes is not None:
            return min(self.wrong_identifier_episodes, self.episodes)
        return min(self.curve_episodes, self.episodes) if tasks > 1 else 0

    @property
    def held_out(self) -> int:
        """How many episodes go to goals that were held out."""
        return self.episodes if self.held_out_episodes is None else self.held_out_episodes


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
    conditioning: Told = "goal"
    """What every network is told of its task: the goal, a task identifier (one-hot, or an embedding that is
    learned), both, or nothing."""
    task_network: Literal["concatenate", "film", "heads"] = "concatenate"
    """How that comes in: beside the state; as scale and shift of hidden layers; or beside the state, with an
    output layer for each task."""
    embedding_size: PositiveInt = 16
    """Numbers of a learned embedding."""

    @model_validator(mode="after")
    def _something_to_take_in(self) -> Self:
        for name in ("task_network", "goal_encoder"):
            if self.conditioning == "none" and getattr(self, name) in {"film", "separate"}:
                raise PydanticCustomError(
                    "conditioning",
                    "'{name}: {value}' has nothing to take in with 'conditioning: none'; leave one of them out",
                    {"name": name, "value": getattr(self, name)},
                )
        return self

    @property
    def sampling(self) -> Sampling:
        """What the agent asks of a batch."""
        raise NotImplementedError

    @property
    def has_ensemble(self) -> bool:
        """Whether the agent has critics whose disagreement says how uncertain it is."""
        return False

    @property
    def has_positive_loss(self) -> bool:
        """Whether the loss is never negative, so that the ratio of two of them means progress."""
        return False


class Params(Section):
    """All of ``params.yaml``, except that agents' sections stay plain until their file reads them."""

    experiment: Experiment
    collect: dict[str, Any] = {}
    relabel: dict[str, Any]
    train: dict[str, Any]
    evaluate: dict[str, Any]
    agents: dict[Name, dict[str, Any]]
    _path: Path = PARAMS

    @property
    def path(self) -> Path:
        """The file that was read."""
        return self._path

    def collect_for(self, dataset: str) -> Collecting:
        """How much of one dataset is made."""
        return _for_dataset(Collecting, self.collect, ("collect",), dataset, self._path)

    def relabel_for(self, dataset: str) -> Relabel:
        """Settings of relabelling for one dataset."""
        return _for_dataset(Relabel, self.relabel, ("relabel",), dataset, self._path)

    def train_for(self, dataset: str, agent: str | None = None) -> Train:
        """Settings of training for one dataset, and one agent; what is said of the dataset goes first."""
        special = (self.train.get("per_agent") or {}).get(agent) or {}
        data = _overlaid(_for_all_agents(self.train), special)
        where = ("train", "per_agent", str(agent)) if special else ("train",)
        return _for_dataset(Train, data, where, dataset, self._path)

    def evaluate_for(self, dataset: str) -> Evaluate:
        """Settings of evaluation for one dataset."""
        return _for_dataset(Evaluate, self.evaluate, ("evaluate",), dataset, self._path)


SECTIONS: dict[str, type[Section]] = {
    "collect": Collecting,
    "relabel": Relabel,
    "train": Train,
    "evaluate": Evaluate,
}


def load_params(path: Path = PARAMS) -> Params:
    """Read and check ``params.yaml``: every key and value but those of the agents' own sections.

    Raises:
        SettingsError: naming file, key, expectation and remedy.
    """
    params = validated(Params, read_yaml(path), path)
    params._path = path
    known = recipe_names(path.parent / RECIPES)
    _check_names(params, known, path)
    for title, section in SECTIONS.items():
        data = _for_all_agents(getattr(params, title))
        _check_per_dataset(data, (title,), known, path)
        for dataset in ("", *(data.get("per_dataset") or {})):  # First what holds for all.
            _for_dataset(section, data, (title,), dataset, path)
    _check_agents_of_training(params)
    return params


def check_evaluation(params: Params, dataset: Dataset) -> None:
    """Check that each part of the judgement that is asked for has an episode for each task.

    Raises:
        SettingsError: naming file, key, expectation and remedy.
    """
    settings = params.evaluate_for(dataset.name)
    numbered = [recipe.evaluation.fixed_tasks for recipe in dataset.recipes if recipe.evaluation]
    tasks = len(numbered)
    needed = tasks * max([len(fixed.values) for fixed in numbered if fixed], default=1)
    wrong = settings.wrong_identifiers(len(dataset.recipes))
    for name, episodes, least in (
        ("episodes", settings.episodes, needed),
        ("curve_episodes", settings.curve_episodes, tasks),
        ("wrong_identifier_episodes", wrong or tasks, tasks),
        ("held_out_episodes", settings.held_out or tasks, tasks),
    ):
        if episodes < least:
            raise SettingsError(
                f"{params.path}: evaluate.{name}: {episodes} are too few to judge '{dataset.name}' in all "
                f"of its tasks; give at least {least}"
            )


def _for_all_agents(data: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in data.items() if name != "per_agent"}


def _check_agents_of_training(params: Params) -> None:
    """Settings of training that name agents name those that there are."""
    special = params.train.get("per_agent") or {}
    if not isinstance(special, dict) or not all(isinstance(own, dict) for own in special.values()):
        raise SettingsError(
            f"{params.path}: train.per_agent: expected names of agents, each with keys and values"
        )
    _check_known_agents(params, special, "train.per_agent")
    for dataset in ("", *(params.train.get("per_dataset") or {})):
        for agent in (None, *special):
            named = params.train_for(dataset, agent).specialists
            _check_known_agents(
                params, () if isinstance(named, bool) else named, "train.specialists"
            )


def _check_known_agents(params: Params, names: Iterable[str], key: str) -> None:
    for name in names:
        if name not in params.agents:
            raise SettingsError(
                f"{params.path}: {key}: no section agents.{name}; {nearest(name, params.agents)}"
            )


def algorithm_names() -> list[str]:
    """Names of the files in ``agents/``, read without importing them: torch is heavy."""
    folder = Path(__file__).parent.parent / "agents"
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
        resolved = resolve(dataset, folder=recipes)
        goal = resolved.recipes[0].goal
        _check_mixtures(settings, params.relabel_for(dataset), goal, key, path, dataset)
        _check_several_tasks(settings, params, resolved, key)
        if settings.task_network == "heads" and len(resolved.recipes) == 1:
            raise SettingsError(
                f"{path}: {dotted(key)}.task_network: 'heads' is a head for each of several tasks, and "
                f"'{dataset}' has one; say 'concatenate' in {dotted(key)}.per_dataset.{dataset}, or name a suite"
            )
    return settings


def _check_several_tasks(
    settings: AgentSettings, params: Params, dataset: Dataset, key: tuple[str, ...]
) -> None:
    """What training asks of tasks must fit those of the dataset, and the agent."""
    train, path, where = params.train_for(dataset.name, key[-1]), params.path, dotted(key)
    names = [recipe.task for recipe in dataset.recipes]
    check_tasks_of(train.tasks, train.sequence, names, train.snapshots, dataset.name, path)
    if train.tasks and train.tasks.sampling == "uncertainty" and not settings.has_ensemble:
        raise SettingsError(
            f"{path}: train.tasks.sampling: 'uncertainty' is how much critics disagree, and {where} has none; "
            "take gciql, or 'performance' or 'gradient'"
        )
    if train.tasks and train.tasks.gradients == "gradnorm" and not settings.has_positive_loss:
        raise SettingsError(
            f"{path}: train.tasks.gradients: 'gradnorm' compares losses with those at the start, and that of "
            f"{where} may be negative; take bc, or gciql with actor_loss 'awr', or another of the combinations"
        )
    if train.sequence and train.sequence.method == "heads" and settings.task_network != "heads":
        raise SettingsError(
            f"{path}: train.sequence.method: 'heads' freezes heads, and {where} has none; "
            f"say {where}.task_network: heads"
        )


def check_agent(params: Params, agent: str, settings_type: type[Settings]) -> None:
    """Check a section of ``agents`` in itself, and for each dataset that it names or is to run on.

    Raises:
        SettingsError: naming file, key, expectation and remedy.
    """
    section, known = params.agents[agent], recipe_names(params.path.parent / RECIPES)
    _for_dataset(settings_type, section, ("agents", agent), "", params.path)
    _check_per_dataset(section, ("agents", agent), known, params.path)
    runs = params.experiment.datasets if agent in params.experiment.agents else ()
    patterns = section.get("per_dataset") or {}
    named = [name for name in known if any(fnmatchcase(name, pattern) for pattern in patterns)]
    for dataset in dict.fromkeys([*runs, *named]):
        agent_settings(params, agent, dataset, settings_type)


def _for_dataset(
    section: type[Settings],
    data: Mapping[str, Any],
    key: tuple[str, ...],
    dataset: str,
    path: Path,
) -> Settings:
    """A section with what its ``per_dataset`` says of a dataset laid over it: patterns, then its name."""
    settings, where = {name: value for name, value in data.items() if name != "per_dataset"}, key
    special = data.get("per_dataset") or {}
    patterns = [name for name in special if name != dataset and fnmatchcase(dataset, name)]
    for name in [*patterns, dataset] if dataset else []:
        if special.get(name):
            settings, where = _overlaid(settings, special[name]), (*key, "per_dataset", name)
    return validated(section, settings, path, where)


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
    where = dotted((*key, "per_dataset"))
    if not isinstance(special, dict):
        raise SettingsError(f"{path}: {where}: expected names of recipes, each with settings")
    for name, settings in special.items():
        if not any(fnmatchcase(recipe, name) for recipe in known):
            raise SettingsError(f"{path}: {where}: no recipe '{name}'; {nearest(name, known)}")
        if not isinstance(settings, dict):
            raise SettingsError(f"{path}: {where}.{name}: expected keys and values")


def _check_mixtures(
    settings: AgentSettings,
    relabel: Relabel,
    goal: Goal,
    key: tuple[str, ...],
    path: Path,
    dataset: str,
) -> None:
    """A strategy that an agent mixes in must be in the table that relabelling makes of the data."""
    where = dotted(key)
    for name, mixture in settings:
        for strategy in mixture if name.endswith("goals") else ():
            if strategy == "original" and not has_original_goals(goal):
                raise SettingsError(
                    f"{path}: {where}.{name}: 'original' needs goals that the behaviour pursued, and a "
                    f"success test other than 'same_step', which '{dataset}' does not have; give hindsight "
                    f"goals in {where}.per_dataset.{dataset}.{name}, or leave the agent out"
                )
            if strategy not in {*relabel.strategies, "current", "original"}:
                raise SettingsError(
                    f"{path}: {where}.{name}: '{strategy}' is not in relabel.strategies; add it there"
                )
    if relabel.reward == "dense" and not goal.success.has_distance:
        raise SettingsError(
            f"{path}: relabel.reward: 'dense' needs goals with one distance, not '{goal.success.kind}'"
        )
    if relabel.reward == "dense" and settings.sampling.n_step > 1:
        raise SettingsError(
            f"{path}: {where}.n_step: must be 1 with relabel.reward 'dense', "
            f"not {settings.sampling.n_step}"
        )
