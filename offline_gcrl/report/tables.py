"""The numbers of the report as tables: for the page, and in Markdown."""

from collections.abc import Mapping
from typing import Any

from offline_gcrl.report.exports import Cell, Table, cell_text, markdown
from offline_gcrl.report.numbers import interval, rank_text, shown
from offline_gcrl.report.results import DatasetResults, Results
from offline_gcrl.report.verdict import verdict
from offline_gcrl.statistics.aggregates import Aggregates
from offline_gcrl.statistics.comparison import Comparison

COLUMNS = {
    "success_rate": "success (last step)",
    "success_any_rate": "success (any step)",
    "final_distance": "final distance",
    "discounted_return": "discounted return",
    "steps_to_goal": "steps to goal",
}
FURTHER_COLUMNS = ("final_distance", "steps_to_goal", "discounted_return")
MOMENTS = {"last_step": "at the last step", "any_step": "at any step"}


def columns(found: DatasetResults) -> dict[str, str]:
    """``COLUMNS`` with units, and with the main success rate of the dataset first."""
    named = {found.metric: COLUMNS[found.metric], **COLUMNS}
    unit = f" ({found.unit})" if found.unit else ""
    return named | {"final_distance": f"{COLUMNS['final_distance']}{unit}"}


def markdown_table(results: Results) -> str:
    """One table per dataset with one row per agent; each number has its 95% interval."""
    lines = []
    for dataset, found in results.items():
        comparison = found.comparison
        if comparison is None:
            lines += [f"**{dataset}**: not evaluated", ""]
            continue
        seeds = "1 seed" if comparison.seeds == 1 else f"{comparison.seeds} seeds"
        counts = f"{seeds}, {comparison.episodes} episodes"
        names = columns(found)
        lines += [
            f"**{dataset}**: {counts}, 95% intervals",
            "",
            f"| agent | {' | '.join(names.values())} |",
            f"|---|{'---|' * len(names)}",
        ]
        for agent, values in found.metrics.items():
            lines.append(f"| {agent} | {' | '.join(cell(values[name]) for name in names)} |")
        lines.append("")
    return "\n".join(lines)


def metrics_table(dataset: str, found: DatasetResults) -> Table:
    """The main table of the page: one row per agent, the best on top."""
    comparison, names = found.comparison, columns(found)
    assert comparison is not None
    best, rivals = comparison.best, comparison.against_best
    heading = ["agent", "rank", "success rate"]
    heading += [f"difference from {best}", "clear", f"P({best} better)"] if rivals else []
    rows: list[list[Cell]] = []
    for agent, standing in comparison.ranking.items():
        rival, values = rivals.get(agent), found.metrics[agent]
        row: list[Cell] = [agent, rank_text(standing.rank, standing.rank_low, standing.rank_high)]
        row.append(shown(values[found.metric]))
        if rival:
            word = "yes" if rival.is_clearly_lower else "no"
            row += [rival.difference, word, rival.improvement]
        elif rivals:
            row += [None, None, None]
        rows.append([*row, *(shown(values[name]) for name in FURTHER_COLUMNS)])
    heading += [names[name] for name in FURTHER_COLUMNS]
    return Table(
        f"metrics-{dataset}", _metrics_caption(dataset, found, comparison), heading, rows, True
    )


def _metrics_caption(dataset: str, found: DatasetResults, comparison: Comparison) -> str:
    runs = "training run" if comparison.seeds == 1 else "training runs"
    text = (
        f"Results on {dataset}, with 95% intervals. Each agent has {comparison.episodes} episodes over {comparison.seeds} "
        f"{runs}. An episode succeeds if it is at its goal {MOMENTS[found.criterion]}. Steps to goal are averaged over the "
        "episodes that reached their goal."
    )
    if not comparison.against_best:
        return text
    return (
        f"{text} Differences are between the same episodes: the agent minus {comparison.best}. A difference is clear if its "
        f"interval excludes zero. P is the probability that a "
        f"training run of {comparison.best} scores higher than one of the agent."
    )


def comparison_table(name: str, where: str, found: Aggregates) -> Table:
    """Aggregates of each agent's runs, and the probability of improvement for each pair of agents.

    Args:
        name: the end of the table's name.
        where: the dataset or datasets, for the caption.
        found: aggregates of the agents.
    """
    comparison = found.comparison
    heading = ["agent", "rank", "interquartile mean", "optimality gap"]
    heading += [f"P(better than {agent})" for agent in comparison.ranking]
    rows: list[list[Cell]] = [
        [
            agent,
            rank_text(standing.rank, standing.rank_low, standing.rank_high),
            standing.interquartile_mean,
            found.optimality_gap[agent],
            *(comparison.improvement[agent].get(other) for other in comparison.ranking),
        ]
        for agent, standing in comparison.ranking.items()
    ]
    caption = (
        f"Aggregates of success over the {found.runs} runs of each agent on {where}, with 95% intervals; a run is one "
        "training seed on one task. P is the probability that a run of the agent in the row scores higher than one of the "
        "agent in the column. It is one half if they are equal."
    )
    return Table(f"comparison-{name}", caption, heading, rows, has_best=True)


def tasks_table(dataset: str, found: DatasetResults) -> Table:
    """Success rate of each task, one column per agent."""
    rates = {agent: own.success_by_task(found.column) for agent, own in found.agents.items()}
    rows: list[list[Cell]] = [
        [task, *(by_task[task] for by_task in rates.values())] for task in found.tasks
    ]
    caption = f"Success rate of each task of {dataset}, with 95% intervals."
    return Table(f"tasks-{dataset}", caption, ["task", *rates], rows)


def markdown_report(results: Results) -> str:
    """The report in Markdown: recommendation, metrics, comparison and success by task of each dataset."""
    lines = ["# Report", ""]
    for dataset, found in results.items():
        summary = verdict(found)
        lines += [f"## {dataset}", "", f"**{summary.headline}** {' '.join(summary.sentences)}", ""]
        if summary.confidence:
            lines += [f"**Confidence.** {' '.join(summary.confidence)}", ""]
        if found.agents:
            table = markdown_table({dataset: found}).splitlines()
            lines += [*table, "", *_comparison_lines(found), *_task_lines(dataset, found)]
        lines += [f"- {agent}: not evaluated; {reason}" for agent, reason in found.skipped.items()]
    return "\n".join(lines).rstrip() + "\n"


def cell(values: Mapping[str, Any]) -> str:
    """A metric as text; ``none`` if no episode has a value."""
    found = shown(values)
    return "none" if found is None else cell_text(found)


def _comparison_lines(found: DatasetResults) -> list[str]:
    comparison = found.comparison
    assert comparison is not None
    lines = [
        f"| agent | rank | interquartile mean | minus {comparison.best} | P({comparison.best} better) |",
        "|---|---|---|---|---|",
    ]
    for agent, standing in comparison.ranking.items():
        rank = rank_text(standing.rank, standing.rank_low, standing.rank_high)
        rival = comparison.against_best.get(agent)
        comparisons = (
            (interval(rival.difference), interval(rival.improvement)) if rival else ("", "")
        )
        middle = interval(standing.interquartile_mean)
        lines.append(f"| {agent} | {rank} | {middle} | {comparisons[0]} | {comparisons[1]} |")
    return [*lines, ""]


def _task_lines(dataset: str, found: DatasetResults) -> list[str]:
    return [*markdown(tasks_table(dataset, found)), ""] if len(found.tasks) > 1 else []
