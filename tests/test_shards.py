"""A dataset in shards has the content of the same dataset in one file, wherever it was cut and however often it was killed."""

import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import minari
import numpy as np
import polars as pl
import pytest
import torch
from conftest import SmallDataset
from hypothesis import given
from hypothesis import strategies as st

from offline_gcrl.agents import settings_type
from offline_gcrl.config.outputs import EPISODES, SCHEMA, STEPS, TABLE
from offline_gcrl.episodes import shards
from offline_gcrl.episodes.dataset import open_episodes, open_stored
from offline_gcrl.episodes.hdf5 import episode_lengths
from offline_gcrl.episodes.ingest import ingest
from offline_gcrl.episodes.outliers import SAMPLE, Spread
from offline_gcrl.episodes.shards import Ingestion, cut
from offline_gcrl.hindsight.relabel import Relabelling, relabel
from offline_gcrl.hindsight.statistics import describe
from offline_gcrl.support.digests import seal
from offline_gcrl.support.errors import DataError
from offline_gcrl.support.tables import part_name
from offline_gcrl.support.unfinished import Unfinished
from offline_gcrl.training.batches.data import DeviceData
from offline_gcrl.training.batches.sampler import BatchSampler

SIZES = [1, 130, 200]
"""Transitions per shard: episodes have 60."""


def ingested(dataset: SmallDataset, folder: Path, most: int, workers: int = 1) -> Path:
    output = folder / "parquet"
    output.mkdir(parents=True, exist_ok=True)
    unfinished = Unfinished(folder / "unfinished", workers)
    ingest(
        dataset.resolved,
        dataset.minari,
        output,
        transitions_per_shard=most,
        unfinished=unfinished,
    )
    return output


@pytest.mark.parametrize("most", SIZES)
def test_shards_have_the_rows_and_the_statistics_of_one_file(
    dataset: SmallDataset, tmp_path: Path, most: int
) -> None:
    folder = ingested(dataset, tmp_path, most)
    assert (folder / EPISODES).read_bytes() == (dataset.parquet / EPISODES).read_bytes()
    whole = pl.read_parquet(dataset.parquet / STEPS)
    assert pl.scan_parquet(folder / STEPS).collect().equals(whole)
    schema, expected = (json.loads((f / SCHEMA).read_text()) for f in (folder, dataset.parquet))
    manifest = schema.pop("shards")
    assert schema == expected
    assert len(manifest) == len(list((folder / STEPS).iterdir())) > 2
    table = dataset.episodes.table
    for shard in manifest:
        part = pl.read_parquet(folder / shard["file"])
        assert part.equals(whole[shard["first_row"] : shard["first_row"] + shard["rows"]])
        assert table["first_row"][shard["first_episode"]] == shard["first_row"]
        assert shard["transitions"] <= max(most, 60)


def test_opened_shards_are_the_arrays_of_one_file(dataset: SmallDataset, tmp_path: Path) -> None:
    opened = open_episodes(ingested(dataset, tmp_path, 200))
    stored = open_stored(tmp_path / "parquet")
    for name in ("observation", "achieved_goal", "desired_goal", "action"):
        expected = getattr(dataset.episodes, name)
        np.testing.assert_array_equal(getattr(opened, name), expected)
        parts = [part for (part,) in stored.parts(name)]
        np.testing.assert_array_equal(np.concatenate(parts), expected)


def test_a_dataset_up_to_the_size_of_a_shard_has_the_bytes_of_one_file(
    dataset: SmallDataset, tmp_path: Path
) -> None:
    folder = ingested(dataset, tmp_path, 9 * 60)
    for name in (STEPS, EPISODES, SCHEMA):
        assert (folder / name).read_bytes() == (dataset.parquet / name).read_bytes()
    assert not (tmp_path / "unfinished").exists()


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture
def killed_after(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], list[int]]:
    """Ends the process, so to speak, when a number of shards are written; returns the numbers of shards written since."""

    write = Ingestion.write

    def arrange(count: int) -> list[int]:
        written: list[int] = []

        def counted(self: Ingestion, shard: shards.Shard, *rest: object) -> object:
            if len(written) == count:
                raise KeyboardInterrupt
            written.append(shard.number)
            return write(self, shard, *rest)  # type: ignore[arg-type]

        monkeypatch.setattr(Ingestion, "write", counted)
        return written

    return arrange


def test_a_killed_stage_continues_with_the_missing_shards(
    dataset: SmallDataset, tmp_path: Path, killed_after: Callable[[int], list[int]]
) -> None:
    first = killed_after(3)
    with pytest.raises(KeyboardInterrupt):
        ingested(dataset, tmp_path / "killed", 130)
    assert first == [0, 1, 2]
    rest = killed_after(-1)
    folder = ingested(dataset, tmp_path / "killed", 130)
    assert rest == [3, 4]
    assert contents(folder) == contents(ingested(dataset, tmp_path / "at once", 130))


def test_shards_of_other_settings_are_not_used(
    dataset: SmallDataset, tmp_path: Path, killed_after: Callable[[int], list[int]]
) -> None:
    killed_after(2)
    with pytest.raises(KeyboardInterrupt):
        ingested(dataset, tmp_path, 130)
    (before,) = (tmp_path / "unfinished").iterdir()
    rest = killed_after(-1)
    ingested(dataset, tmp_path, 200)
    assert rest == [0, 1, 2]
    assert not before.exists()


def test_processes_write_the_same_bytes(dataset: SmallDataset, tmp_path: Path) -> None:
    one, two = (ingested(dataset, tmp_path / str(n), 200, workers=n) for n in (1, 2))
    assert contents(one) == contents(two)


@pytest.mark.parametrize("most", SIZES)
def test_hindsight_tables_do_not_depend_on_the_shards(
    dataset: SmallDataset, tmp_path: Path, most: int
) -> None:
    episodes, goal = ingested(dataset, tmp_path, most), dataset.recipe.goal
    hindsight = tmp_path / "hindsight"
    hindsight.mkdir()
    relabel(episodes, hindsight, dataset.relabel, goal, chunk=77)
    expected = pl.read_parquet(dataset.hindsight / TABLE)
    assert pl.scan_parquet(hindsight / TABLE).collect().equals(expected)
    assert [path.name for path in hindsight.iterdir()] == [TABLE]
    names = [
        sorted(path.name for path in (f).iterdir()) for f in (hindsight / TABLE, episodes / STEPS)
    ]
    assert names[0] == names[1]
    statistics = describe(episodes, hindsight, dataset.relabel, goal)
    assert statistics == describe(dataset.parquet, dataset.hindsight, dataset.relabel, goal)


def test_killed_relabelling_continues_with_the_missing_shards(
    dataset: SmallDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    episodes, unfinished = ingested(dataset, tmp_path, 130), Unfinished(tmp_path / "kept")
    written: list[str] = []
    write = Relabelling.write

    def until_third(self: Relabelling, path: Path, *rest: object, **named: object) -> int:
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(path.name)
        return write(self, path, *rest, **named)  # type: ignore[arg-type]

    def run(folder: Path) -> dict[str, bytes]:
        folder.mkdir()
        relabel(episodes, folder, dataset.relabel, dataset.recipe.goal, unfinished=unfinished)
        return contents(folder)

    with monkeypatch.context() as patched:
        patched.setattr(Relabelling, "write", until_third)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "killed")
    heard: list[int] = []
    (tmp_path / "rest").mkdir()
    relabel(
        episodes,
        tmp_path / "rest",
        dataset.relabel,
        dataset.recipe.goal,
        heard.append,
        unfinished=unfinished,
    )
    assert heard == [240, 120, 120, 60]
    unfinished.remove()
    assert contents(tmp_path / "rest") == run(tmp_path / "at once")


def test_batches_do_not_depend_on_the_shards(dataset: SmallDataset, tmp_path: Path) -> None:
    episodes, hindsight = ingested(dataset, tmp_path, 200), tmp_path / "hindsight"
    hindsight.mkdir()
    relabel(
        episodes,
        hindsight,
        dataset.relabel,
        dataset.recipe.goal,
        unfinished=Unfinished(tmp_path / "kept", 2),
    )
    asked = settings_type("gciql").model_validate_json('{"algorithm": "gciql"}').batch_sampling
    one, many = (
        BatchSampler(
            DeviceData(open_stored(folder)), table, asked, split="train", batch_size=64, seed=0
        ).batches(0, 3)
        for folder, table in ((dataset.parquet, dataset.hindsight), (episodes, hindsight))
    )
    assert one.keys() == many.keys()
    for name, values in one.items():
        assert torch.equal(values, many[name])


def test_a_missing_or_a_damaged_shard_is_named(dataset: SmallDataset, tmp_path: Path) -> None:
    folder = ingested(dataset, tmp_path, 200)
    seal(folder)
    open_episodes(folder)
    part = folder / STEPS / part_name(1)
    content = bytearray(part.read_bytes())
    content[len(content) // 2] ^= 1
    part.write_bytes(content)
    with pytest.raises(
        DataError, match=r"steps.parquet/part-00001.parquet: is damaged or was edited"
    ):
        open_episodes(folder)
    part.unlink()
    with pytest.raises(DataError, match=r"steps.parquet/part-00001.parquet: is missing"):
        open_stored(folder)


def test_more_rows_than_32_bits_can_number_are_refused(
    dataset: SmallDataset, tmp_path: Path
) -> None:
    table = dataset.episodes.table.with_columns(length=pl.lit(2**29, dtype=pl.UInt32))
    table.write_parquet(tmp_path / EPISODES)
    (tmp_path / STEPS).symlink_to(dataset.parquet / STEPS)
    with pytest.raises(
        DataError, match="episodes.parquet: has 4,831,838,217 steps, and goals are .* below 2"
    ):
        relabel(tmp_path, tmp_path, dataset.relabel, dataset.recipe.goal)


@given(
    lengths=st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=8), min_size=1, max_size=4),
    most=st.integers(1, 30),
)
def test_cuts_are_at_the_ends_of_episodes(lengths: list[list[int]], most: int) -> None:
    found = cut([np.array(own) for own in lengths], most)
    episodes = [
        (span.source, index)
        for shard in found
        for span in shard.spans
        for index in range(span.first, span.stop)
    ]
    assert episodes == [(n, i) for n, own in enumerate(lengths) for i in range(len(own))]
    row = 0
    for number, shard in enumerate(found):
        own = [lengths[n][i] for n, i in episodes[shard.first_episode :][: shard.episodes]]
        assert (shard.number, shard.first_row, shard.transitions) == (number, row, sum(own))
        assert sum(own) <= most or len(own) == 1
        row += sum(own) + len(own)


@given(
    rows=st.integers(1, 40 * SAMPLE),
    cuts=st.lists(st.integers(1, 40 * SAMPLE), max_size=5),
)
def test_merged_samples_are_those_of_all_rows(rows: int, cuts: list[int]) -> None:
    values = np.arange(rows, dtype=np.float32)[:, None]
    whole, joined = Spread(), Spread()
    whole.add(values)
    places = sorted({0, rows, *(place for place in cuts if place < rows)})
    for first, stop in pairwise(places):
        part = Spread(first=first)
        part.add(values[first:stop])
        joined.merge(Spread.of(part.arrays()))
    assert (joined.low, joined.high, joined.rows, joined.step) == (0, rows - 1, rows, whole.step)
    np.testing.assert_array_equal(np.concatenate(joined.parts), np.concatenate(whole.parts))


def test_lengths_are_known_without_reading_episodes(
    dataset: SmallDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = dataset.recipe.sources[0]
    data = minari.MinariDataset(dataset.minari / source.dataset / "data")
    found = episode_lengths(data, data.total_episodes)
    assert found.tolist() == [60] * data.total_episodes
    monkeypatch.setattr("offline_gcrl.episodes.hdf5.DATA", "nothing.hdf5")
    assert episode_lengths(data, data.total_episodes).tolist() == found.tolist()
