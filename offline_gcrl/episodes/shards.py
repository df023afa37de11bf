"""Shards of a dataset: consecutive complete episodes, which are read, checked and written independently of each other.

How a dataset is cut depends on its data and on the size of a shard, and not on processes. Each shard knows the numbers of
its first episode and row in the dataset, so its files have the content that one file would have in these rows.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path

import minari
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from offline_gcrl.config import Dataset, Recipe, Source
from offline_gcrl.config.outputs import EPISODES, STEPS
from offline_gcrl.episodes.blocks import read_blocks
from offline_gcrl.episodes.moments import Measured
from offline_gcrl.episodes.writing import Writer
from offline_gcrl.support.errors import DataError
from offline_gcrl.support.files import atomic_directory
from offline_gcrl.support.tables import part_name
from offline_gcrl.support.unfinished import Unfinished, link

MEASURED = "measured.npz"


@dataclass(frozen=True)
class Span:
    """Consecutive episodes of one source."""

    source: int
    """Number of the source among those of all recipes."""
    first: int
    stop: int


@dataclass(frozen=True)
class Shard:
    """Consecutive episodes of a dataset."""

    spans: tuple[Span, ...]
    number: int = 0
    first_episode: int = 0
    first_row: int = 0
    transitions: int | None = None
    """None for the only shard of a dataset, whose episodes are not counted in advance."""

    @property
    def episodes(self) -> int:
        """Number of episodes."""
        return sum(span.stop - span.first for span in self.spans)

    @property
    def description(self) -> dict[str, int | str]:
        """The shard in the manifest."""
        assert self.transitions is not None
        return {
            "file": f"{STEPS}/{part_name(self.number)}",
            "first_row": self.first_row,
            "rows": self.transitions + self.episodes,
            "first_episode": self.first_episode,
            "episodes": self.episodes,
            "transitions": self.transitions,
        }


@dataclass(frozen=True)
class Ingestion:
    """What all shards of a dataset have in common."""

    dataset: Dataset
    root: Path
    """The Minari root."""
    sizes: dict[str, int]
    """Size of each vector; smaller vectors are padded."""
    own_sizes: tuple[dict[str, int], ...]
    """Sizes of the vectors of each source."""

    @property
    def sources(self) -> list[tuple[Recipe, Source]]:
        """All sources with their recipes, in order."""
        return [(recipe, source) for recipe in self.dataset.recipes for source in recipe.sources]

    def write(
        self, shard: Shard, output: Path, on_steps: Callable[[int], None] = lambda steps: None
    ) -> Measured:
        """Read and check the episodes of a shard, and write ``steps.parquet`` and ``episodes.parquet``.

        Raises:
            DataError: an episode is broken, or has another length than was counted.
        """
        width = sum(self.sizes.values())
        with Writer(output, self.sizes, shard.first_episode, shard.first_row) as writer:
            for span in shard.spans:
                recipe, source = self.sources[span.source]
                data = minari.MinariDataset(self.root / source.dataset / "data")
                chosen, own = range(span.first, span.stop), self.own_sizes[span.source]
                for block in read_blocks(recipe, source, data, span.source, width, chosen, own):
                    writer.write(block)
                    on_steps(int(block.lengths.sum()))
        measured = writer.measured
        if shard.transitions not in (None, int(measured.lengths.sum())):
            raise DataError(
                f"dataset '{self.dataset.name}': episodes have other lengths than their metadata says; "
                "set ingest.transitions_per_shard above the number of transitions, or write the data again"
            )
        return measured


def cut(lengths: Sequence[NDArray[np.int64]], most: int) -> list[Shard]:
    """Cut a dataset into shards.

    Args:
        lengths: numbers of transitions of the episodes of each source.
        most: largest number of transitions of a shard with several episodes.
    """
    end = np.concatenate(lengths).cumsum()
    places = np.cumsum([0, *map(len, lengths)]).tolist()
    shards: list[Shard] = []
    first = before = 0
    while first < len(end):
        stop = max(first + 1, int(np.searchsorted(end, before + most, side="right")))
        spans = tuple(
            Span(source, max(first, begin) - begin, min(stop, last) - begin)
            for source, (begin, last) in enumerate(pairwise(places))
            if max(first, begin) < min(stop, last)
        )
        after = int(end[stop - 1])
        shards.append(Shard(spans, len(shards), first, before + first, after - before))
        first, before = stop, after
    return shards


def write_shards(
    work: Ingestion,
    shards: Sequence[Shard],
    folder: Path,
    unfinished: Unfinished,
    on_steps: Callable[[int], None],
) -> Iterator[Path]:
    """Write the missing shards to folders of their own; yields the folders of all shards in order."""
    missing = [shard for shard in shards if not _place(folder, shard).exists()]
    on_steps(sum(shard.transitions or 0 for shard in shards if shard not in missing))
    for transitions in unfinished.map(partial(_write, work, folder), missing):
        on_steps(transitions)
    yield from (_place(folder, shard) for shard in shards)


def _write(work: Ingestion, folder: Path, shard: Shard) -> int:
    with atomic_directory(_place(folder, shard)) as place:
        measured = work.write(shard, place)
        measured.save(place / MEASURED)
    return int(measured.lengths.sum())


def _place(folder: Path, shard: Shard) -> Path:
    return folder / f"{shard.number:05}"


def join(places: Sequence[Path], output: Path) -> None:
    """Make one dataset of the files of shards."""
    tables = [pq.read_table(place / EPISODES) for place in places]
    episodes = pa.concat_tables(tables).combine_chunks()
    pq.write_table(episodes, output / EPISODES, write_page_checksum=True)
    (output / STEPS).mkdir()
    for number, place in enumerate(places):
        link(place / STEPS, output / STEPS / part_name(number))
