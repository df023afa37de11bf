"""The files of an ingested dataset, and what stands in each column.

``steps.parquet`` is sorted by episode and step, T + 1 rows an episode: row i + 1 is the next state of row
i, and the last row of an episode has no action. Nothing is stored twice.
"""

import pyarrow as pa

STEPS = "steps.parquet"
EPISODES = "episodes.parquet"
SCHEMA = "schema.json"
FORMAT = 1


def steps_schema(observation: int, goal: int, action: int) -> pa.Schema:
    """Columns of ``steps.parquet`` for the given dimensions."""
    return pa.schema(
        [
            ("episode", pa.uint32()),
            ("step", pa.uint32()),
            ("observation", pa.list_(pa.float32(), observation)),
            ("achieved_goal", pa.list_(pa.float32(), goal)),
            (
                "desired_goal",
                pa.list_(pa.float32(), goal),
            ),  # per step: goals switch within episodes
            ("action", pa.list_(pa.float32(), action)),  # null in the last row of an episode
            ("reward", pa.float32()),  # the environment's own; for statistics, never for training
        ]
    )


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
