"""The card as a page that a person reads, in Markdown."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from offline_gcrl.cards.drawing import MAX_PANELS

DEFINITIONS = """
*reached*: episodes in which some transition reached the goal that was pursued in it, with Wilson's 95% interval.
*idle*: transitions that start and end with that goal reached. *moving*: transitions that move the achieved goal
by more than {threshold}. *still moving*: transitions after which, or in which, the achieved goal of their
episode still moves by as much; what comes later in it teaches only to stay.
"""
COVERAGE_CAPTIONS = {
    "places": "Where goals lie, in the plane of their first two numbers; stronger is more often, on a "
    "logarithmic scale. Achieved goals are counted by state, pursued ones by transition.",
    "principal": "Goals are full states: where they lie in the plane of their first two principal axes (each "
    "dimension in units of its standard deviation, out to four standard deviations along an axis); stronger is more "
    "often, on a logarithmic scale.",
    "dimensions": "Goals, each dimension alone: achieved ones by state (lines), pursued ones by transition (area), on "
    "a logarithmic scale.",
}


def captions(coverage: str, sizes: Mapping[str, int]) -> dict[str, str]:
    """What is to be said below each figure of a card.

    Args:
        coverage: the kind of it.
        sizes: of ``observation``, ``goal`` and ``action``.
    """
    goals = _left_out(sizes["goal"]) if coverage == "dimensions" else ""
    return {
        "coverage": COVERAGE_CAPTIONS[coverage] + goals,
        "actions": f"Actions, each dimension from bound to bound.{_left_out(sizes['action'])}",
        "episodes": "Episodes by length and by return, which is the sum of the environment's own rewards; these are not "
        "trained on. What is the same in every episode is not drawn.",
    }


def facts(numbers: Mapping[str, Any], replays: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """What is most worth knowing of a dataset, in words; the terms are those of ``DEFINITIONS``."""
    return {
        "episodes that reached a goal they pursued": _rate(numbers["success"]),
        "transitions that stay at their goal": _percent(numbers["idle_share"]),
        "transitions that move the achieved goal": _percent(numbers["moving_share"]),
        "transitions up to the last such move": _percent(numbers["still_moving_share"]),
        "replay of its actions": ", ".join(dict.fromkeys(replay["outcome"] for replay in replays)),
    }


def card_page(card: Mapping[str, Any]) -> str:
    """The page of a card, which ``card.json`` holds the numbers of."""
    parts = [
        f"# {card['title']}",
        _lead(card),
        "## Sources",
        _table("source", {**card["sources"], "**all**": card["all"]}),
        *_tasks(card),
        DEFINITIONS.format(threshold=card["moving_threshold"]).strip(),
        *_figures(card["figures"]),
        "## Where it is from",
        _origins(card),
        "## Replay",
        _replay(card["replay"]),
    ]
    return "\n\n".join(parts) + "\n"


def _lead(card: Mapping[str, Any]) -> str:
    everything, sizes = card["all"], card["sizes"]
    held_back = 1.0 - everything["train_transitions"] / everything["transitions"]
    return (
        f"`{card['dataset']}`: {everything['episodes']:,} episodes, {everything['transitions']:,} "
        f"transitions, {len(card['tasks'])} task(s). An observation has {sizes['observation']} numbers, a goal "
        f"{sizes['goal']}, an action {sizes['action']}. A goal counts as reached {card['success_test']}. "
        f"{held_back:.0%} of the transitions are kept for validation."
    )


def _tasks(card: Mapping[str, Any]) -> list[str]:
    return ["## Tasks", _table("task", card["tasks"])] if len(card["tasks"]) > 1 else []


def _figures(figures: Mapping[str, str]) -> list[str]:
    """A section a figure."""
    parts = []
    for name, caption in figures.items():
        parts += [f"## {name.capitalize()}", f"![{name}]({name}.svg)", caption]
    return parts


def _table(what: str, rows: Mapping[str, Mapping[str, Any]]) -> str:
    """A row for each source or task."""
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
    """The median with the range; one number where all are the same."""
    low, middle, high = (format(spread[key], form) for key in ("min", "p50", "max"))
    return low if low == high else f"{middle} ({low} to {high})"


def _rate(rate: Mapping[str, float] | None) -> str:
    return f"{rate['mean']:.2f} [{rate['low']:.2f}, {rate['high']:.2f}]" if rate else "not known"


def _percent(share: float | None) -> str:
    if share is None:
        return "not known"
    return f"{share:.1%}" if share in (0.0, 1.0) or 0.001 <= share <= 0.999 else f"{share:.2%}"


def _left_out(dimensions: int) -> str:
    return f" The first {MAX_PANELS} of {dimensions} are drawn." if dimensions > MAX_PANELS else ""


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
    """What came of replaying each source."""
    return "\n".join(f"- `{source}`: {replay['sentence']}." for source, replay in replays.items())
