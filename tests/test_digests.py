"""A file that was damaged after it was written is not read as other numbers: its digest or a checksum tells."""

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
from conftest import SmallDataset

from offline_gcrl.config import load_dataset
from offline_gcrl.config.outputs import EPISODES, SCHEMA, STEPS, TABLE
from offline_gcrl.episodes.dataset import Episodes, open_episodes
from offline_gcrl.support.digests import DIGESTS, intact, read_json, seal, sealed_directory
from offline_gcrl.support.errors import DataError
from offline_gcrl.support.files import replaced_directory, write_json
from offline_gcrl.support.tables import write_parquet
from offline_gcrl.training.batches.data import DeviceData
from offline_gcrl.training.batches.tables import Chosen, read_transitions

RANDOM = np.random.default_rng(0)


def flip(path: Path, place: int) -> None:
    """Change one bit of a file."""
    content = bytearray(path.read_bytes())
    content[place // 8] ^= 1 << place % 8
    path.write_bytes(content)


def refusals(path: Path, read: Callable[[], object], tries: int) -> list[str]:
    """What reading says about a file with one changed bit, for several random bits; the file is restored."""
    content, said = path.read_bytes(), []
    for place in RANDOM.choice(8 * len(content), tries, replace=False).tolist():
        flip(path, place)
        try:
            read()
        except DataError as error:
            said.append(str(error))
        path.write_bytes(content)
    return said


@pytest.fixture
def sealed(tmp_path: Path) -> Path:
    with sealed_directory(tmp_path / "output") as folder:
        (folder / "below").mkdir()
        (folder / "below/rates.json").write_text('{"rate": 0.25}')
        write_parquet(
            pl.DataFrame({"rate": [0.25, 0.5], "name": ["a", "b"]}), folder / "rates.parquet"
        )
    return tmp_path / "output"


def test_undamaged_files_are_read(sealed: Path) -> None:
    assert read_json(sealed / "below/rates.json") == {"rate": 0.25}
    assert pl.read_parquet(intact(sealed / "rates.parquet"))["rate"].to_list() == [0.25, 0.5]


@pytest.mark.parametrize("name", ["below/rates.json", "rates.parquet"])
def test_a_changed_bit_is_found_and_the_sentence_names_file_and_remedy(
    name: str, sealed: Path
) -> None:
    said = refusals(sealed / name, lambda: intact(sealed / name), 60)
    assert len(said) == 60
    expected = f"{sealed / name}: is damaged or was edited: .* delete {sealed} and run `dvc repro`"
    for sentence in said:
        assert re.search(expected, sentence)


def test_a_changed_bit_of_the_digests_is_found_or_changes_nothing(sealed: Path) -> None:
    file = sealed / "below/rates.json"
    said = refusals(sealed / DIGESTS, lambda: read_json(file), 200)
    assert 50 < len(said) < 200
    assert all(DIGESTS in sentence for sentence in said)


def test_a_file_that_was_added_later_is_refused(sealed: Path) -> None:
    (sealed / "other.json").write_text("{}")
    with pytest.raises(DataError, match="other.json: is not among the files that were written"):
        read_json(sealed / "other.json")


def test_a_missing_file_is_noticed_by_readers_of_the_others(sealed: Path) -> None:
    """Some files are optional, such as results of probes: without one, the report would be another one."""
    (sealed / "rates.parquet").unlink()
    with pytest.raises(DataError, match="rates.parquet: is missing, although"):
        read_json(sealed / "below/rates.json")


def test_files_without_digests_are_read_but_must_be_json(tmp_path: Path) -> None:
    (tmp_path / "own.json").write_text("[1]")
    assert read_json(tmp_path / "own.json") == [1]
    (tmp_path / "own.json").write_text("[1")
    with pytest.raises(DataError, match="own.json: is not valid JSON"):
        read_json(tmp_path / "own.json")


def test_a_missing_file_is_missing(sealed: Path) -> None:
    with pytest.raises(FileNotFoundError):
        intact(sealed / "no.json")


def test_a_file_is_hashed_once_for_each_of_its_states(
    sealed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed: list[Path] = []
    from offline_gcrl.support import digests

    original = digests.digest
    monkeypatch.setattr(digests, "digest", lambda paths: hashed.extend(paths) or original(paths))
    path = sealed / "rates.parquet"
    intact(path)
    intact(path)
    os.utime(path, (1, 1))
    intact(path)
    assert hashed == [path, path]


def test_parquet_files_have_checksums_of_their_pages(dataset: SmallDataset, sealed: Path) -> None:
    write_parquet(pl.DataFrame({"rate": RANDOM.random(1000)}), sealed / "rates.parquet")
    files = [dataset.parquet / STEPS, dataset.parquet / EPISODES, dataset.hindsight / TABLE, sealed / "rates.parquet"]  # fmt: skip
    for number, file in enumerate(files):
        copy = shutil.copy(file, sealed / f"{number}.parquet")
        column = pq.read_metadata(copy).row_group(0).column(0)
        # The last byte of the first column is data, and no header.
        start = column.dictionary_page_offset or column.data_page_offset
        flip(copy, 8 * (start + column.total_compressed_size - 5))
        with pytest.raises(OSError, match="CRC checksum verification failed"):
            pq.ParquetFile(copy, page_checksum_verification=True).read()


@pytest.fixture
def folders(dataset: SmallDataset, tmp_path: Path) -> tuple[Path, Path]:
    """The ingested dataset and its hindsight table, sealed as the stages do."""
    copies = []
    for folder in (dataset.parquet, dataset.hindsight):
        copy = shutil.copytree(folder, tmp_path / folder.name)
        seal(copy)
        copies.append(copy)
    return copies[0], copies[1]


@pytest.mark.parametrize("name", [STEPS, EPISODES, SCHEMA])
def test_a_dataset_with_a_changed_bit_is_not_opened(name: str, folders: tuple[Path, Path]) -> None:
    assert isinstance(open_episodes(folders[0]), Episodes)
    assert len(refusals(folders[0] / name, lambda: open_episodes(folders[0]), 60)) == 60


def test_a_hindsight_table_with_a_changed_bit_is_not_read(
    dataset: SmallDataset, folders: tuple[Path, Path]
) -> None:
    data = DeviceData(dataset.episodes)
    chosen = Chosen("train", None, {"actor_goal": {"future": 1.0}})

    def read() -> object:
        return read_transitions(folders[1], data, chosen)

    assert read()
    assert len(refusals(folders[1] / TABLE, read, 60)) == 60


def test_a_resolved_dataset_with_a_changed_number_is_not_used(
    dataset: SmallDataset, tmp_path: Path
) -> None:
    with sealed_directory(tmp_path / "resolved") as folder:
        (folder / "small.json").write_text(dataset.resolved.model_dump_json())
    assert load_dataset("small", tmp_path / "resolved") == dataset.resolved
    path = tmp_path / "resolved/small.json"
    path.write_text(path.read_text().replace("0.45", "0.55"))
    with pytest.raises(DataError, match="small.json: is damaged or was edited"):
        load_dataset("small", tmp_path / "resolved")


def interrupted(output: Path) -> None:
    with replaced_directory(output) as folder:
        write_json(folder / "numbers.json", 3)
        raise KeyboardInterrupt


def test_a_replaced_folder_is_the_old_one_until_the_new_one_is_complete(tmp_path: Path) -> None:
    output = tmp_path / "reports"
    for number in (1, 2):
        with replaced_directory(output) as folder:
            write_json(folder / "numbers.json", number)
            write_json(folder / "page.json", number)
        (output / ".gitignore").write_text("page.json")
        (output / "own.txt").write_text("a note of the user's")
    with pytest.raises(KeyboardInterrupt):
        interrupted(output)
    contents = {path.name: path.read_text() for path in output.iterdir()}
    assert contents == {"numbers.json": "2\n", "page.json": "2\n", ".gitignore": "page.json", "own.txt": "a note of the user's"}  # fmt: skip
    assert [path.name for path in tmp_path.iterdir()] == ["reports"]
