"""Figures of success rates with intervals, and of learning curves; small points are single training seeds."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from offline_gcrl.figures.style import STYLE, band_opacity, colours, dashes, grid, updates_axis

LABEL_HEIGHT = 0.07  # Height of a curve's name in units of the success rate.
NEAR = 0.04  # Distance between the end of a curve and its name up to which no line joins them.
EDGE = 0.05  # Distance to 0 or 1 at which the label of a rate would leave the axes.
BELOW = 0.27  # Distance of the points of seeds from their row.
PANELS_PER_ROW = 3
LINE: Mapping[str, Any] = {
    "arrowstyle": "-",
    "linewidth": 0.7,
    "shrinkA": 1,
    "shrinkB": 2,
    "relpos": (0, 0.5),
}
"""A thin line between the end of a curve and its name."""
SeedRates = Mapping[str, Sequence[float]]
"""The success rate of each training seed, by agent."""
SeedCurves = Mapping[str, Sequence[pl.DataFrame]]
"""The learning curve of each training seed, by agent."""


def success_figure(
    metrics: Mapping[str, Mapping[str, Any]],
    headlines: Mapping[str, str] | None = None,
    seeds: Mapping[str, SeedRates] | None = None,
) -> Figure:
    """Success rates with 95% intervals, one panel per dataset and one row per agent, the best on top.

    Args:
        metrics: metrics by dataset and agent.
        headlines: the name of the main success rate by dataset; ``success_rate`` by default.
        seeds: the rate of each training seed, by dataset and agent.
    """
    with mpl.rc_context(STYLE):
        rows = sum(len(agents) for agents in metrics.values())
        figure, panels = plt.subplots(
            len(metrics),
            1,
            figsize=(5.6, 0.7 + 0.4 * len(metrics) + 0.34 * rows),
            squeeze=False,
            sharex=True,
            height_ratios=[len(agents) for agents in metrics.values()],
        )
        for axes, (dataset, agents) in zip(panels[:, 0], metrics.items(), strict=True):
            metric = (headlines or {}).get(dataset, "success_rate")
            rates = {name: values[metric] for name, values in agents.items()}
            _draw_rates(axes, rates, (seeds or {}).get(dataset, {}))
            axes.set_title(dataset)
        panels[-1, 0].set_xlabel("success rate, 95% interval")
        return figure


def curves_figure(
    curves: Mapping[str, Mapping[str, pl.DataFrame]],
    seeds: Mapping[str, SeedCurves] | None = None,
) -> Figure:
    """Learning curves: success rate over updates with 95% intervals, one panel per dataset.

    An agent has the same colour in all panels.

    Args:
        curves: update, mean, low, high, by dataset and agent.
        seeds: the curve of each training seed (update, mean), by dataset and agent.
    """
    rows, columns = grid(len(curves), PANELS_PER_ROW)
    names = list(dict.fromkeys(agent for agents in curves.values() for agent in agents))
    colour_of, style_of = colours(names), dashes(names)
    with mpl.rc_context(STYLE):
        figure, panels = plt.subplots(
            rows, columns, figsize=(0.8 + 4.4 * columns, 3.1 * rows), squeeze=False, sharey=True
        )
        for axes in panels.flat[len(curves) :]:
            axes.set_visible(False)
        for axes, (dataset, agents) in zip(panels.flat, curves.items(), strict=False):
            for agent, curve in agents.items():
                colour = colour_of[agent]
                _draw_curve(axes, curve, colour, style_of[agent], band_opacity(len(agents)))
                for single in (seeds or {}).get(dataset, {}).get(agent, ()):
                    _draw_points(axes, single["update"], single["mean"], colour)
            _name_curves(axes, agents, colour_of)
            axes.set_title(dataset)
            updates_axis(axes)
            axes.set_ylim(0, 1)
        for axes in panels[:, 0]:
            axes.set_ylabel("success rate, 95% interval")
        return figure


def rate_axis(axes: Axes, agents: Sequence[str]) -> None:
    """Set up an axis from 0 to 1 with one row per agent, the first on top."""
    axes.set_yticks(range(len(agents)), agents)
    axes.set_ylim(len(agents) - 0.5, -0.7)
    axes.set_xlim(0, 1)
    axes.grid(axis="y", visible=False)


def rate_label(axes: Axes, rate: float, place: float) -> None:
    """Write a rate above its dot; near 0 and 1 the text is moved so that it does not leave the axes."""
    side, shift = "center", 0
    if rate > 1 - EDGE:
        side, shift = "right", 3
    elif rate < EDGE:
        side, shift = "left", -3
    text = f"{rate:.2f}"
    axes.annotate(text, (rate, place), (shift, 7), textcoords="offset points", ha=side, fontsize=8)


def draw_row(axes: Axes, place: float, rate: float, interval: Sequence[float], colour: str) -> None:
    """Draw a row: a dot with its rate, and a bar for the interval."""
    axes.plot(interval, [place, place], color=colour, linewidth=5, alpha=0.35, clip_on=False)
    axes.plot(rate, place, "o", color=colour, markersize=7, clip_on=False)
    rate_label(axes, rate, place)


def _draw_rates(axes: Axes, rates: Mapping[str, Mapping[str, float]], seeds: SeedRates) -> None:
    """Draw one row per agent, the best on top: a dot with the rate, a bar for its interval, and points of its seeds."""
    colour_of = colours(list(rates))
    order = sorted(rates, key=lambda name: rates[name]["mean"], reverse=True)
    for place, agent in enumerate(order):
        colour, rate = colour_of[agent], rates[agent]
        interval = [rate["low"], rate["high"]]
        draw_row(axes, place, rate["mean"], interval, colour)
        single = list(seeds.get(agent, ()))
        _draw_points(axes, single, [place + BELOW] * len(single), colour)
    rate_axis(axes, order)


def _draw_points(axes: Axes, x: Any, y: Any, colour: str) -> None:
    """Draw small points of single seeds, over the bands and also at the edge of the axes."""
    axes.plot(x, y, ".", color=colour, markersize=7, alpha=0.6, markeredgewidth=0, clip_on=False)


def _draw_curve(axes: Axes, curve: pl.DataFrame, colour: str, style: Any, opacity: float) -> None:
    """Draw a curve and the band of its interval."""
    update, mean = curve["update"].to_numpy(), curve["mean"].to_numpy()
    low, high = curve["low"].to_numpy(), curve["high"].to_numpy()
    axes.fill_between(update, low, high, color=colour, alpha=opacity, linewidth=0)
    axes.plot(update, mean, color=colour, linestyle=style, marker="o", markersize=3, clip_on=False)


def _name_curves(axes: Axes, agents: Mapping[str, pl.DataFrame], colour: Mapping[str, str]) -> None:
    """Write the name of each curve next to its end; names that would overlap are moved apart, with a line to the end."""
    ends = {name: float(curve["mean"][-1]) for name, curve in agents.items()}
    places = _apart(ends)
    moved = {name for name in ends if abs(places[name] - ends[name]) > NEAR}
    for agent, place in places.items():
        axes.annotate(
            agent,
            (agents[agent]["update"][-1], ends[agent]),
            xytext=(18 if moved else 6, place),
            textcoords=("offset points", "data"),
            color=colour[agent],
            va="center",
            weight="bold",
            annotation_clip=False,
            arrowprops={**LINE, "color": colour[agent]} if agent in moved else None,
        )


def _apart(ends: Mapping[str, float]) -> dict[str, float]:
    """Heights of the names: each at its curve's end, moved as far as needed, and within the height of the axes."""
    order = sorted(ends, key=ends.__getitem__, reverse=True)
    places, above, below = {}, 1.0 + LABEL_HEIGHT / 2, LABEL_HEIGHT / 2
    for name in order:
        places[name] = above = min(ends[name], above - LABEL_HEIGHT)
    for name in reversed(order):
        places[name] = max(places[name], below)
        below = places[name] + LABEL_HEIGHT
    return places
