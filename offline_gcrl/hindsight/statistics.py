"""Statistics of hindsight goals: measured and expected shares of positive labels, and steps to the goal."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from offline_gcrl.config import Goal, Relabel
from offline_gcrl.config.outputs import EPISODES, TABLE
from offline_gcrl.goals.instructions import NONE
from offline_gcrl.hindsight.captions import instruction_column, instruction_reward_column
from offline_gcrl.hindsight.relabel import TRANSITIONS_PER_CHUNK, iterate_transitions
from offline_gcrl.hindsight.strategies import draws_per_transition, expected_reward_share
from offline_gcrl.hindsight.table import goal_column, reward_column
from offline_gcrl.support.bins import whole_number_edges

WITHIN_EPISODE = ("final", "future", "geometric", "episode")
HISTOGRAM_BINS = 40


def describe(episodes: Path, folder: Path, settings: Relabel, goal: Goal) -> dict[str, Any]:
    """The statistics of a hindsight table, for ``stats.json``.

    A label is positive if its goal counts as reached. ``expected_if_exact`` is the share of positive labels expected in
    theory if only the exact next state counted. The measured share is larger because of the tolerance.
    """
    table = pl.scan_parquet(folder / TABLE)
    lengths = pl.read_parquet(episodes / EPISODES, columns=["first_row", "length", "task"])
    strategies: dict[str, dict[str, Any]] = {
        strategy: {
            "draws": draws_per_transition(strategy, settings.k),
            "positive_share": _positive_share(table, strategy, settings, goal),
            "expected_if_exact": _expected_share(lengths, strategy, settings, goal),
            **_goal_distances(table, strategy, settings),
            **_sentences(table, strategy),
        }
        for strategy in settings.strategies
    }
    for strategy in ("current", "original"):
        if reward_column(strategy) in table.collect_schema():
            share = _positive_share(table, strategy, settings, goal)
            own = {"draws": 1, "positive_share": share}
            strategies[strategy] = own | _sentences(table, strategy)
    statistics = {
        "transitions": int(lengths["length"].sum()),
        "k": settings.k,
        "seed": settings.seed,
        "discount": settings.discount,
        "strategies": strategies,
    }
    if "future" in strategies and "original" in strategies:
        statistics["her"] = _her_mixture(strategies, settings.k)
    return statistics


def _positive_share(table: pl.LazyFrame, strategy: str, settings: Relabel, goal: Goal) -> float:
    # Dense rewards are minus the distance. A label counts as positive if the distance is within the tolerance.
    threshold = -(goal.success.tolerance or 0.0) if settings.reward == "dense" else 0.0
    count = 1 if strategy in ("current", "original") else draws_per_transition(strategy, settings.k)
    columns = [reward_column(strategy, draw) for draw in range(count)]
    shares = table.select((pl.col(columns) >= threshold).mean()).collect(engine="streaming")
    return float(np.mean(shares.row(0)))


def _sentences(table: pl.LazyFrame, strategy: str) -> dict[str, Any]:
    """Shares of goals with a sentence, and of these with a positive label; nothing for data without captions."""
    prefix = instruction_column(strategy, 0).removesuffix("0")
    columns = [name for name in table.collect_schema() if name.startswith(prefix)]
    numbers = [name for name in columns if "_reward_" not in name]
    if not numbers:
        return {}
    labels = [instruction_reward_column(strategy, draw) for draw in range(len(numbers))]
    said, positive = (
        float(np.mean(table.select(part).collect(engine="streaming").row(0)))
        for part in ((pl.col(numbers) != NONE).mean(), (pl.col(labels) == 0).mean())
    )
    return {
        "sentence_share": said,
        "positive_sentence_share": positive / said if said else 0.0,
    }


def _expected_share(lengths: pl.DataFrame, strategy: str, settings: Relabel, goal: Goal) -> float:
    same_step = goal.success.kind == "same_step"
    chance = expected_reward_share(strategy, settings.discount, same_step)
    means, weights = [], []
    for chunk in iterate_transitions(lengths, TRANSITIONS_PER_CHUNK):
        means.append(chunk.select(chance.mean().alias("mean")).item())
        weights.append(len(chunk))
    return float(np.average(means, weights=weights))


def _goal_distances(table: pl.LazyFrame, strategy: str, settings: Relabel) -> dict[str, Any]:
    """Steps from transition to goal (negative for past goals), for strategies within the episode."""
    if strategy not in WITHIN_EPISODE:
        return {}
    columns = [
        goal_column(strategy, draw) for draw in range(draws_per_transition(strategy, settings.k))
    ]
    counts = (
        table.unpivot(on=columns, index="row", value_name="goal")
        .group_by(steps=pl.col("goal").cast(pl.Int64) - pl.col("row"))
        .len("count")
        .sort("steps")
        .collect(engine="streaming")
    )
    steps, count = counts["steps"].to_numpy(), counts["count"].to_numpy()
    cumulative = count.cumsum() / count.sum()
    edges = whole_number_edges(int(steps[0]), int(steps[-1]), HISTOGRAM_BINS)
    bins, _ = np.histogram(steps, bins=edges, weights=count)
    return {
        "steps_ahead": {
            "mean": float(np.average(steps, weights=count)),
            **{f"p{p}": int(steps[np.searchsorted(cumulative, p / 100)]) for p in (10, 50, 90)},
            "histogram": {"edges": edges.tolist(), "counts": bins.astype(int).tolist()},
        }
    }


def _her_mixture(strategies: dict[str, Any], k: int) -> dict[str, Any]:
    """Shares for HER's replay: each transition once with its original goal and k times with a future goal.

    With distinct goals, the expected share of positive labels is k H_T / (T (1 + k)), and not k / (1 + k), which is the
    share of relabelled transitions.
    """
    future, original = strategies["future"], strategies["original"]
    return {
        "positive_share": (k * future["positive_share"] + original["positive_share"]) / (1 + k),
        "expected_if_exact": k * future["expected_if_exact"] / (1 + k),
        "relabelled_share": k / (1 + k),
    }
