"""Success rates with intervals, and learning curves."""

from collections.abc import Mapping
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from offline_gcrl.figures.style import STYLE, colours

LABEL_HEIGHT = 0.07  # Of a curve's name, in units of the success rate.


def success_figure(
    metrics: Mapping[str, Mapping[str, Any]], headlines: Mapping[str, str] | None = None
) -> Figure:
    """Success rate with its 95% interval, for each dataset and agent, the best on top.

    Args:
        metrics: by dataset and agent.
        headlines: the metric that is the success of a dataset, where it is not ``success_rate``.
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
    """Learning curves: success over updates, with its 95% interval, a panel a dataset."""
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
    """A row an agent, the best on top: its rate as a dot with the number, its interval as a bar."""
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
    """A curve with its band."""
    update, mean = curve["update"].to_numpy(), curve["mean"].to_numpy()
    low, high = curve["low"].to_numpy(), curve["high"].to_numpy()
    axes.fill_between(update, low, high, color=colour, alpha=0.15, linewidth=0)
    axes.plot(update, mean, color=colour, marker="o", markersize=3)


def _name_curves(axes: Axes, agents: Mapping[str, pl.DataFrame]) -> None:
    """Each curve's name beside its end; names that would cover each other are moved apart."""
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
    """Heights of names, from the top down: each at its curve's end or as far below as it must, none below 0."""
    order = sorted(ends, key=ends.__getitem__, reverse=True)
    places, above, below = {}, 2.0, 0.0
    for name in order:
        places[name] = above = min(ends[name], above - LABEL_HEIGHT)
    for name in reversed(order):
        places[name] = max(places[name], below)
        below = places[name] + LABEL_HEIGHT
    return places
