"""Where a hindsight goal comes from, as Polars expressions over the transitions.

The expressions speak of these columns of a transition, all UInt32: ``row`` (its row in ``steps.parquet``), ``step``
(t), ``length`` (T, of its episode), ``first_row`` (of its episode), ``task_row`` and ``task_rows`` (the first
row of its task, and how many the task has); and of a column of draws: random words, or for ``geometric`` offsets. States of the episode are t = 0..T.
Strategies after Andrychowicz et al. 2017, section 4.5, and OGBench (Park et al. 2024) for ``geometric``.
"""

from collections.abc import Callable

import numpy as np
import polars as pl

from offline_gcrl.hindsight.draws import (
    geometric_draws,
    random_words,
    stream_key,
    uniform_expression,
)

ROW, STEP, LENGTH, FIRST_ROW = map(pl.col, ("row", "step", "length", "first_row"))
TASK_ROW, TASK_ROWS = pl.col("task_row"), pl.col("task_rows")
STATES_LEFT = LENGTH - STEP  # Strictly later states of the episode: T - t of them, at least one.

# The numbers are part of the data: they choose the draws.
STRATEGY_NUMBERS = {"final": 0, "future": 1, "geometric": 2, "episode": 3, "random": 4}

RANDOM = "random"
"""The strategy whose goals lie outside the episode."""


def final(draw: pl.Expr) -> pl.Expr:
    """The last state of the episode."""
    return FIRST_ROW + LENGTH


def future(draw: pl.Expr) -> pl.Expr:
    """Uniform over the strictly later states of the episode."""
    return ROW + 1 + uniform_expression(draw, STATES_LEFT)


def geometric(draw: pl.Expr) -> pl.Expr:
    """Offset ~ Geom(1 - discount) on 1, 2, ..., cut at the end of the episode."""
    return ROW + pl.min_horizontal(draw, STATES_LEFT)


def episode(draw: pl.Expr) -> pl.Expr:
    """Uniform over all states of the episode."""
    return FIRST_ROW + uniform_expression(draw, LENGTH + 1)


def random_state(draw: pl.Expr) -> pl.Expr:
    """Uniform over all states of the same task: where there is one task, of the dataset."""
    return TASK_ROW + uniform_expression(draw, TASK_ROWS)


_GOAL_ROWS: dict[str, Callable[[pl.Expr], pl.Expr]] = {
    "final": final,
    "future": future,
    "geometric": geometric,
    "episode": episode,
    "random": random_state,
}


def goal_rows(
    transitions: pl.DataFrame, strategy: str, k: int, seed: int, discount: float
) -> list[pl.Series]:
    """Rows of the goals of each transition (UInt32): a column for each draw of one strategy.

    A draw is keyed by (seed, strategy, draw) and counted by row: it depends on nothing else.
    """
    row, columns = transitions["row"].to_numpy().astype(np.uint64), []
    for draw in range(draws_per_transition(strategy, k)):
        words = random_words(stream_key(seed, STRATEGY_NUMBERS[strategy], draw), row)
        values = geometric_draws(words, discount) if strategy == "geometric" else words
        columns.append(pl.Series(f"draw_{draw}", values))
    expressions = [
        _GOAL_ROWS[strategy](pl.col(column.name)).alias(column.name) for column in columns
    ]
    # One after another: each is over sooner than another thread has woken up.
    rows = transitions.hstack(columns).select_seq(map(_unchecked, expressions))
    return rows.get_columns()


def _unchecked(values: pl.Expr) -> pl.Expr:
    """As UInt32, without a look for overflow, which would take most of the time."""
    return values.cast(pl.UInt32, wrap_numerical=True)


def draws_per_transition(strategy: str, k: int) -> int:
    """Goals that a strategy gives a transition: k, but the final state is one only."""
    return 1 if strategy == "final" else k


def expected_reward_share(strategy: str, discount: float, same_step: bool) -> pl.Expr:
    """Chance that the goal is exactly the one state that counts: the share of positives if no other did.

    That state is the next one; or, for ``same_step``, the transition's own. With the goals of an
    episode all distinct this is the analytic share of reward-carrying labels.
    """
    if same_step and strategy in ("final", "future", "geometric"):
        return pl.lit(0.0)
    chances = {
        "final": (STATES_LEFT == 1).cast(pl.Float64),
        "future": 1.0 / STATES_LEFT,
        "geometric": pl.when(STATES_LEFT == 1).then(1.0).otherwise(1.0 - discount),
        "episode": 1.0 / (LENGTH + 1),
        "random": 1.0 / TASK_ROWS,
    }
    return chances[strategy]
