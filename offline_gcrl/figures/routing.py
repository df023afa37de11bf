"""Figures of the routing weights of modular networks: the modules that each task uses, and what tasks have in common."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure, SubFigure
from numpy.typing import NDArray

from offline_gcrl.config.outputs import ROUTING
from offline_gcrl.figures.style import PALETTE, STYLE, save, without_common_start
from offline_gcrl.support.digests import intact
from offline_gcrl.support.tables import write_parquet

INK = PALETTE[0]
PER_ROW = 4
WEIGHT = ("network", "layer", "destination", "source")
"""Columns that identify a routing weight."""


def routing_overlap(routing: pl.DataFrame) -> NDArray[np.float64]:
    """The share of routing weight that two tasks have in common, as a mean over destinations and seeds.

    For one destination it is sum_i min(w_a[i], w_b[i]) over its sources i: 1 for equal weights, and 0 for tasks that
    use different modules. It does not depend on the numbering of modules, which differs between seeds.

    Args:
        routing: the concatenated tables ``routing.parquet``, with ``seed``, of one network.

    Returns:
        (tasks, tasks), in the order of the table.
    """
    tasks = routing["task"].unique(maintain_order=True)
    found = []
    for _, own in routing.group_by("seed"):
        table = own.pivot("task", index=list(WEIGHT), values="weight")
        weights = table.select(tasks.to_list()).to_numpy()
        destinations = table.select(WEIGHT[:3]).n_unique()
        shared = np.minimum(weights[:, :, None], weights[:, None, :]).sum(0)
        found.append(shared / destinations)
    mean: NDArray[np.float64] = np.mean(found, axis=0)
    return mean


def overlap_figure(routing: pl.DataFrame) -> Figure:
    """The routing weights that each pair of tasks has in common, as a table with colours."""
    with mpl.rc_context(STYLE):
        figure = plt.figure(figsize=_size_of_overlap(routing))
        _draw_overlap(figure, routing)
        return figure


def routes_figure(routing: pl.DataFrame) -> Figure:
    """The modules of one seed and the weights of their connections, one panel per task."""
    with mpl.rc_context(STYLE):
        figure = plt.figure(figsize=_size_of_routes(routing))
        _draw_routes(figure, routing)
        return figure


def routing_figure(routing: pl.DataFrame) -> Figure:
    """Both, next to each other for few tasks, else one below the other, in the width of a page."""
    (width, height), (side, other) = _size_of_routes(routing), _size_of_overlap(routing)
    with mpl.rc_context(STYLE):
        if routing["task"].n_unique() <= PER_ROW:
            figure = plt.figure(figsize=(width + side, max(height, other)))
            parts: Any = figure.subfigures(1, 2, width_ratios=[width, side])
        else:
            figure = plt.figure(figsize=(max(width, side), height + other))
            parts = figure.subfigures(2, 1, height_ratios=[height, other])
        _draw_routes(parts[0], routing)
        _draw_overlap(parts[1], routing)
        return figure


def networks_of(routing: pl.DataFrame) -> dict[str, pl.DataFrame]:
    """The tables of each network of a policy, by its name."""
    parts = routing.group_by("network", maintain_order=True)
    return {str(network): table for (network,), table in parts}


def write_routing(models: Mapping[int, Path], folder: Path) -> None:
    """Write ``routing.parquet`` of all seeds and one figure per network, if the policies are modular.

    Args:
        models: folders of the policies, by seed.
        folder: where to write.
    """
    tables = {seed: path / ROUTING for seed, path in models.items() if (path / ROUTING).exists()}
    if not tables:
        return
    routing = pl.concat(
        pl.read_parquet(intact(path)).with_columns(seed=pl.lit(seed, pl.Int64))
        for seed, path in tables.items()
    )
    write_parquet(routing, folder / ROUTING)
    for network, table in networks_of(routing).items():
        save(routing_figure(table), folder / f"routing-{network}.svg")


def _size_of_overlap(routing: pl.DataFrame) -> tuple[float, float]:
    side = 1.2 + 0.4 * routing["task"].n_unique()
    return side + 0.8, side


def _size_of_routes(routing: pl.DataFrame) -> tuple[float, float]:
    tasks, layers = routing["task"].n_unique(), int(routing["layer"].max())  # type: ignore[arg-type]
    columns, modules = min(PER_ROW, tasks), routing["source"].n_unique()
    rows = -(-tasks // columns)
    return 0.2 + columns * (0.5 + 0.29 * layers), 0.8 + rows * (0.6 + 0.22 * modules)


def _draw_routes(figure: Figure | SubFigure, routing: pl.DataFrame) -> None:
    own = routing.filter(pl.col("seed") == routing["seed"][0])
    tasks = own["task"].unique(maintain_order=True).to_list()
    columns = min(PER_ROW, len(tasks))
    panels = figure.subplots(-(-len(tasks) // columns), columns, squeeze=False)
    names = without_common_start(tasks)
    for axes in panels.flat[len(tasks) :]:
        axes.set_visible(False)
    for axes, task, name in zip(panels.flat, tasks, names, strict=False):
        _draw_network(axes, own.filter(pl.col("task") == task))
        axes.set_title(name, fontsize=8)
    for weight in (0.1, 0.5, 1.0):
        panels[0, 0].plot([], [], color=INK, label=f"{weight:g}", **_strength(weight))
    figure.legend(
        *panels[0, 0].get_legend_handles_labels(),
        loc="outside lower center",
        ncols=4,
        fontsize=8,
        title="routing weight, mean over states",
        title_fontsize=8,
    )


def _draw_network(axes: Axes, routing: pl.DataFrame) -> None:
    """Draw modules as dots, layer by layer from left to right, and the output last; weights are lines."""
    modules, layers = int(routing["source"].max()), int(routing["layer"].max())  # type: ignore[arg-type]
    middle = (modules + 1) / 2
    lines, styles = [], []
    for layer, destination, source, weight in routing.select(
        "layer", "destination", "source", "weight"
    ).iter_rows():
        end = middle if layer == layers else destination
        lines.append([(layer, source), (layer + 1, end)])
        styles.append(_strength(weight))
    axes.add_collection(
        LineCollection(
            lines,
            colors=INK,
            linewidths=[style["linewidth"] for style in styles],
            alpha=[style["alpha"] for style in styles],
            capstyle="round",
        )
    )
    for layer in range(1, layers + 1):
        axes.plot([layer] * modules, range(1, modules + 1), "o", color="#888888", markersize=6)
    axes.plot(layers + 1, middle, "s", color="#888888", markersize=6)
    axes.set_xlim(0.7, layers + 1.3)
    axes.set_ylim(modules + 0.4, 0.6)
    names = [str(layer) for layer in range(1, layers + 1)]
    axes.set_xticks(range(1, layers + 2), [f"layer {names[0]}", *names[1:], "output"], fontsize=7)
    axes.set_yticks([])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.grid(visible=False)


def _strength(weight: float) -> dict[str, float]:
    """The line of a routing weight: thicker and darker for larger weights."""
    return {"linewidth": 0.4 + 4.0 * weight, "alpha": 0.08 + 0.92 * weight}


def _draw_overlap(figure: Figure | SubFigure, routing: pl.DataFrame) -> None:
    tasks = routing["task"].unique(maintain_order=True).to_list()
    names: Sequence[str] = without_common_start(tasks)
    table = routing_overlap(routing)
    low = np.floor(10 * table.min()) / 10
    axes: Any = figure.subplots()
    picture = axes.imshow(table, cmap="Blues", vmin=low, vmax=1.0)
    for (row, column), value in np.ndenumerate(table):
        ink = "#ffffff" if value > low + 0.6 * (1.0 - low) else "#000000"
        number = f"{value:.2f}".removeprefix("0")
        axes.text(column, row, number, ha="center", va="center", fontsize=7, color=ink)
    axes.set_xticks(
        range(len(names)), names, rotation=60, ha="right", rotation_mode="anchor", fontsize=8
    )
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.grid(visible=False)
    figure.colorbar(picture, ax=axes, label="routing weight in common", shrink=0.8)
