"""What stands on the page beside the results: facts of the data, settings, fingerprints, versions."""

import json
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from offline_gcrl.agents import settings_type
from offline_gcrl.config import Dataset, Params, Part, Section, Success, agent_settings
from offline_gcrl.config.outputs import CARD, EPISODES, STEPS, TABLE
from offline_gcrl.config.outputs import EPISODES as EVALUATED
from offline_gcrl.report.drawing import stored_pictures
from offline_gcrl.report.results import DatasetResults
from offline_gcrl.support.files import digest

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
    """Where the stages before left what the page tells of."""

    parquet: Path = Path("datasets/parquet")
    hindsight: Path = Path("datasets/hindsight")
    results: Path = Path("results")
    cards: Path = Path("datasets/cards")


def dataset_facts(schema: Mapping[str, Any], dataset: Dataset) -> dict[str, str]:
    """What a person asks first of a dataset."""
    counts, statistics = schema["counts"], schema["statistics"]
    judged = [recipe.evaluation.environment.id for recipe in dataset.recipes if recipe.evaluation]
    goals = statistics["observation" if schema["goals_are_states"] else "achieved_goal"]
    where = " and ".join(map(_part, dataset.recipes[0].goal.achieved))
    facts = {
        "judged in": ", ".join(dict.fromkeys(judged)) or "no environment",
        "episodes": f"{counts['episodes']:,}",
        "transitions": f"{counts['transitions']:,}",
        "observation": f"{len(statistics['observation']['mean'])} numbers",
        "goal": f"{len(goals['mean'])} numbers: {where}",
        "goal reached": _success(dataset.success),
        "action": f"{len(statistics['action']['mean'])} numbers",
        "tasks": ", ".join(dataset.tasks),
        "made with": ", ".join(f"{name} {version}" for name, version in schema["versions"].items()),
        "licence": ", ".join(dict.fromkeys(recipe.licence for recipe in dataset.recipes)),
        "citation": ", ".join(dict.fromkeys(recipe.citation for recipe in dataset.recipes)),
    }
    return {name: value for name, value in facts.items() if value != "none"}


def success_distance(dataset: Dataset) -> float | None:
    """The distance within which goals count as reached, where that alone decides."""
    asked = any(r.evaluation and r.evaluation.success == "environment" for r in dataset.recipes)
    return dataset.success.tolerance if dataset.success.has_distance and not asked else None


def dataset_card(folder: Path) -> dict[str, Any]:
    """What the dataset's card tells beyond its schema, where there is one."""
    path = folder / CARD
    content = json.loads(path.read_text()) if path.exists() else {"facts": {}, "figures": {}}
    captions = content["figures"]
    figures = [folder / f"{name}.svg" for name in captions]
    return {
        "facts": content["facts"],
        "pictures": stored_pictures(folder.name, figures, captions),
    }


def described_agents(params: Params, dataset: str) -> dict[str, dict[str, str]]:
    """What each agent is: the first line of its algorithm's file, and the goals that it learns to act on."""
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
    """The settings of collecting, relabelling, training and evaluation that held for a dataset."""
    sections: dict[str, Section] = {
        "collect": params.collect_for(dataset),
        "relabel": params.relabel_for(dataset),
        "train": params.train_for(dataset),
        "evaluate": params.evaluate_for(dataset),
    }
    return {title: _flat(section) for title, section in sections.items()}


def settings_of_agents(params: Params, dataset: str) -> dict[str, dict[str, str]]:
    """A row a setting, with its value for each agent that has it; of training, what is not the same for all."""
    rows: dict[str, dict[str, str]] = {}
    for agent in params.experiment.agents:
        kind = settings_type(params.agents[agent]["algorithm"])
        for name, value in _flat(agent_settings(params, agent, dataset, kind)).items():
            rows.setdefault(name, {})[agent] = value
    return rows | _training_of_agents(params, dataset)


def _training_of_agents(params: Params, dataset: str) -> dict[str, dict[str, str]]:
    """The settings of training that some agent has to itself (``train.per_agent``)."""
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
    """SHA-256 of the data, the hindsight table and the final episodes of each agent."""
    parquet, hindsight = folders.parquet / name, folders.hindsight / name
    seeds = list(seeds)
    files = {
        "episodes": [parquet / EPISODES, parquet / STEPS],
        "hindsight": [hindsight / TABLE],
        **{
            f"results of {agent}": [
                folders.results / name / agent / f"seed-{seed}" / EVALUATED for seed in seeds
            ]
            for agent in results.agents
        },
    }
    return {title: digest(paths)[:DIGITS_OF_DIGEST] for title, paths in files.items()}


def versions() -> dict[str, str]:
    """Of the packages that the numbers depend on, without what tells one build from another."""
    return {name: metadata.version(name).split("+")[0] for name in PACKAGES}


def _flat(section: Section) -> dict[str, str]:
    """Settings as text; workers are left out, since they change no number."""
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
    """A part of the observation in words."""
    if part.key is None:
        return "a constant"
    columns = "" if part.columns is None else f"[{', '.join(map(str, part.columns))}]"
    return f"{part.key}{columns}"


def _success(success: Success) -> str:
    """When a goal counts as reached, in words."""
    if success.kind == "distance":
        each = "" if success.parts is None else ", each of its parts"
        return f"within {success.tolerance:g} of it{each}"
    if success.kind == "per_dimension":
        return f"within {_readable(success.tolerances)} in its dimensions"
    if success.kind == "predicate":
        return f"{success.predicate} it in dimension {_readable(success.dimensions)}"
    return "at the very same state"
