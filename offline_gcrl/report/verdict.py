"""Sentences that recommend an agent for a dataset, or say that no agent can be recommended.

A sentence calls a difference clear only if its 95% interval excludes zero.
"""

from dataclasses import dataclass, replace

from offline_gcrl.report.numbers import complete_estimate
from offline_gcrl.report.results import DatasetResults
from offline_gcrl.statistics.comparison import Comparison
from offline_gcrl.statistics.intervals import Estimate

MIN_USEFUL_RATE = 0.05
"""No agent is recommended if the best success rate is below this one."""
MIN_RELIABLE_SEEDS = 5
"""With fewer training runs, the text warns that intervals are rough: 5 runs can be resampled in 126 ways, 3 in only 10."""
FAR_ABOVE = 0.1
"""Difference of success at any step and at the last step from which the text names it, if the intervals are apart, too."""
MORE_DATA_HELPS = "More training seeds or episodes would narrow the intervals."


@dataclass(frozen=True)
class Verdict:
    """Which agent to use, and how certain the recommendation is."""

    headline: str
    sentences: tuple[str, ...]
    """Success rate of the best agent, and its differences from the others."""
    confidence: tuple[str, ...]
    """The number of training runs and episodes, and what they cannot show."""
    is_clear: bool
    """Whether one agent is clearly better than all others."""

    @property
    def text(self) -> str:
        """Headline and all sentences as one paragraph."""
        return " ".join([self.headline, *self.sentences, *self.confidence])


def verdict(results: DatasetResults) -> Verdict:
    """Recommend an agent for a dataset, if the results allow it, and name the agents that leave goals again."""
    found = _recommendation(results)
    return replace(found, sentences=(*found.sentences, *_left_again(results)))


def _left_again(results: DatasetResults) -> list[str]:
    """A sentence per agent whose success at any step is far above that at the last step, which decides here."""
    if results.comparison is None or results.metric != "success_rate":
        return []
    sentences = []
    for agent in results.comparison.ranking:
        last, ever = (
            complete_estimate(results.metrics[agent][name])
            for name in ("success_rate", "success_any_rate")
        )
        if ever.mean - last.mean >= FAR_ABOVE and ever.low > last.high:
            sentences.append(
                f"{agent} leaves goals again: it reached {_percent(ever.mean)} of them at some step, and was at "
                f"{_percent(last.mean)} of them at the last step."
            )
    return sentences


def _recommendation(results: DatasetResults) -> Verdict:
    comparison = results.comparison
    if comparison is None:
        reasons = dict.fromkeys(results.skipped.values())
        return Verdict("Not evaluated.", tuple(_sentence(reason) for reason in reasons), (), False)
    best = comparison.best
    success = complete_estimate(results.metrics[best][results.metric])
    basis = _evaluated_on(comparison)
    if success.mean < MIN_USEFUL_RATE:
        sentence = f"The best agent, {best}, reached {_rate(success)}."
        return Verdict("No agent reaches the goals yet.", (sentence,), basis, False)
    if not comparison.against_best:
        sentence = f"It reached {_rate(success)}. There is no other agent to compare it with."
        return Verdict(f"{best} is the only agent.", (sentence,), basis, False)
    if not comparison.tied_with_best:
        sentence = f"It reached {_rate(success)}."
        confidence = (*basis, *_retraining(comparison))
        return Verdict(f"Use {best}.", (sentence, *_lead(comparison)), confidence, True)
    sentence = f"{best} reached {_rate(success)}."
    others = (*_level(comparison), *_lower(comparison), *_fastest(results))
    level = _listed([best, *comparison.tied_with_best], "or")
    headline = f"{level}: there is no clear difference between {_them(comparison)}."
    return Verdict(headline, (sentence, *others), (*basis, MORE_DATA_HELPS), False)


def _lead(comparison: Comparison) -> list[str]:
    """By how much the best agent leads."""
    second, *others = comparison.against_best
    rival = (
        f"any other agent: {second}, the next best, differs"
        if others
        else f"{second}, which differs"
    )
    lead = _points(comparison.against_best[second].difference)
    return [f"On the same goals, this is clearly more than {rival} by {lead}."]


def _retraining(comparison: Comparison) -> list[str]:
    """How likely a new training run of the best agent is better than one of the second."""
    if comparison.seeds == 1:
        return []
    best, second = comparison.best, next(iter(comparison.against_best))
    chance = comparison.against_best[second].improvement
    return [
        f"{best} scored higher than {second} in {_percent(chance.mean)} of the pairs of training runs "
        f"(95% interval of this probability: {_percent(chance.low)} to {_percent(chance.high)})."
    ]


def _level(comparison: Comparison) -> list[str]:
    """Sentences on agents that may be as good as the best; agents with the same numbers share one."""
    agents_by_words: dict[tuple[tuple[str, str], str], list[str]] = {}
    for agent in comparison.tied_with_best:
        difference = comparison.against_best[agent].difference
        if round(100 * difference.mean) == 0:
            words = ("was", "were"), f"level with it ({_range(difference)} percentage points)"
        else:
            words = ("differs", "differ"), f"by {_points(difference)}, which may be chance"
        agents_by_words.setdefault(words, []).append(agent)
    return [
        f"{_listed(agents, 'and')} {verbs[len(agents) > 1]} {rest}."
        for (verbs, rest), agents in agents_by_words.items()
    ]


def _lower(comparison: Comparison) -> list[str]:
    lower = [agent for agent, rival in comparison.against_best.items() if rival.is_clearly_lower]
    if not lower:
        return []
    return [f"{_were(lower)} clearly lower."]


def _fastest(results: DatasetResults) -> list[str]:
    agent = results.fastest()
    if agent is None:
        return []
    return [f"In the episodes that all of them solved, {agent} clearly needed the fewest steps."]


def _evaluated_on(comparison: Comparison) -> tuple[str, ...]:
    """The number of training runs and episodes, with a warning if there are few runs."""
    seeds, episodes = comparison.seeds, comparison.episodes
    agents = "Each agent" if comparison.against_best else "The agent"
    if seeds == 1:
        return (
            f"{agents} was trained with one seed and evaluated on {episodes} episodes.",
            "One training run shows how good a policy is, not how much training runs differ.",
        )
    basis = f"{agents} was trained with {seeds} seeds and evaluated on {episodes} episodes."
    if seeds >= MIN_RELIABLE_SEEDS:
        return (basis,)
    return (basis, "With so few training runs, the intervals are rough.")


def _them(comparison: Comparison) -> str:
    return "the two" if len(comparison.tied_with_best) == 1 else "them"


def _points(difference: Estimate) -> str:
    """A difference of rates in percentage points with its interval, with the signs of the table."""
    points = _signed(difference.mean)
    unit = "percentage point" if points == "\N{MINUS SIGN}1" else "percentage points"
    return f"{points} {unit} ({_range(difference)})"


def _range(difference: Estimate) -> str:
    return f"{_signed(difference.low)} to {_signed(difference.high)}"


def _signed(value: float) -> str:
    return f"{100 * round(value, 2):.0f}".replace("-", "\N{MINUS SIGN}")


def _percent(share: float) -> str:
    """A share as a percentage, rounded as in the tables."""
    return f"{round(share, 2):.0%}"


def _rate(estimate: Estimate) -> str:
    return (
        f"{_percent(estimate.mean)} of the goals "
        f"(95% interval {_percent(estimate.low)} to {_percent(estimate.high)})"
    )


def _were(agents: list[str]) -> str:
    return f"{_listed(agents, 'and')} {'was' if len(agents) == 1 else 'were'}"


def _listed(names: list[str], word: str) -> str:
    if len(names) == 1:
        return names[0]
    return f"{', '.join(names[:-1])} {word} {names[-1]}"


def _sentence(text: str) -> str:
    text = text.strip()
    return f"{text[:1].upper()}{text[1:]}" + ("" if text.endswith(".") else ".")
