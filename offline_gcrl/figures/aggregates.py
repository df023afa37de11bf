"""Figures of aggregates over training runs, as in Agarwal et al. 2021: estimates with intervals, and performance profiles."""

from collections.abc import Mapping

import matplotlib as mpl
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from offline_gcrl.figures.style import STYLE, band_opacity, colours, dashes
from offline_gcrl.figures.success import draw_row, rate_axis
from offline_gcrl.statistics.aggregates import THRESHOLDS, Aggregates, Profile
from offline_gcrl.statistics.intervals import Estimate

WIDTH = 4.2
INTERQUARTILE = "interquartile mean of success, 95% interval"
GAP = "optimality gap (lower is better), 95% interval"


def interquartile_figure(found: Aggregates) -> Figure:
    """Interquartile mean of each agent's runs, the best agent on top."""
    return _rows_figure(_interquartile_means(found), found, INTERQUARTILE)


def gap_figure(found: Aggregates) -> Figure:
    """Optimality gap of each agent's runs, in the order of the ranking."""
    return _rows_figure(_gaps(found), found, GAP)


def aggregates_figure(found: Aggregates) -> Figure:
    """Interquartile means and optimality gaps of all agents in one figure."""
    with mpl.rc_context(STYLE):
        height = 0.8 + 0.34 * len(found.optimality_gap)
        figure, (left, right) = plt.subplots(1, 2, figsize=(2 * WIDTH, height), sharey=True)
        _draw_rows(left, _interquartile_means(found), found, INTERQUARTILE)
        _draw_rows(right, _gaps(found), found, GAP)
        return figure


def improvement_figure(found: Aggregates) -> Figure:
    """Probability that a run of the best agent scores higher than one of each other agent."""
    best, *others = found.comparison.ranking
    estimates = {agent: found.comparison.improvement[best][agent] for agent in others}
    figure = _rows_figure(estimates, found, f"P({best} scores higher), 95% interval")
    figure.axes[0].axvline(0.5, color="#888888", linewidth=1, linestyle=(0, (4, 3)))
    return figure


def profiles_figure(found: Aggregates) -> Figure:
    """Performance profiles: the share of each agent's runs that score above each success rate."""
    with mpl.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(WIDTH, 3.0))
        style_of, opacity = dashes(list(found.profiles)), band_opacity(len(found.profiles))
        for agent, colour in colours(list(found.profiles)).items():
            profile: Profile = found.profiles[agent]
            axes.fill_between(
                THRESHOLDS, profile.low, profile.high, step="post", color=colour, alpha=opacity, linewidth=0
            )  # fmt: skip
            line = {"color": colour, "linestyle": style_of[agent]}
            axes.step(THRESHOLDS, profile.mean, where="post", label=agent, **line)
        axes.set_xlabel("success rate")
        axes.set_ylabel("share of runs above it")
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1.02)
        figure.legend(loc="outside upper center", ncols=4, fontsize=8)
        return figure


def _interquartile_means(found: Aggregates) -> dict[str, Estimate]:
    ranking = found.comparison.ranking
    return {agent: standing.interquartile_mean for agent, standing in ranking.items()}


def _gaps(found: Aggregates) -> dict[str, Estimate]:
    return {agent: found.optimality_gap[agent] for agent in found.comparison.ranking}


def _rows_figure(estimates: Mapping[str, Estimate], found: Aggregates, label: str) -> Figure:
    with mpl.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(WIDTH, 0.8 + 0.34 * len(estimates)))
        _draw_rows(axes, estimates, found, label)
        return figure


def _draw_rows(
    axes: Axes, estimates: Mapping[str, Estimate], found: Aggregates, label: str
) -> None:
    """Draw one row per agent."""
    colour_of = colours(list(found.profiles))
    for place, (agent, estimate) in enumerate(estimates.items()):
        interval = (estimate.low, estimate.high)
        draw_row(axes, place, estimate.mean, interval, colour_of[agent])
    rate_axis(axes, list(estimates))
    axes.set_xlabel(label)
