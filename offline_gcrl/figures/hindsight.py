"""Figures of the statistics of hindsight goals."""

from collections.abc import Mapping
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from offline_gcrl.figures.style import STYLE, colours


def hindsight_figure(statistics: Mapping[str, Any]) -> Figure:
    """Measured and expected share of positive labels, and steps to the goal, for each strategy."""
    with mpl.rc_context(STYLE):
        figure, (shares, distances) = plt.subplots(1, 2, figsize=(8.6, 3.3))
        draw_shares(shares, statistics)
        draw_distances(distances, statistics)
        return figure


def draw_shares(axes: Axes, statistics: Mapping[str, Any]) -> None:
    """Draw the measured share of positive labels of each strategy, and the share expected in theory."""
    strategies = statistics["strategies"]
    colour = _strategy_colours(strategies)
    expected = {name: values.get("expected_if_exact") for name, values in strategies.items()}
    shares = {name: values["positive_share"] for name, values in strategies.items()}
    least = min(filter(None, (*expected.values(), *shares.values())), default=0.1) / 2
    for place, (name, share) in enumerate(shares.items()):
        if expected[name]:
            axes.plot(
                [expected[name], max(share, least)], [place] * 2, color="#888888", linewidth=1
            )
            axes.plot(expected[name], place, "k|", markersize=11, markeredgewidth=2)
        axes.plot(max(share, least), place, "o", color=colour[name], markersize=7)
        _label_share(axes, share, (max(share, least), place))
    axes.plot([], [], "o", color="#888888", markersize=7, label="measured")
    axes.plot([], [], "k|", markersize=11, markeredgewidth=2, label="expected without tolerance")
    axes.set_xscale("log")
    axes.set_xlim(least / 1.5, 8.0)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:g}%"))
    axes.xaxis.set_major_locator(LogLocator(numticks=5))  # More labels would overlap in a paper.
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_yticks(range(len(strategies)), list(strategies))
    axes.set_ylim(len(strategies) - 0.4, -0.6)
    axes.grid(axis="y", visible=False)
    axes.set_title("Share of positive labels")
    axes.set_xlabel("share of labels, logarithmic")
    axes.legend(loc="upper center", bbox_to_anchor=(0.45, -0.2), ncols=2, fontsize=8)


def _label_share(axes: Axes, share: float, place: tuple[float, float]) -> None:
    text = f"{share:.1%}" if share >= 0.01 or share == 0 else f"{share:.2%}"
    axes.annotate(text, place, xytext=(7, 0), textcoords="offset points", va="center", fontsize=8)


def draw_distances(axes: Axes, statistics: Mapping[str, Any]) -> None:
    """Draw the distribution of steps from transition to goal, for each strategy within the episode."""
    strategies = statistics["strategies"]
    colour = _strategy_colours(strategies)
    for name, values in strategies.items():
        if "steps_ahead" in values:
            histogram = values["steps_ahead"]["histogram"]
            # Per step, because bins of strategies with a wider range are wider.
            shares = np.array(histogram["counts"]) / sum(histogram["counts"])
            density = shares / np.diff(histogram["edges"])
            axes.stairs(density, histogram["edges"], color=colour[name], label=name, linewidth=1.5)
    axes.set_title("Steps from transition to goal")
    axes.set_ylabel("share of goals per step")
    axes.xaxis.set_major_locator(MaxNLocator(5))  # Labels of four digits do not touch.
    axes.set_xlabel("steps (negative: the goal is in the past)")
    axes.legend()


def _strategy_colours(strategies: Mapping[str, Any]) -> dict[str, str]:
    """Colours of the strategies; original goals are grey."""
    drawn = [name for name in strategies if name != "original"]
    return colours(drawn) | {"original": "#888888"}
