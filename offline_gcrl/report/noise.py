"""Evaluation with noise on the actions: its table and figure."""

from collections.abc import Mapping
from typing import Any

from offline_gcrl.config.published import PublishedNumbers
from offline_gcrl.figures.noise import Levels, noise_figure
from offline_gcrl.report.drawing import NumberedFigure, inline_svg
from offline_gcrl.report.exports import TABLES, Cell, File, Save, Table, figure_files
from offline_gcrl.report.findings import Findings
from offline_gcrl.report.numbers import complete_estimate, shown
from offline_gcrl.report.results import DatasetResults
from offline_gcrl.report.tables import COLUMNS, columns

NOTE = (
    "The same policies in the same episodes. Each action has normal noise added, with this standard deviation in units of the "
    "largest action, and is then clipped."
)


def noise_content(
    dataset: str, found: DatasetResults, findings: Findings, numbers: PublishedNumbers | None
) -> dict[str, Any] | None:
    """The section on noise; None if no agent was evaluated with any."""
    table = noise_table(dataset, found, findings, numbers)
    if not table.rows:
        return None
    pictures = [
        inline_svg(
            noise_figure({metric: agents}),
            f"noise-{key}-{dataset}",
            f"{metric} by noise on actions",
        )
        for key, (metric, agents) in _panels(found, findings).items()
    ]
    data = File("CSV", f"{TABLES}/{table.name}.csv")
    files = figure_files(f"noise-{dataset}", data)
    caption = "Success and discounted return with noise on the actions. Bars are 95% intervals."
    return {"table": table, "picture": NumberedFigure(pictures, caption, files)}


def noise_table(
    dataset: str, found: DatasetResults, findings: Findings, numbers: PublishedNumbers | None
) -> Table:
    """One row per agent and level of noise, with printed discounted returns where a paper has them."""
    names = columns(found)
    keys = (found.metric, "final_distance", "discounted_return")
    printed = _printed(dataset, numbers)
    rows: list[list[Cell]] = []
    for agent, own in findings.items():
        for level, metrics in own.by_noise.items():
            number = printed(level, agent)
            row: list[Cell] = [agent, f"{level:g}", *(shown(metrics[key]) for key in keys)]
            rows.append([*row, number] if numbers else row)
    heading = ["agent", "noise", *(names[key] for key in keys)]
    titles = [table.title for table in numbers.tables if dataset in table.noise] if numbers else []
    caption = f"Evaluation on {dataset} with noise on the actions, with 95% intervals. {NOTE}"
    if titles:
        caption += f" Printed: {', '.join(titles)}."
    return Table(f"noise-{dataset}", caption, [*heading, *(["printed"] if numbers else [])], rows)


def _printed(dataset: str, numbers: PublishedNumbers | None) -> Any:
    """What gives the printed discounted return at a level of noise, without noise that of the main table."""

    def number(level: float, agent: str) -> str | None:
        for table in numbers.tables if numbers else ():
            if table.metric == "discounted_return":
                at = (dataset, level, agent)
                own = table.printed_with_noise(*at) if level else table.printed(dataset, agent)
                if own is not None:
                    return str(own)
        return None

    return number


def _panels(
    found: DatasetResults, findings: Findings
) -> dict[str, tuple[str, Mapping[str, Levels]]]:
    """By name of a metric: its label, and the estimates by agent and level."""
    return {
        key: (
            COLUMNS[key],
            {
                agent: {
                    level: complete_estimate(metrics[key])
                    for level, metrics in own.by_noise.items()
                }
                for agent, own in findings.items()
                if own.by_noise
            },
        )
        for key in (found.metric, "discounted_return")
    }


def draw_noise(
    results: Mapping[str, DatasetResults], findings: Mapping[str, Findings], save: Save
) -> None:
    """Write the figure of each dataset whose agents were evaluated with noise."""
    for dataset, found in results.items():
        panels = {
            label: agents for label, agents in _panels(found, findings[dataset]).values() if agents
        }
        if panels:
            save(noise_figure(panels), f"noise-{dataset}")
