"""Relabelling strategies as Polars expressions over transitions.

The expressions use these UInt32 columns of a transition: ``row`` (its row in ``steps.parquet``), ``step`` (t), ``length``
(T of its episode), ``first_row`` (first row of its episode), ``task_row`` and ``task_rows`` (first row and number of rows
of its task). They also use a column of draws: random words, or offsets for ``geometric``. The states of an episode are
t = 0..T. The strategies follow Andrychowicz et al. 2017, section 4.5, and ``geometric`` follows OGBench (Park et al. 2024).
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
STATES_LEFT = LENGTH - STEP  # Number of strictly later states in the episode, T - t, at least one.

# These numbers are part of the keys of the draws. Changing one changes the data.
STRATEGY_NUMBERS = {"final": 0, "future": 1, "geometric": 2, "episode": 3, "random": 4}

RANDOM = "random"
"""The strategy whose goals may be outside of the episode."""


def final(draw: pl.Expr) -> pl.Expr:
    """The last state of the episode."""
    return FIRST_ROW + LENGTH


def future(draw: pl.Expr) -> pl.Expr:
    """Uniform over the strictly later states of the episode."""
    return ROW + 1 + uniform_expression(draw, STATES_LEFT)


def geometric(draw: pl.Expr) -> pl.Expr:
    """Offset from Geom(1 - discount) on 1, 2, ..., cut at the end of the episode."""
    return ROW + pl.min_horizontal(draw, STATES_LEFT)


def episode(draw: pl.Expr) -> pl.Expr:
    """Uniform over all states of the episode."""
    return FIRST_ROW + uniform_expression(draw, LENGTH + 1)


def random_state(draw: pl.Expr) -> pl.Expr:
    """Uniform over all states of the same task, which is the complete dataset if there is one task."""
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
    """Draw goal rows for transitions, with one strategy.

    A draw depends only on its key (seed, strategy, draw) and on the transition's row, which is the counter.

    Args:
        transitions: the columns that the module's docstring describes.
        strategy: the name of the strategy.
        k: draws per transition.
        seed: seed of the draws.
        discount: parameter of ``geometric``.

    Returns:
        One UInt32 series of goal rows per draw.
    """
    row, columns = transitions["row"].to_numpy().astype(np.uint64), []
    for draw in range(draws_per_transition(strategy, k)):
        words = random_words(stream_key(seed, STRATEGY_NUMBERS[strategy], draw), row)
        values = geometric_draws(words, discount) if strategy == "geometric" else words
        columns.append(pl.Series(f"draw_{draw}", values))
    expressions = [
        _GOAL_ROWS[strategy](pl.col(column.name)).alias(column.name) for column in columns
    ]
    # Sequentially, because each expression takes less time than waking up another thread.
    rows = transitions.hstack(columns).select_seq(map(_unchecked, expressions))
    return rows.get_columns()


def _unchecked(values: pl.Expr) -> pl.Expr:
    """Cast to UInt32 without a check for overflow, which would take most of the time."""
    return values.cast(pl.UInt32, wrap_numerical=True)


def draws_per_transition(strategy: str, k: int) -> int:
    """The number of goals per transition: k, or 1 for ``final``, because an episode has one final state."""
    return 1 if strategy == "final" else k


def expected_reward_share(strategy: str, discount: float, same_step: bool) -> pl.Expr:
    """The probability that the goal is drawn from the next state, or from the transition's own for ``same_step``.

    This is the expected share of positive labels if all goals are distinct and the success test has no tolerance.
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
