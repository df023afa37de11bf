"""Training resumes bit for bit, alone or side by side, and never from something stale."""

import json
import shutil
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
import yaml
from conftest import ROOT, SmallDataset

from offline_gcrl.agents import settings_type, wgcsl
from offline_gcrl.agents.shared.queues import percentile
from offline_gcrl.config import Train, algorithm_names
from offline_gcrl.policies.policy import load_policy
from offline_gcrl.support.errors import OfflineGCRLError
from offline_gcrl.training.events import Event, EventReader, EventWriter
from offline_gcrl.training.jobs import (
    CODE,
    TrainingJob,
    code_files,
    content_digest,
    fingerprint,
    train_seeds,
)
from offline_gcrl.training.module import train_seed
from offline_gcrl.training.stale import discard_stale

Jobs = Callable[..., TrainingJob]


class KilledError(Exception):
    """What ends a training in the middle."""


@pytest.fixture
def make_job(dataset: SmallDataset, tmp_path: Path) -> Jobs:
    def make(name: str, algorithm: str = "gciql", seed: int = 0, **train: Any) -> TrainingJob:
        content = {"algorithm": algorithm, "hidden": [16, 16], "learning_rate": 1e-3}
        settings = {"updates": 60, "batch_size": 32, "snapshots": 3, "updates_per_step": 7, **train}
        return TrainingJob(
            dataset="small",
            agent=algorithm,
            seed=seed,
            episodes=dataset.parquet,
            hindsight=dataset.hindsight,
            train=Train.model_validate(settings),
            settings=settings_type(algorithm).model_validate_json(json.dumps(content)),
            checkpoints=tmp_path / "checkpoints" / name,
            output=tmp_path / "models" / name,
        )

    return make


def listen(event: Event) -> None:
    """Hear nothing."""


def weights(job: TrainingJob) -> bytes:
    return (job.output / "policy.pt").read_bytes()


def run_killed_at(job: TrainingJob, update: int) -> None:
    def killer(event: Event) -> None:
        if event.updates >= update:
            raise KilledError

    with pytest.raises(KilledError):
        train_seed(job, killer)


@pytest.mark.parametrize("algorithm", algorithm_names())
def test_a_killed_run_resumes_to_the_same_bytes(make_job: Jobs, algorithm: str) -> None:
    whole, killed = make_job("whole", algorithm), make_job("killed", algorithm)
    train_seed(whole, listen)
    run_killed_at(killed, 33)
    assert not killed.output.exists()
    heard: list[int] = []
    train_seed(killed, lambda event: heard.append(event.updates))
    assert min(heard) > 20  # It went on from the checkpoint at 20, not from the start.
    for name in ("policy.pt", "training.csv", "snapshots/update-00000020.pt"):
        assert (killed.output / name).read_bytes() == (whole.output / name).read_bytes()


def test_snapshots_after_listed_updates_do_not_change_the_policy(make_job: Jobs) -> None:
    even, listed = make_job("even", "bc"), make_job("listed", "bc", snapshots=(1, 20, 33))
    train_seed(even, listen)
    run_killed_at(listed, 40)  # After the third of four checkpoints.
    train_seed(listed, listen)
    names = {file.name for file in (listed.output / "snapshots").glob("*.pt")}
    assert names == {f"update-{number:08d}.pt" for number in (1, 20, 33, 60)}
    for file in ("policy.pt", "snapshots/update-00000020.pt", "snapshots/update-00000060.pt"):
        policies = (load_policy(job.output / file).actor.state_dict() for job in (even, listed))
        torch.testing.assert_close(*policies, rtol=0, atol=0)


@pytest.mark.parametrize("damage", ["empty", "cut", "flipped bit", "missing snapshot"])
def test_a_damaged_checkpoint_is_discarded_and_training_ends_as_without(
    make_job: Jobs, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    intact, damaged = make_job("intact/x", "bc"), make_job("damaged/x", "bc")
    train_seed(intact, listen)
    run_killed_at(damaged, 47)  # After the second of three checkpoints.
    last = damaged.checkpoints / "last.ckpt"
    content = bytearray(last.read_bytes())
    if damage == "missing snapshot":
        (damaged.checkpoints / "snapshots/update-00000040.pt").unlink()
    elif damage == "flipped bit":
        content[len(content) // 2] ^= 4
    else:
        content = content[: 0 if damage == "empty" else len(content) // 2]
    last.write_bytes(bytes(content))
    heard: list[int] = []
    train_seed(damaged, lambda event: heard.append(event.updates))
    assert "a checkpoint is discarded" in capsys.readouterr().out
    assert 20 < min(heard) <= 40  # From the checkpoint before it.
    for name in ("policy.pt", "training.csv", "snapshots/update-00000040.pt"):
        assert (damaged.output / name).read_bytes() == (intact.output / name).read_bytes()


def test_a_training_that_diverges_ends_with_a_sentence_and_saves_nothing(make_job: Jobs) -> None:
    job = make_job("diverged", "gciql", updates=30, snapshots=1)
    rate = job.settings.model_copy(update={"learning_rate": 1e30})
    job = replace(job, settings=rate)
    with pytest.raises(
        OfflineGCRLError, match=r"seed 0: training diverged.*agents\.gciql\.learning_rate"
    ):
        train_seed(job, listen)
    assert not (job.checkpoints / "last.ckpt").exists()
    assert not job.output.exists()


def test_the_number_of_updates_a_step_does_not_change_the_weights(make_job: Jobs) -> None:
    jobs = [make_job(str(size), updates_per_step=size) for size in (1, 20)]
    for job in jobs:
        train_seed(job, listen)
    states = [load_policy(job.output).actor.state_dict() for job in jobs]
    for name, value in states[0].items():
        assert torch.equal(value, states[1][name])


def test_seeds_side_by_side_equal_seeds_alone_and_differ_from_each_other(make_job: Jobs) -> None:
    together = [make_job(f"seed-{seed}/together", seed=seed) for seed in (0, 1)]
    events: list[Event] = []
    train_seeds(together, events.append)
    alone = make_job("alone", seed=1)
    train_seed(alone, listen)
    assert weights(together[1]) == weights(alone)
    assert weights(together[0]) != weights(together[1])
    assert {event.seed for event in events} == {0, 1}
    heard = {point["update"] for event in events if event.seed == 1 for point in event.points}
    assert sorted(heard) == pl.read_csv(alone.output / "training.csv")["update"].to_list()


def test_a_finished_run_is_exported_again_without_training(make_job: Jobs) -> None:
    job = make_job("done")
    train_seed(job, listen)
    again = replace(job, output=job.output.with_name("again"))
    heard: list[Event] = []
    train_seed(again, heard.append)
    assert [event.updates for event in heard] == [60]  # Nothing but the whole curve, at the end.
    assert [point["update"] for point in heard[0].points][-1] == 60
    assert weights(again) == weights(job)


def test_losses_fall_and_validation_is_logged(make_job: Jobs) -> None:
    job = make_job("bc", "bc", updates=300)
    train_seed(job, listen)
    curve = pl.read_csv(job.output / "training.csv")
    assert curve["actor/loss"][-1] < curve["actor/loss"][0]
    assert curve["validation/actor/loss"].count() == 3


def test_validation_has_the_weights_of_the_last_update(
    make_job: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """WGCSL's percentile rises with the updates."""
    heard: list[float] = []

    def kept(queue: torch.Tensor, percent: torch.Tensor) -> torch.Tensor:
        heard.append(float(percent))
        return percentile(queue, percent)

    monkeypatch.setattr(wgcsl, "percentile", kept)
    train_seed(make_job("wgcsl", "wgcsl", updates=30), listen)
    assert heard[-1] == max(heard)


def name_of(job: TrainingJob) -> str:
    return fingerprint(job, content_digest(job))


def test_a_fingerprint_names_data_settings_seed_and_code(
    make_job: Jobs, dataset: SmallDataset
) -> None:
    job = make_job("job")
    others = [
        replace(job, seed=1),
        replace(job, train=job.train.model_copy(update={"batch_size": 33})),
        replace(job, settings=job.settings.model_copy(update={"learning_rate": 2e-3})),
        make_job("job", "gofar"),
    ]
    names = {name_of(other) for other in others}
    assert len(names) == 4
    assert name_of(job) not in names
    moved = replace(job, output=job.output / "x", checkpoints=job.checkpoints / "x")
    assert name_of(moved) == name_of(job)


def test_stale_checkpoints_are_deleted_and_that_is_said(make_job: Jobs) -> None:
    present, stale = (make_job(f"seed-0/{number:016x}") for number in range(2))
    other = replace(make_job(f"seed-1/{0:016x}"), seed=1)
    train_seed(stale, listen)
    shutil.copytree(stale.checkpoints, other.checkpoints.with_name("e" * 16))
    (empty := present.checkpoints.with_name("f" * 16)).mkdir()
    own = present.checkpoints.with_name("best-policy")
    own.mkdir()
    train_seed(present, listen)
    assert stale.checkpoints.exists()
    assert discard_stale([present, other]) == [
        f"seed 0, seed 1: the checkpoint of {stale.train.updates} updates is deleted, because it was made with other "
        "data, settings, code or fast paths"
    ]
    assert {present.checkpoints, own} == set(own.parent.iterdir())
    assert not empty.exists()
    assert discard_stale([present, other]) == []


def test_the_fingerprint_takes_the_folders_that_dvc_names_for_the_stage() -> None:
    deps = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]["train"]["deps"]
    assert [dep for dep in deps if dep.startswith("offline_gcrl/")] == [
        f"offline_gcrl/{folder}" for folder in CODE
    ]


def test_of_the_agents_only_the_files_that_an_algorithm_imports_count() -> None:
    names = {path.relative_to(ROOT / "offline_gcrl").as_posix() for path in code_files("gciql")}
    assert {f"training/products/{name}" for name in ("float32.cpp", "matrix.h")} <= names
    assert {"agents/__init__.py", "agents/gciql.py", "training/batches/fields.py"} <= names
    assert not {"agents/gofar.py", "agents/bc.py"} & names


def test_a_curve_longer_than_any_pipe_reaches_the_stage_and_the_stage_ends(
    tmp_path: Path,
) -> None:
    """Of several megabytes, as a long training reports at its end."""
    points = tuple({"update": float(n), "actor/loss": n / 7} for n in range(100_000))
    reader, event = EventReader([tmp_path / "events"]), Event(0, 100_000, points)
    with closing(EventWriter(tmp_path / "events")) as write:
        write(event)
    assert (tmp_path / "events").stat().st_size > 4e6
    assert list(reader.read()) == [event]
    reader.close()
    assert not (tmp_path / "events").exists()


def test_half_an_event_of_a_killed_worker_is_waited_for_by_nobody(tmp_path: Path) -> None:
    file = tmp_path / "events"
    reader = EventReader([file])
    with closing(EventWriter(file)) as write:
        write(Event(0, 1))
        write(Event(0, 2))
    file.write_bytes(file.read_bytes()[:-5])
    assert [event.updates for event in reader.read()] == [1]
    reader.close()


def test_events_of_a_repeated_task_follow_those_of_the_process_that_died(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    with closing(EventReader([path])) as reader:
        with closing(EventWriter(path)) as writer:
            writer(Event(0, 10))
        with path.open("ab") as file:
            file.write(b'{"seed": 0, "upd')
        assert [event.updates for event in reader.read()] == [10]
        with closing(EventWriter(path)) as writer:
            writer(Event(0, 5))
        assert [event.updates for event in reader.read()] == [5]


def test_a_long_training_in_a_worker_process_ends(make_job: Jobs) -> None:
    """Its last event, the complete curve, is larger than a pipe's buffer of 64 kB."""
    job = make_job("seed-0/long", "bc", updates=3000, updates_per_step=1)
    heard: list[Event] = []
    train_seeds([job], heard.append)
    assert len(heard[-1].points) == 3000
    assert len(repr(heard[-1])) > 2**18


def test_a_gpu_that_is_not_there_is_named(make_job: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(Exception, match=r"train\.accelerator in params\.yaml asks for a GPU"):
        train_seed(make_job("gpu", accelerator="gpu"), listen)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_gpu_and_cpu_agree(make_job: Jobs) -> None:
    jobs = [make_job(kind, updates=30, accelerator=kind) for kind in ("cpu", "gpu")]
    for job in jobs:
        train_seed(job, listen)
    states = [load_policy(job.output).actor.state_dict() for job in jobs]
    torch.testing.assert_close(states[0], states[1], rtol=1e-2, atol=1e-3)
