"""Actions of any shape, as of two arms: in the data, in training, and in an environment that checks its actions."""

import json
import math
import warnings
from pathlib import Path
from typing import Any

import gymnasium
import minari
import numpy as np
import pytest
from conftest import as_dataset
from gymnasium import spaces
from minari.data_collector.episode_buffer import EpisodeBuffer

from offline_gcrl.agents import agent_type, settings_type
from offline_gcrl.collect.collector import minari_root
from offline_gcrl.config import Evaluate, Recipe
from offline_gcrl.environments.making import check_environments
from offline_gcrl.environments.tasks import check_tasks
from offline_gcrl.episodes.dataset import open_episodes
from offline_gcrl.episodes.ingest import ingest
from offline_gcrl.episodes.published import check_published
from offline_gcrl.evaluation.jobs import FINAL, episode_jobs
from offline_gcrl.evaluation.rollouts import run_episode
from offline_gcrl.policies.policy import save_policy
from offline_gcrl.support.errors import DataError
from offline_gcrl.training.batches.data import DeviceData

BOX = spaces.Box(-np.inf, np.inf, (2,), np.float64)
OBSERVATION = spaces.Dict(dict.fromkeys(("observation", "achieved_goal", "desired_goal"), BOX))
STEPS = 5


class Point(gymnasium.Env[Any, Any]):
    """A point that is moved by the first two numbers of its action."""

    observation_space = OBSERVATION

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.action_space = spaces.Box(-1.0, 1.0, tuple(shape), np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.place, self.goal = self.np_random.uniform(-1, 1, (2, 2))
        return self._shown(), {}

    def step(self, action: Any) -> Any:
        assert self.action_space.contains(action), action
        self.place = self.place + 0.2 * np.resize(action, 2)
        return self._shown(), 0.0, False, False, {}

    def _shown(self) -> dict[str, Any]:
        return {"observation": self.place, "achieved_goal": self.place, "desired_goal": self.goal}


gymnasium.register("ShapedPoint-v0", entry_point=Point, max_episode_steps=STEPS)


def recipe_for(shape: tuple[int, ...]) -> Recipe:
    environment = {"id": "ShapedPoint-v0", "kwargs": {"shape": list(shape)}}
    content = {
        "title": "point",
        "sources": [{"dataset": "my/point-v0", "kind": "demonstration"}],
        "goal": {"success": {"kind": "distance", "tolerance": 0.1}},
        "evaluation": {"environment": environment},
        "task": "mine",
        "instruction": "Reach it.",
    }
    return Recipe.model_validate_json(json.dumps(content))


def write_episodes(root: Path, shape: tuple[int, ...]) -> None:
    random = np.random.default_rng(0)
    buffers = [
        EpisodeBuffer(
            observations={name: random.normal(size=(STEPS + 1, 2)) for name in OBSERVATION.spaces},
            actions=random.uniform(-1, 1, (STEPS, *shape)).astype(np.float32),
            rewards=np.zeros(STEPS),
            terminations=np.zeros(STEPS, bool),
            truncations=np.arange(STEPS) == STEPS - 1,
        )
        for _ in range(4)
    ]
    with minari_root(root), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Minari asks for authors, an environment, a description.
        minari.create_dataset_from_buffers(
            "my/point-v0", buffers, observation_space=OBSERVATION, data_format="hdf5",
            action_space=spaces.Box(-1.0, 1.0, shape, np.float32),
        )  # fmt: skip


@pytest.mark.parametrize("shape", [(2, 2), (1, 3), (2,), (2, 1, 2)])
def test_actions_of_any_shape_are_trained_on_and_given_to_the_environment(
    shape: tuple[int, ...], tmp_path: Path
) -> None:
    recipe, output = recipe_for(shape), tmp_path / "parquet"
    write_episodes(tmp_path, shape)
    output.mkdir()
    check_environments(recipe, "mine")
    check_tasks(as_dataset(recipe), "mine")
    assert check_published(recipe, recipe.sources[0], tmp_path) == []
    ingest(as_dataset(recipe), tmp_path, output)
    data = DeviceData(open_episodes(output))
    assert data.dimensions.action == math.prod(shape)
    settings = settings_type("bc").model_validate_json('{"algorithm": "bc", "hidden": [8]}')
    agent, path = agent_type("bc")(settings, data.dimensions), tmp_path / "policy.pt"
    save_policy(
        path, agent, "bc", settings, data.scaling, data.dimensions, ("mine",), {"updates": 1}
    )
    jobs = episode_jobs(path, as_dataset(recipe), Evaluate(episodes=1), 0, FINAL)
    assert run_episode(jobs[0])["length"] == STEPS


def test_actions_of_another_size_than_those_of_the_environment_are_named(tmp_path: Path) -> None:
    write_episodes(tmp_path, (2, 2))
    recipe = recipe_for((2,))
    with pytest.raises(DataError, match="its action has 4 numbers, and ShapedPoint-v0, .* has 2"):
        check_published(recipe, recipe.sources[0], tmp_path)
