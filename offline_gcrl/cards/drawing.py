"""Figures of a card: where goals lie, what the actions are, how long episodes are and what they return."""

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

ACHIEVED: Colormap = LinearSegmentedColormap.from_list("achieved", [f"{PALETTE[0]}30", PALETTE[0]])
DESIRED: Colormap = LinearSegmentedColormap.from_list("desired", [f"{PALETTE[1]}40", PALETTE[1]])
"""From clear to full, so that more often is stronger on a dark page as on a light one."""
PURSUED = WALL
MAX_PANELS = 24
"""Dimensions of an action or goal that are drawn, of those that have more."""
COLUMNS = 4

Groups = dict[str, NDArray[np.bool_]]
"""What is drawn in one colour: its name, and which sources it is of."""


def groups(data: IngestedDataset) -> Groups:
    """The sources each in a colour of its own, or, where they are too many, the kinds of them."""
    sources = [
        (recipe.task, source) for recipe in data.dataset.recipes for source in recipe.sources
    ]
    if len(sources) <= len(PALETTE):
        names = short_names(data)
    else:
        names = [source.kind for _, source in sources]
    return {name: np.array([other == name for other in names]) for name in dict.fromkeys(names)}


def short_names(data: IngestedDataset) -> list[str]:
    """The last part of each source's Minari id, with its task where there are several."""
    many = len(data.dataset.recipes) > 1
    return [
        f"{recipe.task}: {_last_part(source.dataset)}" if many else _last_part(source.dataset)
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
    """Where achieved goals lie, and where those that were pursued.

    Args:
        data: the dataset.
        coverage: its counts.
        scenes: walls or table of each task.
    """
    if coverage.kind == "dimensions":
        return _dimensions_figure(data, coverage)
    return _planes_figure(data, coverage, scenes)


def actions_figure(data: IngestedDataset, counts: NDArray[np.int64]) -> Figure:
    """A histogram of each dimension of the action; ``counts``: (sources, action, bins)."""
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
    """Histograms of the lengths and returns of episodes; None if all have the same of both."""
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
    """A row a task: where the goals of each source lie, and last those that were pursued."""
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
                axes, pursued = panels[task, len(own)], coverage.desired[own].sum(0)
                _draw_plane(axes, coverage, pursued, task, scenes[task], DESIRED)
                axes.set_title("pursued", fontsize=9)
            if tasks > 1:
                panels[task, 0].annotate(
                    data.dataset.tasks[task],
                    (0, 1),
                    xytext=(0, 20),  # Above the title, however flat the panel is.
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
    """Counts, (x, y), as an image whose stronger cells are visited more often, on a logarithmic scale."""
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
    """Draw what surrounds places to scale: all of a maze, of a table what is near them."""
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
    """A histogram of each dimension of the goals: achieved ones as lines, pursued ones as an area."""
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
                    color=PURSUED,
                    label="pursued",
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
    """Small panels, ``COLUMNS`` in a row, for ``count`` dimensions or as many as are drawn."""
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
    """One label and one legend for all panels."""
    for axes in panels:
        axes.tick_params(labelsize=7)
        axes.set_ylim(bottom=0)  # Last: it ends the fitting of the range to what is drawn.
    panels[0].set_ylabel(label)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(3, len(labels)))


def _edges(values: NDArray[np.float64]) -> NDArray[Any]:
    """Edges of bins for numbers that differ; whole ones get a bin each as long as that is not too many."""
    low, high = values.min(), values.max()
    whole = bool((values == np.round(values)).all())
    if whole and high - low < 30:
        return np.arange(low, high + 2) - 0.5
    return np.linspace(low, high, 31)


def _last_part(dataset: str) -> str:
    return dataset.split("/")[-1]
