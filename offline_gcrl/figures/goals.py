"""Figures of reached and missed goals, and of final distances."""

from collections.abc import Mapping
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from offline_gcrl.config import Region
from offline_gcrl.figures.scenes import Scene, Table, Walls
from offline_gcrl.figures.style import HELD_OUT, MISSED, REACHED, STYLE, WALL, colours, dashes

MAX_MAP_DIMENSIONS = 3  # Goals of more dimensions are not drawn on a map.


def goals_figure(episodes: Mapping[str, pl.DataFrame], scene: Scene) -> Figure:
    """Map of reached and missed goals, one panel per agent.

    The map shows the first two dimensions, with walls or table drawn to scale. For goals of one dimension, the
    horizontal axis is the goal and the vertical axis the final distance.
    """
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
            if scene.table_top:
                _draw_table(axes, scene.table_top)
            if scene.held_out and len(scene.held_out.low) > 1:
                _draw_held_out(axes, scene.held_out)
            _draw_goals(axes, table, scene.walls)
            axes.set_title(f"{agent}: {float(table['success'].to_numpy().mean()):.2f}")
        handles, labels = panels[0, 0].get_legend_handles_labels()
        columns = 3 if len(episodes) > 1 else 1  # One panel is narrower than the legend in one row.
        figure.legend(handles, labels, loc="outside lower center", ncols=columns)
        return figure


def distances_figure(
    episodes: Mapping[str, pl.DataFrame], tolerance: float | None, unit: str = ""
) -> Figure:
    """Cumulative distribution of the final distance to the goal, one line per agent."""
    with mpl.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(5.2, 3.1))
        longest = max(
            float(table["final_distance"].to_numpy().max()) for table in episodes.values()
        )
        style_of = dashes(list(episodes))
        for agent, colour in colours(list(episodes)).items():
            distances = np.sort(episodes[agent]["final_distance"].to_numpy())
            shares = np.arange(len(distances) + 1) / len(distances)
            edges = np.concatenate([[0.0], distances, [max(longest, distances[-1])]])
            line = {"color": colour, "linestyle": style_of[agent], "linewidth": 1.8}
            axes.stairs(shares, edges, label=agent, baseline=None, **line)
        if tolerance is not None:
            axes.axvline(tolerance, color="#888888", linewidth=1, linestyle=(0, (4, 3)))
        axes.set_xlabel("distance to the goal at the last step" + (f" ({unit})" if unit else ""))
        axes.set_ylabel("share of episodes")
        axes.set_ylim(0, 1.02)
        axes.set_xlim(0, longest * 1.02 or 1.0)
        axes.legend(loc="lower right")
        return figure


def can_map_goals(episodes: pl.DataFrame) -> bool:
    """Whether a map can show the goals: one task, and at most ``MAX_MAP_DIMENSIONS`` numbers per goal."""
    dimensions = max(episodes["goal"].list.len())
    return dimensions <= MAX_MAP_DIMENSIONS and episodes["task"].n_unique() == 1


def _draw_goals(axes: Axes, table: pl.DataFrame, walls: Walls) -> None:
    for x, y, size in walls:
        axes.add_patch(Rectangle((x, y), size, size, color=WALL))
    starts, goals = (_plane(table, column) for column in ("start", "goal"))
    success = table["success"].to_numpy()
    is_flat = len(table["goal"][0]) == 1
    if not is_flat:
        ways = np.stack([starts[~success], goals[~success]], axis=1)
        axes.add_collection(LineCollection(list(ways), colors=MISSED, alpha=0.12, linewidths=0.8))
        axes.plot([], [], color=MISSED, alpha=0.5, linewidth=0.8, label="from start to missed goal")
    (x, y), (x_missed, y_missed) = goals[success].T, goals[~success].T
    axes.scatter(x, y, 12, color=REACHED, label="goal reached", alpha=0.8, linewidths=0)
    axes.scatter(
        x_missed, y_missed, 16, color=MISSED, label="goal missed", marker="x", linewidths=1.1
    )
    if is_flat:
        axes.set_xlabel("goal")
        axes.set_ylabel("final distance")
        return
    axes.set_aspect("equal")
    axes.grid(visible=False)
    if walls:  # Axes are left out because the maze itself shows the scale.
        axes.set_axis_off()
        axes.set_xlim(min(x for x, _, _ in walls) + 0.5, max(x + s for x, _, s in walls) - 0.5)
        axes.set_ylim(min(y for _, y, _ in walls) + 0.5, max(y + s for _, y, s in walls) - 0.5)


def _draw_table(axes: Axes, table_top: Table) -> None:
    x, y, width, depth = table_top
    axes.add_patch(Rectangle((x, y), width, depth, facecolor=WALL, alpha=0.45, edgecolor=WALL))
    axes.set_xlabel("x, seen from above")
    axes.set_ylabel("y")


def _draw_held_out(axes: Axes, region: Region) -> None:
    """The first two dimensions of the region of held-out goals."""
    (x, y), (right, top) = region.low[:2], region.high[:2]
    axes.add_patch(
        Rectangle(
            (x, y),
            right - x,
            top - y,
            facecolor="none",
            edgecolor=HELD_OUT,
            hatch="///",
            linewidth=1.4,
            alpha=0.7,
            label="held out from training",
        )
    )


def _plane(table: pl.DataFrame, column: str) -> Any:
    """The first two coordinates, (n, 2); for one-dimensional goals, the second one is the final distance."""
    values = np.array(table[column].to_list(), dtype=np.float64).reshape(len(table), -1)
    if values.shape[1] == 1:
        return np.column_stack([values, table["final_distance"].to_numpy()])
    return values[:, :2]
