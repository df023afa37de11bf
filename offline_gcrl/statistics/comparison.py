"""Comparison of agents that were evaluated on the same episodes, with paired statistics.

The methods follow Agarwal et al. 2021 ("Deep reinforcement learning at the edge of the statistical precipice"):
interquartile means, the probability of improvement, and bootstrap intervals that resample the training runs. The
bootstrap here also resamples the evaluation episodes of each run. If all values agree, resampling alone gives intervals
of width zero; therefore no interval of a rate is narrower than the interval of as many independent trials.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from offline_gcrl.statistics.intervals import CONFIDENCE, Estimate
from offline_gcrl.statistics.paired_rates import paired_rate_difference, score_interval
from offline_gcrl.support.errors import DataError

RESAMPLES = 5000
DIGITS = 12
"""Digits of means that are compared."""
Values = NDArray[np.float64]
Outcomes = list[list[Values]]
"""Results of all agents on the same episodes: arrays (agents, episodes), by training seed and task."""


@dataclass(frozen=True)
class AgainstBest:
    """An agent compared with the best agent."""

    difference: Estimate
    """Success rate of this agent minus that of the best; the intervals of all agents have a joint confidence of 95%."""
    improvement: Estimate
    """Probability that a training run of the best agent scores higher than one of this agent."""

    @property
    def is_clearly_lower(self) -> bool:
        """Whether the interval of the difference is below zero."""
        return self.difference.high < 0


@dataclass(frozen=True)
class RankedAgent:
    """The rank of an agent."""

    rank: int
    rank_low: int
    rank_high: int
    """Upper bound of the 95% interval of the rank over the resamples; rank 1 is the best."""
    interquartile_mean: Estimate
    """Interquartile mean of the success rates of its runs; the mean if there are fewer than four runs."""


@dataclass(frozen=True)
class Comparison:
    """Comparison of all agents on one dataset by one column of the evaluation episodes, such as ``success``."""

    ranking: dict[str, RankedAgent]
    """Ranks by agent, the best agent first."""
    against_best: dict[str, AgainstBest]
    """All agents except the best, compared with the best."""
    improvement: dict[str, dict[str, Estimate]]
    """Probability that a run of the first agent scores higher than one of the second."""
    seeds: int
    episodes: int
    """Evaluation episodes per agent, over all seeds."""

    @property
    def best(self) -> str:
        """The agent with the highest success rate."""
        return next(iter(self.ranking))

    @property
    def tied_with_best(self) -> list[str]:
        """Agents whose difference from the best is not clear: its interval contains zero."""
        return [agent for agent, rival in self.against_best.items() if not rival.is_clearly_lower]


def task_names(table: pl.DataFrame) -> pl.Series:
    """The task of each evaluation episode, with the number of its fixed task if it has one."""
    if "task_id" not in table.columns or table["task_id"].null_count() == len(table):
        return table["task"]
    label = pl.concat_str("task", pl.lit("/"), pl.col("task_id").cast(pl.String))
    return table.select(pl.coalesce(label, "task").alias("task"))["task"]


def paired_outcomes(
    agents: Mapping[str, Sequence[pl.DataFrame]], column: str = "success"
) -> Outcomes:
    """Values of a column of the evaluation episodes, paired by episode.

    Args:
        agents: tables of evaluation episodes by agent, one per training seed, in the same order for all agents.
        column: a column of numbers or booleans without nulls.

    Raises:
        DataError: the agents were evaluated on different episodes.
    """
    outcomes: Outcomes = []
    for tables in zip(*agents.values(), strict=True):
        names = [task_names(table) for table in tables]
        for agent, table, tasks in zip(agents, tables, names, strict=True):
            if table["seed"].to_list() != tables[0]["seed"].to_list() or not tasks.equals(names[0]):
                raise DataError(
                    f"{agent} was evaluated on other episodes than {next(iter(agents))}; run `dvc repro` to "
                    "evaluate all agents again"
                )
        values = np.stack([table[column].cast(pl.Float64).to_numpy() for table in tables])
        which = names[0].to_numpy()
        outcomes.append([values[:, which == task] for task in names[0].unique(maintain_order=True)])
    return outcomes


def compare(agents: Mapping[str, Sequence[pl.DataFrame]], column: str = "success") -> Comparison:
    """Compare agents by a column of their evaluation episodes; higher values are better.

    Raises:
        DataError: the agents were evaluated on different episodes.
    """
    return compare_outcomes(list(agents), paired_outcomes(agents, column))


def join_datasets(datasets: Sequence[Outcomes]) -> Outcomes:
    """Outcomes of the same agents and seeds on several datasets, joined: the tasks of all datasets."""
    return [[values for tasks in seed for values in tasks] for seed in zip(*datasets, strict=True)]


def compare_outcomes(
    names: Sequence[str], outcomes: Outcomes, resampled: Values | None = None
) -> Comparison:
    """Compare agents by paired outcomes; higher values are better.

    Args:
        names: names of the agents, in the order of the first axis of the arrays.
        outcomes: paired outcomes.
        resampled: scores in a bootstrap, (resamples, agents, seeds, tasks); ``resampled_scores`` by default.
    """
    scores = run_scores(outcomes)
    resampled = resampled_scores(outcomes) if resampled is None else resampled
    means = _rounded_means(scores)
    order = [int(number) for number in np.argsort(-means, kind="stable")]
    improvement = _improvements(names, scores, resampled)
    ranks, best = _ranks(_rounded_means(resampled)), order[0]
    own_ranks = _ranks(means[None])[0].astype(int).tolist()
    return Comparison(
        ranking={
            names[number]: RankedAgent(
                own_ranks[number],
                *_integer_interval(ranks[:, number], own_ranks[number]),
                _interquartile_estimate(outcomes, scores, resampled, number),
            )
            for number in order
        },
        against_best={
            names[number]: AgainstBest(
                _difference(outcomes, scores, resampled, number, best),
                improvement[names[best]][names[number]],
            )
            for number in order[1:]
        },
        improvement=improvement,
        seeds=len(outcomes),
        episodes=sum(values.shape[1] for tasks in outcomes for values in tasks),
    )


def run_scores(outcomes: Outcomes) -> Values:
    """The mean of each run on each task, (agents, seeds, tasks)."""
    return np.array([[values.mean(1) for values in tasks] for tasks in outcomes]).transpose(2, 0, 1)


def resampled_scores(outcomes: Outcomes, resamples: int = RESAMPLES, stream: int = 0) -> Values:
    """Scores of runs in a bootstrap over training seeds and, within each seed, over the episodes of each task.

    All agents use the same draws, which preserves the pairing. Tasks are strata and are not resampled.

    Args:
        outcomes: paired outcomes.
        resamples: number of bootstrap resamples.
        stream: number of the random stream; different numbers give independent draws.

    Returns:
        (resamples, agents, seeds, tasks), the same at every call.
    """
    random = np.random.default_rng(stream)
    seeds, tasks, agents = len(outcomes), len(outcomes[0]), len(outcomes[0][0])
    chosen = random.integers(seeds, size=(resamples, seeds))
    scores = np.empty((resamples, agents, seeds, tasks))
    for seed in range(seeds):
        resample, place = np.nonzero(chosen == seed)
        for task, values in enumerate(outcomes[seed]):
            episodes = values.shape[1]
            # Number of times each episode is drawn, for every draw of this seed.
            counts = random.multinomial(episodes, np.full(episodes, 1 / episodes), len(place))
            scores[resample, :, place, task] = counts @ values.T / episodes
    return scores


def interquartile_mean(scores: Values) -> Values:
    """Mean of the middle half of the scores over the last two axes, seeds and tasks (Agarwal et al. 2021)."""
    flat = scores.reshape(*scores.shape[:-2], -1)
    cut = flat.shape[-1] // 4
    ordered = np.partition(flat, (cut, flat.shape[-1] - cut - 1), axis=-1)
    middle: Values = ordered[..., cut : flat.shape[-1] - cut].mean(axis=-1)
    return middle


def probability_of_improvement(first: Values, second: Values) -> Values:
    """Probability that a run of the first agent scores higher than one of the second, averaged over tasks.

    It is the statistic U of Mann and Whitney, divided by the number of pairs; ties count one half.

    Args:
        first: scores of the first agent, (..., seeds, tasks).
        second: scores of the second agent, (..., seeds, tasks).

    Returns:
        (...).
    """
    above = np.sign(first[..., :, None, :] - second[..., None, :, :])
    chance: Values = (0.5 + above / 2).mean((-3, -2, -1))
    return chance


def _difference(
    outcomes: Outcomes, scores: Values, resampled: Values, number: int, best: int
) -> Estimate:
    """Score of an agent minus that of the best; the confidence is joint over all agents (Bonferroni)."""
    confidence = 1 - (1 - CONFIDENCE) / max(1, len(scores) - 1)
    return _paired_difference(outcomes, scores, resampled, number, best, confidence)


def paired_difference(
    outcomes: Outcomes, first: int, second: int, confidence: float = CONFIDENCE
) -> Estimate:
    """Score of one agent minus that of another on the same episodes.

    Args:
        outcomes: paired outcomes.
        first: index of the first agent in the arrays.
        second: index of the second agent.
        confidence: confidence of the interval.
    """
    scores, resampled = run_scores(outcomes), resampled_scores(outcomes)
    return _paired_difference(outcomes, scores, resampled, first, second, confidence)


def _paired_difference(
    outcomes: Outcomes,
    scores: Values,
    resampled: Values,
    first: int,
    second: int,
    confidence: float,
) -> Estimate:
    """A bootstrap interval, for rates extended to contain Newcombe's interval."""
    mean = float(scores[first].mean() - scores[second].mean())
    draws = (resampled[:, first] - resampled[:, second]).mean((1, 2))
    low, high = _quantiles(draws, confidence)
    pooled = np.concatenate([values for tasks in outcomes for values in tasks], axis=1)
    if np.isin(pooled, (0.0, 1.0)).all():
        floor = paired_rate_difference(pooled[first], pooled[second], confidence)
        low, high = min(low, floor.low), max(high, floor.high)
    return Estimate(mean, low, high)


def _improvements(
    names: Sequence[str], scores: Values, resampled: Values
) -> dict[str, dict[str, Estimate]]:
    runs = scores.shape[1] * scores.shape[2]
    return {
        first: {
            second: _improvement(scores, resampled, i, j, runs)
            for j, second in enumerate(names)
            if j != i
        }
        for i, first in enumerate(names)
    }


def _improvement(scores: Values, resampled: Values, i: int, j: int, runs: int) -> Estimate:
    """A bootstrap interval, extended to contain Wilson's interval for as many independent pairs as there are runs."""
    mean = float(probability_of_improvement(scores[i], scores[j]))
    low, high = _quantiles(probability_of_improvement(resampled[:, i], resampled[:, j]))
    floor = score_interval(mean, runs)
    return Estimate(mean, min(low, floor.low), max(high, floor.high))


def _interquartile_estimate(
    outcomes: Outcomes, scores: Values, resampled: Values, number: int
) -> Estimate:
    mean = float(interquartile_mean(scores[number]))
    low, high = _quantiles(interquartile_mean(resampled[:, number]))
    pooled = np.concatenate([values[number] for tasks in outcomes for values in tasks])
    if np.isin(pooled, (0.0, 1.0)).all():
        # The interquartile mean drops some runs, so the interval counts only the episodes of the others.
        runs = scores.shape[1] * scores.shape[2]
        kept = (runs - 2 * int(runs / 4)) / runs
        floor = score_interval(mean, len(pooled) * kept)
        low, high = min(low, floor.low), max(high, floor.high)
    return Estimate(mean, low, high)


def _rounded_means(scores: Values) -> Values:
    """Means over seeds and tasks; sums of the same rates in another order are equal only after rounding."""
    means: Values = scores.mean((-2, -1)).round(DIGITS)
    return means


def _ranks(means: Values) -> Values:
    """Ranks of the agents in each resample; 1 is the best, and equal means share the best of their ranks."""
    ranks: Values = 1.0 + (means[:, None, :] > means[:, :, None]).sum(2)
    return ranks


def _integer_interval(ranks: Values, rank: int) -> tuple[int, int]:
    low, high = _quantiles(ranks)
    return min(rank, int(np.floor(low))), max(rank, int(np.ceil(high)))


def _quantiles(draws: Values, confidence: float = CONFIDENCE) -> tuple[float, float]:
    low, high = np.quantile(draws, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)
