"""Several processes that train one seed together learn what one process learns."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from conftest import RECIPES, SmallDataset
from test_agents import VARIANTS, make_agent, make_batch, name_of
from test_multitask import four_tasks, job_on_four_tasks  # noqa: F401 - one is a fixture
from test_training import KilledError

from offline_gcrl.agents import settings_type
from offline_gcrl.config import Relabel, Train, check_fit, resolve
from offline_gcrl.policies.policy import load_policy
from offline_gcrl.support.errors import OfflineGCRLError, SettingsError
from offline_gcrl.support.processes import process_pool
from offline_gcrl.training.events import Event
from offline_gcrl.training.jobs import TrainingJob, train_seeds
from offline_gcrl.training.ranks import Ranks, joined

Jobs = Callable[..., TrainingJob]
WEIGHTED = {"tasks": {"weights": "uniform"}}
ADAPTED = {"tasks": {"gradients": "gradnorm", "sampling": "performance"}}
CASES: list[Any] = [
    ({"algorithm": "gciql", "actor_loss": "awr"}, {}),
    ({"algorithm": "gofar"}, {"tasks": {"gradients": "pcgrad", "sampling": "gradient"}}),
    pytest.param({"algorithm": "bc"}, WEIGHTED, marks=pytest.mark.slow),
    pytest.param({"algorithm": "bc"}, ADAPTED, marks=pytest.mark.slow),
]


@pytest.fixture
def make_job(four_tasks: Path, dataset: SmallDataset, tmp_path: Path) -> Jobs:  # noqa: F811
    def make(name: str, agent: dict[str, Any], **train: Any) -> TrainingJob:
        content, of_train = {"hidden": [16, 16], **agent}, {"snapshots": 3, **train}
        job = job_on_four_tasks(four_tasks, dataset, tmp_path, name, content, of_train)
        return replace(job, checkpoints=job.checkpoints / "x")

    return make


def trained(job: TrainingJob) -> list[Event]:
    heard: list[Event] = []
    train_seeds([job], heard.append)
    return heard


@pytest.mark.parametrize(("agent", "train"), CASES, ids=lambda part: "-".join(str(v) for v in part.values()))  # fmt: skip
def test_two_processes_have_the_loss_curves_and_weights_of_one(
    make_job: Jobs, agent: dict[str, Any], train: dict[str, Any]
) -> None:
    jobs = [make_job(str(devices), agent, devices=devices, **train) for devices in (1, 2)]
    heard = [trained(job) for job in jobs]
    assert [event.updates for event in heard[0]] == [event.updates for event in heard[1]]
    one, two = (pl.read_csv(job.output / "training.csv") for job in jobs)
    assert one.columns == two.columns
    assert len(one.columns) > 5
    np.testing.assert_allclose(two.to_numpy(), one.to_numpy(), rtol=1e-4, atol=1e-4)
    weights = [load_policy(job.output).actor.state_dict() for job in jobs]
    for name, values in weights[0].items():
        torch.testing.assert_close(weights[1][name], values, rtol=1e-3, atol=1e-4, msg=name)


@pytest.mark.slow
def test_two_killed_processes_resume_to_the_same_bytes(make_job: Jobs) -> None:
    settings = {"devices": 2, "updates": 800, "snapshots": 8}
    whole, killed = (
        make_job(name, {"algorithm": "bc"}, **settings) for name in ("whole", "killed")
    )
    trained(whole)

    def killer(event: Event) -> None:
        if event.points:
            raise KilledError

    with pytest.raises(KilledError):
        train_seeds([killed], killer)
    assert not killed.output.exists()
    assert min(event.updates for event in trained(killed)) > 100
    for name in ("policy.pt", "training.csv", "snapshots/update-00000100.pt"):
        assert (killed.output / name).read_bytes() == (whole.output / name).read_bytes()


def test_an_error_of_one_process_ends_all_with_its_sentence(make_job: Jobs) -> None:
    job = make_job("diverged", {"algorithm": "bc"}, devices=2)
    job = replace(job, settings=job.settings.model_copy(update={"learning_rate": 1e30}))
    with pytest.raises(OfflineGCRLError, match="training diverged"):
        trained(job)


def meet(ranks: Ranks, meeting: Path, same: bool) -> tuple[list[float], str]:
    """What a rank gets of the sum and of the check of weights."""
    own = torch.arange(3.0) + ranks.rank
    with joined(ranks, meeting, "cpu"):
        ranks.average([own])
        try:
            ranks.check_equal([own if same else own + ranks.rank * 1e-7], "cpu")
        except OfflineGCRLError as error:
            return own.tolist(), str(error)
    return own.tolist(), ""


@pytest.mark.parametrize("same", [True, False])
def test_processes_average_tensors_and_find_weights_that_differ(tmp_path: Path, same: bool) -> None:
    with process_pool(2) as pool:
        futures = [pool.submit(meet, Ranks(rank, 2), tmp_path / "meeting", same) for rank in (0, 1)]
        found = [future.result() for future in futures]
    for averaged, error in found:
        assert averaged == [0.5, 1.5, 2.5]
        assert ("the weights of the 2 devices differ" in error) == (not same)


@pytest.mark.parametrize("variant", VARIANTS, ids=name_of)
def test_the_gradient_of_a_batch_is_the_mean_of_its_parts_unless_the_agent_says_otherwise(
    variant: Any,
) -> None:
    agent, batch = make_agent(*variant), make_batch()
    gradients = []
    for ranks in (Ranks(), Ranks(0, 2), Ranks(1, 2)):
        agent.zero_grad()
        agent.loss(ranks.part(batch))[0].backward()
        gradients.append([p.grad.clone() for p in agent.parameters() if p.grad is not None])
    complete, *parts = gradients
    equal = all(
        torch.allclose(whole, (first + second) / 2, rtol=1e-3, atol=1e-5)
        for whole, first, second in zip(complete, *parts, strict=True)
    )
    assert equal == (not agent.settings.has_batch_statistics)


def test_an_agent_with_quantities_of_the_batch_is_refused_on_several_devices() -> None:
    settings = settings_type("gciql").model_validate_json('{"algorithm": "gciql"}')
    dataset = resolve("pointmaze-umaze", folder=RECIPES)
    train = Train(updates=10, devices=2)
    with pytest.raises(SettingsError, match=r"train.devices: the loss of 'gciql' has quantities"):
        check_fit(settings, train, Relabel(), dataset, Path("params.yaml"))


@pytest.mark.parametrize(("wrong", "message"), [({"devices": 3}, "must be a multiple of 'devices'"), ({"devices": 2, "seeds_together": "stacked"}, "stacked seeds train on one device")])  # fmt: skip
def test_settings_that_do_not_fit_several_devices_are_refused(wrong: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Train(updates=10, **wrong)
