"""Where a hindsight goal comes from, as Polars expressions over the transitions.

The expressions speak of these columns of a transition: ``row`` (its row in ``steps.parquet``), ``step``
(t), ``length`` (T, of its episode), ``first_row`` (of its episode), ``task_row`` and ``task_rows`` (the first
row of its task, and how many the task has). States of the episode are t = 0..T.
Strategies after Andrychowicz et al. 2017, section 4.5, and OGBench (Park et al. 2024) for ``geometric``.
"""

import math
from collections.abc import Callable

import polars as pl

from offline_gcrl.draws import stream_key, uniform_expression, unit_expression

ROW, STEP, LENGTH, FIRST_ROW = map(pl.col, ("row", "step", "length", "first_row"))
TASK_ROW, TASK_ROWS = pl.col("task_row"), pl.col("task_rows")
STATES_LEFT = LENGTH - STEP  # Strictly later states of the episode: T - t of them, at least one.
COUNTER = ROW.cast(pl.UInt64)

# The numbers are part of the data: they choose the draws.
STRATEGY_NUMBERS = {"final": 0, "future": 1, "geometric": 2, "episode": 3, "random": 4}


def final(key: int, discount: float) -> pl.Expr:
    """The last state of the episode."""
    return FIRST_ROW + LENGTH


def future(key: int, discount: float) -> pl.Expr:
    """Uniform over the strictly later states of the episode."""
    return ROW + 1 + uniform_expression(key, COUNTER, STATES_LEFT)


def geometric(key: int, discount: float) -> pl.Expr:
    """Offset ~ Geom(1 - discount) on 1, 2, ..., cut at the end of the episode."""
    # Inverse of P(offset > n) = discount^n.
    later = ((1.0 - unit_expression(key, COUNTER)).log() / math.log(discount)).floor()
    return ROW + pl.min_horizontal(1 + later.cast(pl.Int64), STATES_LEFT)


def episode(key: int, discount: float) -> pl.Expr:
    """Uniform over all states of the episode."""
    return FIRST_ROW + uniform_expression(key, COUNTER, LENGTH + 1)


def anywhere(key: int, discount: float) -> pl.Expr:
    """Uniform over all states of the same task: where there is one task, of the dataset."""
    return TASK_ROW + uniform_expression(key, COUNTER, TASK_ROWS)


_GOAL_ROWS: dict[str, Callable[[int, float], pl.Expr]] = {
    "final": final,
    "future": future,
    "geometric": geometric,
    "episode": episode,
    "random": anywhere,
}


def goal_row(strategy: str, draw: int, seed: int, discount: float) -> pl.Expr:
    """Row of the goal of each transition (UInt32), for one strategy and draw.

    The draw is keyed by (seed, strategy, draw) and counted by row: it depends on nothing else.
    """
    key = stream_key(seed, STRATEGY_NUMBERS[strategy], draw)
    return _GOAL_ROWS[strategy](key, discount).cast(pl.UInt32)


def draws(strategy: str, k: int) -> int:
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
