"""Figures of a card: coverage of the goal space, distributions of actions, and lengths and returns of episodes."""

from collections.abc import Sequence
from typing import Any

import matplotlib as mpl

mpl.use("agg")

import matplotlib.pyplot as plt
import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, LinearSegmentedColormap, LogNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from offline_gcrl.cards.coverage import Coverage
from offline_gcrl.cards.measure import IngestedDataset, Measures
from offline_gcrl.figures.scenes import Scene
from offline_gcrl.figures.style import PALETTE, STYLE, WALL
from offline_gcrl.support.bins import whole_number_edges

ACHIEVED: Colormap = LinearSegmentedColormap.from_list("achieved", [f"{PALETTE[0]}30", PALETTE[0]])
DESIRED: Colormap = LinearSegmentedColormap.from_list("desired", [f"{PALETTE[1]}40", PALETTE[1]])
"""Colour maps from transparent to opaque, so that frequent cells stand out on dark and on light pages."""
DESIRED_AREA = WALL
MAX_PANELS = 24
"""Maximal number of action or goal dimensions that are drawn."""
COLUMNS = 4
EPISODE_BINS = 30

Groups = dict[str, NDArray[np.bool_]]
"""Groups of sources that are drawn in one colour: the group's name, and a mask of its sources, (sources,)."""


def groups(data: IngestedDataset) -> Groups:
    """One group per source, or one group per kind of source if there are more sources than colours."""
    sources = [
        (recipe.task, source) for recipe in data.dataset.recipes for source in recipe.sources
    ]
    if len(sources) <= len(PALETTE):
        names = short_names(data)
    else:
        names = [source.kind for _, source in sources]
    return {name: np.array([other == name for other in names]) for name in dict.fromkeys(names)}


def short_names(data: IngestedDataset) -> list[str]:
    """The last part of each source's Minari id, preceded by its task if there are several tasks."""
    has_tasks = len(data.dataset.recipes) > 1
    return [
        f"{recipe.task}: {_last_part(source.dataset)}" if has_tasks else _last_part(source.dataset)
        for recipe in data.dataset.recipes
        for source in recipe.sources
    ]


def card_figures(
    data: IngestedDataset, measures: Measures, scenes: Sequence[Scene]
) -> dict[str, Figure]:
    """All figures of a card by name; see ``coverage_figure`` for the scenes."""
    figures = {
        "coverage": coverage_figure(data, measures.coverage, scenes),
        "actions": actions_figure(data, measures.actions),
        "episodes": episodes_figure(data),
    }
    return {name: figure for name, figure in figures.items() if figure is not None}


def coverage_figure(data: IngestedDataset, coverage: Coverage, scenes: Sequence[Scene]) -> Figure:
    """Coverage of the goal space by achieved goals of each source, and by desired goals.

    Args:
        data: the dataset.
        coverage: its counts.
        scenes: walls or table of each task.
    """
    if coverage.kind == "dimensions":
        return _dimensions_figure(data, coverage)
    return _planes_figure(data, coverage, scenes)


def actions_figure(data: IngestedDataset, counts: NDArray[np.int64]) -> Figure:
    """A histogram of each action dimension, from ``counts``, (sources, action, bins)."""
    bounds = data.schema["action_space"]
    edges = np.linspace(bounds["low"], bounds["high"], counts.shape[2] + 1).T
    with mpl.rc_context(STYLE):
        figure, panels = _grid(counts.shape[1])
        for dimension, axes in enumerate(panels):
            for colour, (name, chosen) in zip(PALETTE, groups(data).items(), strict=False):
                own = counts[chosen, dimension].sum(0)
                axes.stairs(own / max(1, own.sum()), edges[dimension], color=colour, label=name)
            axes.set_title(f"action {dimension}", fontsize=9)
        _finish(figure, panels, "share of transitions")
        return figure


def episodes_figure(data: IngestedDataset) -> Figure | None:
    """Histograms of the lengths and returns of episodes; None if both are the same for all episodes."""
    values = {
        title: data.episodes[column].cast(pl.Float64).to_numpy()
        for title, column in (("length (transitions)", "length"), ("return", "return"))
        if data.episodes[column].n_unique() > 1
    }
    if not values:
        return None
    with mpl.rc_context(STYLE):
        figure, panels = plt.subplots(
            1, len(values), figsize=(0.4 + 3.4 * len(values), 2.6), squeeze=False
        )
        for axes, (title, numbers) in zip(panels[0], values.items(), strict=True):
            edges = _edges(numbers)
            for colour, (name, chosen) in zip(PALETTE, groups(data).items(), strict=False):
                own = np.histogram(numbers[chosen[data.source_of]], edges)[0]
                axes.stairs(own, edges, color=colour, label=name, linewidth=1.5)
            axes.set_title(title, fontsize=9)
        _finish(figure, list(panels[0]), "episodes")
        return figure


def _planes_figure(data: IngestedDataset, coverage: Coverage, scenes: Sequence[Scene]) -> Figure:
    """One row per task with one panel per source for achieved goals, and a last panel for desired goals."""
    tasks = len(data.dataset.recipes)
    columns = int(np.bincount(coverage.task_of).max()) + (coverage.desired is not None)
    with mpl.rc_context(STYLE):
        figure, panels = plt.subplots(
            tasks, columns, figsize=(0.4 + 2.5 * columns, 0.4 + 2.5 * tasks), squeeze=False
        )
        for task in range(tasks):
            for axes in panels[task]:
                axes.set_axis_off()
            own = np.flatnonzero(coverage.task_of == task)
            for axes, source in zip(panels[task], own, strict=False):
                _draw_plane(axes, coverage, coverage.achieved[source], task, scenes[task])
                axes.set_title(f"achieved: {_last_part(data.sources[source])}", fontsize=9)
            if coverage.desired is not None:
                axes, desired = panels[task, len(own)], coverage.desired[own].sum(0)
                _draw_plane(axes, coverage, desired, task, scenes[task], DESIRED)
                axes.set_title("desired", fontsize=9)
            if tasks > 1:
                panels[task, 0].annotate(
                    data.dataset.tasks[task],
                    (0, 1),
                    xytext=(0, 20),  # Points, so that the text is above the title of any panel.
                    xycoords="axes fraction",
                    textcoords="offset points",
                    weight="bold",
                )
        return figure


def _draw_plane(
    axes: Axes,
    coverage: Coverage,
    counts: NDArray[np.int64],
    task: int,
    scene: Scene,
    colours: Colormap = ACHIEVED,
) -> None:
    """Draw counts, (x, y), as an image with a logarithmic colour scale."""
    axes.set_axis_on()
    low, high = coverage.axes.low[task], coverage.axes.high[task]
    axes.imshow(
        np.ma.masked_equal(counts.T, 0),
        origin="lower",
        extent=(low[0], high[0], low[1], high[1]),
        cmap=colours,
        norm=LogNorm(1, max(2, counts.max())),
        interpolation="nearest",
        zorder=1,
    )
    axes.grid(visible=False)
    axes.tick_params(labelsize=7)
    if coverage.kind == "principal":
        first, second = coverage.axes.explained
        axes.set_xlabel(f"first axis ({first:.0%} of variance)", fontsize=8)
        axes.set_ylabel(f"second ({second:.0%})", fontsize=8)
        axes.set_aspect("auto")
    if coverage.kind == "places":
        _fit(axes, scene, low, high)


def _fit(axes: Axes, scene: Scene, low: NDArray[np.float64], high: NDArray[np.float64]) -> None:
    """Draw the scene to scale: the complete maze, or the part of the table near the goals."""
    if scene.walls:
        axes.set_axis_off()
        for x, y, side in scene.walls:
            axes.add_patch(Rectangle((x, y), side, side, color=WALL, zorder=0, linewidth=0))
        corners = np.array([(x, y, x + side, y + side) for x, y, side in scene.walls])
        low, high = corners[:, :2].min(0) + 0.5, corners[:, 2:].max(0) - 0.5
    elif scene.table_top:
        x, y, width, depth = scene.table_top
        axes.add_patch(Rectangle((x, y), width, depth, color=WALL, alpha=0.45, zorder=0))
        axes.set_xlabel("x, seen from above", fontsize=8)
        margin = 0.15 * (high - low).max()
        low, high = low - margin, high + margin
    axes.set_xlim(low[0], high[0])
    axes.set_ylim(low[1], high[1])


def _dimensions_figure(data: IngestedDataset, coverage: Coverage) -> Figure:
    """A histogram of each goal dimension: achieved goals as lines, desired goals as an area."""
    edges = np.linspace(coverage.axes.low[0], coverage.axes.high[0], coverage.achieved.shape[2] + 1)
    with mpl.rc_context(STYLE):
        figure, panels = _grid(coverage.achieved.shape[1])
        for dimension, axes in enumerate(panels):
            if coverage.desired is not None:
                own = coverage.desired[:, dimension].sum(0)
                axes.stairs(
                    own / max(1, own.sum()),
                    edges[:, dimension],
                    fill=True,
                    color=DESIRED_AREA,
                    label="desired",
                )
            for colour, (name, chosen) in zip(PALETTE, groups(data).items(), strict=False):
                own = coverage.achieved[chosen, dimension].sum(0)
                axes.stairs(own / max(1, own.sum()), edges[:, dimension], color=colour, label=name)
            axes.set_title(f"goal {dimension}", fontsize=9)
            axes.set_yscale("symlog", linthresh=1e-3)
            axes.set_ylim(0, 1)
        _finish(figure, panels, "share of states")
        return figure


def _grid(count: int) -> tuple[Figure, list[Axes]]:
    """A grid of panels for ``count`` dimensions, at most ``MAX_PANELS``, with ``COLUMNS`` per row."""
    drawn = min(count, MAX_PANELS)
    columns = min(drawn, COLUMNS)
    rows = -(-drawn // columns)
    figure, panels = plt.subplots(
        rows,
        columns,
        figsize=(max(3.6, 2.3 * columns), 0.7 + 1.7 * rows),
        squeeze=False,
        sharey=True,
    )
    for axes in panels.flat[drawn:]:
        axes.set_axis_off()
    return figure, list(panels.flat[:drawn])


def _finish(figure: Figure, panels: Sequence[Axes], label: str) -> None:
    """Add one label and one legend for all panels."""
    for axes in panels:
        axes.tick_params(labelsize=7)
        axes.set_ylim(bottom=0)  # This ends automatic scaling, so it must come after drawing.
    panels[0].set_ylabel(label)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(3, len(labels)))


def _edges(values: NDArray[np.float64]) -> NDArray[Any]:
    """Edges of histogram bins; integers within a range of 30 get one bin each."""
    low, high = values.min(), values.max()
    are_integers = bool((values == np.round(values)).all())
    if are_integers:
        return whole_number_edges(int(low), int(high), EPISODE_BINS)
    return np.linspace(low, high, EPISODE_BINS + 1)


def _last_part(dataset: str) -> str:
    return dataset.split("/")[-1]
