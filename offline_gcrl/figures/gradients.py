"""Figure of the cosines between the gradients of tasks."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from offline_gcrl.config.outputs import GRADIENTS
from offline_gcrl.figures.style import PALETTE, STYLE, save, updates_axis, without_common_start
from offline_gcrl.support.digests import intact


def conflicts_figure(cosines: pl.DataFrame) -> Figure:
    """Cosines between the gradients of tasks, one column per network of an agent.

    The upper panels show the cosine of each pair of tasks, as a mean over training and seeds. Below zero, an update
    for one task hurts the other. The lower panels show the mean and the minimum over all pairs during training.

    Args:
        cosines: the concatenated tables ``gradients.parquet`` of one or more seeds.
    """
    networks = cosines["network"].unique(maintain_order=True).to_list()
    tasks = cosines["task_a"].unique(maintain_order=True).to_list()
    side = 1.4 + 0.32 * len(tasks)
    with mpl.rc_context(STYLE):
        figure, panels = plt.subplots(
            2,
            len(networks),
            figsize=(1.6 + side * len(networks), side + 2.0),
            squeeze=False,
            sharey="row",
            height_ratios=[side, 1.6],
        )
        for (above, below), network in zip(panels.T, networks, strict=True):
            own = cosines.filter(pl.col("network") == network, pl.col("task_a") != pl.col("task_b"))
            picture = _draw_cosines(above, own, tasks)
            above.set_title(network)
            _draw_agreement(below, own)
        panels[0, 0].set_yticks(range(len(tasks)), without_common_start(tasks))
        panels[1, 0].set_ylabel("cosine")
        panels[1, 0].legend(loc="upper right", fontsize=8, ncols=2)
        figure.colorbar(picture, ax=panels[0], label="cosine, mean over training", shrink=0.8)
        return figure


def draw_gradients(models: Iterable[Path], folder: Path) -> None:
    """Write ``gradients.svg`` into ``folder`` if the folders of seeds contain ``gradients.parquet``."""
    tables = [model / GRADIENTS for model in models]
    found = [pl.read_parquet(intact(path)) for path in tables if path.exists()]
    if found and found[0]["task_a"].n_unique() > 1:
        save(conflicts_figure(pl.concat(found)), folder / "gradients.svg")


def _draw_cosines(axes: Axes, cosines: pl.DataFrame, tasks: Sequence[str]) -> Any:
    """Draw one cell per pair of tasks with its number; returns the image for the colour bar."""
    table = np.full((len(tasks), len(tasks)), np.nan)
    for first, second, mean in (
        cosines.group_by("task_a", "task_b").agg(pl.col("cosine").mean()).iter_rows()
    ):
        table[tasks.index(first), tasks.index(second)] = mean
    picture = axes.imshow(table, cmap="PuOr", vmin=-1.0, vmax=1.0)
    for row, column in zip(*np.nonzero(~np.isnan(table)), strict=True):
        value = table[row, column]
        ink = "#ffffff" if abs(value) > 0.6 else "#000000"
        number = f"{value:.2f}".replace("0.", ".").replace("-.00", ".00")
        axes.annotate(number, (column, row), ha="center", va="center", fontsize=7, color=ink)
    axes.set_xticks(range(len(tasks)), without_common_start(tasks), rotation=90)
    axes.grid(visible=False)
    return picture


def _draw_agreement(axes: Axes, cosines: pl.DataFrame) -> None:
    """Draw the mean and the minimum of the cosines over updates."""
    rounds = cosines.group_by("update", maintain_order=True).agg(
        pl.col("cosine").mean().alias("mean over pairs"),
        pl.col("cosine").min().alias("minimum over pairs"),
    )
    for name, colour in zip(rounds.columns[1:], PALETTE, strict=False):
        axes.plot(
            rounds["update"], rounds[name], color=colour, marker="o", markersize=3, label=name
        )
    axes.axhline(0.0, color="#888888", linewidth=1)
    axes.set_ylim(-1.05, 1.05)
    updates_axis(axes)
