"""Writes the card of an ingested dataset: ``card.json``, ``card.md`` and its figures."""

from pathlib import Path
from typing import Any

from offline_gcrl.cards.coverage import Coverage
from offline_gcrl.cards.drawing import card_figures
from offline_gcrl.cards.measure import MOVING, IngestedDataset, measure, summarise
from offline_gcrl.cards.page import captions, card_page, facts
from offline_gcrl.cards.replay import Replay
from offline_gcrl.cards.sentences import measure_sentences
from offline_gcrl.config import Dataset, Environment, Recipe, Source, Success
from offline_gcrl.config.outputs import CARD, PAGE
from offline_gcrl.environments.making import make_environment
from offline_gcrl.episodes.outliers import isolated_sentence
from offline_gcrl.figures.scenes import Scene, environment_scene
from offline_gcrl.figures.style import save, save_for_paper
from offline_gcrl.support.errors import OfflineGCRLError
from offline_gcrl.support.files import write_json, write_text

MAX_NOTE_CHARACTERS = 7000
"""Maximal length of a page in the description of an MLflow run."""


def write_card(
    dataset: Dataset, folder: Path, replays: dict[str, Replay], output: Path
) -> dict[str, Any]:
    """Write the card of an ingested dataset.

    Args:
        dataset: the resolved dataset.
        folder: the folder of the ingested dataset.
        replays: results of the replay check by source.
        output: the folder to write into.

    Returns:
        The content of ``card.json``.
    """
    data = IngestedDataset(folder, dataset)
    measures = measure(data)
    scenes = [task_scene(recipe) for recipe in dataset.recipes]
    figures = card_figures(data, measures, scenes)
    for name, figure in figures.items():
        save_for_paper(figure, output / f"{name}.pdf")
        save(figure, output / f"{name}.svg")
    numbers = summarise(data, measures)
    head = _head(data, measures.coverage)
    texts = captions(head["coverage"], head["sizes"])
    replayed = {source: replay.as_dict() for source, replay in replays.items()}
    spoken = measure_sentences(data)
    card = {
        **head,
        "facts": facts(numbers["all"], replayed.values()),
        **numbers,
        **({"language": spoken} if spoken else {}),
        "figures": {name: texts[name] for name in figures},
        "replay": replayed,
    }
    write_json(output / CARD, card)
    write_text(output / PAGE, card_page(card))
    return card


def card_metrics(card: dict[str, Any]) -> dict[str, float]:
    """The card's numbers over all sources, as flat metrics for comparing datasets."""
    values = card["all"]
    flat = {key: value for key, value in values.items() if isinstance(value, int | float)}
    flat |= {f"{key}_mean": values[key]["mean"] for key in ("length", "return")}
    if values["success"] is not None:
        flat |= {f"success_{key}": value for key, value in values["success"].items()}
    return flat


def card_params(card: dict[str, Any]) -> dict[str, str]:
    """The card's facts that are not numbers, as MLflow params."""
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
    """The card's page without pictures, cut to the length that MLflow accepts."""
    lines = [line for line in page.split("\n") if not line.startswith("![")]
    return "\n".join(lines)[:MAX_NOTE_CHARACTERS]


def task_scene(recipe: Recipe) -> Scene:
    """Walls or table of the environment in which a task's data was collected; empty if it is not available."""
    if recipe.environment is None:
        return Scene()
    try:
        environment = make_environment(recipe.environment)
    except (
        OfflineGCRLError
    ):  # Its package may not be installed. The figure is then drawn without a scene.
        return Scene()
    scene = environment_scene(environment)
    environment.close()
    return scene


def success_sentence(success: Success) -> str:
    """The success test as text, to follow the words "a goal counts as reached"."""
    if success.kind == "distance":
        distance = (
            f"for each of its parts ({', '.join(map(str, success.parts))} numbers), the distance"
            if success.parts
            else "the distance"
        )
        return f"if {distance} to the achieved goal is at most {success.tolerance:g}"
    if success.kind == "per_dimension":
        limits = ", ".join(f"{limit:g}" for limit in success.tolerances or ())
        return (
            f"if each dimension differs from the achieved goal by at most its tolerance ({limits})"
        )
    if success.kind == "predicate":
        dimensions = ", ".join(map(str, success.dimensions or ()))
        slack = f", with a tolerance of {success.tolerance:g}" if success.tolerance else ""
        return f"if the achieved goal is {success.predicate} it in dimension {dimensions}{slack}"
    return "only at the step that it was taken from"


def _head(data: IngestedDataset, coverage: Coverage) -> dict[str, Any]:
    """The content of a card other than numbers."""
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
        "isolated_values": [isolated_sentence(found) for found in schema["isolated_values"]],
        "collected_with": schema["collected_with"],
        "versions": schema["versions"],
    }


def moving_threshold(success: Success) -> str:
    """The smallest movement of the achieved goal that counts, as text; see ``measure.movement_scale``."""
    if success.kind == "per_dimension":
        return f"{MOVING:.0%} of the tolerance of each dimension"
    if success.kind == "distance" and success.tolerance:
        return f"{MOVING:.0%} of the tolerance ({MOVING * success.tolerance:.2g})"
    return f"{MOVING:.0%} of its standard deviation in each dimension"


def _origin(recipe: Recipe, source: Source) -> dict[str, Any]:
    """The origin of a source: how it was made, its environments, licence and citation."""
    collect = source.collect
    made = "published"
    if collect is not None:
        noise = f" with action noise {collect.noise:g}" if collect.noise else ""
        made = f"collected here by `{collect.policy}`{noise}, seed {collect.seed}"
    return {
        "source": source.dataset,
        "kind": source.kind,
        "task": recipe.task,
        "made": made,
        "environment": _environment(recipe.environment),
        "evaluated_in": _environment(recipe.evaluation.environment if recipe.evaluation else None),
        "licence": recipe.licence,
        "citation": recipe.citation,
    }


def _environment(environment: Environment | None) -> str:
    """The id and keyword arguments of an environment as text."""
    if environment is None:
        return "an environment that is not available"
    kwargs = ", ".join(f"{key}={value}" for key, value in environment.kwargs.items())
    return f"`{environment.id}`" + (f" ({kwargs})" if kwargs else "")
