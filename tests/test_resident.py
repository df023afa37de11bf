"""Resident sets: batches of data larger than memory are a function of (seed, step), and fair over periods."""

import json
import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import pytest
import torch
from test_placement import SAMPLING, small_job

from benchmarks import synthetic
from offline_gcrl.config import Relabel, Resident, Tasks, Train
from offline_gcrl.config.outputs import EPISODES, SCHEMA
from offline_gcrl.config.reading import validated
from offline_gcrl.episodes.dataset import open_stored
from offline_gcrl.hindsight.relabel import relabel
from offline_gcrl.support.errors import SettingsError
from offline_gcrl.support.files import write_json
from offline_gcrl.support.memory import GIB
from offline_gcrl.training import placement as placing
from offline_gcrl.training.batches import blocks, resident
from offline_gcrl.training.batches.data import DeviceData
from offline_gcrl.training.batches.draw import Draw
from offline_gcrl.training.batches.resident import ResidentSampler
from offline_gcrl.training.batches.sampler import BatchSampler
from offline_gcrl.training.batches.storage import InMemory, Mapped
from offline_gcrl.training.events import Event
from offline_gcrl.training.jobs import TrainingJob, fingerprint
from offline_gcrl.training.module import train_seed
from offline_gcrl.training.placement import data_bytes, memory_notes, storage_for

GOAL = synthetic.GOAL.model_copy(update={"desired": "desired_goal"})
PERIOD, HALF = 4, 120
CHOSEN = {"split": "train", "batch_size": 64}
WITHOUT_ALL = SAMPLING.model_copy(
    update={"fields": tuple(name for name in SAMPLING.fields if name != "initial_observations")}
)
"""All fields but the one that draws any transition of the data."""


class Walks(NamedTuple):
    """A dataset of 240 episodes of 20 transitions, half of them of each task, and some for validation."""

    parquet: Path
    hindsight: Path


@pytest.fixture(scope="module")
def walks(tmp_path_factory: pytest.TempPathFactory) -> Walks:
    found = Walks(tmp_path_factory.mktemp("parquet"), tmp_path_factory.mktemp("hindsight"))
    synthetic.write_dataset(found.parquet, 2 * HALF, 20)
    number = pl.int_range(pl.len())
    split = pl.when(number % 7 == 3).then(pl.lit("validation")).otherwise(pl.lit("train"))
    task = pl.when(number < HALF).then(pl.lit("first")).otherwise(pl.lit("second"))
    table = pl.read_parquet(found.parquet / EPISODES)
    table = table.with_columns(split.alias("split"), task.alias("task"))
    table.write_parquet(found.parquet / EPISODES)
    schema = json.loads((found.parquet / SCHEMA).read_text())
    write_json(found.parquet / SCHEMA, schema | {"tasks": ["first", "second"]})
    relabel(found.parquet, found.hindsight, Relabel(k=3), GOAL)
    return found


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "TRANSITIONS_PER_BLOCK", 160)
    monkeypatch.setattr(resident, "LEAST_BLOCKS", 2)


def source(
    walks: Walks, folder: Path, seed: int = 0, kib: float = 640, **of_data: Any
) -> ResidentSampler:
    data = DeviceData(open_stored(walks.parquet), storage=Mapped(folder), **of_data)
    settings = Resident(memory_gib=kib * 1024 / GIB, updates=PERIOD)
    return ResidentSampler(
        data, walks.hindsight, WITHOUT_ALL, settings, seed=seed, updates=1000, **CHOSEN
    )


def in_memory(walks: Walks, **of_data: Any) -> BatchSampler:
    data = DeviceData(open_stored(walks.parquet), storage=InMemory(), **of_data)
    return BatchSampler(data, walks.hindsight, WITHOUT_ALL, seed=0, **CHOSEN)


def rows_of_block(sampler: ResidentSampler, number: int) -> set[int]:
    first, stop = sampler.blocks.first[number : number + 2]
    return set(sampler.transitions.rows[first:stop].tolist())


@pytest.mark.parametrize("normalise", [True, False])
@pytest.mark.parametrize(("numbers", "int32_rows"), [(None, 2**31), ([1, 3], 2**31), (None, 100)])
def test_a_transition_gives_the_same_batch_wherever_it_is_read_from(
    walks: Walks,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    normalise: bool,
    numbers: list[int] | None,
    int32_rows: int,
) -> None:
    monkeypatch.setattr("offline_gcrl.training.batches.loading.INT32_ROWS", int32_rows)
    sampler, other = (
        source(walks, tmp_path, normalise=normalise),
        in_memory(walks, normalise=normalise),
    )
    chosen = np.arange(len(sampler.blocks.rows)) if numbers is None else np.array(numbers)
    assert len(sampler.blocks.rows) > 4
    transitions, begin = sampler.reader.read(chosen, sampler.reader.room(len(chosen)))
    sizes = np.diff(sampler.blocks.first)[chosen]
    shift = torch.from_numpy(np.repeat(sampler.blocks.first[chosen] - begin, sizes))
    step, counter = sampler.numbers(0, 30)
    pick = counter % len(shift)
    here = Draw(transitions, SAMPLING, sampler.keys, counter, step, pick)
    there = Draw(other.transitions, SAMPLING, other.keys, counter, step, pick + shift[pick])
    expected = other.read(there)
    for name, values in sampler.read(here).items():
        assert torch.equal(values, expected[name]), name


def test_a_batch_has_only_transitions_of_the_blocks_of_its_period(
    walks: Walks, tmp_path: Path
) -> None:
    sampler = source(walks, tmp_path)
    every = set(range(len(sampler.blocks.rows)))
    seen = set()
    for period in range(40):
        numbers = set(sampler.blocks_of(period).tolist())
        assert numbers < every
        seen |= numbers
        expected = {row for number in numbers for row in rows_of_block(sampler, number)}
        observations = sampler.data.observations[sorted(expected)]
        found = sampler.batches(period * PERIOD, PERIOD)["observations"].flatten(0, 1).unique(dim=0)
        assert len(torch.cat([observations, found]).unique(dim=0)) == len(
            observations.unique(dim=0)
        )
    assert seen == every


def test_a_resident_batch_is_a_function_of_seed_and_step(walks: Walks, tmp_path: Path) -> None:
    together = source(walks, tmp_path).batches(3, 10)
    for number in (9, 0, 4):  # In periods 3, 0 and 1.
        alone = source(walks, tmp_path).batches(3 + number, 1)
        assert all(torch.equal(values[number], alone[name][0]) for name, values in together.items())
    other = source(walks, tmp_path).of_seed(1)
    assert not torch.equal(other.batches(3, 10)["observations"], together["observations"])
    expected = source(walks, tmp_path, seed=1).batches(3, 10)
    assert torch.equal(other.batches(3, 10)["observations"], expected["observations"])


def test_over_periods_every_transition_is_as_likely_as_any_other(
    walks: Walks, tmp_path: Path
) -> None:
    sampler, periods = source(walks, tmp_path), 3000
    share = np.zeros(len(sampler))
    for period in range(periods):
        for number in sampler.blocks_of(period):
            first, stop = sampler.blocks.first[number : number + 2]
            share[first:stop] += 1.0 / (stop - first) / sampler.places / periods
    assert share.sum() == pytest.approx(1.0)
    # The expected number of sets with a block is at least this, up to the blocks at the ends of parts.
    sets = periods * sampler.places / len(sampler.blocks.rows)
    assert np.abs(share * len(sampler) - 1.0).max() < 5.0 / sets**0.5
    one = sampler.resident(0)
    pick = one.pick(sampler.keys, torch.arange(200_000), None)
    counts = torch.bincount(pick, minlength=len(one.transitions.rows))
    for begin, size in zip(one.begin.tolist(), one.size.tolist(), strict=True):
        expected = len(pick) / sampler.places / size
        assert (counts[begin : begin + size] - expected).abs().max() < 6 * expected**0.5


def test_sets_stay_within_the_given_memory(walks: Walks, tmp_path: Path) -> None:
    source(walks, tmp_path).batches(0, 1)  # Imports and caches.
    sampler = source(walks, tmp_path)
    tracemalloc.start()
    try:
        for period in range(6):
            sampler.resident(period)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert sampler.reader.bytes_of_blocks.sum() > 1000 * 1024
    assert 320 * 1024 < peak < 640 * 1024


def test_shares_of_tasks_are_those_of_resident_batches(walks: Walks, tmp_path: Path) -> None:
    sampler = source(walks, tmp_path)
    tasks = sampler.batches(0, 60, torch.tensor([0.7, 0.3]))["tasks"]
    assert (tasks == 1).float().mean() == pytest.approx(0.3, abs=0.03)
    observations = sampler.batches(0, PERIOD, torch.tensor([0.0, 1.0]))["observations"]
    rows = [row for number in sampler.blocks_of(0) for row in rows_of_block(sampler, number)]
    own = sampler.data.observations[sorted(row for row in rows if row >= HALF * 21)]
    assert len(torch.cat([own, observations.flatten(0, 1)]).unique(dim=0)) == len(own.unique(dim=0))


def test_probes_are_of_all_of_the_data(walks: Walks, tmp_path: Path) -> None:
    expected = in_memory(walks).batches(3, 2)
    for name, values in source(walks, tmp_path).probes(3, 2).items():
        assert torch.equal(values, expected[name])


def test_memory_for_too_few_blocks_is_refused(walks: Walks, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"train.resident.memory_gib: .* are too few for sets"):
        source(walks, tmp_path, kib=100)


@pytest.fixture
def job(walks: Walks, tmp_path: Path) -> TrainingJob:
    return small_job("walks", walks.parquet, walks.hindsight, tmp_path)


def in_sets(job: TrainingJob, name: str, **settings: Any) -> TrainingJob:
    """The job with sets of a share of its data."""
    sets = Resident(memory_gib=0.6 * data_bytes(job) / GIB, updates=8)
    train = job.train.model_copy(update={"data": "resident", "resident": sets, **settings})
    checkpoints = job.checkpoints.parents[1] / name / "x"
    return replace(job, train=train, checkpoints=checkpoints, output=job.output.parent / name)


def test_a_resumed_run_with_resident_sets_gives_the_bytes_of_an_uninterrupted_one(
    job: TrainingJob,
) -> None:
    class KilledError(Exception):
        pass

    def killer(event: Event) -> None:
        if event.updates >= 33:
            raise KilledError

    tasks = Tasks(sampling="gradient")  # Which are measured after each round.
    one, other = (in_sets(job, name, tasks=tasks) for name in ("one", "other"))
    train_seed(one, lambda event: None)
    with pytest.raises(KilledError):
        train_seed(other, killer)
    train_seed(other, lambda event: None)
    assert (one.output / "policy.pt").read_bytes() == (other.output / "policy.pt").read_bytes()
    assert fingerprint(one, "data") != fingerprint(job, "data")


def test_data_that_fits_into_a_set_is_read_into_memory(job: TrainingJob) -> None:
    train = Train(updates=60, data="resident")
    assert isinstance(storage_for(replace(job, train=train), 1), InMemory)


def test_remarks_say_what_sets_take_and_how_much_of_the_data_they_contain(
    job: TrainingJob,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    many = in_sets(job, "sets")
    assert isinstance(storage_for(many, 1), Mapped)
    (note,) = memory_notes([many])
    assert note.endswith("they are read from files in datasets/arrays")
    few = in_sets(job, "sets", updates=8)
    assert "contain at most 30% of the data" in memory_notes([few])[1]
    monkeypatch.setattr(placing, "free_memory", lambda: 1000)
    assert "set a smaller train.resident.memory_gib" in memory_notes([many])[0]
    mapped = replace(job, train=job.train.model_copy(update={"data": "mapped"}))
    assert memory_notes([mapped])[0].endswith("set train.data: resident")


def test_tasks_in_sequence_are_refused(tmp_path: Path) -> None:
    settings = {"updates": 10, "data": "resident", "sequence": {}}
    with pytest.raises(SettingsError, match="'data: resident' does not apply to tasks in sequence"):
        validated(Train, settings, tmp_path / "params.yaml", ("train",))
