"""Batches of relabelled transitions from the hindsight table, compared with buffers that relabel while sampling."""

import tempfile
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.harness import Measurement, compare
from benchmarks.ingest import DATASET, RECIPE, SHAPES, make
from offline_gcrl.config import Relabel, Sampling
from offline_gcrl.episodes.dataset import Episodes, open_episodes
from offline_gcrl.episodes.ingest import ingest
from offline_gcrl.hindsight.relabel import relabel
from offline_gcrl.training.batches.data import DeviceData
from offline_gcrl.training.batches.sampler import BatchSampler

BATCH, BATCHES, K = 1024, 64, 4
EPISODES = 20
Work = Callable[[], int]
FIELDS = (
    "observations",
    "next_observations",
    "achieved_goals",
    "value_goals",
    "actions",
    "rewards",
    "masks",
)
"""What the peers give in a batch too."""


def measurements() -> Iterator[Measurement]:
    """Comparison with each installed alternative; four of five goals are `future` hindsight goals, the others original."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        episodes, ours = our_batches(Path(name))
        for package, peer, of in (
            ("stable_baselines3", "Stable-Baselines3's HerReplayBuffer", stable_baselines),
            ("torchrl", "torchrl's HERReplayBuffer", torchrl),
        ):
            what = f"batches of {BATCH:,} relabelled transitions, compared with {peer}"
            if find_spec(package) is None:
                yield Measurement(what, [], skipped=f"{package} is not installed")
                continue
            names = (package.replace("_", "-"), "ours")
            yield compare(what, of(episodes), ours, unit="transitions", names=names, rounds=3)


def our_batches(folder: Path) -> tuple[Episodes, Work]:
    """Episodes, and a function that samples batches with their hindsight table."""
    sizes, action, length, _ = SHAPES["PointMaze's shape"]
    make(folder / "minari", sizes, action, length, EPISODES)
    ingest(DATASET, folder / "minari", folder)
    relabel(folder, folder, Relabel(strategies=("future",), k=K), RECIPE.goal)
    episodes = open_episodes(folder)
    mixture = {"future": K / (K + 1), "original": 1 / (K + 1)}
    sampler = BatchSampler(
        DeviceData(episodes),
        folder,
        Sampling(fields=FIELDS, value_goals=mixture, actor_goals=mixture),
        split="train",
        batch_size=BATCH,
        seed=0,
    )

    def work() -> int:
        sampler.batches(0, BATCHES)
        return BATCH * BATCHES

    return episodes, work


def transitions(episodes: Episodes) -> tuple[dict[str, Any], dict[str, Any], Any, Any]:
    """Observations, next observations, actions and ends of episodes of all transitions."""
    row = episodes.transition_rows()
    assert episodes.desired_goal is not None
    every = {
        "observation": episodes.observation,
        "achieved_goal": episodes.achieved_goal,
        "desired_goal": episodes.desired_goal,
    }
    now = {key: values[row] for key, values in every.items()}
    following = {key: values[row + 1] for key, values in every.items()}
    length = episodes.table["length"].to_numpy().astype(np.int64)
    ends = np.zeros(len(row), dtype=bool)
    ends[np.cumsum(length) - 1] = True
    return now, following, episodes.action[row], ends


def stable_baselines(episodes: Episodes) -> Work:
    """Batches of Stable-Baselines3's buffer with the same transitions."""
    import gymnasium
    from gymnasium import spaces
    from stable_baselines3 import HerReplayBuffer
    from stable_baselines3.common.vec_env import DummyVecEnv

    now, following, actions, ends = transitions(episodes)
    boxes = spaces.Dict(
        {key: spaces.Box(-np.inf, np.inf, values.shape[1:]) for key, values in now.items()}
    )

    class Rewarding(gymnasium.Env[Any, Any]):
        observation_space = boxes
        action_space = spaces.Box(-1.0, 1.0, actions.shape[1:])

        def compute_reward(self, achieved: Any, desired: Any, info: Any) -> Any:
            return (np.linalg.norm(achieved - desired, axis=-1) <= 0.05).astype(np.float32) - 1.0

    environment = DummyVecEnv([Rewarding])
    buffer = HerReplayBuffer(
        len(actions), boxes, Rewarding.action_space, environment, "cpu", n_sampled_goal=K
    )
    for index in range(len(actions)):
        buffer.add(
            {key: values[None, index] for key, values in now.items()},
            {key: values[None, index] for key, values in following.items()},
            actions[None, index],
            np.array([-1.0]),
            ends[None, index],
            [{}],
        )

    def work() -> int:
        for _ in range(BATCHES):
            buffer.sample(BATCH)
        return BATCH * BATCHES

    return work


def torchrl(episodes: Episodes) -> Work:
    """Batches of torchrl's buffer with the same transitions."""
    from tensordict import TensorDict
    from torchrl.data import HERReplayBuffer, LazyTensorStorage

    now, following, actions, ends = transitions(episodes)
    tensors = {key: torch.from_numpy(values) for key, values in now.items()}
    after = {key: torch.from_numpy(values) for key, values in following.items()}
    done = torch.from_numpy(ends)[:, None]
    content = TensorDict(
        {
            **tensors,
            "action": torch.from_numpy(actions),
            "next": {**after, "reward": -torch.ones(len(actions), 1), "done": done},
        },
        batch_size=[len(actions)],
    )

    def reward(batch: Any) -> torch.Tensor:
        difference = batch["next", "achieved_goal"] - batch["desired_goal"]
        return (difference.norm(dim=-1, keepdim=True) <= 0.05).float() - 1.0

    buffer = HERReplayBuffer(
        reward,
        her_ratio=K / (K + 1),
        strategy="future",
        storage=LazyTensorStorage(len(actions)),
        batch_size=BATCH,
    )
    buffer.extend(content)

    def work() -> int:
        for _ in range(BATCHES):
            buffer.sample()
        return BATCH * BATCHES

    return work
