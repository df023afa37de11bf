"""Maps of an agent's value over the positions of a maze, for one goal."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from offline_gcrl.figures.scenes import Walls
from offline_gcrl.figures.style import MISSED, STYLE, WALL

COLOURS = "viridis"
"""Perceptually uniform, and readable without colour."""
LIGHT = "#fefefe"
"""Lines on the map; unlike white, it stays light in the dark theme of the report page."""
LEVELS = 9
"""Number of contour lines."""
PANEL = 2.5  # Inches.


@dataclass(frozen=True)
class ValuePanel:
    """The map of one agent in one maze."""

    title: str
    table: pl.DataFrame
    """Values by position: columns ``x``, ``y``, ``value``, and the same ``goal_x``, ``goal_y`` and ``unit`` in every
    row."""
    walls: Walls


def values_figure(panels: Sequence[ValuePanel], columns: int) -> Figure:
    """Maps of values with walls to scale, ``columns`` in a row; a ring marks the goal.

    Values of different agents have different units and bounds. Each panel therefore has its own scale.
    """
    rows = -(-len(panels) // columns)
    with mpl.rc_context(STYLE):
        figure, places = plt.subplots(
            rows, columns, figsize=(0.2 + PANEL * columns, (PANEL + 0.7) * rows), squeeze=False
        )
        for axes in places.flat[len(panels) :]:
            axes.set_visible(False)
        for axes, panel in zip(places.flat, panels, strict=False):
            _draw(figure, axes, panel)
        figure.set_layout_engine("constrained", wspace=0.06)
        return figure


def _draw(figure: Figure, axes: Axes, panel: ValuePanel) -> None:
    x, y, image = as_image(panel.table)
    half = (x[1] - x[0]) / 2
    bounds = (x[0] - half, x[-1] + half, y[0] - half, y[-1] + half)
    drawn = axes.imshow(image, extent=bounds, origin="lower", cmap=COLOURS, interpolation="nearest")
    if np.nanmin(image) < np.nanmax(image):
        lines: Any = {"linewidths": 0.5, "linestyles": "solid", "alpha": 0.6}
        axes.contour(x, y, image, LEVELS, colors=LIGHT, **lines)
    for left, low, size in panel.walls:
        axes.add_patch(Rectangle((left, low), size, size, color=WALL))
    _mark_goal(axes, panel.table)
    _frame(axes, panel.walls)
    axes.set_title(panel.title)
    bar = figure.colorbar(
        drawn, ax=axes, orientation="horizontal", fraction=0.05, pad=0.03, aspect=26
    )
    bar.locator = MaxNLocator(4)
    bar.update_ticks()
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=8)
    bar.set_label(f"value: {panel.table['unit'][0]}", fontsize=8)


def _mark_goal(axes: Axes, table: pl.DataFrame) -> None:
    goal: Any = (table["goal_x"][0], table["goal_y"][0])
    ring: Any = {"markersize": 8, "markerfacecolor": "none"}
    axes.plot(*goal, "o", **ring, markeredgecolor=LIGHT, markeredgewidth=3.2)
    axes.plot(*goal, "o", **ring, markeredgecolor=MISSED, markeredgewidth=1.6)


def _frame(axes: Axes, walls: Walls) -> None:
    """The walls show the scale, so that no axes are drawn; half of the outer walls is visible."""
    half = walls[0][2] / 2
    axes.set_axis_off()
    axes.set_xlim(min(x for x, _, _ in walls) + half, max(x for x, _, _ in walls) + half)
    axes.set_ylim(min(y for _, y, _ in walls) + half, max(y for _, y, _ in walls) + half)
    axes.set_aspect("equal")


def as_image(
    table: pl.DataFrame,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """The x and y of a grid, (columns,) and (rows,), and its values, (rows, columns), NaN where there are none."""
    x, column = np.unique(table["x"].to_numpy(), return_inverse=True)
    y, row = np.unique(table["y"].to_numpy(), return_inverse=True)
    image = np.full((len(y), len(x)), np.nan)
    image[row, column] = table["value"].to_numpy()
    return x, y, image
