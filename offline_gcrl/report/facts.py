"""Content of the page other than results: facts of the data, settings, digests and versions."""

import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from offline_gcrl.agents import settings_type
from offline_gcrl.config import Dataset, Params, Part, Section, Success, agent_settings
from offline_gcrl.config.outputs import CARD, EPISODES, STEPS, TABLE
from offline_gcrl.config.published import PUBLISHED
from offline_gcrl.report.drawing import stored_pictures
from offline_gcrl.report.exports import Cell, Table
from offline_gcrl.report.results import DatasetResults
from offline_gcrl.support.digests import intact, read_json
from offline_gcrl.support.files import digest
from offline_gcrl.support.tables import parts_of

DIGITS_OF_DIGEST = 16
PACKAGES = (
    "torch",
    "lightning",
    "numpy",
    "polars",
    "gymnasium",
    "gymnasium-robotics",
    "mujoco",
    "minari",
)


@dataclass(frozen=True)
class Folders:
    """Folders with the outputs of the earlier stages, and with printed numbers."""

    parquet: Path = Path("datasets/parquet")
    hindsight: Path = Path("datasets/hindsight")
    results: Path = Path("results")
    cards: Path = Path("datasets/cards")
    published: Path = PUBLISHED


def dataset_facts(schema: Mapping[str, Any], dataset: Dataset) -> dict[str, str]:
    """The main facts of a dataset, by their labels on the page."""
    counts, statistics = schema["counts"], schema["statistics"]
    environments = [
        recipe.evaluation.environment.id for recipe in dataset.recipes if recipe.evaluation
    ]
    goals = statistics["observation" if schema["goals_are_states"] else "achieved_goal"]
    where = " and ".join(map(_part, dataset.recipes[0].goal.achieved))
    facts = {
        "evaluated in": ", ".join(dict.fromkeys(environments)) or "no environment",
        "episodes": f"{counts['episodes']:,}",
        "transitions": f"{counts['transitions']:,}",
        "observation": f"{len(statistics['observation']['mean'])} numbers",
        "goal": f"{len(goals['mean'])} numbers: {where}",
        "goal counts as reached": _success(dataset.success),
        "action": f"{len(statistics['action']['mean'])} numbers",
        "tasks": ", ".join(dataset.tasks),
        "ingested with": ", ".join(
            f"{name} {version}" for name, version in schema["versions"].items()
        ),
        "licence": ", ".join(dict.fromkeys(recipe.licence for recipe in dataset.recipes)),
        "citation": ", ".join(dict.fromkeys(recipe.citation for recipe in dataset.recipes)),
    }
    return {name: value for name, value in facts.items() if value != "none"}


def success_distance(dataset: Dataset) -> float | None:
    """The distance up to which goals count as reached; None if something else decides that."""
    asked = any(r.evaluation and r.evaluation.success == "environment" for r in dataset.recipes)
    return dataset.success.tolerance if dataset.success.has_distance and not asked else None


def sources_table(dataset: str, sources: Mapping[str, Any]) -> Table:
    """Episodes and transitions of each source of a dataset."""
    heading = ["source", "kind", "episodes", "transitions", "episodes that reached their goal"]
    rows = [
        [
            name,
            source["kind"],
            source["episodes"],
            source["transitions"],
            "unknown" if source["successful_episodes"] is None else source["successful_episodes"],
        ]
        for name, source in sources.items()
    ]
    return Table(f"sources-{dataset}", f"Sources of {dataset}.", heading, rows)


def hindsight_table(dataset: str, statistics: Mapping[str, Any]) -> Table:
    """Labels and steps to the goal of each relabelling strategy."""
    heading = ["strategy", "goals per transition", "positive labels", "expected without tolerance"]
    heading += ["steps ahead, 10%", "median", "90%"]
    rows = []
    for name, values in statistics["strategies"].items():
        expected, ahead = values.get("expected_if_exact"), values.get("steps_ahead", {})
        shares = (values["positive_share"], expected)
        shown = [None if share is None else f"{share:.3%}" for share in shares]
        row: list[Cell] = [name, values["draws"], *shown]
        rows.append([*row, *(ahead.get(part) for part in ("p10", "p50", "p90"))])
    caption = (
        f"Hindsight goals of {dataset}. A label is positive if the transition reaches its goal."
    )
    return Table(f"hindsight-{dataset}", caption, heading, rows)


def settings_table(params: Params, dataset: str) -> Table:
    """All settings of the agents: one row per setting."""
    agents = params.experiment.agents
    rows = [
        [name, *(values.get(agent) for agent in agents)]
        for name, values in settings_of_agents(params, dataset).items()
    ]
    caption = f"Settings of the agents on {dataset}."
    return Table(f"settings-{dataset}", caption, ["setting", *agents], rows)


def dataset_card(folder: Path) -> dict[str, Any]:
    """Facts and figures of the dataset's card; empty if there is no card."""
    content = read_json(folder / CARD) if folder.is_dir() else {"facts": {}, "figures": {}}
    captions = content["figures"]
    figures = [folder / f"{name}.svg" for name in captions]
    return {
        "facts": content["facts"],
        "pictures": stored_pictures(folder.name, figures, captions),
    }


def described_agents(params: Params, dataset: str) -> dict[str, dict[str, str]]:
    """The algorithm of each agent (first line of its file), and the goal mixture of its actor."""
    described = {}
    for agent in params.experiment.agents:
        kind = settings_type(params.agents[agent]["algorithm"])
        settings = agent_settings(params, agent, dataset, kind)
        line = (sys.modules[kind.__module__].__doc__ or "").splitlines()[0]
        mixture = settings.sampling.actor_goals
        shares = [f"{share / sum(mixture.values()):.0%} {name}" for name, share in mixture.items()]
        described[agent] = {"algorithm": line, "goals": ", ".join(shares)}
    return described


def settings_of_stages(params: Params, dataset: str) -> dict[str, dict[str, str]]:
    """The settings of collecting, relabelling, training and evaluation that were used for a dataset."""
    sections: dict[str, Section] = {
        "collect": params.collect_for(dataset),
        "relabel": params.relabel_for(dataset),
        "train": params.train_for(dataset),
        "evaluate": params.evaluate_for(dataset),
    }
    return {title: _flat(section) for title, section in sections.items()}


def settings_of_agents(params: Params, dataset: str) -> dict[str, dict[str, str]]:
    """One row per setting with its value by agent; training settings only if agents differ in them."""
    rows: dict[str, dict[str, str]] = {}
    for agent in params.experiment.agents:
        kind = settings_type(params.agents[agent]["algorithm"])
        for name, value in _flat(agent_settings(params, agent, dataset, kind)).items():
            rows.setdefault(name, {})[agent] = value
    return rows | _training_of_agents(params, dataset)


def _training_of_agents(params: Params, dataset: str) -> dict[str, dict[str, str]]:
    """The training settings in which an agent differs from the common ones (``train.per_agent``)."""
    common = _flat(params.train_for(dataset))
    own = {agent: _flat(params.train_for(dataset, agent)) for agent in params.experiment.agents}
    names = [
        name for flat in own.values() for name, value in flat.items() if common.get(name) != value
    ]
    return {
        f"train.{name}": {agent: flat[name] for agent, flat in own.items() if name in flat}
        for name in dict.fromkeys(names)
    }


def fingerprints(
    name: str, results: DatasetResults, folders: Folders, seeds: Iterable[int]
) -> dict[str, str]:
    """SHA-256 digests of the data, the hindsight table and the evaluation episodes of each agent."""
    parquet, hindsight = folders.parquet / name, folders.hindsight / name
    seeds = list(seeds)
    files = {
        "episodes": [parquet / EPISODES, parquet / STEPS],
        "hindsight": [hindsight / TABLE],
        **{
            f"results of {agent}": [
                folders.results / name / agent / f"seed-{seed}" / EPISODES for seed in seeds
            ]
            for agent in results.agents
        },
    }
    return {
        title: digest(part for path in paths for part in parts_of(intact(path)))[:DIGITS_OF_DIGEST]
        for title, paths in files.items()
    }


def versions() -> dict[str, str]:
    """Versions of the packages that the numbers depend on, without build tags such as ``+cpu``."""
    return {name: metadata.version(name).split("+")[0] for name in PACKAGES}


def _flat(section: Section) -> dict[str, str]:
    """Settings as text. The number of workers is left out because results do not depend on it."""
    flat: dict[str, str] = {}
    for name, value in section.model_dump(exclude={"workers"}).items():
        if isinstance(value, dict) and not name.endswith("goals"):
            flat |= {f"{name}.{inner}": _readable(part) for inner, part in value.items()}
        else:
            flat[name] = _readable(value)
    return flat


def _readable(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{_readable(share)} {name}" for name, share in value.items()) or "none"
    if isinstance(value, list | tuple):
        return ", ".join(map(_readable, value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:g}" if isinstance(value, float) else "not set" if value is None else str(value)


def _part(part: Part) -> str:
    """A part of the observation as text."""
    if part.key is None:
        return "a constant"
    columns = "" if part.columns is None else f"[{', '.join(map(str, part.columns))}]"
    return f"{part.key}{columns}"


def _success(success: Success) -> str:
    """The success test as text, to follow "goal counts as reached"."""
    if success.kind == "distance":
        each = "" if success.parts is None else " for each part of the goal"
        return f"within a distance of {success.tolerance:g}{each}"
    if success.kind == "per_dimension":
        return f"within {_readable(success.tolerances)} in each dimension"
    if success.kind == "predicate":
        return f"{success.predicate} the goal in dimension {_readable(success.dimensions)}"
    return "only at the state it was taken from"
