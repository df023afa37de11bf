"""Ingest: from Minari to checked Parquet, and opening the result, compared with Minari's iteration."""

import json
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import minari
import numpy as np
from gymnasium import spaces
from minari.data_collector.episode_buffer import EpisodeBuffer

from benchmarks.floors import memory_bandwidth
from benchmarks.harness import Measurement, compare, main, rate
from offline_gcrl.collect.collector import minari_root
from offline_gcrl.config import Dataset, Recipe
from offline_gcrl.episodes.blocks import needed_keys
from offline_gcrl.episodes.dataset import open_episodes
from offline_gcrl.episodes.hdf5 import raw_arrays
from offline_gcrl.episodes.ingest import ingest

NAME = "bench/walk-v0"
SHAPES = {
    "Fetch's shape": ({"observation": 25, "achieved_goal": 3, "desired_goal": 3}, 4, 50, 2000),
    "PointMaze's shape": ({"observation": 4, "achieved_goal": 2, "desired_goal": 2}, 2, 1000, 100),
}
"""Sizes of observations, size of actions, length of an episode, number of episodes."""
RECIPE = Recipe.model_validate_json(
    json.dumps(
        {
            "title": "a walk",
            "sources": [{"dataset": NAME, "kind": "exploration"}],
            "goal": {"success": {"kind": "distance", "tolerance": 0.05}},
            "task": "walk",
            "instruction": "Go there.",
        }
    )
)
OPENINGS = 10
DATASET = Dataset(name="walk", title="a walk", recipes=(RECIPE,), pad=False)


def measurements() -> Iterator[Measurement]:
    """Ingest and opening, with short and with long episodes."""
    for shape, (sizes, action, length, episodes) in SHAPES.items():
        with tempfile.TemporaryDirectory() as folder:
            root, output = Path(folder) / "minari", Path(folder) / "parquet"
            output.mkdir()
            make(root, sizes, action, length, episodes)
            iterated, reading, ingested, opened = ways(root, output)
            about = f"{shape}, {episodes:,} x {length:,} transitions"
            # Minari's cost is per episode, independent of its length; therefore the targets are for short episodes.
            short = length < 100
            yield compare(
                f"ingest, {about}",
                iterated,
                ingested,
                unit="transitions",
                names=("iterate_episodes", "ingest"),
                rounds=5 if short else 3,
                at_least=4.0 if short else None,
                floor=f"{rate(reading) / 1e3:.0f} k transitions/CPU-s: reading the arrays from HDF5",
            )
            bytes_a_row = 4 * (sum(sizes.values()) + action)
            yield compare(
                f"opening as arrays, {about}",
                iterated,
                opened,
                unit="transitions",
                names=("iterate_episodes", "open_episodes"),
                rounds=5 if short else 3,
                at_least=80.0 if short else None,
                floor=f"{memory_bandwidth() / 2 / bytes_a_row / 1e6:.0f} M transitions/s: a copy of the arrays",
            )


def make(root: Path, sizes: dict[str, int], action: int, length: int, episodes: int) -> None:
    """Write a Minari dataset with the keys, types and infos of environments with goals."""
    random = np.random.default_rng(0)
    boxes = {name: spaces.Box(-np.inf, np.inf, (size,), np.float64) for name, size in sizes.items()}

    def buffer() -> EpisodeBuffer:
        return EpisodeBuffer(
            observations={
                name: random.normal(size=(length + 1, size)) for name, size in sizes.items()
            },
            actions=random.uniform(-1, 1, (length, action)).astype(np.float32),
            rewards=list(random.normal(size=length)),
            terminations=[False] * length,
            truncations=[False] * (length - 1) + [True],
            infos={"success": np.zeros(length + 1, dtype=bool)},
        )

    with minari_root(root), warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # Minari warns of missing authors, environment, description.
        minari.create_dataset_from_buffers(
            NAME,
            [buffer() for _ in range(episodes)],
            observation_space=spaces.Dict(boxes),
            action_space=spaces.Box(-1.0, 1.0, (action,), np.float32),
            data_format="hdf5",
        )


def ways(root: Path, output: Path) -> tuple[Callable[[], int], ...]:
    """Functions that iterate a dataset with Minari, read its arrays, ingest it, and open the result."""

    def iterated() -> int:
        data = minari.MinariDataset(root / NAME / "data")
        return sum(len(episode.rewards) for episode in data.iterate_episodes())

    def reading() -> int:
        data = minari.MinariDataset(root / NAME / "data")
        _, lengths, _ = raw_arrays(data, range(data.total_episodes), needed_keys(RECIPE.goal))
        return int(lengths.sum())

    def ingested() -> int:
        return int(ingest(DATASET, root, output)["counts"]["transitions"])

    def opened() -> (
        int
    ):  # Several times, as opening once is shorter than the resolution of CPU time.
        return sum(len(open_episodes(output).transition_rows()) for _ in range(OPENINGS))

    return iterated, reading, ingested, opened


if __name__ == "__main__":
    main(__doc__, measurements)
