"""Ingested episodes have the content of the Minari data, stored once; broken data is refused by name."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import minari
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import SmallDataset, as_dataset
from gymnasium import spaces
from hypothesis import given
from hypothesis import strategies as st

from offline_gcrl.config import Goal, Part, Region
from offline_gcrl.episodes import blocks
from offline_gcrl.episodes.blocks import Block
from offline_gcrl.episodes.dataset import open_episodes, open_stored
from offline_gcrl.episodes.ingest import ingest
from offline_gcrl.episodes.moments import Moments
from offline_gcrl.episodes.reading import read_episode, read_episodes
from offline_gcrl.episodes.schema import FORMAT
from offline_gcrl.episodes.writing import Writer
from offline_gcrl.support.errors import DataError, SettingsError
from offline_gcrl.support.files import write_json

SPACE = spaces.Box(-1.0, 1.0, (2,), np.float32)
GOAL = Goal.model_validate_json('{"success": {"kind": "distance", "tolerance": 0.45}}')


def test_every_step_of_minari_is_stored_once_and_in_order(dataset: SmallDataset) -> None:
    episodes = dataset.episodes
    row = 0
    for source in dataset.recipe.sources:
        for episode in minari.MinariDataset(dataset.minari / source.dataset / "data"):
            length = len(episode.actions)
            span = slice(row, row + length + 1)
            for key in ("observation", "achieved_goal", "desired_goal"):
                np.testing.assert_array_equal(
                    getattr(episodes, key)[span], episode.observations[key].astype(np.float32)
                )
            np.testing.assert_array_equal(episodes.action[row : row + length], episode.actions)
            row += length + 1
    assert row == len(episodes.observation)


def test_the_last_row_of_an_episode_has_no_action(dataset: SmallDataset) -> None:
    steps = pl.read_parquet(dataset.parquet / "steps.parquet")
    lengths = dataset.episodes.table.select("episode", "length")
    last = steps.join(lengths, on="episode").select(
        ends=pl.col("step") == pl.col("length"),
        no_action=pl.col("action").arr.eval(pl.element().is_nan()).arr.all(),
        no_reward=pl.col("reward").is_null(),
    )
    assert last["ends"].equals(last["no_action"])
    assert last["ends"].equals(last["no_reward"])


def test_other_libraries_read_what_was_ingested(dataset: SmallDataset) -> None:
    steps = pl.read_parquet(dataset.parquet / "steps.parquet")
    table = pq.read_table(dataset.parquet / "steps.parquet")
    assert table.column_names == steps.columns
    for name in ("observation", "achieved_goal", "desired_goal", "action"):
        stored = np.stack(table[name].to_numpy())
        np.testing.assert_array_equal(stored, steps[name].to_numpy())


def test_transition_rows_are_those_with_a_next_state(dataset: SmallDataset) -> None:
    steps = pl.read_parquet(dataset.parquet / "steps.parquet").with_row_index("row")
    expected = steps.filter(pl.col("reward").is_not_null())["row"].to_list()
    assert dataset.episodes.transition_rows().tolist() == expected
    both = [dataset.episodes.transition_rows(split) for split in ("train", "validation")]
    assert sorted(np.concatenate(both).tolist()) == expected


def test_every_source_has_episodes_in_both_splits(dataset: SmallDataset) -> None:
    counts = dataset.episodes.table.group_by("source", "split").len()
    assert len(counts) == 4


def test_statistics_are_those_of_all_rows(dataset: SmallDataset) -> None:
    episodes = dataset.episodes
    for column in ("observation", "achieved_goal", "desired_goal"):
        values = getattr(episodes, column).astype(np.float64)
        np.testing.assert_allclose(episodes.schema["statistics"][column]["mean"], values.mean(0))
        np.testing.assert_allclose(episodes.schema["statistics"][column]["std"], values.std(0))


@given(st.lists(st.lists(st.floats(-1e3, 1e3, width=32), min_size=1, max_size=9), min_size=1))
def test_moments_do_not_depend_on_batches(batches: list[list[float]]) -> None:
    moments = Moments()
    for batch in batches:
        moments.add(np.array(batch, dtype=np.float32)[:, None])
    values = np.concatenate(batches)
    np.testing.assert_allclose(moments.summary()["mean"], [values.mean()], atol=1e-6)
    np.testing.assert_allclose(moments.summary()["std"], [values.std()], atol=1e-6)


def test_the_same_data_gives_the_same_bytes(dataset: SmallDataset, tmp_path: Path) -> None:
    ingest(dataset.resolved, dataset.minari, tmp_path)
    for name in ("steps.parquet", "episodes.parquet", "schema.json"):
        assert (tmp_path / name).read_bytes() == (dataset.parquet / name).read_bytes()


def test_a_held_out_region_of_another_size_than_the_goals_is_refused(
    dataset: SmallDataset, tmp_path: Path
) -> None:
    recipe = dataset.recipe.model_copy(update={"held_out": Region(low=(0.0,), high=(1.0,))})
    with pytest.raises(SettingsError, match="held_out: a goal has 2 dimensions, and 'low' has 1"):
        ingest(as_dataset(recipe), dataset.minari, tmp_path)


def test_the_schema_names_versions_counts_and_spaces(dataset: SmallDataset) -> None:
    schema = json.loads((dataset.parquet / "schema.json").read_text())
    assert schema["versions"]["mujoco"] == "3.3.0"
    assert schema["counts"]["transitions"] == 9 * 60
    assert schema["action_space"]["high"] == [1.0, 1.0]


def raw_episode(length: int = 5, **changed: Any) -> dict[str, Any]:
    random = np.random.default_rng(0)
    observations = {
        "observation": random.normal(size=(length + 1, 4)),
        "achieved_goal": random.normal(size=(length + 1, 2)),
        "desired_goal": random.normal(size=(length + 1, 2)),
    }
    raw = {
        "observations": observations,
        "actions": random.uniform(-1, 1, (length, 2)).astype(np.float32),
        "rewards": np.zeros(length),
        "terminations": np.zeros(length, dtype=bool),
        "truncations": np.zeros(length, dtype=bool),
        "infos": None,
    }
    for key, value in changed.items():
        (observations if key in observations else raw)[key] = value
    return raw


def test_a_valid_episode_is_read() -> None:
    episode = read_episode(raw_episode(), GOAL, SPACE, "here")
    assert len(episode) == 5
    assert episode.vectors["observation"].shape == (6, 4)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"achieved_goal": np.zeros((5, 2))}, "'achieved_goal' has 5 rows, expected 6"),
        ({"observation": np.full((6, 4), np.nan)}, "'observation' is not finite at step 0"),
        ({"rewards": np.zeros(4)}, "'rewards' has 4 rows, expected 5"),
        ({"actions": np.full((5, 2), 1.5)}, "step 0: action .* is outside"),
        ({"actions": np.zeros((0, 2))}, "no transitions"),
        ({"observations": np.zeros((6, 4))}, "no observation key 'achieved_goal'"),
    ],
)
def test_a_broken_episode_is_refused(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=f"dataset 'x', episode 3: {message}"):
        read_episode(raw_episode(**changed), GOAL, SPACE, "dataset 'x', episode 3")


def test_a_goal_key_that_does_not_exist_is_named() -> None:
    goal = GOAL.model_copy(update={"achieved": (Part(key="achieved"),)})
    with pytest.raises(
        DataError, match="no observation key 'achieved'; did you mean 'achieved_goal'"
    ):
        read_episode(raw_episode(), goal, SPACE, "here")


def test_a_missing_dataset_is_named(dataset: SmallDataset, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read as Minari data"):
        ingest(dataset.resolved, tmp_path / "nowhere", tmp_path)


def test_a_folder_without_data_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no ingested dataset; run `dvc repro`"):
        open_episodes(tmp_path)


def test_reading_in_blocks_gives_the_same_as_reading_one_by_one(
    dataset: SmallDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, source in enumerate(dataset.recipe.sources):
        data = minari.MinariDataset(dataset.minari / source.dataset / "data")
        arguments = (dataset.recipe, source, data, number)
        with monkeypatch.context() as patched:
            patched.setattr(blocks, "read_episodes", None)  # Nothing is to be read one by one.
            at_once = list(blocks.read_blocks(*arguments))
        one_by_one = list(read_episodes(*arguments))
        (block,) = at_once
        assert block.facts == [facts for _, facts in one_by_one]
        assert block.success == [episode.success for episode, _ in one_by_one]
        assert block.terminated == [episode.terminated for episode, _ in one_by_one]
        for index, (episode, _) in enumerate(one_by_one):
            part, length = block.part(index, index + 1), len(episode)
            np.testing.assert_array_equal(part.reward[:length], episode.reward)
            for name, array in episode.vectors.items():
                np.testing.assert_array_equal(part.vectors[name][: len(array)], array)


@pytest.mark.parametrize("rows", [1, 130, 2**16])
def test_blocks_and_row_groups_of_any_size_give_the_same_content(
    dataset: SmallDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: int
) -> None:
    monkeypatch.setattr(blocks, "ROWS_PER_BLOCK", rows)
    ingest(dataset.resolved, dataset.minari, tmp_path)
    for name in ("steps.parquet", "episodes.parquet", "schema.json"):
        assert (tmp_path / name).read_bytes() == (dataset.parquet / name).read_bytes()
    monkeypatch.setattr("offline_gcrl.episodes.writing.ROWS_PER_GROUP", 100)
    ingest(dataset.resolved, dataset.minari, tmp_path)
    groups = pq.read_metadata(tmp_path / "steps.parquet").num_row_groups
    assert groups == 5  # Whole episodes, of 61 rows.
    assert pl.read_parquet(tmp_path / "steps.parquet").equals(
        pl.read_parquet(dataset.parquet / "steps.parquet")
    )


def test_unexpected_layouts_are_read_one_by_one(
    dataset: SmallDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def raises(*arguments: Any) -> None:
        raise OSError("unusual")

    monkeypatch.setattr(blocks, "raw_arrays", raises)
    ingest(dataset.resolved, dataset.minari, tmp_path)
    for name in ("steps.parquet", "episodes.parquet", "schema.json"):
        assert (tmp_path / name).read_bytes() == (dataset.parquet / name).read_bytes()


def test_wide_rows_are_read_in_smaller_blocks(dataset: SmallDataset) -> None:
    source = dataset.recipe.sources[0]
    data = minari.MinariDataset(dataset.minari / source.dataset / "data")
    arguments = (dataset.recipe, source, data, 0)
    (together,) = blocks.read_blocks(*arguments)
    apart = list(blocks.read_blocks(*arguments, width=blocks.NUMBERS_PER_BLOCK // 130))
    assert len(apart) > 1
    lengths = np.concatenate([block.lengths for block in apart])
    np.testing.assert_array_equal(lengths, together.lengths)


@pytest.mark.parametrize("opens", [open_episodes, open_stored])
def test_a_folder_without_all_of_its_parts_is_refused(
    dataset: SmallDataset, tmp_path: Path, opens: Callable[[Path], Any]
) -> None:
    folder = shutil.copytree(dataset.parquet, tmp_path / "copied")
    (folder / "digests.json").unlink(missing_ok=True)
    steps = pl.read_parquet(folder / "steps.parquet")
    (folder / "steps.parquet").unlink()
    (folder / "steps.parquet").mkdir()
    steps[:100].write_parquet(folder / "steps.parquet/part-00000.parquet")
    with pytest.raises(DataError, match="copied: has 100 of 549 steps, so that files are missing"):
        opens(folder)


def test_opening_a_wide_dataset_needs_little_more_than_its_arrays(tmp_path: Path) -> None:
    sizes, rows = {"observation": 300, "action": 2}, 20_001
    random = np.random.default_rng(0)
    vectors = {name: random.random((rows, size), np.float32) for name, size in sizes.items()}
    facts = {"task": "t", "source": "s", "kind": "exploration", "seed": 1, "split": "train"}
    with Writer(tmp_path, sizes) as writer:
        writer.write(
            Block(
                vectors, np.zeros(rows, np.float32), np.array([rows - 1]), [False], [None], [facts]
            )
        )
    counts = {"episodes": 1, "steps": rows}
    schema = {"format": FORMAT, "sizes": sizes, "goals_are_states": True, "counts": counts}
    write_json(tmp_path / "schema.json", schema)
    before, pool = pa.default_memory_pool(), pa.proxy_memory_pool(pa.default_memory_pool())
    pa.set_memory_pool(pool)
    try:
        opened = open_episodes(tmp_path)
    finally:
        pa.set_memory_pool(before)
    np.testing.assert_array_equal(opened.observation, vectors["observation"])
    assert pool.max_memory() < 0.4 * opened.observation.nbytes
