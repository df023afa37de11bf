"""Figure of measured numbers next to those that papers print."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import matplotlib as mpl
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from offline_gcrl.config.published import PrintedNumber
from offline_gcrl.figures.style import PRINTED, STYLE, colours, grid
from offline_gcrl.statistics.intervals import Estimate

PANELS_PER_ROW = 3
ABOVE, BELOW = 0.14, 0.2
"""Distances of measured and printed numbers from the middle of a row, because equal ones would cover each other."""


class Compared(NamedTuple):
    """The measured number of an agent, and the printed one if there is one."""

    measured: Estimate
    printed: PrintedNumber | None


def published_figure(
    panels: Mapping[str, Mapping[str, Compared]], label: str, *, is_rate: bool
) -> Figure:
    """One panel per dataset and one row per agent: a dot with its 95% interval, and a diamond for the printed number.

    Args:
        panels: numbers by dataset and agent.
        label: name of the metric.
        is_rate: whether the metric is between 0 and 1, which all panels then show.
    """
    rows, columns = grid(len(panels), PANELS_PER_ROW)
    colour_of = colours(list(dict.fromkeys(name for agents in panels.values() for name in agents)))
    height = 0.8 + 0.26 * max(map(len, panels.values()))
    has_same_rows = len({tuple(agents) for agents in panels.values()}) == 1
    with mpl.rc_context(STYLE):
        figure, places = plt.subplots(
            rows,
            columns,
            figsize=(1.2 + 3.0 * columns, 0.5 + height * rows),
            squeeze=False,
            sharey=has_same_rows,
        )
        for axes in places.flat[len(panels) :]:
            axes.set_visible(False)
        for axes, (dataset, agents) in zip(places.flat, panels.items(), strict=False):
            _draw_agents(axes, agents, colour_of)
            axes.set_title(dataset)
            axes.set_xlim(left=0, right=1 if is_rate else None)
            axes.set_xlabel(label)
        found = [number for agents in panels.values() for _, number in agents.values() if number]
        legend = _legend(has_spread=any(number.spread is not None for number in found))
        figure.legend(handles=legend, loc="outside upper center", ncols=2, fontsize=8)
        return figure


def _draw_agents(axes: Axes, agents: Mapping[str, Compared], colour_of: Mapping[str, str]) -> None:
    """Draw one row per agent, the first on top."""
    for row, (agent, (measured, printed)) in enumerate(agents.items()):
        _draw_measured(axes, row - ABOVE, measured, colour_of[agent])
        if printed:
            axes.errorbar(printed.mean, row + BELOW, xerr=printed.spread, clip_on=False, **PRINTED)
    axes.set_yticks(range(len(agents)), agents)
    axes.set_ylim(len(agents) - 0.4, -0.6)
    axes.grid(axis="y", visible=False)


def _draw_measured(axes: Axes, row: float, found: Estimate, colour: str) -> None:
    """Draw a dot, and a bar whose ends are those of the interval."""
    ends = [found.low, found.high]
    style: dict[str, Any] = {"linewidth": 4, "alpha": 0.35, "solid_capstyle": "butt"}
    axes.plot(ends, [row, row], color=colour, clip_on=False, **style)
    axes.plot(found.mean, row, "o", color=colour, markersize=5, clip_on=False)


def _legend(*, has_spread: bool) -> list[Line2D]:
    measured = Line2D([], [], color="#888888", linewidth=4, alpha=0.5, marker="o", markersize=5)
    measured.set_label("measured, 95% interval")
    line = PRINTED if has_spread else {**PRINTED, "linestyle": ""}
    printed = Line2D([], [], label="printed ± spread" if has_spread else "printed", **line)
    return [measured, printed]
