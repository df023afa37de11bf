"""The files of an ingested dataset and their columns.

``steps.parquet`` is sorted by episode and step, with T + 1 rows per episode. Row i + 1 is the next state of row i. The
last row of an episode has no action; it is NaN, so that it cannot be used as one by mistake. Nothing is stored twice.
"""

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

FORMAT = 5
FRAME = "frame"
"""The column of ``frames.parquet``."""
VECTORS = ("observation", "achieved_goal", "desired_goal", "action")
"""The vector columns in their order.

Achieved goals are left out if they are equal to the observations, and desired goals if the data has none. Desired goals
are stored per step, because goals may change within an episode.
"""


def steps_schema(sizes: Mapping[str, int]) -> pa.Schema:
    """The columns of ``steps.parquet``, given the size of each stored vector."""
    return pa.schema(
        [
            ("episode", pa.uint32()),
            ("step", pa.uint32()),
            *(_vector(name, sizes[name]) for name in VECTORS if name in sizes),
            (
                "reward",
                pa.float32(),
            ),  # The environment's reward, used for statistics and not for training.
        ]
    )


def _vector(name: str, size: int) -> pa.Field:
    """A column of arrays without nulls; declared as such, it is read three times as fast."""
    number = pa.field("item", pa.float32(), nullable=False)
    return pa.field(name, pa.list_(number, size), nullable=False)


def frames_schema(size: int) -> pa.Schema:
    """The column of ``frames.parquet``: height x width x 3 bytes a row, given their number."""
    return pa.schema([pa.field(FRAME, pa.binary(size), nullable=False)])


def achieved_column(schema: Mapping[str, Any]) -> str:
    """The column of achieved goals, which is ``observation`` if goals are full states."""
    return "observation" if schema["goals_are_states"] else "achieved_goal"


EPISODES_SCHEMA = pa.schema(
    [
        ("episode", pa.uint32()),
        ("first_row", pa.int64()),
        ("length", pa.uint32()),  # Number of transitions, T.
        ("task", pa.string()),
        ("source", pa.string()),  # Minari id.
        ("kind", pa.string()),  # ``exploration`` or ``demonstration``.
        ("seed", pa.int64()),
        ("split", pa.string()),  # ``train`` or ``validation``.
        ("terminated", pa.bool_()),
        ("success", pa.bool_()),  # Whether any step reached its original goal.
        ("return", pa.float32()),  # Sum of the environment's rewards.
    ]
)
