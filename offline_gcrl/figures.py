"""Figures: success with intervals, learning curves, goals reached and missed, hindsight statistics.

Drawn for papers and for pages: SVG, colours that the colour-blind can tell apart (Okabe and Ito), and
the same bytes for the same numbers.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl

mpl.use("agg")

import matplotlib.pyplot as plt
import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, NullLocator

from offline_gcrl.config import Dataset, Region
from offline_gcrl.environments import shared_environment

if TYPE_CHECKING:
    from offline_gcrl.evaluation import SeedResult, Summary

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
REACHED, MISSED, WALL = "#009E73", "#D55E00", "#c9ccd1"
HELD_OUT = "#0072B2"
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
Table = tuple[float, float, float, float]
"""A table seen from above: x and y of a corner, width and depth."""
GRADIENTS = "gradients.parquet"  # As ``multitask.training`` names it, which is heavy to import.
MOST_DRAWN = 3  # Dimensions of a goal that a map of goals can still show.


@dataclass(frozen=True)
class Scene:
    """What surrounds the goals, drawn to scale."""

    walls: Walls = ()
    table_top: Table | None = None
    held_out: Region | None = None
    """Goals that training left out."""


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


def success_figure(
    metrics: Mapping[str, Mapping[str, Any]], headlines: Mapping[str, str] | None = None
) -> Figure:
    """Success rate with its 95% interval, for each dataset and agent, the best on top.

    Args:
        metrics: by dataset and agent.
        headlines: the metric that is the success of a dataset, where it is not ``success_rate``.
    """
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
            metric = (headlines or {}).get(dataset, "success_rate")
            _draw_rates(axes, {name: values[metric] for name, values in agents.items()})
            axes.set_title(dataset)
        panels[-1, 0].set_xlabel("success rate, 95% interval")
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


def goals_figure(episodes: Mapping[str, pl.DataFrame], scene: Scene) -> Figure:
    """Where goals were reached and missed, a panel an agent.

    In the plane of the first two axes, walls or table drawn to scale; goals of one dimension lie along
    the horizontal axis, below how far from them the episode ended.
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
        figure.legend(handles, labels, loc="outside lower center", ncols=3)
        return figure


def distances_figure(
    episodes: Mapping[str, pl.DataFrame], tolerance: float | None, unit: str = ""
) -> Figure:
    """How far from the goal episodes ended: the share of them within each distance, a line an agent."""
    with mpl.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(5.2, 3.1))
        longest = max(
            float(table["final_distance"].to_numpy().max()) for table in episodes.values()
        )
        for agent, colour in colours(list(episodes)).items():
            distances = np.sort(episodes[agent]["final_distance"].to_numpy())
            shares = np.arange(len(distances) + 1) / len(distances)
            edges = np.concatenate([[0.0], distances, [max(longest, distances[-1])]])
            axes.stairs(shares, edges, color=colour, label=agent, linewidth=1.8, baseline=None)
        if tolerance is not None:
            axes.axvline(tolerance, color="#888888", linewidth=1, linestyle=(0, (4, 3)))
        axes.set_xlabel("distance to the goal at the last step" + (f" ({unit})" if unit else ""))
        axes.set_ylabel("share of episodes within it")
        axes.set_ylim(0, 1.02)
        axes.set_xlim(0, longest * 1.02 or 1.0)
        axes.legend(loc="lower right")
        return figure


def hindsight_figure(statistics: Mapping[str, Any]) -> Figure:
    """Share of positive labels for each strategy beside the expected one, and how far its goals lie."""
    with mpl.rc_context(STYLE):
        figure, (shares, distances) = plt.subplots(1, 2, figsize=(8.6, 3.3))
        draw_shares(shares, statistics)
        draw_distances(distances, statistics)
        return figure


def conflicts_figure(cosines: pl.DataFrame) -> Figure:
    """How far the gradients of tasks agree: a column for each network of an agent.

    Above, the cosine of the angle between the gradients of each pair of tasks, mean over training and seeds:
    below zero, what helps one task hurts the other. Below, the mean over pairs, and the least of them,
    over updates.

    Args:
        cosines: the tables ``gradients.parquet`` of one or more seeds, one below the other.
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
        panels[0, 0].set_yticks(range(len(tasks)), _without_common_start(tasks))
        panels[1, 0].set_ylabel("cosine")
        panels[1, 0].legend(loc="upper right", fontsize=8, ncols=2)
        figure.colorbar(picture, ax=panels[0], label="cosine, mean over training", shrink=0.8)
        return figure


def draw_gradients(models: Iterable[Path], folder: Path) -> None:
    """Draw how far the gradients of tasks agreed, where training left tables of it in the folders of seeds."""
    tables = [model / GRADIENTS for model in models]
    found = [pl.read_parquet(path) for path in tables if path.exists()]
    if found and found[0]["task_a"].n_unique() > 1:
        save(conflicts_figure(pl.concat(found)), folder / "gradients.svg")


def draw_shares(axes: Axes, statistics: Mapping[str, Any]) -> None:
    """Share of positive labels for each strategy, beside the one that theory expects."""
    strategies = statistics["strategies"]
    colour = _strategy_colours(strategies)
    expected = {name: values.get("expected_if_exact") for name, values in strategies.items()}
    shares = {name: values["positive_share"] for name, values in strategies.items()}
    least = min(filter(None, (*expected.values(), *shares.values())), default=0.1) / 2
    for place, (name, share) in enumerate(shares.items()):
        if expected[name]:
            axes.plot(
                [expected[name], max(share, least)], [place] * 2, color="#888888", linewidth=1
            )
            axes.plot(expected[name], place, "k|", markersize=11, markeredgewidth=2)
        axes.plot(max(share, least), place, "o", color=colour[name], markersize=7)
        _label_share(axes, share, (max(share, least), place))
    axes.plot([], [], "o", color="#888888", markersize=7, label="measured")
    axes.plot(
        [], [], "k|", markersize=11, markeredgewidth=2, label="if only the next state counted"
    )
    axes.set_xscale("log")
    axes.set_xlim(least / 1.5, 8.0)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:g}%"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_yticks(range(len(strategies)), list(strategies))
    axes.set_ylim(len(strategies) - 0.4, -0.6)
    axes.grid(axis="y", visible=False)
    axes.set_title("Share of positive labels")
    axes.set_xlabel("share of labels, logarithmic")
    axes.legend(loc="upper center", bbox_to_anchor=(0.45, -0.2), ncols=2, fontsize=8)


def _label_share(axes: Axes, share: float, place: tuple[float, float]) -> None:
    text = f"{share:.1%}" if share >= 0.01 or share == 0 else f"{share:.2%}"
    axes.annotate(text, place, xytext=(7, 0), textcoords="offset points", va="center", fontsize=8)


def draw_distances(axes: Axes, statistics: Mapping[str, Any]) -> None:
    """How many steps from a transition its goals lie, for each strategy within the episode."""
    strategies = statistics["strategies"]
    colour = _strategy_colours(strategies)
    for name, values in strategies.items():
        if "steps_ahead" in values:
            histogram = values["steps_ahead"]["histogram"]
            counts = np.array(histogram["counts"]) / sum(histogram["counts"])
            axes.stairs(counts, histogram["edges"], color=colour[name], label=name, linewidth=1.5)
    axes.set_title("Steps from transition to goal")
    axes.set_ylabel("share of goals")
    axes.set_xlabel("steps (negative: the goal lies in the past)")
    axes.legend()


def has_places(episodes: pl.DataFrame) -> bool:
    """Whether goals are places of one task, which a plane can show: of at most ``MOST_DRAWN`` numbers."""
    return int(episodes["goal"].list.len().max()) <= MOST_DRAWN and episodes["task"].n_unique() == 1  # type: ignore[arg-type]


def draw_results(
    results: "Mapping[int, SeedResult]", over: "Summary", dataset: Dataset, agent: str, folder: Path
) -> None:
    """Draw how one agent was judged: over all seeds, and below it each seed."""
    draw_result(over.episodes, over.curve, dataset, agent, folder)
    for seed, result in results.items():
        draw_result(result.episodes, result.curve, dataset, agent, folder / f"seed-{seed}")


def draw_result(
    episodes: pl.DataFrame, curve: pl.DataFrame, dataset: Dataset, agent: str, folder: Path
) -> None:
    """Draw how one agent was judged: where goals were reached and missed, and its learning curve."""
    if has_places(episodes):
        save(goals_figure({agent: episodes}, dataset_scene(dataset)), folder / "goals.svg")
    save(curves_figure({dataset.name: {agent: curve}}), folder / "learning_curve.svg")


def dataset_scene(dataset: Dataset) -> Scene:
    """Walls or table where policies are judged; nothing where there is no such place, or more than one."""
    evaluation = dataset.recipes[0].evaluation
    if evaluation is None or len(dataset.recipes) > 1:
        return Scene()
    scene = environment_scene(shared_environment(evaluation.environment))
    return replace(scene, held_out=dataset.recipes[0].held_out)


def environment_scene(environment: Any) -> Scene:
    """Walls or table of an environment, which is reset: OGBench's arms have no model before."""
    environment.reset(seed=0)
    return Scene(maze_walls(environment), table_top(environment))


def maze_walls(environment: Any) -> Walls:
    """Wall cells of an environment that has a maze, Gymnasium-Robotics' or OGBench's; none for others."""
    maze = environment.unwrapped
    if hasattr(maze, "ij_to_xy"):
        cells, centre_of, size = maze.maze_map, maze.ij_to_xy, float(maze._maze_unit)
    elif hasattr(getattr(maze, "maze", None), "maze_map"):
        maze = maze.maze
        cells, centre_of, size = (
            maze.maze_map,
            maze.cell_rowcol_to_xy,
            float(maze.maze_size_scaling),
        )
    else:
        return []
    centres = [
        centre_of(np.array([row, column]))
        for row, line in enumerate(cells)
        for column, cell in enumerate(line)
        if cell == 1
    ]
    return [(float(x) - size / 2, float(y) - size / 2, size) for x, y in centres]


def table_top(environment: Any) -> Table | None:
    """The table of an environment that has one (Fetch), from its model; None for others."""
    model: Any = getattr(environment.unwrapped, "model", None)
    if model is None:
        return None
    names = [model.body(number).name for number in range(model.nbody)]
    table = next((number for number, name in enumerate(names) if name.startswith("table")), None)
    if table is None:
        return None
    shape = model.body_geomadr[table]
    (x, y), (half_x, half_y) = model.body_pos[table][:2], model.geom_size[shape][:2]
    return float(x - half_x), float(y - half_y), float(2 * half_x), float(2 * half_y)


def _draw_rates(axes: Axes, rates: Mapping[str, Mapping[str, float]]) -> None:
    """A row an agent, the best on top: its rate as a dot with the number, its interval as a bar."""
    colour_of = colours(list(rates))
    order = sorted(rates, key=lambda name: rates[name]["mean"], reverse=True)
    for place, agent in enumerate(order):
        colour, rate = colour_of[agent], rates[agent]
        interval = [rate["low"], rate["high"]]
        axes.plot(interval, [place, place], color=colour, linewidth=5, alpha=0.35)
        axes.plot(rate["mean"], place, "o", color=colour, markersize=7)
        axes.annotate(
            f"{rate['mean']:.2f}",
            (rate["mean"], place),
            xytext=(0, 7),
            textcoords="offset points",
            ha="center",
            fontsize=8,
        )
    axes.set_yticks(range(len(rates)), order)
    axes.set_ylim(len(rates) - 0.5, -0.7)
    axes.set_xlim(0, 1.02)
    axes.grid(axis="y", visible=False)


def _draw_curve(axes: Axes, curve: pl.DataFrame, colour: str) -> None:
    """A curve with its band."""
    update, mean = curve["update"].to_numpy(), curve["mean"].to_numpy()
    low, high = curve["low"].to_numpy(), curve["high"].to_numpy()
    axes.fill_between(update, low, high, color=colour, alpha=0.15, linewidth=0)
    axes.plot(update, mean, color=colour, marker="o", markersize=3)


def _name_curves(axes: Axes, agents: Mapping[str, pl.DataFrame]) -> None:
    """Each curve's name beside its end; names that would cover each other are moved apart."""
    colour = colours(list(agents))
    places = _apart({name: float(curve["mean"][-1]) for name, curve in agents.items()})
    for agent, place in places.items():
        axes.annotate(
            agent,
            (agents[agent]["update"][-1], place),
            xytext=(6, 0),
            textcoords="offset points",
            color=colour[agent],
            va="center",
            weight="bold",
            annotation_clip=False,
        )


def _draw_cosines(axes: Axes, cosines: pl.DataFrame, tasks: Sequence[str]) -> Any:
    """A cell for each pair of tasks, with its number where there is room; returns what a colour bar needs."""
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
    axes.set_xticks(range(len(tasks)), _without_common_start(tasks), rotation=90)
    axes.grid(visible=False)
    return picture


def _draw_agreement(axes: Axes, cosines: pl.DataFrame) -> None:
    """Mean and least cosine over updates."""
    rounds = cosines.group_by("update", maintain_order=True).agg(
        pl.col("cosine").mean().alias("mean over pairs"),
        pl.col("cosine").min().alias("least of all pairs"),
    )
    for name, colour in zip(rounds.columns[1:], PALETTE, strict=False):
        axes.plot(
            rounds["update"], rounds[name], color=colour, marker="o", markersize=3, label=name
        )
    axes.axhline(0.0, color="#888888", linewidth=1)
    axes.set_ylim(-1.05, 1.05)
    axes.set_xlim(left=0)
    axes.set_xlabel("updates")


def _without_common_start(names: Sequence[str]) -> list[str]:
    """Names of tasks without the words that all of them begin with."""
    words = [name.split("-") for name in names]
    shared = 0
    while len({tuple(parts[: shared + 1]) for parts in words}) == 1 and all(
        len(parts) > shared + 1 for parts in words
    ):
        shared += 1
    return ["-".join(parts[shared:]) for parts in words]


def _apart(ends: Mapping[str, float]) -> dict[str, float]:
    """Heights of names, from the top down: each at its curve's end or as far below as it must, none below 0."""
    order = sorted(ends, key=ends.__getitem__, reverse=True)
    places, above, below = {}, 2.0, 0.0
    for name in order:
        places[name] = above = min(ends[name], above - LABEL_HEIGHT)
    for name in reversed(order):
        places[name] = max(places[name], below)
        below = places[name] + LABEL_HEIGHT
    return places


def _strategy_colours(strategies: Mapping[str, Any]) -> dict[str, str]:
    """Colours of the strategies; grey for the goals that the behaviour pursued."""
    drawn = [name for name in strategies if name != "original"]
    return colours(drawn) | {"original": "#888888"}


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
    if walls:  # Drawn to scale; the frame of the maze says enough.
        axes.set_axis_off()
        axes.set_xlim(min(x for x, _, _ in walls) + 0.5, max(x + s for x, _, s in walls) - 0.5)
        axes.set_ylim(min(y for _, y, _ in walls) + 0.5, max(y + s for _, y, s in walls) - 0.5)


def _draw_table(axes: Axes, table_top: Table) -> None:
    x, y, width, depth = table_top
    axes.add_patch(Rectangle((x, y), width, depth, facecolor=WALL, alpha=0.45, edgecolor=WALL))
    axes.set_xlabel("x, seen from above")
    axes.set_ylabel("y")


def _draw_held_out(axes: Axes, region: Region) -> None:
    """The region that training had no goals in, in the first two dimensions, over what else there is."""
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
    """The first two coordinates, (n, 2); the second of one-dimensional goals is the final distance."""
    values = np.array(table[column].to_list(), dtype=np.float64).reshape(len(table), -1)
    if values.shape[1] == 1:
        return np.column_stack([values, table["final_distance"].to_numpy()])
    return values[:, :2]
