"""The files of an ingested dataset, and what stands in each column.

``steps.parquet`` is sorted by episode and step, T + 1 rows an episode: row i + 1 is the next state of row
i, and the last row of an episode has no action (NaN, so that none takes it for one). Nothing is stored twice.
"""

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

FORMAT = 3
VECTORS = ("observation", "achieved_goal", "desired_goal", "action")
"""In this order. Achieved goals are left out where they are the observations, desired ones where the data
holds none; desired ones are per step, for goals switch within episodes; the last row of an episode has no
action."""


def steps_schema(sizes: Mapping[str, int]) -> pa.Schema:
    """Columns of ``steps.parquet``, given the size of each vector that is stored."""
    return pa.schema(
        [
            ("episode", pa.uint32()),
            ("step", pa.uint32()),
            *(_vector(name, sizes[name]) for name in VECTORS if name in sizes),
            ("reward", pa.float32()),  # the environment's own; for statistics, never for training
        ]
    )


def _vector(name: str, size: int) -> pa.Field:
    """Said to hold no nulls, it is read three times as quickly; pyarrow reads no nulls among such arrays at all."""
    number = pa.field("item", pa.float32(), nullable=False)
    return pa.field(name, pa.list_(number, size), nullable=False)


def achieved_column(schema: Mapping[str, Any]) -> str:
    """The column of achieved goals: where goals are full states, the observations themselves."""
    return "observation" if schema["goals_are_states"] else "achieved_goal"


EPISODES_SCHEMA = pa.schema(
    [
        ("episode", pa.uint32()),
        ("first_row", pa.int64()),
        ("length", pa.uint32()),  # T, the number of transitions
        ("task", pa.string()),
        ("source", pa.string()),  # Minari id
        ("kind", pa.string()),  # exploration or demonstration
        ("seed", pa.int64()),
        ("split", pa.string()),  # train or validation
        ("terminated", pa.bool_()),
        ("success", pa.bool_()),  # whether any step reached the goal that the behaviour pursued
        ("return", pa.float32()),  # of the environment's own rewards
    ]
)
