"""What the numbers of a dataset say, in sentences for a person who has to choose an agent.

They claim no more than the intervals hold: agents whose difference could be nothing are called level.
"""

from dataclasses import dataclass

from offline_gcrl.report.results import DatasetResults
from offline_gcrl.statistics.comparison import Comparison
from offline_gcrl.statistics.intervals import Estimate

MIN_USEFUL_RATE = 0.05
"""A success rate below which no agent is recommended."""
MIN_RELIABLE_SEEDS = 5
"""Training runs from which a bootstrap over them is no longer coarse: five can be drawn in 126 ways, three in 10."""
MORE_DATA_HELPS = "More training seeds or episodes would narrow the intervals."


@dataclass(frozen=True)
class Verdict:
    """Which agent to use, and how sure one may be."""

    headline: str
    sentences: tuple[str, ...]
    """What was reached, and by how much more than by others."""
    confidence: tuple[str, ...]
    """What this rests on, and what it cannot show."""
    is_clear: bool

    @property
    def text(self) -> str:
        """All of it, as one paragraph."""
        return " ".join([self.headline, *self.sentences, *self.confidence])


def verdict(results: DatasetResults) -> Verdict:
    """Say which agent to use on a dataset."""
    comparison = results.comparison
    if comparison is None:
        reasons = dict.fromkeys(results.skipped.values())
        return Verdict("Not judged.", tuple(_sentence(reason) for reason in reasons), (), False)
    best = comparison.best
    success = _estimate(results.metrics[best][results.metric])
    judged = _evaluated_on(comparison)
    if success.mean < MIN_USEFUL_RATE:
        said = f"The best, {best}, reached {_rate(success)}."
        return Verdict("None of these agents is of use yet.", (said,), judged, False)
    if not comparison.against_best:
        said = f"It reached {_rate(success)}, and is the only agent that was judged."
        return Verdict(f"{best} stands alone.", (said,), judged, False)
    if not comparison.tied_with_best:
        said = f"It reached {_rate(success)}."
        confidence = (*judged, *_retraining(comparison))
        return Verdict(f"Use {best}.", (said, *_lead(comparison)), confidence, True)
    said = f"{best} reached {_rate(success)}."
    beside = (*_level(comparison), *_lower(comparison), *_fastest(results))
    level = _listed([best, *comparison.tied_with_best], "or")
    headline = f"{level}: these episodes cannot tell {_them(comparison)} apart."
    return Verdict(headline, (said, *beside), (*judged, MORE_DATA_HELPS), False)


def _lead(comparison: Comparison) -> list[str]:
    """By how much the best leads."""
    second, *others = comparison.against_best
    whom = f"any other agent: {second}, the next best," if others else f"{second}, which"
    lead = _points(comparison.against_best[second].difference)
    return [f"On the same goals that is clearly more than {whom} was {lead}."]


def _retraining(comparison: Comparison) -> list[str]:
    """How likely a new training run of the best is the better one."""
    if comparison.seeds == 1:
        return []
    best, second = comparison.best, next(iter(comparison.against_best))
    chance = comparison.against_best[second].improvement
    return [
        f"Trainings differ: {best} won {_percent(chance.mean)} of the pairings with those of {second}, so "
        f"with a probability of {_percent(chance.low)} to {_percent(chance.high)} new ones come out the same way."
    ]


def _level(comparison: Comparison) -> list[str]:
    """What is said of those that may be as good, once where it is the same of several."""
    agents_by_words: dict[str, list[str]] = {}
    for agent in comparison.tied_with_best:
        difference = comparison.against_best[agent].difference
        if round(100 * difference.mean) == 0:
            words = f"level with it ({_range(difference)} points)"
        else:
            words = f"{_points(difference)}, which may be chance"
        agents_by_words.setdefault(words, []).append(agent)
    return [f"{_were(agents)} {words}." for words, agents in agents_by_words.items()]


def _lower(comparison: Comparison) -> list[str]:
    lower = [agent for agent, rival in comparison.against_best.items() if rival.is_clearly_lower]
    if not lower:
        return []
    return [f"{_were(lower)} clearly lower."]


def _fastest(results: DatasetResults) -> list[str]:
    agent = results.fastest()
    return [f"Where all of them arrived, {agent} clearly arrived fastest."] if agent else []


def _evaluated_on(comparison: Comparison) -> tuple[str, ...]:
    """How much was looked at, and what so little cannot show."""
    seeds, episodes = comparison.seeds, comparison.episodes
    if seeds == 1:
        return (
            f"Each agent was judged on {episodes} episodes of one training run: that says how good "
            "these policies are, not how another training would come out.",
        )
    judged = f"Each agent was trained {seeds} times and judged on {episodes} episodes"
    few = "; so few trainings make the intervals rough" if seeds < MIN_RELIABLE_SEEDS else ""
    return (f"{judged}{few}.",)


def _them(comparison: Comparison) -> str:
    return "the two" if len(comparison.tied_with_best) == 1 else "them"


def _points(difference: Estimate) -> str:
    """A difference of rates in percentage points, with its interval."""
    lower = _signed(-difference.mean)
    return f"{lower} {'point' if lower == '1' else 'points'} lower ({_range(difference)})"


def _range(difference: Estimate) -> str:
    return f"{_signed(-difference.high)} to {_signed(-difference.low)}"


def _signed(value: float) -> str:
    return f"{100 * round(value, 2):.0f}".replace("-", "\N{MINUS SIGN}")


def _percent(share: float) -> str:
    """Rounded as in the tables beside it."""
    return f"{round(share, 2):.0%}"


def _rate(estimate: Estimate) -> str:
    return (
        f"{_percent(estimate.mean)} of the goals "
        f"(95% interval {_percent(estimate.low)} to {_percent(estimate.high)})"
    )


def interval(estimate: Estimate) -> str:
    """``0.92 [0.87, 0.96]``; two digits, or one from ten on."""
    digits = 1 if abs(estimate.mean) >= 10 else 2
    rounded = (round(part, digits) + 0.0 for part in (estimate.mean, estimate.low, estimate.high))
    parts = (f"{part:.{digits}f}" for part in rounded)  # Never -0.00.
    mean, low, high = (part.replace("-", "\N{MINUS SIGN}") for part in parts)
    return f"{mean} [{low}, {high}]"


def _estimate(values: dict[str, float]) -> Estimate:
    return Estimate(values["mean"], values["low"], values["high"])


def _were(agents: list[str]) -> str:
    return f"{_listed(agents, 'and')} {'was' if len(agents) == 1 else 'were'}"


def _listed(names: list[str], word: str) -> str:
    if len(names) == 1:
        return names[0]
    return f"{', '.join(names[:-1])} {word} {names[-1]}"


def _sentence(text: str) -> str:
    text = text.strip()
    return f"{text[:1].upper()}{text[1:]}" + ("" if text.endswith(".") else ".")
