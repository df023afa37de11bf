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

from offline_gcrl.config import Dataset
from offline_gcrl.environments import make_environment

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
LABEL_HEIGHT = 0.07  # Of a curve's name, in units of the success rate.
Walls = Sequence[tuple[float, float, float]]
"""Wall cells of a maze: x and y of the lower left corner, and the side."""


def save(figure: Figure, path: Path) -> None:
    """Write a figure, as the kind of file that its name says, and close it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    metadata = {"Date": None} if path.suffix == ".svg" else None
    with mpl.rc_context(STYLE):
        figure.savefig(path, metadata=metadata, dpi=160, bbox_inches="tight", pad_inches=0.06)
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
                _draw_curve(axes, agents[agent], colour)
            _name_curves(axes, agents)
            axes.set_title(dataset)
            axes.set_xlabel("updates")
            axes.set_ylim(0, 1.02)
            axes.set_xlim(left=0)
        panels[0, 0].set_ylabel("success rate, 95% interval")
        return figure


def goals_figure(episodes: Mapping[str, pl.DataFrame], walls: Walls) -> Figure:
    """Where goals were reached and missed, a panel an agent, in the plane of the first two axes."""
    with mpl.rc_context(STYLE):
        figure, panels = plt.subplots(
            1,
            len(episodes),
            figsize=(0.2 + 2.5 * len(episodes), 3.1),
            squeeze=False,
            sharex=True,
            sharey=True,
        )
        for axes, (agent, table) in zip(panels[0], episodes.items(), strict=True):
            _draw_goals(axes, table, walls)
            axes.set_title(f"{agent}: {float(table['success'].to_numpy().mean()):.2f}")
        handles, labels = panels[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=3)
        return figure


def hindsight_figure(statistics: Mapping[str, Any]) -> Figure:
    """Share of positive labels for each strategy beside the expected one, and how far its goals lie."""
    with mpl.rc_context(STYLE):
        figure, (shares, distances) = plt.subplots(1, 2, figsize=(8.6, 3.3))
        strategies = statistics["strategies"]
        colour = colours([name for name in strategies if name != "original"]) | {
            "original": "#888888"
        }
        for place, (name, values) in enumerate(strategies.items()):
            share, exact = values["positive_share"], values.get("expected_if_exact")
            shares.barh(place, share, color=colour[name], height=0.62)
            shares.annotate(
                f" {share:.1%}" if share >= 0.01 else f" {share:.2%}",
                (share, place),
                va="center",
                fontsize=8,
            )
            if exact:
                shares.plot([exact] * 2, [place - 0.4, place + 0.4], "k", linewidth=2)
        shares.plot([], [], "k", linewidth=2, label="if only the very next state counted")
        shares.set_xscale("log")
        shares.set_xlim(right=5.0)
        shares.set_yticks(range(len(strategies)), list(strategies))
        shares.invert_yaxis()
        shares.grid(axis="y", visible=False)
        shares.set_title("Share of positive labels")
        shares.set_xlabel("measured (bars), expected (lines)")
        shares.legend(loc="upper center", bbox_to_anchor=(0.5, -0.22), fontsize=8)
        _draw_distances(distances, strategies, colour)
        return figure


def has_places(episodes: pl.DataFrame) -> bool:
    """Whether goals are places of one task, which a plane can show: of two or three numbers."""
    return episodes["goal"].list.len().max() in (2, 3) and episodes["task"].n_unique() == 1


def dataset_walls(dataset: Dataset) -> Walls:
    """Walls of the maze that policies are judged in; none where there is no maze, or more than one."""
    evaluation = dataset.recipes[0].evaluation
    if evaluation is None or len(dataset.recipes) > 1:
        return []
    return maze_walls(make_environment(evaluation.environment))


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


def _draw_curve(axes: Axes, curve: pl.DataFrame, colour: str) -> None:
    """A curve with its band."""
    update, mean = curve["update"].to_numpy(), curve["mean"].to_numpy()
    low, high = curve["low"].to_numpy(), curve["high"].to_numpy()
    axes.fill_between(update, low, high, color=colour, alpha=0.15, linewidth=0)
    axes.plot(update, mean, color=colour, marker="o", markersize=3)


def _name_curves(axes: Axes, agents: Mapping[str, pl.DataFrame]) -> None:
    """Each curve's name beside its end; names that would cover each other are moved down."""
    colour = colours(list(agents))
    above = 2.0
    for agent in sorted(agents, key=lambda name: -float(agents[name]["mean"][-1])):
        update, mean = agents[agent]["update"][-1], float(agents[agent]["mean"][-1])
        above = min(mean, above - LABEL_HEIGHT)
        axes.annotate(
            agent,
            (update, above),
            xytext=(6, 0),
            textcoords="offset points",
            color=colour[agent],
            va="center",
            weight="bold",
            annotation_clip=False,
        )


def _draw_distances(axes: Axes, strategies: Mapping[str, Any], colour: Mapping[str, str]) -> None:
    for name, values in strategies.items():
        if "steps_ahead" in values:
            histogram = values["steps_ahead"]["histogram"]
            counts = np.array(histogram["counts"]) / sum(histogram["counts"])
            axes.stairs(counts, histogram["edges"], color=colour[name], label=name, linewidth=1.5)
    axes.set_title("Steps from transition to goal")
    axes.set_ylabel("share of goals")
    axes.set_xlabel("steps (negative: the goal lies in the past)")
    axes.legend()


def _draw_goals(axes: Axes, table: pl.DataFrame, walls: Walls) -> None:
    for x, y, size in walls:
        axes.add_patch(Rectangle((x, y), size, size, color=WALL))
    starts, goals = (_plane(table[column]) for column in ("start", "goal"))
    success = table["success"].to_numpy()
    for start, goal in zip(starts[~success], goals[~success], strict=True):
        axes.plot(*np.stack([start, goal]).T, color=MISSED, alpha=0.12, linewidth=0.8)
    (x, y), (x_missed, y_missed) = goals[success].T, goals[~success].T
    axes.scatter(x, y, 12, color=REACHED, label="goal reached", alpha=0.8, linewidths=0)
    axes.scatter(
        x_missed, y_missed, 16, color=MISSED, label="goal missed", marker="x", linewidths=1.1
    )
    axes.plot([], [], color=MISSED, alpha=0.5, linewidth=0.8, label="start of a missed one")
    axes.set_aspect("equal")
    axes.grid(visible=False)
    if walls:  # Drawn to scale; the frame of the maze says enough.
        axes.set_axis_off()
        axes.set_xlim(min(x for x, _, _ in walls) + 0.5, max(x + s for x, _, s in walls) - 0.5)
        axes.set_ylim(min(y for _, y, _ in walls) + 0.5, max(y + s for _, y, s in walls) - 0.5)


def _plane(points: pl.Series) -> Any:
    """The first two coordinates, (n, 2)."""
    values = np.array(points.to_list(), dtype=np.float64).reshape(len(points), -1)
    return np.pad(values, ((0, 0), (0, 1)))[:, :2] if values.shape[1] < 2 else values[:, :2]
