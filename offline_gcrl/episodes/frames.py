"""Images of the states of a dataset, ``frames.parquet``: one row per step, in the order of ``steps.parquet``.

A row has the bytes of one image. Consecutive images are alike, and zstd compresses a row group of them together: without
loss, and to a fraction of what a PNG file per image takes.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import minari
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from offline_gcrl.config import Recipe, Source
from offline_gcrl.config.outputs import FRAMES
from offline_gcrl.environments.frames import shared_renderer
from offline_gcrl.environments.twins import POSITIONS
from offline_gcrl.episodes.reading import stored_episodes
from offline_gcrl.episodes.recorded import recorded_frames
from offline_gcrl.episodes.schema import frames_schema
from offline_gcrl.episodes.sources import taken_episodes
from offline_gcrl.episodes.stored_frames import FRAMES_PER_GROUP
from offline_gcrl.support.errors import DataError
from offline_gcrl.support.processes import cores, ordered_map

EPISODES_PER_WORKER = 2
"""Episodes that wait in memory for each process."""
WORDS = {POSITIONS: "positions of the simulator"}
Opened = tuple[Recipe, Source, minari.MinariDataset]


@dataclass(frozen=True)
class FramesJob:
    """The images of one episode to render."""

    environment: str
    """Settings of the environment, as JSON."""
    images: str
    """Settings of the images, as JSON."""
    states: NDArray[np.float64]
    """(T + 1, state): positions of the simulator, and the infos of ``images.state``."""


def write_frames(
    opened: Iterable[Opened],
    output: Path,
    on_steps: Callable[[int], None] = lambda steps: None,
) -> None:
    """Render the states of all sources, or read their recorded images, and write the images to ``frames.parquet``.

    Args:
        opened: each source with its recipe, which has images, and its data.
        output: the folder to write into.
        on_steps: called with the number of transitions of each episode.

    Raises:
        DataError: an episode has no positions of the simulator, or those of another model, or no recorded images.
        RenderingError: this machine cannot render.
    """
    opened = list(opened)
    images = opened[0][0].images
    assert images is not None
    schema = frames_schema(math.prod(images.shape))
    with pq.ParquetWriter(
        output / FRAMES,
        schema,
        compression="zstd",
        use_dictionary=False,
        write_statistics=False,
        write_page_checksum=True,
    ) as file:
        for frames in _frames(opened):
            column = pa.FixedSizeBinaryArray.from_buffers(
                schema.field(0).type, len(frames), [None, pa.py_buffer(frames)]
            )
            file.write_table(pa.table([column], schema=schema), row_group_size=FRAMES_PER_GROUP)
            on_steps(len(frames) - 1)


def _frames(opened: Iterable[Opened]) -> Iterator[NDArray[np.uint8]]:
    """The images of each episode of all sources, in order."""
    for are_recorded, several in groupby(opened, lambda each: _is_recorded(each[0])):
        if are_recorded:
            for each in several:
                yield from recorded_frames(*each)
        else:
            jobs, workers = (job for each in several for job in _jobs(*each)), cores()
            yield from ordered_map(render, jobs, workers, EPISODES_PER_WORKER * workers)


def _is_recorded(recipe: Recipe) -> bool:
    return recipe.images is not None and recipe.images.recorded is not None


def render(job: FramesJob) -> NDArray[np.uint8]:
    """The images of one episode, (T + 1, height, width, 3)."""
    renderer = shared_renderer(job.environment, job.images)
    return np.stack([renderer.frame(state) for state in job.states])


def _jobs(recipe: Recipe, source: Source, data: minari.MinariDataset) -> Iterator[FramesJob]:
    assert recipe.environment is not None
    assert recipe.images is not None
    settings = recipe.environment.model_dump_json(), recipe.images.model_dump_json()
    names, taken = (POSITIONS, *recipe.images.state), range(taken_episodes(source, data))
    for index, (raw, _) in enumerate(stored_episodes(source, data, taken)):
        where = f"dataset '{source.dataset}', episode {index}"
        yield FramesJob(*settings, np.concatenate([_info(raw, name, where) for name in names], 1))


def _info(raw: dict[str, Any], name: str, where: str) -> NDArray[np.float64]:
    """An info of all states of an episode, (T + 1, size).

    Raises:
        DataError: there is none, or not one for each state.
    """
    infos = raw["infos"]
    if name not in infos:
        raise DataError(
            f"{where}: has no info '{name}', the {WORDS.get(name, 'part of the state')} that images are rendered from; collect "
            "the data again, or leave 'images' out of the recipe"
        )
    values = np.asarray(infos[name], dtype=np.float64)
    if len(values) != len(raw["actions"]) + 1 or not np.isfinite(values).all():
        raise DataError(f"{where}: '{name}' is not one finite vector for each state")
    return values
