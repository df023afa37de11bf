"""Training resumes bit for bit, alone or side by side, and never from something stale."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from conftest import ROOT, SmallDataset

from offline_gcrl.agents import settings_type
from offline_gcrl.config import Train, algorithm_names
from offline_gcrl.policy import load_policy
from offline_gcrl.training import train_seed
from offline_gcrl.training_jobs import (
    CODE,
    Event,
    TrainingJob,
    content_digest,
    fingerprint,
    train_seeds,
)

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


def test_stale_checkpoints_are_discarded(make_job: Jobs) -> None:
    job = make_job("seed-0/new")
    stale = job.checkpoints.with_name("old")
    stale.mkdir(parents=True)
    train_seed(job, listen)
    assert not stale.exists()


def test_the_fingerprint_covers_all_code_that_training_imports() -> None:
    """Importing is what could change a weight; what cannot is named here."""
    import subprocess
    import sys

    program = (
        "import sys, offline_gcrl.training\n"
        "print('\\n'.join(m.__file__ for n, m in sys.modules.items() if n.startswith('offline_gcrl.')))"
    )
    answer = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    package = ROOT / "offline_gcrl"
    imported = {str(Path(line).relative_to(package)) for line in answer.stdout.split()}
    without_effect = {
        "acting.py",  # Only where a policy acts.
        "config/__init__.py", "config/reading.py", "errors.py", "files.py", "parallel.py", "training_jobs.py",
        "episodes/__init__.py", "episodes/schema.py", "hindsight/__init__.py",
        "hindsight/labels.py", "hindsight/relabel.py", "hindsight/stored.py", "hindsight/strategies.py",
        # The table itself is in the fingerprint.
    }  # fmt: skip
    assert imported - without_effect <= set(CODE)


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
