"""Figures of multi-task results: transfer, learning curves of each task, and forgetting."""

from collections.abc import Mapping, Sequence

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from offline_gcrl.figures.style import (
    PALETTE,
    STYLE,
    colours,
    grid,
    updates_axis,
    without_common_start,
)
from offline_gcrl.statistics.contrasts import Contrast
from offline_gcrl.statistics.forgetting import SequentialResult
from offline_gcrl.statistics.intervals import Estimate
from offline_gcrl.statistics.transfer import SharingModel

MULTITASK, SPECIALIST = PALETTE[0], PALETTE[1]
WIDTH = 6.4
PANELS_PER_ROW, MATRICES_PER_ROW = 4, 3
Curves = Mapping[str, pl.DataFrame]
"""Learning curves by task: update, mean, low, high."""


def transfer_figure(contrasts: Sequence[Contrast]) -> Figure:
    """Success rate of the multi-task policy and of specialists with 95% intervals, one row per task."""
    with mpl.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(WIDTH, 1.2 + 0.36 * len(contrasts)))
        for place, contrast in enumerate(contrasts):
            _draw_rate(axes, contrast.second, place + 0.16, SPECIALIST)
            _draw_rate(axes, contrast.first, place - 0.16, MULTITASK)
        for colour, label in ((MULTITASK, "multi-task policy"), (SPECIALIST, "specialist")):
            axes.plot([], [], "o", color=colour, label=label)
        axes.set_yticks(range(len(contrasts)), without_common_start([c.name for c in contrasts]))
        axes.set_ylim(len(contrasts) - 0.4, -0.6)
        axes.set_xlim(-0.02, 1.02)
        axes.grid(axis="y", visible=False)
        axes.set_xlabel("success rate, 95% interval")
        figure.legend(loc="outside upper right", ncols=2)
        return figure


def _draw_rate(axes: Axes, rate: Estimate, place: float, colour: str) -> None:
    axes.plot([rate.low, rate.high], [place, place], color=colour, linewidth=4, alpha=0.35)
    axes.plot(rate.mean, place, "o", color=colour, markersize=5)


def task_curves_figure(
    agents: Mapping[str, Curves],
    specialists: Mapping[str, Curves],
    boundaries: Sequence[int] = (),
) -> Figure:
    """Learning curves of each agent (solid) and of its specialists (dashed), one panel per task.

    Args:
        agents: learning curves, by agent and task.
        specialists: learning curves of specialists, for agents that have any.
        boundaries: updates at which the phases of sequential training end.
    """
    tasks = list(next(iter(agents.values())))
    names = without_common_start(tasks)
    rows, columns = grid(len(tasks), PANELS_PER_ROW)
    with mpl.rc_context(STYLE):
        figure, panels = plt.subplots(
            rows,
            columns,
            figsize=(0.6 + 2.1 * columns, 0.7 + 1.75 * rows),
            squeeze=False,
            sharex=True,
            sharey=True,
        )
        for number, axes in enumerate(panels.flat):
            if number >= len(tasks):
                axes.set_visible(False)
                continue
            _draw_task(axes, tasks[number], agents, specialists)
            for boundary in boundaries:
                axes.axvline(boundary, color="#888888", linewidth=0.8, linestyle=(0, (4, 3)))
            axes.set_title(names[number], fontsize=8)
            axes.tick_params(labelbottom=number + columns >= len(tasks), labelsize=8)
            axes.set_ylim(0, 1.04)
            updates_axis(axes, label="")
        figure.supxlabel("updates", fontsize=9)
        figure.supylabel("success rate", fontsize=9)
        _legend(figure, agents, specialists)
        return figure


def _draw_task(
    axes: Axes, task: str, agents: Mapping[str, Curves], specialists: Mapping[str, Curves]
) -> None:
    for agent, colour in colours(list(agents)).items():
        curve = agents[agent][task]
        update = curve["update"].to_numpy()
        low, high = curve["low"].to_numpy(), curve["high"].to_numpy()
        axes.fill_between(update, low, high, color=colour, alpha=0.12, linewidth=0)
        axes.plot(update, curve["mean"].to_numpy(), color=colour, linewidth=1.6)
        alone = specialists.get(agent, {}).get(task)
        if alone is not None:
            axes.plot(
                alone["update"].to_numpy(),
                alone["mean"].to_numpy(),
                color=colour,
                linewidth=1.6,
                linestyle=(0, (2, 1)),
            )


def _legend(
    figure: Figure, agents: Mapping[str, Curves], specialists: Mapping[str, Curves]
) -> None:
    handles = []
    for agent, colour in colours(list(agents)).items():
        handles += figure.axes[0].plot([], [], color=colour, label=agent)
        if specialists.get(agent):
            dashes = (0, (2, 1))
            label = f"specialists of {agent}"
            handles += figure.axes[0].plot([], [], color=colour, linestyle=dashes, label=label)
    figure.legend(handles=handles, loc="outside upper center", ncols=3, fontsize=8)


def sharing_figure(models: Mapping[str, SharingModel]) -> Figure:
    """Updates of a multi-task policy over those of one specialist, by the number of tasks, with the fitted lines.

    Args:
        models: the model of sharing that was fitted to suites of several sizes, by agent.
    """
    with mpl.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(4.4, 3.2))
        largest = max(cost.tasks for model in models.values() for cost in model.costs)
        sizes = np.array([1.0, largest])
        for values, label in (
            (sizes, "nothing shared: $r_K = K$"),
            (sizes**0, "everything shared: $r_K = 1$"),
        ):
            dashes = (0, (4, 3)) if label.startswith("nothing") else (0, (1, 2))
            axes.plot(sizes, values, color="#666666", linewidth=1.0, linestyle=dashes, label=label)
        for agent, colour in colours(list(models)).items():
            _draw_sharing(axes, agent, models[agent], colour)
        axes.set_xticks(sorted({cost.tasks for model in models.values() for cost in model.costs}))
        axes.set_xlim(0.6, largest + 0.4)
        axes.set_ylim(bottom=0)
        axes.set_xlabel("tasks in the suite, $K$")
        axes.set_ylabel("updates over those of\none specialist, $r_K$")
        figure.legend(loc="outside upper left", fontsize=8)
        return figure


def _draw_sharing(axes: Axes, agent: str, model: SharingModel, colour: str) -> None:
    sizes = [cost.tasks for cost in model.costs]
    ratios = [cost.ratio.mean for cost in model.costs]
    line = np.array([min(sizes), max(sizes)], dtype=np.float64)
    axes.plot(line, model.fitted(line), color=colour, linewidth=1.2, alpha=0.6)
    ends = np.array(
        [
            [cost.ratio.mean - cost.ratio.low for cost in model.costs],
            [cost.ratio.high - cost.ratio.mean for cost in model.costs],
        ]
    )
    label = f"{agent}: $f$ = {model.shared.mean:.2f}"
    if model.interference is not None:
        label += f", $c$ = {model.interference.mean:.2f}"
    axes.errorbar(sizes, ratios, ends, fmt="o", color=colour, markersize=5, capsize=3, label=label)


def success_matrix_figure(agents: Mapping[str, SequentialResult]) -> Figure:
    """R[i, j], the success rate on task j after phase i, with tasks in training order; one panel per agent."""
    count = max(len(found.tasks) for found in agents.values())
    has_same_tasks = len({tuple(found.tasks) for found in agents.values()}) == 1
    columns = min(MATRICES_PER_ROW, len(agents))
    rows = -(-len(agents) // columns)
    with mpl.rc_context(STYLE):
        figure, panels = plt.subplots(
            rows,
            columns,
            figsize=(1.4 + (0.55 * count + 0.3) * columns, 0.9 + (0.5 * count + 0.4) * rows),
            squeeze=False,
            sharex=has_same_tasks,
            sharey=has_same_tasks,
        )
        for axes in panels.flat[len(agents) :]:
            axes.set_visible(False)
        for number, (axes, (agent, found)) in enumerate(
            zip(panels.flat, agents.items(), strict=False)
        ):
            _draw_matrix(axes, found)
            is_lowest = number + columns >= len(agents)
            axes.tick_params(labelbottom=is_lowest or not has_same_tasks)
            axes.set_title(agent)
        return figure


def _draw_matrix(axes: Axes, found: SequentialResult) -> None:
    mean, names = found.matrix.mean(0), without_common_start(found.tasks)
    axes.imshow(mean, vmin=0, vmax=1, cmap="Blues", aspect="auto")
    for (row, column), value in np.ndenumerate(mean):
        ink = "white" if value > 0.55 else "black"
        axes.text(column, row, f"{value:.2f}", ha="center", va="center", color=ink, fontsize=7)
    axes.set_xticks(range(len(names)), names, rotation=60, ha="right", fontsize=7)
    axes.set_yticks(range(len(names)), [f"after {name}" for name in names], fontsize=7)
    axes.grid(visible=False)
