"""Synthetic ingested datasets of any size: episodes of random walks with the columns that relabelling reads."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from offline_gcrl.config import Goal
from offline_gcrl.config.outputs import EPISODES, STEPS
from offline_gcrl.episodes.schema import steps_schema

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
