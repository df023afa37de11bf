"""Maps of values, and success with planners: figures and tables of the report."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from offline_gcrl.config import Dataset
from offline_gcrl.config.outputs import VALUE_MAP
from offline_gcrl.figures.scenes import task_walls
from offline_gcrl.figures.values import ValuePanel, values_figure
from offline_gcrl.report.drawing import NumberedFigure, inline_svg
from offline_gcrl.report.exports import Cell, File, Save, Table, figure_files
from offline_gcrl.report.films import Film, shown_film
from offline_gcrl.report.findings import Findings
from offline_gcrl.report.results import DatasetResults

VALUES_NOTE = (
    "The value of each agent at every position of the maze, at rest, for the goal in the ring, which is that of the "
    "first evaluation episode. Policies are those of the first seed. Brighter is nearer to the goal in the opinion of "
    "the agent. Values have different units and bounds, so that each map has its own scale: compare the shapes of the "
    "contour lines, which are at equal distances within a map, and not the numbers."
)
PLANNING_NOTE = (
    "The same policies in the same episodes, without and with test-time graph search over states of the dataset. The "
    "results in all other sections are without it. The difference is the success rate with the planner minus that "
    "without it."
)


def value_pictures(dataset: Dataset, results: DatasetResults) -> NumberedFigure | None:
    """The map of each agent and task, one picture each; None if there are none."""
    pictures = []
    for agent, task, panel in _panels(dataset, results):
        figure = values_figure([panel], 1)
        label = f"Map of the value of {panel.title}, with walls and goal"
        name = f"values-{dataset.name}-{task}-{agent}"
        pictures.append(inline_svg(figure, name, label))
    if not pictures:
        return None
    data = [
        File(f"{agent}.parquet", f"../results/{dataset.name}/{agent}/{VALUE_MAP}")
        for agent, found in results.agents.items()
        if found.value_map is not None
    ]
    return NumberedFigure(pictures, VALUES_NOTE, figure_files(f"values-{dataset.name}", *data))


def draw_values(dataset: Dataset, results: DatasetResults, save: Save) -> None:
    """Write the maps of all agents as one figure, with a row for each task; nothing if there are none."""
    panels = _panels(dataset, results)
    if panels:
        agents = len({agent for agent, _, _ in panels})
        drawn = values_figure([panel for _, _, panel in panels], agents)
        save(drawn, f"values-{dataset.name}")


def _panels(dataset: Dataset, results: DatasetResults) -> list[tuple[str, str, ValuePanel]]:
    """Agent, task and map, by task and then by agent; titles name the task if there are several."""
    found = {
        name: own.value_map for name, own in results.agents.items() if own.value_map is not None
    }
    walls = task_walls(dataset) if found else {}
    panels = []
    for task, cells in walls.items():
        for agent, table in found.items():
            title = agent if len(walls) == 1 else f"{agent}, {task}"
            own = table.filter(pl.col("task") == task)
            if len(own):
                panels.append((agent, task, ValuePanel(title, own, cells)))
    return panels


def planning_table(dataset: str, findings: Findings) -> Table:
    """Agent, success without and with the planner, and their difference."""
    rows: list[list[Cell]] = [
        [agent, row.second, row.first, row.difference]
        for agent, found in findings.items()
        if (row := found.planning) is not None
    ]
    heading = ["agent", "without planner", "with planner", "difference"]
    without = [agent for agent, found in findings.items() if found.planning is None]
    caption = f"Success on {dataset} with a planner. {PLANNING_NOTE}"
    if without:
        caption += (
            f" Without a planner, because their value is no number of steps: {', '.join(without)}."
        )
    return Table(f"planning-{dataset}", caption, heading, rows)


def planning_content(
    dataset: str, results: DatasetResults, findings: Findings, videos: Mapping[Path, Film]
) -> dict[str, Any] | None:
    """The section on planners; None if no agent was evaluated with one.

    Args:
        dataset: name of the dataset.
        results: results of the agents, with their videos.
        findings: results of the probes by agent.
        videos: embedded videos by path.
    """
    table = planning_table(dataset, findings)
    if not table.rows:
        return None
    films = [
        shown_film(agent, "first seed, with planner", path, videos)
        for agent, found in results.agents.items()
        if findings[agent].planning is not None
        for path in found.planned_videos[:1]
    ]
    return {"table": table, "videos": films}
