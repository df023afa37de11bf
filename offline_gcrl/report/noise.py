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

RETURN = "discounted_return"
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
    printed = _printed_levels(dataset, findings, numbers)
    pictures = [
        inline_svg(
            noise_figure({metric: agents}, {COLUMNS[RETURN]: printed}),
            f"noise-{key}-{dataset}",
            f"{metric} by noise on actions",
        )
        for key, (metric, agents) in _panels(found, findings).items()
    ]
    data = File("CSV", f"{TABLES}/{table.name}.csv")
    files = figure_files(f"noise-{dataset}", data)
    caption = "Success and discounted return with noise on the actions. Bars are 95% intervals."
    if printed:
        caption += " Dashed lines with diamonds are printed numbers."
    return {"table": table, "picture": NumberedFigure(pictures, caption, files)}


def noise_table(
    dataset: str, found: DatasetResults, findings: Findings, numbers: PublishedNumbers | None
) -> Table:
    """One row per agent and level of noise, with printed discounted returns where a paper has them."""
    names = columns(found)
    keys = (found.metric, "final_distance", RETURN)
    rows: list[list[Cell]] = []
    for agent, own in findings.items():
        for level, metrics in own.by_noise.items():
            row: list[Cell] = [agent, f"{level:g}", *(shown(metrics[key]) for key in keys)]
            if numbers:
                number = numbers.printed(RETURN, dataset, agent, level)
                row.append(None if number is None else str(number))
            rows.append(row)
    heading = ["agent", "noise", *(names[key] for key in keys)]
    titles = [table.title for table in numbers.tables if dataset in table.noise] if numbers else []
    caption = f"Evaluation on {dataset} with noise on the actions, with 95% intervals. {NOTE}"
    if titles:
        caption += f" Printed: {', '.join(titles)}."
    return Table(f"noise-{dataset}", caption, [*heading, *(["printed"] if numbers else [])], rows)


def _printed_levels(
    dataset: str, findings: Findings, numbers: PublishedNumbers | None
) -> dict[str, dict[float, float]]:
    """Printed discounted returns by agent and level of noise, of the levels that were evaluated."""
    if numbers is None:
        return {}
    found = {
        agent: {
            level: number.mean
            for level in own.by_noise
            if (number := numbers.printed(RETURN, dataset, agent, level))
        }
        for agent, own in findings.items()
    }
    return {agent: levels for agent, levels in found.items() if levels}


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
        for key in (found.metric, RETURN)
    }


def draw_noise(
    results: Mapping[str, DatasetResults],
    findings: Mapping[str, Findings],
    numbers: PublishedNumbers | None,
    save: Save,
) -> None:
    """Write the figure of each dataset whose agents were evaluated with noise."""
    for dataset, found in results.items():
        panels = {
            label: agents for label, agents in _panels(found, findings[dataset]).values() if agents
        }
        if panels:
            printed = _printed_levels(dataset, findings[dataset], numbers)
            save(noise_figure(panels, {COLUMNS[RETURN]: printed}), f"noise-{dataset}")
