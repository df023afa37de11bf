"""Synthetic ingested datasets of any size: episodes of random walks, complete or with what relabelling reads."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from offline_gcrl.config import Goal
from offline_gcrl.config.outputs import EPISODES, SCHEMA, STEPS
from offline_gcrl.episodes.schema import FORMAT, steps_schema
from offline_gcrl.support.files import write_json

GOAL = Goal.model_validate_json(
    json.dumps({"desired": None, "success": {"kind": "distance", "tolerance": 0.45}})
)
"""Goals as in PointMaze: two dimensions, with a tolerance of 0.45."""
EPISODES_PER_GROUP = 500


def write_steps(folder: Path, episodes: int, length: int = 1000) -> int:
    """Write the goals and the episode table of a dataset; return its number of transitions."""
    random = np.random.default_rng(0)
    schema = pa.schema([steps_schema({"achieved_goal": 2}).field("achieved_goal")])
    with pq.ParquetWriter(folder / STEPS, schema, use_dictionary=False) as writer:
        for first in range(0, episodes, EPISODES_PER_GROUP):
            count = min(EPISODES_PER_GROUP, episodes - first)
            moves = random.normal(scale=0.05, size=(count, length + 1, 2)).astype(np.float32)
            walk = pa.array(moves.cumsum(1, dtype=np.float32).reshape(-1))
            column = pa.FixedSizeListArray.from_arrays(walk, type=schema.field(0).type)
            writer.write_table(pa.Table.from_arrays([column], schema=schema))
    table = pa.table(
        {
            "first_row": np.arange(episodes) * (length + 1),
            "length": np.full(episodes, length, np.uint32),
            "task": pa.array(["walk"] * episodes),
        }
    )
    pq.write_table(table, folder / EPISODES)
    return episodes * length


SIZES = {"observation": 4, "achieved_goal": 2, "desired_goal": 2, "action": 2}
"""Sizes of the vectors of PointMaze."""


def write_dataset(folder: Path, episodes: int, length: int = 1000) -> int:
    """Write a dataset that training can open; return its number of transitions."""
    random = np.random.default_rng(0)
    schema = pa.schema([field for field in steps_schema(SIZES) if field.name in SIZES])
    with pq.ParquetWriter(folder / STEPS, schema, use_dictionary=False) as writer:
        for first in range(0, episodes, EPISODES_PER_GROUP):
            count = min(EPISODES_PER_GROUP, episodes - first) * (length + 1)
            columns = [
                pa.FixedSizeListArray.from_arrays(
                    pa.array(random.random(count * SIZES[field.name], np.float32)), type=field.type
                )
                for field in schema
            ]
            writer.write_table(pa.Table.from_arrays(columns, schema=schema))
    table = {
        "first_row": np.arange(episodes) * (length + 1),
        "length": np.full(episodes, length, np.uint32),
        "task": pa.array(["walk"] * episodes),
        "split": pa.array(["train"] * episodes),
    }
    pq.write_table(pa.table(table), folder / EPISODES)
    write_json(folder / SCHEMA, _description(episodes, length))
    return episodes * length


def _description(episodes: int, length: int) -> dict[str, object]:
    still = {name: {"mean": [0.5] * size, "std": [0.3] * size} for name, size in SIZES.items()}
    return {
        "format": FORMAT,
        "tasks": ["walk"],
        "counts": {
            "episodes": episodes,
            "steps": episodes * (length + 1),
            "transitions": episodes * length,
        },
        "goal": GOAL.model_dump(mode="json"),
        "goals_are_states": False,
        "sizes": SIZES,
        "action_space": {"low": [-1.0, -1.0], "high": [1.0, 1.0]},
        "statistics": still,
    }
