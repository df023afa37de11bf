"""Which agent is better, and how sure one may be: every agent faced the same episodes, so pair them.

After Agarwal et al. 2021 ("Deep reinforcement learning at the edge of the statistical precipice"):
interquartile means, the probability of improvement, and bootstrap intervals that resample the training
runs; below them, also the episodes that each run was judged on. No interval is narrower than what as
many independent trials would give, because resampling alone claims certainty where all values agree.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.stats import norm, trim_mean

from offline_gcrl.statistics.intervals import CONFIDENCE, Estimate
from offline_gcrl.support.errors import DataError

RESAMPLES = 5000
Values = NDArray[np.float64]
Outcomes = list[list[Values]]
"""What the same episodes gave each agent: by training seed and task, arrays (agents, episodes)."""


@dataclass(frozen=True)
class AgainstBest:
    """An agent beside the best one."""

    difference: Estimate
    """Its success rate minus the best one's; intervals of all against_best hold jointly with 95%."""
    improvement: Estimate
    """Probability that a training run of the best scores higher than one of this agent."""

    @property
    def is_clearly_lower(self) -> bool:
        """Whether the interval of the difference leaves no room for a draw."""
        return self.difference.high < 0


@dataclass(frozen=True)
class RankedAgent:
    """Where an agent stands among all."""

    rank: int
    rank_low: int
    rank_high: int
    """95% interval of the rank over the resamples; 1 is the best."""
    interquartile_mean: Estimate
    """Of the success rates of its runs; with fewer than four of them, their mean."""


@dataclass(frozen=True)
class Comparison:
    """All agents on one dataset, by their success at the last step."""

    ranking: dict[str, RankedAgent]
    """By agent, the best first."""
    against_best: dict[str, AgainstBest]
    """All but the best."""
    improvement: dict[str, dict[str, Estimate]]
    """Probability that a run of the first agent scores higher than one of the second."""
    seeds: int
    episodes: int
    """Of each agent, over all seeds."""

    @property
    def best(self) -> str:
        """The agent with the highest success rate."""
        return next(iter(self.ranking))

    @property
    def tied_with_best(self) -> list[str]:
        """Agents that cannot be told from the best one."""
        return [agent for agent, rival in self.against_best.items() if not rival.is_clearly_lower]


def task_names(table: pl.DataFrame) -> pl.Series:
    """The task of each evaluation episode, with the number of its fixed goal where it has one."""
    if "task_id" not in table.columns or table["task_id"].null_count() == len(table):
        return table["task"]
    label = pl.concat_str("task", pl.lit("/"), pl.col("task_id").cast(pl.String))
    return table.select(pl.coalesce(label, "task").alias("task"))["task"]


def paired_outcomes(
    agents: Mapping[str, Sequence[pl.DataFrame]], column: str = "success"
) -> Outcomes:
    """Values of a column, episode beside episode.

    Args:
        agents: the table of evaluation episodes of each agent and training seed, seeds in one order.
        column: of those tables, a number or a truth value without gaps.

    Raises:
        DataError: the agents were judged on different episodes.
    """
    outcomes: Outcomes = []
    for tables in zip(*agents.values(), strict=True):
        names = [task_names(table) for table in tables]
        for agent, table, tasks in zip(agents, tables, names, strict=True):
            if table["seed"].to_list() != tables[0]["seed"].to_list() or not tasks.equals(names[0]):
                raise DataError(
                    f"results of {agent} are of other episodes than those of {next(iter(agents))}; "
                    "run `dvc repro` to judge all of them again"
                )
        values = np.stack([table[column].cast(pl.Float64).to_numpy() for table in tables])
        which = names[0].to_numpy()
        outcomes.append([values[:, which == task] for task in names[0].unique(maintain_order=True)])
    return outcomes


def compare(agents: Mapping[str, Sequence[pl.DataFrame]], column: str = "success") -> Comparison:
    """Compare agents by a column of their evaluation episodes, higher being better.

    Raises:
        DataError: the agents were judged on different episodes.
    """
    return compare_outcomes(list(agents), paired_outcomes(agents, column))


def join_datasets(datasets: Sequence[Outcomes]) -> Outcomes:
    """Outcomes of the same agents and seeds on several datasets: their tasks beside each other."""
    return [[values for tasks in seed for values in tasks] for seed in zip(*datasets, strict=True)]


def compare_outcomes(
    names: Sequence[str], outcomes: Outcomes, resamples: int = RESAMPLES
) -> Comparison:
    """Compare agents by paired outcomes, higher being better; names in the order of the arrays."""
    scores, resampled = run_scores(outcomes), resampled_scores(outcomes, resamples)
    order = [int(number) for number in np.argsort(-scores.mean((1, 2)), kind="stable")]
    improvement = _improvements(names, scores, resampled)
    ranks, best = _ranks(resampled.mean((2, 3))), order[0]
    own_ranks = _ranks(scores.mean((1, 2))[None])[0].astype(int).tolist()
    return Comparison(
        ranking={
            names[number]: RankedAgent(
                own_ranks[number],
                *_whole_interval(ranks[:, number], own_ranks[number]),
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
    """The mean of each run on each task: (agents, seeds, tasks)."""
    return np.array([[values.mean(1) for values in tasks] for tasks in outcomes]).transpose(2, 0, 1)


def resampled_scores(outcomes: Outcomes, resamples: int = RESAMPLES) -> Values:
    """Scores of runs in a bootstrap over training seeds, and within them over each task's episodes.

    Every agent gets the same draws, which keeps the pairing; tasks are strata and are never resampled.

    Returns:
        (resamples, agents, seeds, tasks), the same at every call.
    """
    random = np.random.default_rng(0)
    seeds, tasks, agents = len(outcomes), len(outcomes[0]), len(outcomes[0][0])
    chosen = random.integers(seeds, size=(resamples, seeds))
    scores = np.empty((resamples, agents, seeds, tasks))
    for seed in range(seeds):
        resample, place = np.nonzero(chosen == seed)
        for task, values in enumerate(outcomes[seed]):
            episodes = values.shape[1]
            # How often each episode was drawn, as many rows as this seed was.
            counts = random.multinomial(episodes, np.full(episodes, 1 / episodes), len(place))
            scores[resample, :, place, task] = counts @ values.T / episodes
    return scores


def interquartile_mean(scores: Values) -> Values:
    """Mean of the middle half of all runs on all tasks, the last two axes (Agarwal et al. 2021)."""
    flat = scores.reshape(*scores.shape[:-2], -1)
    middle: Values = trim_mean(flat, 0.25, axis=-1)
    return middle


def probability_of_improvement(first: Values, second: Values) -> Values:
    """P(a run of the first > a run of the second), ties one half: Mann and Whitney's U, averaged over tasks.

    Args:
        first: (..., seeds, tasks).
        second: the same shape.

    Returns:
        (...).
    """
    above = np.sign(first[..., :, None, :] - second[..., None, :, :])
    chance: Values = (0.5 + above / 2).mean((-3, -2, -1))
    return chance


def score_interval(rate: float, trials: float, confidence: float = CONFIDENCE) -> Estimate:
    """Wilson's interval (1927) for a rate that need not be of whole successes."""
    z = norm.ppf((1 + confidence) / 2)
    centre = (rate + z**2 / (2 * trials)) / (1 + z**2 / trials)
    spread = rate * (1 - rate) / trials + z**2 / (4 * trials**2)
    half = z * np.sqrt(spread) / (1 + z**2 / trials)
    return Estimate(rate, float(max(0.0, centre - half)), float(min(1.0, centre + half)))


def paired_rate_difference(first: Values, second: Values, confidence: float) -> Estimate:
    """Difference of two rates on the same trials (Newcombe 1998, method 10).

    Args:
        first: ones and zeros, (trials,).
        second: the same trials.
        confidence: of the interval.
    """
    trials = len(first)
    one, two = (score_interval(float(x.mean()), trials, confidence) for x in (first, second))
    correlation = _continuity_corrected_correlation(first, second)

    def reach(left: float, right: float) -> float:
        return float(np.sqrt(left**2 - 2 * correlation * left * right + right**2))

    difference = one.mean - two.mean
    return Estimate(
        difference,
        difference - reach(one.mean - one.low, two.high - two.mean),
        difference + reach(one.high - one.mean, two.mean - two.low),
    )


def _continuity_corrected_correlation(first: Values, second: Values) -> float:
    both, neither = float(first @ second), float((1 - first) @ (1 - second))
    only_first, only_second = float(first @ (1 - second)), float((1 - first) @ second)
    margins = first.sum() * (1 - first).sum() * second.sum() * (1 - second).sum()
    if margins == 0:
        return 0.0
    product = both * neither - only_first * only_second
    corrected = max(product - len(first) / 2, 0.0) if product > 0 else product
    return float(corrected / np.sqrt(margins))


def _difference(
    outcomes: Outcomes, scores: Values, resampled: Values, number: int, best: int
) -> Estimate:
    """An agent's score minus the best one's; with the others', it holds jointly (Bonferroni)."""
    confidence = 1 - (1 - CONFIDENCE) / max(1, len(scores) - 1)
    return _paired_difference(outcomes, scores, resampled, number, best, confidence)


def paired_difference(
    outcomes: Outcomes, first: int, second: int, confidence: float = CONFIDENCE
) -> Estimate:
    """The score of one agent minus that of another, by their places in the arrays, on the same episodes."""
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
    """A bootstrap, never narrower than Newcombe's interval for rates."""
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
    """Never narrower than Wilson's interval on as many independent pairs of runs as there are runs."""
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
        # Of the middle half of the runs, so of half as many episodes where runs were cut.
        runs = scores.shape[1] * scores.shape[2]
        kept = (runs - 2 * int(runs / 4)) / runs
        floor = score_interval(mean, len(pooled) * kept)
        low, high = min(low, floor.low), max(high, floor.high)
    return Estimate(mean, low, high)


def _ranks(means: Values) -> Values:
    """Ranks of the agents in each resample, 1 the highest; equal ones share the best of their places."""
    ranks: Values = 1.0 + (means[:, None, :] > means[:, :, None]).sum(2)
    return ranks


def _whole_interval(ranks: Values, rank: int) -> tuple[int, int]:
    low, high = _quantiles(ranks)
    return min(rank, int(np.floor(low))), max(rank, int(np.ceil(high)))


def _quantiles(draws: Values, confidence: float = CONFIDENCE) -> tuple[float, float]:
    low, high = np.quantile(draws, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)
