"""Writes the card of an ingested dataset: ``card.json``, ``card.md`` and its figures."""

from pathlib import Path
from typing import Any

from offline_gcrl.cards.coverage import Coverage
from offline_gcrl.cards.drawing import card_figures
from offline_gcrl.cards.measure import MOVING, IngestedDataset, measure, summarise
from offline_gcrl.cards.page import captions, card_page, facts
from offline_gcrl.cards.replay import Replay
from offline_gcrl.config import Dataset, Environment, Recipe, Source, Success
from offline_gcrl.config.outputs import CARD, PAGE
from offline_gcrl.environments.making import make_environment
from offline_gcrl.figures.scenes import Scene, environment_scene
from offline_gcrl.figures.style import save
from offline_gcrl.support.errors import OfflineGCRLError
from offline_gcrl.support.files import write_json, write_text

MAX_NOTE_CHARACTERS = 7000
"""Characters of a page that are shown with its run."""


def write_card(
    dataset: Dataset, folder: Path, replays: dict[str, Replay], output: Path
) -> dict[str, Any]:
    """Write the card of the dataset that is ingested in ``folder`` into ``output``.

    Returns:
        What ``card.json`` holds.
    """
    data = IngestedDataset(folder, dataset)
    measures = measure(data)
    scenes = [task_scene(recipe) for recipe in dataset.recipes]
    figures = card_figures(data, measures, scenes)
    for name, figure in figures.items():
        save(figure, output / f"{name}.svg")
    numbers = summarise(data, measures)
    head = _head(data, measures.coverage)
    said = captions(head["coverage"], head["sizes"])
    replayed = {source: replay.as_dict() for source, replay in replays.items()}
    card = {
        **head,
        "facts": facts(numbers["all"], replayed.values()),
        **numbers,
        "figures": {name: said[name] for name in figures},
        "replay": replayed,
    }
    write_json(output / CARD, card)
    write_text(output / PAGE, card_page(card))
    return card


def card_metrics(card: dict[str, Any]) -> dict[str, float]:
    """The numbers that datasets are compared by, flat; those of its sources stand on the page."""
    values = card["all"]
    flat = {key: value for key, value in values.items() if isinstance(value, int | float)}
    flat |= {f"{key}_mean": values[key]["mean"] for key in ("length", "return")}
    if values["success"] is not None:
        flat |= {f"success_{key}": value for key, value in values["success"].items()}
    return flat


def card_params(card: dict[str, Any]) -> dict[str, str]:
    """What datasets are told apart by, beside their numbers."""
    origins = card["origins"]
    return {
        "title": card["title"],
        "tasks": ", ".join(card["tasks"]),
        "sources": ", ".join(card["sources"]),
        "environment": ", ".join(dict.fromkeys(origin["environment"] for origin in origins)),
        "licence": ", ".join(dict.fromkeys(origin["licence"] for origin in origins)),
        "replay": card["facts"]["replay of its actions"],
        **{f"size.{name}": str(size) for name, size in card["sizes"].items()},
    }


def card_text(page: str) -> str:
    """A page without its pictures, for where they would not be found, and no longer than MLflow takes."""
    lines = [line for line in page.split("\n") if not line.startswith("![")]
    return "\n".join(lines)[:MAX_NOTE_CHARACTERS]


def task_scene(recipe: Recipe) -> Scene:
    """Walls or table where a task's data was collected; nothing where that is not to be had."""
    if recipe.environment is None:
        return Scene()
    try:
        environment = make_environment(recipe.environment)
    except OfflineGCRLError:  # A package that is not installed: the picture does without.
        return Scene()
    scene = environment_scene(environment)
    environment.close()
    return scene


def success_sentence(success: Success) -> str:
    """When a goal counts as reached, to follow those words."""
    if success.kind == "distance":
        what = (
            f"each of its parts ({', '.join(map(str, success.parts))} numbers) is"
            if success.parts
            else "it is"
        )
        return f"when {what} within {success.tolerance:g} of what was achieved"
    if success.kind == "per_dimension":
        limits = ", ".join(f"{limit:g}" for limit in success.tolerances or ())
        return f"when each dimension is as near as its tolerance ({limits})"
    if success.kind == "predicate":
        dimensions = ", ".join(map(str, success.dimensions or ()))
        slack = f", up to {success.tolerance:g}" if success.tolerance else ""
        return f"when what was achieved is {success.predicate} it in dimension {dimensions}{slack}"
    return "at the very step that it was taken from"


def _head(data: IngestedDataset, coverage: Coverage) -> dict[str, Any]:
    """What a card says beside its numbers."""
    dataset, schema = data.dataset, data.schema
    sizes = schema["sizes"]
    return {
        "dataset": dataset.name,
        "title": dataset.title,
        "sizes": {
            "observation": sizes["observation"],
            "goal": sizes.get("achieved_goal", sizes["observation"]),
            "action": sizes["action"],
        },
        "success_test": success_sentence(dataset.success),
        "moving_threshold": moving_threshold(dataset.success),
        "coverage": coverage.kind,
        "origins": [
            _origin(recipe, source) for recipe in dataset.recipes for source in recipe.sources
        ],
        "collected_with": schema["collected_with"],
        "versions": schema["versions"],
    }


def moving_threshold(success: Success) -> str:
    """What counts as movement of the achieved goal, in words; see ``measure.movement_scale``."""
    if success.kind == "per_dimension":
        return f"{MOVING:.0%} of the tolerance of each dimension"
    if success.kind == "distance" and success.tolerance:
        return f"{MOVING:.0%} of the tolerance ({MOVING * success.tolerance:.2g})"
    return f"{MOVING:.0%} of its standard deviation in each dimension"


def _origin(recipe: Recipe, source: Source) -> dict[str, Any]:
    """Where a source is from."""
    collect = source.collect
    made = "published"
    if collect is not None:
        noise = f" with action noise {collect.noise:g}" if collect.noise else ""
        made = f"made here by `{collect.policy}`{noise}, seed {collect.seed}"
    return {
        "source": source.dataset,
        "kind": source.kind,
        "task": recipe.task,
        "made": made,
        "environment": _environment(recipe.environment),
        "judged_in": _environment(recipe.evaluation.environment if recipe.evaluation else None),
        "licence": recipe.licence,
        "citation": recipe.citation,
    }


def _environment(environment: Environment | None) -> str:
    """Id and keyword arguments."""
    if environment is None:
        return "no environment that is to be had"
    kwargs = ", ".join(f"{key}={value}" for key, value in environment.kwargs.items())
    return f"`{environment.id}`" + (f" ({kwargs})" if kwargs else "")
