"""What the numbers of a dataset say, in sentences for a person who has to choose an agent.

They claim no more than the intervals hold: agents whose difference could be nothing are called level.
"""

from dataclasses import dataclass

from offline_gcrl.comparison import Comparison
from offline_gcrl.intervals import Estimate
from offline_gcrl.report.results import DatasetResults

OF_NO_USE = 0.05
"""A success rate below which no agent is recommended."""
FIRM_SEEDS = 5
"""Training runs from which a bootstrap over them is no longer coarse: five can be drawn in 126 ways, three in 10."""


@dataclass(frozen=True)
class Verdict:
    """Which agent to use, and how sure one may be."""

    headline: str
    sentences: tuple[str, ...]
    is_clear: bool

    @property
    def text(self) -> str:
        """All of it, as one paragraph."""
        return " ".join([self.headline, *self.sentences])


def verdict(results: DatasetResults) -> Verdict:
    """Say which agent to use on a dataset."""
    comparison = results.comparison
    if comparison is None:
        reasons = dict.fromkeys(results.skipped.values())
        return Verdict("Not judged.", tuple(_sentence(reason) for reason in reasons), False)
    best = comparison.best
    success = _estimate(results.metrics[best][results.metric])
    if success.mean < OF_NO_USE:
        said = f"The best, {best}, reaches {_rate(success)}."
        return Verdict("None of these agents is of use yet.", (said, *_caution(comparison)), False)
    if not comparison.rivals:
        said = f"It reaches {_rate(success)}, and is the only agent that was judged."
        return Verdict(f"{best} stands alone.", (said, *_caution(comparison)), False)
    caution = _caution(comparison)
    if not comparison.level_with_best:
        said = f"It reaches {_rate(success)}."
        return Verdict(f"Use {best}.", (said, *_ahead_of_all(comparison), *caution), True)
    said = f"{best} reaches {_rate(success)}."
    beside = (*_level(comparison), *_lower(comparison), *_soonest(results))
    level = _listed([best, *comparison.level_with_best], "or")
    headline = f"{level}: these episodes cannot tell {_them(comparison)} apart."
    return Verdict(headline, (said, *beside, *caution), False)


def _ahead_of_all(comparison: Comparison) -> list[str]:
    """By how much the best leads, and how likely one of its runs is to be the better one."""
    best = comparison.best
    second, *others = comparison.rivals
    rival = comparison.rivals[second]
    whom = f"every other agent: {second}, the next best, is" if others else f"{second}, which is"
    return [
        f"On the same episodes that is clearly above {whom} {_points(rival.difference)}.",
        f"A training run of {best} scores higher than one of {second} with probability "
        f"{interval(rival.improvement)}.",
    ]


def _level(comparison: Comparison) -> list[str]:
    said = []
    for agent in comparison.level_with_best:
        difference = comparison.rivals[agent].difference
        if round(100 * difference.mean) == 0:
            said.append(f"{agent} is level with it ({_range(difference)} points).")
        else:
            said.append(f"{agent} is {_points(difference)}, which may be nothing.")
    return said


def _lower(comparison: Comparison) -> list[str]:
    lower = [agent for agent, rival in comparison.rivals.items() if rival.is_clearly_lower]
    if not lower:
        return []
    return [f"{_listed(lower, 'and')} {'is' if len(lower) == 1 else 'are'} clearly lower."]


def _soonest(results: DatasetResults) -> list[str]:
    agent = results.soonest()
    return [f"Where they all arrive, {agent} clearly arrives soonest."] if agent else []


def _caution(comparison: Comparison) -> list[str]:
    seeds, episodes = comparison.seeds, comparison.episodes
    if seeds == 1:
        return [
            f"Judged on {episodes} episodes of one training run each: that says how good these "
            "policies are, not how another training would come out."
        ]
    judged = f"Judged on {episodes} episodes of {seeds} training runs each"
    if seeds < FIRM_SEEDS:
        return [f"{judged}; few runs, so take the intervals as rough."]
    return [f"{judged}."]


def _them(comparison: Comparison) -> str:
    return "the two" if len(comparison.level_with_best) == 1 else "them"


def _points(difference: Estimate) -> str:
    """A difference of rates in percentage points, with its interval."""
    return f"{-100 * difference.mean:.0f} points lower ({_range(difference)})"


def _range(difference: Estimate) -> str:
    return f"{_signed(-difference.high)} to {_signed(-difference.low)}"


def _signed(value: float) -> str:
    return f"{round(100 * value)}".replace("-", "\N{MINUS SIGN}")


def _rate(estimate: Estimate) -> str:
    return (
        f"{estimate.mean:.0%} of the goals (95% interval {estimate.low:.0%} to {estimate.high:.0%})"
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


def _listed(names: list[str], word: str) -> str:
    if len(names) == 1:
        return names[0]
    return f"{', '.join(names[:-1])} {word} {names[-1]}"


def _sentence(text: str) -> str:
    text = text.strip()
    return f"{text[:1].upper()}{text[1:]}" + ("" if text.endswith(".") else ".")
