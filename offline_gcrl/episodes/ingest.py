"""Converts Minari datasets to Parquet in blocks of episodes, so that memory does not grow with the dataset."""

from collections.abc import Callable, Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import minari
import polars as pl

from offline_gcrl.config import Dataset, Recipe, Source
from offline_gcrl.config.outputs import DATASET, EPISODES, SCHEMA, STEPS
from offline_gcrl.episodes.bounds import action_bounds
from offline_gcrl.episodes.frames import write_frames
from offline_gcrl.episodes.hdf5 import episode_lengths
from offline_gcrl.episodes.moments import Measured, Moments, merged
from offline_gcrl.episodes.outliers import Spread, isolated_values
from offline_gcrl.episodes.reading import vector_sizes
from offline_gcrl.episodes.recorded import check_recorded
from offline_gcrl.episodes.schema import FORMAT
from offline_gcrl.episodes.shards import MEASURED, Ingestion, Shard, Span, cut, join, write_shards
from offline_gcrl.episodes.sources import check_source, open_source, taken_episodes
from offline_gcrl.goals.held_out import check_size
from offline_gcrl.goals.instructions import check_sentences
from offline_gcrl.support.digests import digest_of
from offline_gcrl.support.errors import DataError
from offline_gcrl.support.files import write_json, write_text
from offline_gcrl.support.unfinished import Unfinished

VERSIONED = ("minari", "gymnasium", "gymnasium-robotics", "mujoco")
CODE = ("config", "environments", "episodes", "goals", "support")
"""Folders of the package that the files of a shard depend on."""
Opened = tuple[Recipe, Source, minari.MinariDataset]


def ingest(
    dataset: Dataset,
    root: Path,
    output: Path,
    on_steps: Callable[[int], None] = lambda steps: None,
    on_frames: Callable[[int], None] = lambda frames: None,
    transitions_per_shard: int | None = None,
    unfinished: Unfinished | None = None,
) -> dict[str, Any]:
    """Write the sources of a dataset as Parquet.

    Args:
        dataset: the recipes with their sources.
        root: the Minari root that contains the sources.
        output: the folder to write into.
        on_steps: called with the number of transitions after each block or shard.
        on_frames: called with the number of transitions of each episode whose images were written.
        transitions_per_shard: a larger dataset is written in shards; if left out, in one.
        unfinished: where finished shards are kept; needed if there can be several.

    Returns:
        The content of ``schema.json``.

    Raises:
        DataError: data is broken or does not fit the recipe; the message names dataset and episode.
        SettingsError: sentences of the recipe do not fit its goals.
        RenderingError: images of the recipe are rendered, and this machine cannot render.
    """
    work, opened = _checked(dataset, root)
    shards = _shards(opened, transitions_per_shard)
    if len(shards) == 1:
        parts: Iterable[Measured] = [work.write(shards[0], output, on_steps)]
    else:
        assert unfinished is not None
        folder = unfinished.parts(_inputs(work, opened, transitions_per_shard), CODE)
        places = list(write_shards(work, shards, folder, unfinished, on_steps))
        join(places, output)
        parts = (Measured.load(place / MEASURED) for place in places)
    if dataset.images:
        write_frames(opened, output, on_frames)
    moments, spreads = merged(parts, work.sizes)
    schema = _describe(work, [data for *_, data in opened], moments, spreads, output)
    if len(shards) > 1:
        schema["shards"] = [shard.description for shard in shards]
    schema["isolated_values"] = isolated_values(output / STEPS, spreads)
    write_json(output / SCHEMA, schema)
    write_text(output / DATASET, dataset.as_json())
    return schema


def _checked(dataset: Dataset, root: Path) -> tuple[Ingestion, list[Opened]]:
    """Open the sources of a dataset, and check them as far as this is possible without reading all episodes."""
    opened = [
        (recipe, source, open_source(source, root))
        for recipe in dataset.recipes
        for source in recipe.sources
    ]
    for recipe, source, data in opened:
        check_source(recipe, source, data, root)
        check_recorded(recipe, source, data)
    own = tuple(vector_sizes(recipe, source, data) for recipe, source, data in opened)
    for (recipe, _, _), of_source in zip(opened, own, strict=True):
        if recipe.held_out is not None:
            size = of_source.get("achieved_goal", of_source["observation"])
            check_size(recipe.held_out, size, f"recipe of the task '{recipe.task}'")
    tasks = [recipe.task for recipe, _, _ in opened]
    sizes = common_sizes(dataset, list(zip(tasks, own, strict=True)))
    check_sentences(dataset, sizes.get("achieved_goal", sizes["observation"]), dataset.name)
    return Ingestion(dataset, root, sizes, own), opened


def _shards(opened: list[Opened], most: int | None) -> list[Shard]:
    """The shards of a dataset; their episodes are counted only if there can be several."""
    counts = [taken_episodes(source, data) for _, source, data in opened]
    if most is None or sum(int(data.total_steps) for *_, data in opened) <= most:
        return [Shard(tuple(Span(number, 0, count) for number, count in enumerate(counts)))]
    lengths = [
        episode_lengths(data, count) for (*_, data), count in zip(opened, counts, strict=True)
    ]
    return cut(lengths, most)


def _inputs(work: Ingestion, opened: list[Opened], most: int | None) -> list[object]:
    """Everything that the files of shards depend on besides the code."""
    folders = [Path(data.storage.data_path) for *_, data in opened]
    files = [path for folder in folders for path in sorted(folder.rglob("*")) if path.is_file()]
    versions = [version(package) for package in ("h5py", "minari", "numpy", "pyarrow")]
    return [work.dataset.model_dump_json(), most, *map(digest_of, files), *versions]


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
    work: Ingestion,
    opened: list[minari.MinariDataset],
    moments: dict[str, Moments],
    spreads: dict[str, Spread],
    output: Path,
) -> dict[str, Any]:
    dataset = work.dataset
    first = dataset.recipes[0]
    episodes = pl.read_parquet(output / EPISODES).with_columns(pl.col("length").cast(pl.Int64))
    transitions = int(episodes["length"].sum())
    return {
        "format": FORMAT,
        "dataset": dataset.name,
        "title": dataset.title,
        "tasks": list(dataset.tasks),
        "instructions": [recipe.instruction for recipe in dataset.recipes],
        "counts": {
            "episodes": len(episodes),
            "steps": transitions + len(episodes),
            "transitions": transitions,
            "sources": _count_sources(episodes),
        },
        "goal": first.goal.model_dump(mode="json"),
        "goals_are_states": first.goal.is_full_state,
        "sizes": work.sizes,
        "action_space": action_bounds(dataset, opened, spreads["action"]),
        "statistics": {column: moment.summary() for column, moment in moments.items()},
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


def _count_sources(episodes: pl.DataFrame) -> dict[str, Any]:
    """Episodes and transitions of each source, in the order of the data."""
    counts = episodes.group_by("source", maintain_order=True).agg(
        pl.col("kind", "task").first(),
        episodes=pl.len().cast(pl.Int64),
        transitions=pl.col("length").sum(),
        successful_episodes=pl.when(pl.col("success").first().is_not_null()).then(
            pl.col("success").cast(pl.Int64).sum()
        ),
    )
    return {row.pop("source"): row for row in counts.to_dicts()}
