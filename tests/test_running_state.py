"""An agent may keep running state beyond its weights: it is saved and resumed like them, alone or stacked."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import polars as pl
import pytest
import torch
from conftest import SmallDataset

from offline_gcrl.agents import bc
from offline_gcrl.config import Train
from offline_gcrl.networks.conditioning import Dimensions
from offline_gcrl.training.events import Event
from offline_gcrl.training.jobs import TrainingJob
from offline_gcrl.training.module import train_seed, train_together
from offline_gcrl.training.multitask.gradients import plain_sum
from offline_gcrl.training.multitask.updates import TaskGradientUpdater

QUEUE = 96


class Agent(bc.Agent):
    """BC that weights its loss by where it stands among its latest losses, which a queue keeps."""

    def __init__(self, settings: bc.Settings, dimensions: Dimensions) -> None:
        super().__init__(settings, dimensions)
        self.register_buffer("queue", torch.zeros(QUEUE))
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))

    def loss(self, batch: Any) -> Any:
        with torch.no_grad():
            actions = self.actor(batch["observations"], batch["actor_goals"], batch["tasks"])
            errors = (actions - batch["actions"]).square().sum(-1)
            queue = torch.cat([self.queue[len(errors) :], errors])
        loss, info = super().loss(batch)
        weight = 1.0 / (1.0 + queue.mean())
        return weight * loss, info | {"state/queue": queue, "state/seen": self.seen + len(errors)}


@pytest.fixture(autouse=True)
def agent_with_state(monkeypatch: pytest.MonkeyPatch) -> None:
    module = SimpleNamespace(Settings=bc.Settings, Agent=Agent)
    monkeypatch.setattr("offline_gcrl.agents._module", lambda algorithm: module)


@pytest.fixture
def jobs(dataset: SmallDataset, tmp_path: Path) -> Any:
    def make(name: str, seed: int = 0, **train: Any) -> TrainingJob:
        content = {"algorithm": "bc", "hidden": [16, 16], "learning_rate": 1e-3}
        settings = {"updates": 60, "batch_size": 32, "snapshots": 3, "updates_per_step": 7, **train}
        return TrainingJob(
            dataset="small",
            agent="bc",
            seed=seed,
            episodes=dataset.parquet,
            hindsight=dataset.hindsight,
            train=Train.model_validate(settings),
            settings=bc.Settings.model_validate_json(json.dumps(content)),
            checkpoints=tmp_path / "checkpoints" / name,
            output=tmp_path / "models" / name,
        )

    return make


def ignore(event: Event) -> None:
    """Listen to nothing."""


def saved(job: TrainingJob) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = torch.load(job.checkpoints / "last.ckpt")["agent"]
    return state


def test_running_state_is_resumed_to_the_same_bytes_after_a_kill(jobs: Any) -> None:
    def killer(event: Event) -> None:
        if event.updates >= 33:
            raise InterruptedError

    whole, killed = jobs("whole/x"), jobs("killed/x")
    train_seed(whole, ignore)
    with pytest.raises(InterruptedError):
        train_seed(killed, killer)
    train_seed(killed, ignore)
    for job in (whole, killed):
        assert saved(job)["seen"] == 60 * 32
    for name, value in saved(whole).items():
        assert torch.equal(value, saved(killed)[name]), name


def test_running_state_is_no_diagnostic(jobs: Any) -> None:
    job = jobs("curve")
    train_seed(job, ignore)
    columns = pl.read_csv(job.output / "training.csv").columns
    assert "actor/loss" in columns
    assert not [name for name in columns if "state" in name]


def test_stacked_seeds_each_keep_their_own_state(jobs: Any) -> None:
    together = [jobs(f"stacked/{seed}/x", seed, seeds_together="stacked") for seed in (0, 1)]
    train_together(together, ignore)
    for seed, job in enumerate(together):
        alone = jobs(f"alone/{seed}/x", seed)
        train_seed(alone, ignore)
        assert torch.equal(saved(job)["seen"], saved(alone)["seen"])
        torch.testing.assert_close(saved(job)["queue"], saved(alone)["queue"], rtol=1e-4, atol=1e-5)
    assert not torch.equal(*(saved(job)["queue"] for job in together))


def test_with_gradients_per_task_the_state_takes_the_transitions_of_every_task() -> None:
    torch.manual_seed(0)
    settings = bc.Settings.model_validate_json(json.dumps({"algorithm": "bc", "hidden": [8]}))
    agent = Agent(settings, Dimensions(observation=3, goal=2, action=1, tasks=2))
    optimizer = torch.optim.Adam(agent.parameter_groups())
    updater = TaskGradientUpdater(agent, optimizer, plain_sum, tasks=2)
    batch = {
        "observations": torch.randn(10, 3),
        "actor_goals": torch.randn(10, 2),
        "actions": torch.randn(10, 1),
        "tasks": torch.arange(10) % 2,
    }
    info = updater.update(batch)
    assert agent.seen == 10
    assert (agent.queue != 0).sum() == 10
    assert not [name for name in info if name.startswith("state/")]
