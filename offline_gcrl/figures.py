"""Figures: success with intervals, learning curves, goals reached and missed, hindsight statistics.

Drawn for papers and for pages: SVG, colours that the colour-blind can tell apart (Okabe and Ito), and
the same bytes for the same numbers.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("agg")

import matplotlib.pyplot as plt
import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
REACHED, MISSED, WALL = "#009E73", "#D55E00", "#c9ccd1"
STYLE: Any = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e6e6e6",
    "legend.frameon": False,
    "figure.constrained_layout.use": True,
    "svg.fonttype": "none",
    "svg.hashsalt": "offline-gcrl",
}
Walls = Sequence[tuple[float, float, float]]
"""Wall cells of a maze: x and y of the lower left corner, and the side."""


def save(figure: Figure, path: Path) -> None:
    """Write a figure, as the kind of file that its name says, and close it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    metadata = {"Date": None} if path.suffix == ".svg" else None
    with mpl.rc_context(STYLE):
        figure.savefig(path, metadata=metadata, dpi=160)
    plt.close(figure)


def colours(agents: Sequence[str]) -> dict[str, str]:
    """A colour for each agent, by its place in the experiment."""
    return {agent: PALETTE[number % len(PALETTE)] for number, agent in enumerate(agents)}


def success_figure(metrics: Mapping[str, Mapping[str, Any]]) -> Figure:
    """Success rate at the last step with its 95% interval, for each dataset and agent."""
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
            for place, (agent, colour) in enumerate(colours(list(agents)).items()):
                rate = agents[agent]["success_rate"]
                axes.plot(
                    [rate["low"], rate["high"]],
                    [place, place],
                    color=colour,
                    linewidth=5,
                    alpha=0.35,
                )
                axes.plot(rate["mean"], place, "o", color=colour, markersize=7)
                axes.annotate(
                    f"{rate['mean']:.2f}",
                    (rate["mean"], place),
                    xytext=(0, 7),
                    textcoords="offset points",
                    ha="center",
                    fontsize=8,
                )
            axes.set_yticks(range(len(agents)), list(agents))
            axes.set_ylim(len(agents) - 0.5, -0.7)
            axes.set_xlim(0, 1.02)
            axes.grid(axis="y", visible=False)
            axes.set_title(dataset)
        panels[-1, 0].set_xlabel("success rate at the last step, 95% interval")
        return figure


def curves_figure(curves: Mapping[str, Mapping[str, pl.DataFrame]]) -> Figure:
    """Learning curves: success over updates, with its 95% interval, a panel a dataset."""
    with mpl.rc_context(STYLE):
        figure, panels = plt.subplots(
            1, len(curves), figsize=(0.8 + 4.4 * len(curves), 3.1), squeeze=False, sharey=True
        )
        for axes, (dataset, agents) in zip(panels[0], curves.items(), strict=True):
            for agent, colour in colours(list(agents)).items():
                curve = agents[agent]
                axes.fill_between(
                    curve["update"],
                    curve["low"],
                    curve["high"],
                    color=colour,
                    alpha=0.15,
                    linewidth=0,
                )
                axes.plot(
                    curve["update"],
                    curve["mean"],
                    color=colour,
                    marker="o",
                    markersize=3,
                    label=agent,
                )
            axes.set_title(dataset)
            axes.set_xlabel("updates")
            axes.set_ylim(0, 1.02)
            axes.set_xlim(left=0)
        panels[0, 0].set_ylabel("success rate")
        panels[0, 0].legend(loc="lower right")
        return figure


def goals_figure(episodes: Mapping[str, pl.DataFrame], walls: Walls) -> Figure:
    """Where goals were reached and missed, a panel an agent, in the plane of the first two axes."""
    with mpl.rc_context(STYLE):
        figure, panels = plt.subplots(
            1, len(episodes), figsize=(0.3 + 2.7 * len(episodes), 3.1), squeeze=False,
            sharex=True, sharey=True,
        )  # fmt: skip
        for axes, (agent, table) in zip(panels[0], episodes.items(), strict=True):
            _draw_goals(axes, table, walls)
            axes.set_title(f"{agent}: {float(table['success'].to_numpy().mean()):.2f}")
        handles, labels = panels[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=2)
        return figure


def hindsight_figure(statistics: Mapping[str, Any]) -> Figure:
    """Share of positive labels for each strategy beside the expected one, and how far its goals lie."""
    with mpl.rc_context(STYLE):
        figure, (shares, distances) = plt.subplots(1, 2, figsize=(8.2, 3.1))
        strategies = statistics["strategies"]
        colour = colours(list(strategies))
        for place, (name, values) in enumerate(strategies.items()):
            shares.barh(place, values["positive_share"], color=colour[name], height=0.62)
            if values.get("expected_if_exact"):
                shares.plot(
                    [values["expected_if_exact"]] * 2, [place - 0.4, place + 0.4], "k", linewidth=2
                )
        shares.plot([], [], "k", linewidth=2, label="if only the very next\nstate counted")
        shares.set_xscale("log")
        shares.set_yticks(range(len(strategies)), list(strategies))
        shares.invert_yaxis()
        shares.grid(axis="y", visible=False)
        shares.set_title("Share of positive labels")
        shares.legend(loc="lower left", fontsize=8)
        for name, values in strategies.items():
            if "steps_ahead" in values:
                histogram = values["steps_ahead"]["histogram"]
                counts = np.array(histogram["counts"]) / sum(histogram["counts"])
                distances.stairs(
                    counts, histogram["edges"], color=colour[name], label=name, linewidth=1.5
                )
        distances.set_title("Steps from transition to goal")
        distances.set_ylabel("share of goals")
        distances.legend()
        return figure


def maze_walls(environment: Any) -> Walls:
    """Wall cells of an environment that has a maze; none for others."""
    maze = getattr(environment.unwrapped, "maze", None)
    if maze is None or not hasattr(maze, "maze_map"):
        return []
    size = float(maze.maze_size_scaling)
    walls = []
    for row, cells in enumerate(maze.maze_map):
        for column, cell in enumerate(cells):
            if cell == 1:
                x, y = maze.cell_rowcol_to_xy(np.array([row, column]))
                walls.append((float(x) - size / 2, float(y) - size / 2, size))
    return walls


def _draw_goals(axes: Axes, table: pl.DataFrame, walls: Walls) -> None:
    for x, y, size in walls:
        axes.add_patch(Rectangle((x, y), size, size, color=WALL, linewidth=0))
    goals = np.array(table["goal"].to_list())
    success = table["success"].to_numpy()
    plane = goals[:, :2] if goals.shape[1] > 1 else np.pad(goals, ((0, 0), (0, 1)))
    (x, y), (x_missed, y_missed) = plane[success].T, plane[~success].T
    axes.scatter(x, y, 14, color=REACHED, label="reached", alpha=0.8, linewidths=0)
    axes.scatter(x_missed, y_missed, 18, color=MISSED, label="missed", marker="x", linewidths=1.2)
    axes.set_aspect("equal")
    axes.grid(visible=False)
