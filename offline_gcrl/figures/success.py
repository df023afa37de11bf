"""Figures of success rates with intervals, and of learning curves."""

from collections.abc import Mapping
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from offline_gcrl.figures.style import STYLE, colours

LABEL_HEIGHT = 0.07  # Height of a curve's name in units of the success rate.


def success_figure(
    metrics: Mapping[str, Mapping[str, Any]], headlines: Mapping[str, str] | None = None
) -> Figure:
    """Success rates with 95% intervals, one panel per dataset and one row per agent, the best on top.

    Args:
        metrics: metrics by dataset and agent.
        headlines: the name of the main success rate by dataset; ``success_rate`` by default.
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
            _draw_rates(axes, {name: values[metric] for name, values in agents.items()})
            axes.set_title(dataset)
        panels[-1, 0].set_xlabel("success rate, 95% interval")
        return figure


def curves_figure(curves: Mapping[str, Mapping[str, pl.DataFrame]]) -> Figure:
    """Learning curves: success rate over updates with 95% intervals, one panel per dataset."""
    with mpl.rc_context(STYLE):
        figure, panels = plt.subplots(
            1, len(curves), figsize=(0.8 + 4.4 * len(curves), 3.1), squeeze=False, sharey=True
        )
        for axes, (dataset, agents) in zip(panels[0], curves.items(), strict=True):
            for agent, colour in colours(list(agents)).items():
                _draw_curve(axes, agents[agent], colour)
            _name_curves(axes, agents)
            axes.set_title(dataset)
            axes.set_xlabel("updates")
            axes.set_ylim(0, 1.02)
            axes.set_xlim(left=0)
        panels[0, 0].set_ylabel("success rate, 95% interval")
        return figure


def _draw_rates(axes: Axes, rates: Mapping[str, Mapping[str, float]]) -> None:
    """Draw one row per agent, the best on top: a dot with the rate, and a bar for its interval."""
    colour_of = colours(list(rates))
    order = sorted(rates, key=lambda name: rates[name]["mean"], reverse=True)
    for place, agent in enumerate(order):
        colour, rate = colour_of[agent], rates[agent]
        interval = [rate["low"], rate["high"]]
        axes.plot(interval, [place, place], color=colour, linewidth=5, alpha=0.35)
        axes.plot(rate["mean"], place, "o", color=colour, markersize=7)
        axes.annotate(
            f"{rate['mean']:.2f}",
            (rate["mean"], place),
            xytext=(0, 7),
            textcoords="offset points",
            ha="center",
            fontsize=8,
        )
    axes.set_yticks(range(len(rates)), order)
    axes.set_ylim(len(rates) - 0.5, -0.7)
    axes.set_xlim(0, 1.02)
    axes.grid(axis="y", visible=False)


def _draw_curve(axes: Axes, curve: pl.DataFrame, colour: str) -> None:
    """Draw a curve and the band of its interval."""
    update, mean = curve["update"].to_numpy(), curve["mean"].to_numpy()
    low, high = curve["low"].to_numpy(), curve["high"].to_numpy()
    axes.fill_between(update, low, high, color=colour, alpha=0.15, linewidth=0)
    axes.plot(update, mean, color=colour, marker="o", markersize=3)


def _name_curves(axes: Axes, agents: Mapping[str, pl.DataFrame]) -> None:
    """Write the name of each curve next to its end; names that would overlap are moved apart."""
    colour = colours(list(agents))
    places = _apart({name: float(curve["mean"][-1]) for name, curve in agents.items()})
    for agent, place in places.items():
        axes.annotate(
            agent,
            (agents[agent]["update"][-1], place),
            xytext=(6, 0),
            textcoords="offset points",
            color=colour[agent],
            va="center",
            weight="bold",
            annotation_clip=False,
        )


def _apart(ends: Mapping[str, float]) -> dict[str, float]:
    """Heights of the names: each at its curve's end, moved down as far as needed, and never below 0."""
    order = sorted(ends, key=ends.__getitem__, reverse=True)
    places, above, below = {}, 2.0, 0.0
    for name in order:
        places[name] = above = min(ends[name], above - LABEL_HEIGHT)
    for name in reversed(order):
        places[name] = max(places[name], below)
        below = places[name] + LABEL_HEIGHT
    return places
