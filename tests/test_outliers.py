"""Isolated values, such as marks for missing values, are named by ingest and on the card; ordinary data is not."""

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import SmallDataset, as_dataset, episode_buffers, space_of, write_minari
from numpy.typing import NDArray
from test_bad_data import NAME, RECIPE, SIZES, ingested

from offline_gcrl.cards.card import write_card
from offline_gcrl.config.outputs import PAGE
from offline_gcrl.episodes.outliers import SAMPLE, Spread, isolated_sentence, isolated_values

ROWS = 20_000
RANDOM = np.random.default_rng(0)


def with_value(values: NDArray[np.float32], value: float, rows: int) -> NDArray[np.float32]:
    """Values of which some, at random rows, are replaced by one value."""
    changed = values.copy()
    changed[RANDOM.choice(len(values), rows, replace=False)] = value
    return changed


def found_in(column: NDArray[np.float32]) -> list[tuple[float, bool]]:
    """Isolated values of a column, and whether they count only if repeated, read in blocks as ingest does."""
    spread = Spread()
    for block in np.array_split(column[:, None], 7):
        spread.add(block)
    return [(value, only_repeated) for _, value, only_repeated in spread.candidates()]


NORMAL = RANDOM.normal(size=ROWS).astype(np.float32)
FLAG = (RANDOM.random(ROWS) < 0.001).astype(np.float32)
SELDOM_MOVING = (1e-6 * NORMAL + FLAG * RANDOM.random(ROWS)).astype(np.float32)


@pytest.mark.parametrize("rows", [1, 30, ROWS // 3])
@pytest.mark.parametrize(
    ("ordinary", "value"),
    [
        (NORMAL, 1e30), (NORMAL, -999.0), (3.3 * NORMAL, -999.0), (100 * NORMAL, 65535.0), (1e-4 * NORMAL, 9999.0),
        (1e5 + NORMAL, -1e9), (np.zeros(ROWS, np.float32), -999.0), (FLAG, 65535.0),
    ],
)  # fmt: skip
def test_a_mark_for_missing_values_is_found(
    ordinary: NDArray[np.float32], value: float, rows: int
) -> None:
    assert found_in(with_value(ordinary, value, rows)) == [(np.float32(value), False)]


def test_marks_at_both_sides_are_found() -> None:
    both = with_value(with_value(NORMAL, 1e30, 9), -999.0, 9)
    assert found_in(both) == [(-999.0, False), (np.float32(1e30), False)]


def test_a_value_that_is_no_usual_mark_must_be_repeated() -> None:
    assert found_in(with_value(NORMAL, 300.0, 9)) == [(300.0, True)]
    assert found_in(SELDOM_MOVING) == [(SELDOM_MOVING.max(), True)]


@pytest.mark.parametrize(
    "column",
    [
        NORMAL, NORMAL**5, RANDOM.standard_cauchy(400).astype(np.float32), FLAG, 1.0 + 0.0 * NORMAL,
        np.repeat([0.0, 1.0, 20.0], 50).astype(np.float32), np.arange(9, dtype=np.float32) ** 3, NORMAL.clip(-0.2, 3.0),
        np.exp(2.0 * NORMAL),
    ],
    ids=["normal", "heavy tails", "Cauchy", "a rare flag", "constant", "a counter",
         "few rows", "at a limit", "log-normal"],
)  # fmt: skip
def test_ordinary_columns_have_no_isolated_values(column: NDArray[np.float32]) -> None:
    assert found_in(column) == []


def test_the_sample_does_not_grow_with_the_data_and_is_spread_over_it() -> None:
    spread = Spread()
    for start in range(0, 10 * SAMPLE, 999):
        spread.add(np.arange(start, min(start + 999, 10 * SAMPLE), dtype=np.float32)[:, None])
    sample = np.concatenate(spread.parts)[:, 0]
    assert SAMPLE <= len(sample) <= 2 * SAMPLE
    assert (np.diff(sample) == spread.step).all()
    assert sample[-1] > 10 * SAMPLE - 2 * spread.step


@pytest.fixture
def marked(tmp_path: Path) -> Path:
    """An ingested dataset whose second observation is -999 in two rows of two episodes."""
    episodes = episode_buffers(SIZES)
    for episode in episodes[1:]:
        episode.observations["observation"][3, 1] = -999.0
    write_minari(NAME, tmp_path / "root", episodes, space_of(SIZES))
    ingested(tmp_path / "root", tmp_path / "parquet", RECIPE)
    return tmp_path / "parquet"


def test_ingest_records_isolated_values_with_their_place(marked: Path) -> None:
    (found,) = json.loads((marked / "schema.json").read_text())["isolated_values"]
    sentence = isolated_sentence(found)
    assert sentence.startswith(
        "'observation': number 1 is -999 in 2 of 18 rows (the first: episode 1, step 3), and from -"
    )
    assert sentence.endswith("replace it or leave these steps out")


def test_the_card_names_isolated_values(marked: Path, tmp_path: Path) -> None:
    write_card(as_dataset(RECIPE), marked, {}, tmp_path / "card")
    page = (tmp_path / "card" / PAGE).read_text()
    assert "## Isolated values\n\n- 'observation': number 1 is -999 in 2 of 18 rows" in page


def test_a_value_that_must_be_repeated_and_is_not_is_no_isolated_value(
    dataset: SmallDataset,
) -> None:
    spread = Spread()
    spread.add(np.append(NORMAL, np.float32(300.0))[:, None])
    assert list(spread.candidates())
    assert isolated_values(dataset.parquet / "steps.parquet", {"observation": spread}) == []


def test_ordinary_episodes_have_no_isolated_values(dataset: SmallDataset) -> None:
    assert dataset.episodes.schema["isolated_values"] == []
