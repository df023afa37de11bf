"""The card as a Markdown page."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from offline_gcrl.cards.drawing import MAX_PANELS
from offline_gcrl.cards.sentences import sentences_section
from offline_gcrl.support.numbers import with_interval

DEFINITIONS = """
*reached*: episodes in which any transition reached its original goal, with Wilson's 95% interval. *idle*: transitions
that start and end with their original goal reached. *moving*: transitions that move the achieved goal by more than
{threshold}. *still moving*: transitions up to the last moving one of their episode; later transitions contain no movement
to learn from.
"""
COVERAGE_CAPTIONS = {
    "places": "Goals in the plane of their first two numbers. Stronger colour means more frequent, on a logarithmic "
    "scale. Achieved goals are counted by state, desired goals by transition.",
    "principal": "Goals, which are full states, in the plane of their first two principal axes. Each dimension is in units "
    "of its standard deviation, and each axis shows four standard deviations to either side. Stronger colour means more "
    "frequent, on a logarithmic scale.",
    "dimensions": "Histograms of each goal dimension, on a logarithmic scale: achieved goals by state (lines) and desired "
    "goals by transition (area).",
}


def captions(coverage: str, sizes: Mapping[str, int]) -> dict[str, str]:
    """The captions of a card's figures.

    Args:
        coverage: the kind of coverage, a key of ``COVERAGE_CAPTIONS``.
        sizes: sizes of ``observation``, ``goal`` and ``action``.
    """
    goals = _left_out(sizes["goal"]) if coverage == "dimensions" else ""
    return {
        "coverage": COVERAGE_CAPTIONS[coverage] + goals,
        "actions": "Histograms of each action dimension between its bounds."
        f"{_left_out(sizes['action'])}",
        "episodes": "Histograms of the lengths and returns of episodes; values that are the same for all episodes are not "
        "shown. The return is the sum of the environment's rewards, which are not used for training.",
    }


def facts(numbers: Mapping[str, Any], replays: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """The most important facts of a dataset as text, with the terms of ``DEFINITIONS``."""
    return {
        "episodes that reached their original goal": _rate(numbers["success"]),
        "transitions that stay at their goal": _percent(numbers["idle_share"]),
        "transitions that move the achieved goal": _percent(numbers["moving_share"]),
        "transitions up to the last such move": _percent(numbers["still_moving_share"]),
        "replay of its actions": ", ".join(dict.fromkeys(replay["outcome"] for replay in replays)),
    }


def card_page(card: Mapping[str, Any]) -> str:
    """The Markdown page of a card, from the content of ``card.json``."""
    parts = [
        f"# {card['title']}",
        _introduction(card),
        "## Sources",
        _table("source", {**card["sources"], "**all**": card["all"]}),
        *_tasks(card),
        *sentences_section(card),
        *_isolated_values(card["isolated_values"]),
        DEFINITIONS.format(threshold=card["moving_threshold"]).strip(),
        *_figures(card["figures"]),
        "## Origin",
        _origins(card),
        "## Replay",
        _replay(card["replay"]),
    ]
    return "\n\n".join(parts) + "\n"


def _introduction(card: Mapping[str, Any]) -> str:
    total, sizes = card["all"], card["sizes"]
    validation = 1.0 - total["train_transitions"] / total["transitions"]
    return (
        f"`{card['dataset']}`: {total['episodes']:,} episodes, {total['transitions']:,} "
        f"transitions, {len(card['tasks'])} task(s). An observation has {sizes['observation']} numbers, a goal "
        f"{sizes['goal']}, an action {sizes['action']}. A goal counts as reached {card['success_test']}. "
        f"{validation:.0%} of the transitions are for validation."
    )


def _tasks(card: Mapping[str, Any]) -> list[str]:
    return ["## Tasks", _table("task", card["tasks"])] if len(card["tasks"]) > 1 else []


def _isolated_values(sentences: Sequence[str]) -> list[str]:
    return (
        ["## Isolated values", "\n".join(f"- {each}." for each in sentences)] if sentences else []
    )


def _figures(figures: Mapping[str, str]) -> list[str]:
    """One section per figure."""
    parts = []
    for name, caption in figures.items():
        parts += [f"## {name.capitalize()}", f"![{name}]({name}.svg)", caption]
    return parts


def _table(what: str, rows: Mapping[str, Mapping[str, Any]]) -> str:
    """A table with one row per source or task."""
    columns = (what, "episodes", "transitions", "length", "return", "reached", "idle", "moving")
    lines = [_row((*columns, "still moving")), _row(["---", *["---:"] * len(columns)])]
    for name, values in rows.items():
        shares = (_percent(values[f"{key}_share"]) for key in ("idle", "moving", "still_moving"))
        lines.append(
            _row(
                (
                    name,
                    f"{values['episodes']:,}",
                    f"{values['transitions']:,}",
                    _range(values["length"], ",.0f"),
                    _range(values["return"], ",.4g"),
                    _rate(values["success"]),
                    *shares,
                )
            )
        )
    return "\n".join(lines)


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _range(spread: Mapping[str, float], form: str) -> str:
    """The median with the range, or one number if all values are the same."""
    low, middle, high = (format(spread[key], form) for key in ("min", "p50", "max"))
    return low if low == high else f"{middle} ({low} to {high})"


def _rate(rate: Mapping[str, float] | None) -> str:
    return with_interval(rate) if rate else "not known"


def _percent(share: float | None) -> str:
    if share is None:
        return "not known"
    return f"{share:.1%}" if share in (0.0, 1.0) or 0.001 <= share <= 0.999 else f"{share:.2%}"


def _left_out(dimensions: int) -> str:
    return (
        f" The first {MAX_PANELS} of {dimensions} dimensions are drawn."
        if dimensions > MAX_PANELS
        else ""
    )


def _origins(card: Mapping[str, Any]) -> str:
    lines = []
    for origin in card["origins"]:
        lines.append(
            f"- `{origin['source']}` ({origin['kind']}, task {origin['task']}): {origin['made']}, in "
            f"{origin['environment']}. Licence: {origin['licence']}. Citation: {origin['citation']}."
        )
    versions = ", ".join(f"{name} {number}" for name, number in card["versions"].items())
    collected = ", ".join(card["collected_with"]) or "versions that are not recorded"
    return "\n".join([*lines, "", f"Collected with {collected}; ingested with {versions}."])


def _replay(replays: Mapping[str, Mapping[str, Any]]) -> str:
    """The result of replaying each source, as a list."""
    return "\n".join(f"- `{source}`: {replay['sentence']}." for source, replay in replays.items())
