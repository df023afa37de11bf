"""The file ``params.yaml``: all sections, and their values for one dataset and agent."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from offline_gcrl.config.agents import algorithm_names
from offline_gcrl.config.clusters import Cluster
from offline_gcrl.config.evaluating import Evaluate
from offline_gcrl.config.experiment import Collecting, Experiment, Ingesting
from offline_gcrl.config.overrides import check_per_dataset, for_all_agents, for_dataset, overridden
from offline_gcrl.config.reading import Name, Section, nearest, read_yaml, validated
from offline_gcrl.config.relabelling import Relabel
from offline_gcrl.config.resolving import RECIPES, recipe_names
from offline_gcrl.config.training import Train
from offline_gcrl.support.errors import SettingsError

PARAMS = Path("params.yaml")


class Params(Section):
    """The content of ``params.yaml``. Sections of agents remain plain data, as each algorithm defines its own keys."""

    experiment: Experiment
    collect: dict[str, Any] = {}
    ingest: dict[str, Any] = {}
    relabel: dict[str, Any]
    train: dict[str, Any]
    evaluate: dict[str, Any]
    agents: dict[Name, dict[str, Any]]
    cluster: Cluster = Cluster()
    _path: Path = PARAMS

    @property
    def path(self) -> Path:
        """The file that these settings were read from."""
        return self._path

    def collect_for(self, dataset: str) -> Collecting:
        """Settings of collecting for one dataset."""
        return for_dataset(Collecting, self.collect, ("collect",), dataset, self._path)

    def ingest_for(self, dataset: str) -> Ingesting:
        """Settings of ingesting for one dataset."""
        return for_dataset(Ingesting, self.ingest, ("ingest",), dataset, self._path)

    def relabel_for(self, dataset: str) -> Relabel:
        """Settings of relabelling for one dataset."""
        return for_dataset(Relabel, self.relabel, ("relabel",), dataset, self._path)

    def train_for(self, dataset: str, agent: str | None = None) -> Train:
        """Settings of training for one dataset and agent; overrides per dataset go before overrides per agent."""
        special = (self.train.get("per_agent") or {}).get(agent) or {}
        data = overridden(for_all_agents(self.train), special)
        where = ("train", "per_agent", str(agent)) if special else ("train",)
        return for_dataset(Train, data, where, dataset, self._path)

    def evaluate_for(self, dataset: str) -> Evaluate:
        """Settings of evaluation for one dataset."""
        return for_dataset(Evaluate, self.evaluate, ("evaluate",), dataset, self._path)


SECTIONS: dict[str, type[Section]] = {
    "collect": Collecting,
    "ingest": Ingesting,
    "relabel": Relabel,
    "train": Train,
    "evaluate": Evaluate,
}


def load_params(path: Path = PARAMS) -> Params:
    """Read and check ``params.yaml``: all keys and values except those in the sections of agents.

    Raises:
        SettingsError: naming file, key, expectation and remedy.
    """
    params = validated(Params, read_yaml(path), path)
    params._path = path
    known = recipe_names(path.parent / RECIPES)
    _check_names(params, known, path)
    for title, section in SECTIONS.items():
        data = for_all_agents(getattr(params, title))
        check_per_dataset(data, (title,), known, path)
        for dataset in ("", *(data.get("per_dataset") or {})):  # First without overrides.
            for_dataset(section, data, (title,), dataset, path)
    _check_agents_of_training(params)
    return params


def _check_names(params: Params, recipes: Iterable[str], path: Path) -> None:
    """Every dataset must be a recipe, every agent must have a section, and every section an algorithm."""
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


def _check_agents_of_training(params: Params) -> None:
    """Agents that are named in the section ``train`` must exist."""
    special = params.train.get("per_agent") or {}
    if not isinstance(special, dict) or not all(isinstance(own, dict) for own in special.values()):
        raise SettingsError(
            f"{params.path}: train.per_agent: expected names of agents, each with keys and values"
        )
    _check_known_agents(params, special, "train.per_agent")
    for agent, own in special.items():
        if "per_dataset" in own:
            raise SettingsError(
                f"{params.path}: train.per_agent.{agent}: 'per_dataset' is a key of train alone; write the settings of one "
                "agent on one dataset as another agent, with a section of its own in agents"
            )
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
