"""Converts Minari datasets to Parquet in blocks of episodes, so that memory does not grow with the dataset."""

from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import minari

from offline_gcrl.config import Dataset
from offline_gcrl.config.outputs import SCHEMA, STEPS
from offline_gcrl.episodes.blocks import read_blocks
from offline_gcrl.episodes.bounds import action_bounds
from offline_gcrl.episodes.frames import write_frames
from offline_gcrl.episodes.outliers import isolated_values
from offline_gcrl.episodes.reading import vector_sizes
from offline_gcrl.episodes.schema import FORMAT
from offline_gcrl.episodes.sources import check_source, open_source
from offline_gcrl.episodes.writing import Writer
from offline_gcrl.goals.instructions import check_sentences
from offline_gcrl.support.errors import DataError
from offline_gcrl.support.files import write_json

VERSIONED = ("minari", "gymnasium", "gymnasium-robotics", "mujoco")


def ingest(
    dataset: Dataset,
    root: Path,
    output: Path,
    on_steps: Callable[[int], None] = lambda steps: None,
    on_frames: Callable[[int], None] = lambda frames: None,
) -> dict[str, Any]:
    """Write the sources of a dataset as Parquet.

    Args:
        dataset: the recipes with their sources.
        root: the Minari root that contains the sources.
        output: the folder to write into.
        on_steps: called with the number of transitions after each block.
        on_frames: called with the number of transitions of each episode whose images were rendered.

    Returns:
        The content of ``schema.json``.

    Raises:
        DataError: data is broken or does not fit the recipe; the message names dataset and episode.
        SettingsError: sentences of the recipe do not fit its goals.
        RenderingError: the recipe has images, and this machine cannot render them.
    """
    opened = [
        (recipe, source, open_source(source, root))
        for recipe in dataset.recipes
        for source in recipe.sources
    ]
    for recipe, source, data in opened:
        check_source(recipe, source, data, root)
    sizes = common_sizes(
        dataset,
        [(recipe.task, vector_sizes(recipe, source, data)) for recipe, source, data in opened],
    )
    check_sentences(dataset, sizes.get("achieved_goal", sizes["observation"]), dataset.name)
    with Writer(output, sizes) as writer:
        for number, (recipe, source, data) in enumerate(opened):
            for block in read_blocks(recipe, source, data, number, sum(sizes.values())):
                writer.write(block)
                on_steps(int(block.lengths.sum()))
    if dataset.images:
        write_frames(opened, output, on_frames)
    schema = _describe(dataset, [data for _, _, data in opened], sizes, writer)
    schema["isolated_values"] = isolated_values(output / STEPS, writer.spreads)
    write_json(output / SCHEMA, schema)
    return schema


def common_sizes(dataset: Dataset, each: list[tuple[str, dict[str, int]]]) -> dict[str, int]:
    """The common sizes of the vectors of all sources; with padding, the largest sizes.

    Args:
        dataset: the dataset with its setting ``pad``.
        each: the task and the vector sizes of each source.

    Raises:
        DataError: sizes differ, and the suite does not pad.
    """
    first_task, first = each[0]
    for task, sizes in each[1:]:
        for name, size in sizes.items():
            if size != first[name] and not dataset.pad:
                raise DataError(
                    f"dataset '{dataset.name}': {name} has {first[name]} numbers in '{first_task}' and "
                    f"{size} in '{task}'; set 'pad: true' in the suite to pad with zeros"
                )
    return {name: max(sizes[name] for _, sizes in each) for name in first}


def _describe(
    dataset: Dataset,
    opened: list[minari.MinariDataset],
    sizes: dict[str, int],
    writer: Writer,
) -> dict[str, Any]:
    first = dataset.recipes[0]
    return {
        "format": FORMAT,
        "dataset": dataset.name,
        "title": dataset.title,
        "tasks": list(dataset.tasks),
        "instructions": [recipe.instruction for recipe in dataset.recipes],
        "counts": {
            "episodes": len(writer.rows),
            "steps": writer.row,
            "transitions": sum(row["length"] for row in writer.rows),
            "sources": _count_sources(writer.rows),
        },
        "goal": first.goal.model_dump(mode="json"),
        "goals_are_states": first.goal.is_full_state,
        "sizes": sizes,
        "action_space": action_bounds(dataset, opened, writer),
        "statistics": {column: moments.summary() for column, moments in writer.statistics.items()},
        "collected_with": sorted({word for data in opened for word in _requirements(data)}),
        "versions": {package: version(package) for package in VERSIONED},
        **_held_out(dataset),
        **({"images": dataset.images.model_dump(mode="json")} if dataset.images else {}),
    }


def _requirements(data: minari.MinariDataset) -> list[str]:
    """The requirements that a dataset names, for information."""
    stored = data.storage.metadata.get("requirements")
    return [str(word) for word in stored] if isinstance(stored, list) else []


def _held_out(dataset: Dataset) -> dict[str, Any]:
    """The regions of held-out goals by task, if recipes have any."""
    regions = {
        recipe.task: recipe.held_out.model_dump(mode="json")
        for recipe in dataset.recipes
        if recipe.held_out
    }
    return {"held_out": regions} if regions else {}


def _count_sources(rows: list[dict[str, Any]]) -> dict[str, Any]:
    counts: dict[str, Any] = {}
    for row in rows:
        count = counts.setdefault(
            row["source"],
            {"kind": row["kind"], "task": row["task"], "episodes": 0, "transitions": 0}
            | {"successful_episodes": None if row["success"] is None else 0},
        )
        count["episodes"] += 1
        count["transitions"] += row["length"]
        if row["success"] is not None:
            count["successful_episodes"] += row["success"]
    return counts
