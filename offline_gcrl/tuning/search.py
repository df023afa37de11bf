"""The file of a search: which settings of an agent are tried on a dataset, and in which episodes they are compared.

A search is one YAML file. All other settings are those of ``params.yaml``.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, PositiveInt, model_validator
from pydantic_core import PydanticCustomError

from offline_gcrl.config import (
    AgentSettings,
    Dataset,
    Evaluate,
    Params,
    Relabel,
    Section,
    Train,
    agent_settings,
    check_episode_counts,
    check_fit,
    check_held_out,
    nearest,
    resolve,
)
from offline_gcrl.config.overrides import overridden, with_overrides, with_preset
from offline_gcrl.config.reading import Name, Seed, dotted, read_yaml, reject_repeats, validated
from offline_gcrl.config.resolving import RECIPES
from offline_gcrl.support.errors import SettingsError

Values = dict[str, Any]
"""Values of the settings that are searched, by their names with dots."""


class Searched(Section):
    """The values of one setting: a range of numbers, or a list of choices."""

    low: int | float | None = None
    """The smallest value of a range; the range consists of whole numbers if both ends are written as such."""
    high: int | float | None = None
    """The largest value of a range."""
    log: bool = False
    """Whether values are drawn uniformly on a logarithmic scale."""
    choices: tuple[Any, ...] | None = None
    """Values of any type."""

    @model_validator(mode="after")
    def _range_or_choices(self) -> Self:
        ends = (self.low, self.high)
        if self.choices is not None:
            if ends != (None, None) or self.log:
                _refuse(
                    "'choices' and a range exclude each other; leave 'low', 'high' and 'log' out"
                )
            if len({json.dumps(choice) for choice in self.choices}) < max(2, len(self.choices)):
                _refuse("'choices' needs at least two different values, each once")
        elif self.low is None or self.high is None:
            _refuse("needs 'low' and 'high', or 'choices'")
        elif self.low >= self.high:
            _refuse(f"'low' ({self.low}) must be smaller than 'high' ({self.high})")
        elif self.log and self.low <= 0:
            _refuse(f"'low' ({self.low}) must be positive with 'log: true'")
        return self

    @property
    def is_whole(self) -> bool:
        """Whether a range consists of whole numbers."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    @property
    def extremes(self) -> tuple[Any, ...]:
        """Values that must be valid for the search to be valid: both ends, or all choices."""
        return (self.low, self.high) if self.choices is None else self.choices

    def equal_choices(self, value: Any) -> list[Any]:
        """The choices that equal a value, of which there is at most one unless ``choices`` has 1 and 1.0."""
        return [choice for choice in self.choices or () if _are_equal(choice, value)]

    def contains(self, value: Any) -> bool:
        """Whether a value is one of those that are tried."""
        if self.choices is not None:
            return bool(self.equal_choices(value))
        assert self.low is not None
        assert self.high is not None
        number = isinstance(value, int if self.is_whole else int | float)
        return number and not isinstance(value, bool) and self.low <= value <= self.high


def _are_equal(one: Any, other: Any) -> bool:
    """Whether two settings have the same value: 1 and 1.0 do, and 1 and true do not."""
    return bool(one == other) and isinstance(one, bool) == isinstance(other, bool)


def _refuse(sentence: str) -> None:
    raise PydanticCustomError("searched", "{sentence}", {"sentence": sentence})


class Choosing(Section):
    """The evaluation in which trials are compared."""

    episodes: PositiveInt = 100
    """Episodes of each policy of a trial."""
    curve_episodes: PositiveInt = 20
    """Episodes of each snapshot, for pruning."""
    seed: Seed = 777
    """Seed of starts and goals; it must not be ``evaluate.seed``, with which the chosen settings are evaluated."""


class Search(Section):
    """The content of the file of a search."""

    dataset: Name
    """One of ``experiment.datasets``."""
    agent: Name
    """A section of ``agents``; settings that are not searched have its values."""
    settings: Annotated[dict[str, Searched], Field(min_length=1)]
    """The settings that are searched; the name of a nested one is written with dots, such as ``dual.size``."""
    trials: PositiveInt = 20
    """Number of trials, including those that are pruned; with a larger number, a finished search continues."""
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)] = (1000,)
    """Training seeds of each trial; none of ``experiment.seeds``, with which the chosen settings are trained again."""
    objective: Literal["success", "discounted_return"] = "success"
    """What is maximised; equal successes are ordered by the discounted return."""
    pruning: bool = True
    """Whether trials stop at a snapshot where they succeed less often than the median of the earlier trials."""
    seed: Seed = 0
    """Seed of the values that are tried."""
    choosing: Choosing = Choosing()
    """The evaluation in which trials are compared; see below."""

    @model_validator(mode="after")
    def _distinct_seeds(self) -> Self:
        reject_repeats(self.seeds)
        return self


@dataclass(frozen=True)
class SearchPlan:
    """A search with everything that its trials depend on."""

    name: str
    path: Path
    search: Search
    dataset: Dataset
    algorithm: str
    section: Mapping[str, Any]
    """The section of the agent with its overrides for the dataset, as plain data."""
    kind: type[AgentSettings]
    train: Train
    relabel: Relabel
    evaluate: Evaluate
    """The settings of the final evaluation."""
    final_seeds: tuple[int, ...]
    """The training seeds of the final evaluation."""

    @property
    def choosing(self) -> Evaluate:
        """The settings of the evaluation in which trials are compared."""
        return self.evaluate.model_copy(update=self.search.choosing.model_dump())

    def settings(self, values: Values) -> AgentSettings:
        """The agent's settings with values of those that are searched.

        Raises:
            SettingsError: a combination of values is invalid.
        """
        section = overridden(self.section, nested(values))
        found = validated(
            self.kind, with_preset(section, self.dataset.name), self.path, ("settings",)
        )
        check_fit(found, self.train, self.relabel, self.dataset, self.path)
        check_held_out(found, self.dataset, self.path)
        return found

    @property
    def present(self) -> Values:
        """The values of the searched settings in ``params.yaml``."""
        settings = self.settings({}).model_dump(mode="json")
        return {name: _at(settings, name) for name in self.search.settings}

    def digest(self, content: str) -> str:
        """A digest of everything that the results of trials depend on.

        Args:
            content: digest of the data and of the code of training and evaluation.
        """
        search = self.search.model_dump(mode="json", exclude={"trials"})
        settings = self.settings({}), self.train, self.choosing.identity
        words = (content, json.dumps(search, sort_keys=True), *settings, self.dataset)
        return hashlib.sha256(repr(words).encode()).hexdigest()[:16]


def plan_search(path: Path, params: Params, settings_type: Callable[[str], Any]) -> SearchPlan:
    """Read the file of a search, and check it against ``params.yaml``.

    Args:
        path: the file.
        params: the content of ``params.yaml``.
        settings_type: the settings of an algorithm, by its name.

    Raises:
        SettingsError: naming file, key, expectation and remedy.
    """
    search = validated(Search, read_yaml(path), path)
    _check_names(search, params, path)
    dataset, agent = search.dataset, search.agent
    section = params.agents[agent]
    kind = settings_type(section["algorithm"])
    agent_settings(params, agent, dataset, kind)
    plan = SearchPlan(
        name=path.stem,
        path=path,
        search=search,
        dataset=resolve(
            dataset, params.collect_for(dataset).episodes, params.path.parent / RECIPES
        ),
        algorithm=section["algorithm"],
        section=with_overrides(section, dataset)[0],
        kind=kind,
        train=params.train_for(dataset, agent).without_specialists,
        relabel=params.relabel_for(dataset),
        evaluate=params.evaluate_for(dataset),
        final_seeds=params.experiment.seeds,
    )
    _check_evaluation(plan)
    _check_searched(plan)
    return plan


def nested(values: Values) -> dict[str, Any]:
    """Values by names with dots as nested dictionaries."""
    result: dict[str, Any] = {}
    for name, value in values.items():
        *sections, last = name.split(".")
        inner = result
        for section in sections:
            inner = inner.setdefault(section, {})
        inner[last] = value
    return result


def _at(settings: Mapping[str, Any], name: str) -> Any:
    """The value of a setting by its name with dots; None if a section on the way is not given."""
    value: Any = settings
    for part in name.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def _check_names(search: Search, params: Params, path: Path) -> None:
    """The dataset and the agent must be those of ``params.yaml``, and the training seeds others."""
    runs = params.experiment
    if search.dataset not in runs.datasets:
        raise SettingsError(
            f"{path}: dataset: '{search.dataset}' is not in experiment.datasets of {params.path}; add it there, so that "
            f"`dvc repro` prepares its data; {nearest(search.dataset, runs.datasets)}"
        )
    if search.agent not in params.agents:
        raise SettingsError(
            f"{path}: agent: no section agents.{search.agent} in {params.path}; {nearest(search.agent, params.agents)}"
        )
    common = sorted(set(search.seeds) & set(runs.seeds))
    if common:
        raise SettingsError(
            f"{path}: seeds: {common[0]} is in experiment.seeds of {params.path}, with which the chosen settings are "
            "trained again; choose other seeds"
        )


def _check_evaluation(plan: SearchPlan) -> None:
    """The episodes of the choice must be others than those of the final evaluation, and enough for all tasks."""
    if not plan.dataset.has_evaluation:
        raise SettingsError(
            f"{plan.path}: dataset: the recipe of '{plan.dataset.name}' names no environment to compare trials in"
        )
    if plan.search.choosing.seed == plan.evaluate.seed:
        raise SettingsError(
            f"{plan.path}: choosing.seed: {plan.evaluate.seed} is evaluate.seed of the final evaluation; choose another "
            "number, so that settings are not chosen on the episodes that evaluate them"
        )
    check_episode_counts(plan.choosing, plan.dataset, plan.path, key=("choosing",))


def _check_searched(plan: SearchPlan) -> None:
    """Each searched setting must be one of the algorithm, and its extreme values valid."""
    own = plan.settings({})
    names = (_names(name, getattr(own, name)) for name in type(own).model_fields)
    known = set(chain.from_iterable(names)) - {"algorithm", "preset"}
    for name, searched in plan.search.settings.items():
        if name not in known:
            raise SettingsError(
                f"{plan.path}: settings.{name}: '{plan.algorithm}' has no such setting; {nearest(name, known)}"
            )
        for value in searched.extremes:
            plan.settings({name: value})


def _names(name: str, value: Any) -> list[str]:
    """The name of a setting, or the names with dots of those of a section."""
    if isinstance(value, Section):
        return [dotted((name, inner)) for inner in type(value).model_fields]
    return [name]
