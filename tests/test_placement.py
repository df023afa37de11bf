"""Mapped data gives the same batches and weights as data in memory, and is chosen where memory is short."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import SmallDataset

from offline_gcrl.agents import settings_type
from offline_gcrl.config import Sampling, Train
from offline_gcrl.episodes.dataset import open_stored
from offline_gcrl.support.errors import DataError, OfflineGCRLError
from offline_gcrl.training import placement as placing
from offline_gcrl.training.batches.data import DeviceData
from offline_gcrl.training.batches.fields import FIELDS
from offline_gcrl.training.batches.sampler import BatchSampler
from offline_gcrl.training.batches.storage import InMemory, Mapped, Storage
from offline_gcrl.training.events import Event
from offline_gcrl.training.jobs import TrainingJob, fingerprint
from offline_gcrl.training.module import train_seed
from offline_gcrl.training.placement import data_bytes, memory_notes, placement, storage_for

MIXTURE = {"current": 0.2, "geometric": 0.3, "random": 0.3, "original": 0.2}
SAMPLING = Sampling(
    fields=tuple(FIELDS),
    actor_goals={"future": 1.0},
    value_goals=MIXTURE,
    representation_goals=MIXTURE,
    n_step=3,
)


def sampler(dataset: SmallDataset, storage: Storage, split: str = "train", **of_data: Any) -> BatchSampler:  # fmt: skip
    data = DeviceData(open_stored(dataset.parquet), storage=storage, **of_data)
    return BatchSampler(data, dataset.hindsight, SAMPLING, split=split, batch_size=64, seed=0)


def test_a_device_holds_no_more_rows_than_there_are() -> None:
    """The device ``meta`` has no memory, and the same sizes as a GPU."""
    for device, held in (("meta", 3), ("cpu", 10)):
        parts = ({"x": torch.zeros(2)}, {"x": torch.zeros(1)})
        stored = InMemory(device).tensors("name", 10, lambda parts=parts: iter(parts))["x"]
        assert len(stored) == 3
        assert stored.untyped_storage().nbytes() == 4 * held


@pytest.mark.parametrize("split", ["train", "validation"])
@pytest.mark.parametrize("normalise", [True, False])
def test_batches_of_mapped_data_are_those_of_data_in_memory(
    dataset: SmallDataset, tmp_path: Path, split: str, normalise: bool
) -> None:
    own = {"split": split, "normalise": normalise}
    in_memory = sampler(dataset, InMemory(), **own).batches(3, 5)
    mapped = sampler(dataset, Mapped(tmp_path), **own).batches(3, 5)
    reopened = sampler(dataset, Mapped(tmp_path), **own).batches(3, 5)
    for name, values in in_memory.items():
        assert torch.equal(values, mapped[name]), name
        assert torch.equal(values, reopened[name]), name


def test_parts_of_stored_episodes_are_those_of_the_arrays(
    dataset: SmallDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("offline_gcrl.episodes.dataset.BYTES_PER_READ", 1000)
    columns = ("observation", "achieved_goal", "desired_goal", "action")
    for column in columns:
        parts = [part for (part,) in open_stored(dataset.parquet).parts(column)]
        assert len(parts) > 3
        expected = getattr(dataset.episodes, column)
        assert torch.equal(torch.from_numpy(expected), torch.cat(list(map(torch.from_numpy, parts))))  # fmt: skip


def test_transitions_do_not_depend_on_the_parts_in_which_they_are_read(
    dataset: SmallDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = sampler(dataset, InMemory()).transitions
    monkeypatch.setattr("offline_gcrl.training.batches.tables.TRANSITIONS_PER_PART", 17)
    found = sampler(dataset, InMemory()).transitions
    for name in ("rows", "first_row", "last_row", "task"):
        assert torch.equal(getattr(found, name), getattr(expected, name))
    for purpose, table in expected.tables.items():
        assert torch.equal(found.tables[purpose].goals, table.goals)
        assert torch.equal(found.tables[purpose].rewards, table.rewards)
    episodes = dataset.episodes
    assert found.rows.tolist() == episodes.transition_rows("train").tolist()


def test_rows_of_goals_that_need_more_than_31_bits_give_the_same_batches(
    dataset: SmallDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = sampler(dataset, InMemory()).batches(3, 5)
    monkeypatch.setattr("offline_gcrl.training.batches.tables.INT32_ROWS", 100)
    wide = sampler(dataset, Mapped(tmp_path))
    assert {table.goals.dtype for table in wide.transitions.tables.values()} == {torch.int64}
    for name, values in wide.batches(3, 5).items():
        assert torch.equal(values, expected[name]), name


def test_files_that_were_written_are_not_written_again(
    dataset: SmallDataset, tmp_path: Path
) -> None:
    sampler(dataset, Mapped(tmp_path))
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    assert len(before) > 10
    sampler(dataset, Mapped(tmp_path))
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_half_written_files_are_written_again(dataset: SmallDataset, tmp_path: Path) -> None:
    def killed() -> Any:
        yield {"observations": torch.zeros(3, 2)}
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Mapped(tmp_path).tensors("states-normal", 10, killed)
    whole = Mapped(tmp_path).tensors(
        "states-normal", 10, lambda: [{"observations": torch.ones(3, 2)}]
    )
    assert torch.equal(whole["observations"], torch.ones(3, 2))


def test_a_file_that_was_cut_is_named(tmp_path: Path) -> None:
    def parts() -> list[dict[str, torch.Tensor]]:
        return [{"values": torch.arange(10)}]

    Mapped(tmp_path).tensors("part", 10, parts)
    file = tmp_path / "part/values"
    file.write_bytes(file.read_bytes()[:-8])
    with pytest.raises(DataError, match=r"part/values: does not have 80 bytes; delete the folder"):
        Mapped(tmp_path).tensors("part", 10, parts)


def test_a_disk_that_is_too_small_is_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=50)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(OfflineGCRLError, match="memory-mapped data needs .* of the disk are free"):
        Mapped(tmp_path).tensors("part", 10, lambda: [{"values": torch.arange(10)}])
    assert not (tmp_path / "part").exists()


def small_job(dataset: str, episodes: Path, hindsight: Path, folder: Path) -> TrainingJob:
    """A short training whose files are below a folder."""
    content = {"algorithm": "gciql", "hidden": [16, 16]}
    return TrainingJob(
        dataset=dataset,
        agent="gciql",
        seed=0,
        episodes=episodes,
        hindsight=hindsight,
        train=Train(updates=60, batch_size=32, snapshots=3, updates_per_step=7),
        settings=settings_type("gciql").model_validate_json(json.dumps(content)),
        checkpoints=folder / "checkpoints/memory/x",
        output=folder / "models/memory",
        arrays=folder / "arrays",
    )


@pytest.fixture
def job(dataset: SmallDataset, tmp_path: Path) -> TrainingJob:
    return small_job("small", dataset.parquet, dataset.hindsight, tmp_path)


def mapped(job: TrainingJob, name: str) -> TrainingJob:
    train = job.train.model_copy(update={"data": "mapped"})
    places = {
        "checkpoints": job.checkpoints.parents[1] / name / "x",
        "output": job.output.parent / name,
    }
    return replace(job, train=train, **places)


def test_weights_of_mapped_data_are_the_same_bytes_also_after_a_kill(job: TrainingJob) -> None:
    class KilledError(Exception):
        pass

    def killer(event: Event) -> None:
        if event.updates >= 33:
            raise KilledError

    other = mapped(job, "mapped")
    train_seed(job, lambda event: None)
    with pytest.raises(KilledError):
        train_seed(other, killer)
    train_seed(other, lambda event: None)
    assert (other.output / "policy.pt").read_bytes() == (job.output / "policy.pt").read_bytes()
    assert fingerprint(other, "data") == fingerprint(job, "data")


def test_the_prediction_is_the_memory_of_the_tensors(job: TrainingJob) -> None:
    storage = storage_for(mapped(job, "mapped"), 1)
    assert isinstance(storage, Mapped)
    data = DeviceData(open_stored(job.episodes), storage=storage)
    for split in ("train", "validation"):
        BatchSampler(
            data, job.hindsight, job.settings.batch_sampling, split=split, batch_size=8, seed=0
        )
    files = [path for path in job.arrays.rglob("*") if path.is_file() and path.suffix == ""]
    assert sum(path.stat().st_size for path in files) == data_bytes(job)


def test_data_is_mapped_where_it_takes_more_than_its_share_of_memory(
    job: TrainingJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    needed = data_bytes(job)
    for free, processes, expected in [
        (2.1, 1, False),
        (1.9, 1, True),
        (4.1, 2, False),
        (3.9, 2, True),
    ]:
        monkeypatch.setattr(placing, "free_memory", lambda free=free: int(free * needed))
        assert placement(job, processes).is_mapped == expected
        assert isinstance(storage_for(job, processes), Mapped if expected else InMemory)
        assert ("it is mapped" in "".join(memory_notes([job]))) == (free < 2)


def test_a_remark_says_that_memory_may_run_out(
    job: TrainingJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(placing, "free_memory", lambda: 1000)
    in_memory = replace(job, train=job.train.model_copy(update={"data": "memory"}))
    (note,) = memory_notes([in_memory])
    assert note.endswith("0.0 MiB are free; set train.data: mapped in params.yaml")


def test_arrays_of_other_data_are_deleted(job: TrainingJob) -> None:
    stale = job.arrays / "small" / ("0" * 16)
    stale.mkdir(parents=True)
    storage_for(mapped(job, "mapped"), 1)
    assert not stale.exists()
