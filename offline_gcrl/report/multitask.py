"""Multi-task results of the report: tables for the page and for Markdown, and sentences on the cost of sharing."""

from collections.abc import Mapping
from typing import Any

import polars as pl

from offline_gcrl.evaluation.results import summarise_by_task
from offline_gcrl.report.drawing import NumberedFigure, inline_svg
from offline_gcrl.report.exports import TABLES, Cell, File, Save, Table, figure_files, markdown
from offline_gcrl.report.findings import AgentFindings, Findings, sharing_models
from offline_gcrl.report.multitask_figures import (
    Curves,
    sharing_figure,
    success_matrix_figure,
    task_curves_figure,
    transfer_figure,
)
from offline_gcrl.report.results import Results
from offline_gcrl.report.routing import routing_pictures
from offline_gcrl.report.sentences import sentences_by_task_table, sentences_table
from offline_gcrl.report.sharing import cost_sentences, cost_table, model_sentences
from offline_gcrl.statistics.contrasts import Contrast, success_rate
from offline_gcrl.statistics.forgetting import SEQUENCE_METRICS, SequentialResult
from offline_gcrl.statistics.intervals import Estimate

WRONG_NAMES = {"task": "another task", "goal": "another goal"}
TRANSFER_NOTE = (
    "The difference is the success rate of the multi-task policy minus that of the specialist, in the same "
    "episodes. The intervals of all tasks hold jointly with 95%. Transfer is positive or negative if the interval "
    "of the difference excludes zero, and unclear otherwise."
)
WRONG_NOTE = (
    "Both success rates are of the same episodes. With a wrong identifier, the policy is conditioned on another task, "
    "or on the goal of another episode; success is still measured on the episode's own goal. The success of a policy "
    "that uses its conditioning drops."
)
ZERO_SHOT_NOTE = (
    "Unseen goals are in a region in which training had no goals, although trajectories may pass through it. A "
    "policy that is conditioned on the task alone cannot be given such a goal, and reaches it only by chance."
)
SEQUENCE_NOTE = (
    "Average success is the success rate over all tasks after the last one was learned. Backward transfer is the "
    "mean change of earlier tasks since each was learned. Forgetting is the mean drop of earlier tasks from their "
    "best success. All three use the episodes of the learning curve. Intervals resample training seeds and episodes."
)


def task_metrics(results: Results) -> dict[str, dict[str, Any]]:
    """Metrics of each task with intervals, by dataset and agent; empty if there is only one task."""
    found = {
        dataset: {agent: summarise_by_task(own.episodes) for agent, own in of.agents.items()}
        for dataset, of in results.items()
    }
    return {dataset: agents for dataset, agents in found.items() if any(agents.values())}


def flat_task_metrics(metrics: Mapping[str, Mapping[str, Any]]) -> pl.DataFrame:
    """One row per dataset, agent, task and metric."""
    rows = [
        {"dataset": dataset, "agent": agent, "task": task, "metric": metric, **values}
        for dataset, agents in metrics.items()
        for agent, tasks in agents.items()
        for task, by_metric in tasks.items()
        for metric, values in by_metric.items()
    ]
    schema = {"dataset": pl.String, "agent": pl.String, "task": pl.String, "metric": pl.String}
    return pl.DataFrame(rows) if rows else pl.DataFrame(schema=schema)


def transfer_table(dataset: str, agent: str, found: AgentFindings) -> Table:
    """The multi-task policy compared with specialists: one row per task, and one for all tasks."""
    rows = [*found.transfers, *([found.average] if found.average else [])]
    heading = ["task", "multi-task policy", "specialist", "difference", "transfer"]
    cells: list[list[Cell]] = [
        [row.name, row.first, row.second, row.difference, row.kind] for row in rows
    ]
    caption = f"Success of {agent} on {dataset} compared with its specialists. {TRANSFER_NOTE}"
    return Table(f"transfer-{dataset}-{agent}", caption, heading, cells)


def wrong_table(dataset: str, findings: Findings) -> Table:
    """Success with the right and with a wrong identifier, one row per agent and identifier."""
    heading = ["agent", "wrong identifier", "success, right one", "success, wrong one", "drop"]
    rows: list[list[Cell]] = [
        [agent, WRONG_NAMES[row.name], *_contrast(row)]
        for agent, found in findings.items()
        for row in found.wrong_identifiers
    ]
    caption = f"Success on {dataset} with wrong identifiers. {WRONG_NOTE}"
    return Table(f"wrong-identifiers-{dataset}", caption, heading, rows)


def zero_shot_table(dataset: str, findings: Findings) -> Table:
    """Success on goals that training saw and on held-out goals, one row per agent and task; dashes without seen goals."""
    has_tasks = any(len(found.zero_shot) > 1 for found in findings.values())
    task_heading = ["task"] if has_tasks else []
    heading = ["agent", *task_heading, "seen goals", "unseen goals", "difference"]
    rows: list[list[Cell]] = [
        [agent, *([task] if has_tasks else []), *_seen_and_unseen(found, task)]
        for agent, found in findings.items()
        for task in found.zero_shot
    ]
    caption = f"Success on seen and unseen goals of {dataset}. {ZERO_SHOT_NOTE}"
    return Table(f"unseen-goals-{dataset}", caption, heading, rows)


def _seen_and_unseen(found: AgentFindings, task: str) -> list[Cell]:
    """Success on seen and on unseen goals of a task, and the difference."""
    if contrast := found.zero_shot[task]:
        return [*_contrast(contrast)]
    unseen = [table.filter(pl.col("task") == task) for table in found.held_out]
    return ["-", success_rate([table for table in unseen if len(table)], found.column), "-"]


def sequences_of(findings: Findings) -> dict[str, SequentialResult]:
    """Results of the agents that were trained on the tasks one after another."""
    return {
        agent: found.sequence for agent, found in findings.items() if found.sequence is not None
    }


def sequence_table(dataset: str, sequences: Mapping[str, SequentialResult]) -> Table:
    """Average success, backward transfer and forgetting, one row per agent."""
    heading = ["agent", "average success", "backward transfer", "forgetting"]
    rows: list[list[Cell]] = [
        [agent, *(found.metrics[name] for name in SEQUENCE_METRICS)]
        for agent, found in sequences.items()
    ]
    caption = f"Sequential training on the tasks of {dataset}. {SEQUENCE_NOTE}"
    return Table(f"sequences-{dataset}", caption, heading, rows)


def _boundaries(findings: Findings) -> tuple[int, ...]:
    """Updates at which the phases of sequential training end; empty if agents differ in them."""
    found = {sequence.boundaries for sequence in sequences_of(findings).values()}
    return found.pop() if len(found) == 1 else ()


def _contrast(row: Contrast) -> list[Estimate]:
    return [row.first, row.second, row.difference]


def markdown_multitask(findings: Mapping[str, Findings]) -> str:
    """The multi-task results of all datasets in Markdown."""
    lines = ["# Multi-task results", ""]
    for dataset, agents in findings.items():
        part = _dataset_lines(dataset, agents)
        if part:
            lines += [f"## {dataset}", "", *part]
    lines += model_sentences(findings)
    if len(lines) == 2:
        lines.append("This experiment has no suite, no held-out goals and no wrong identifiers.")
    return "\n".join(lines).rstrip() + "\n"


def _dataset_lines(dataset: str, agents: Findings) -> list[str]:
    lines: list[str] = []
    for agent, found in agents.items():
        if found.transfers:
            table = transfer_table(dataset, agent, found)
            lines += [f"### {agent} compared with its specialists", "", *_lines(table)]
        if found.task_costs:
            lines += _lines(cost_table(dataset, agent, found.task_costs))
            lines += [*cost_sentences(found.cost), ""]
    for title, table in (
        ("Sequential training", sequence_table(dataset, sequences_of(agents))),
        ("Wrong identifiers", wrong_table(dataset, agents)),
        ("Unseen goals", zero_shot_table(dataset, agents)),
        ("Sentences", sentences_table(dataset, agents)),
        ("Sentences in each task", sentences_by_task_table(dataset, agents)),
    ):
        if table.rows:
            lines += [f"### {title}", "", *_lines(table)]
    return lines


def _lines(table: Table) -> list[str]:
    """A table in Markdown with its caption."""
    return [*markdown(table), "", table.caption, ""]


def draw_multitask(findings: Mapping[str, Findings], save: Save) -> None:
    """Write figures of transfer, forgetting and the learning curves of each task."""
    for dataset, agents in findings.items():
        curves, alone = _task_curves(agents)
        if curves:
            drawn = task_curves_figure(curves, alone, _boundaries(agents))
            save(drawn, f"tasks-{dataset}")
        if sequences := sequences_of(agents):
            save(success_matrix_figure(sequences), f"forgetting-{dataset}")
        for agent, found in agents.items():
            if found.transfers:
                save(transfer_figure(found.transfers), f"transfer-{dataset}-{agent}")
    if models := sharing_models(findings):
        save(sharing_figure(models), "sharing")


def sharing_pictures(findings: Mapping[str, Findings]) -> list[NumberedFigure]:
    """The cost of sharing by the number of tasks, if there are suites of several sizes."""
    models = sharing_models(findings)
    if not models:
        return []
    caption = (
        "Updates of the multi-task policy until its tasks are learned over those of one specialist, with 95% intervals, "
        "and the fitted line c f + K (1 - f)."
    )
    picture = inline_svg(sharing_figure(models), "sharing", caption)
    return [NumberedFigure([picture], caption, figure_files("sharing"))]


def _task_curves(findings: Findings) -> tuple[dict[str, Curves], dict[str, Curves]]:
    """Learning curves by agent and task: those of multi-task policies, and those of their specialists."""
    curves: dict[str, Curves] = {
        agent: own.curves_by_task for agent, own in findings.items() if own.curves_by_task
    }
    return curves, {agent: own.specialist_curves_by_task for agent, own in findings.items()}


def page_content(dataset: str, findings: Findings) -> dict[str, Any] | None:
    """The multi-task section of the page for one dataset; None if it would be empty."""
    curves, sequences = _curves_picture(dataset, findings), sequences_of(findings)
    wrong, held_out = wrong_table(dataset, findings), zero_shot_table(dataset, findings)
    routing, spoken = routing_pictures(dataset, findings), sentences_table(dataset, findings)
    spoken_tasks = sentences_by_task_table(dataset, findings)
    tables = (wrong, held_out, spoken)
    if not (curves or sequences or routing or any(table.rows for table in tables)):
        return None
    return {
        "curves": curves,
        "sharing": [
            {
                "agent": agent,
                "picture": _transfer_picture(dataset, agent, found),
                "table": transfer_table(dataset, agent, found),
                "cost": cost_table(dataset, agent, found.task_costs) if found.task_costs else None,
                "sentences": cost_sentences(found.cost) if found.task_costs else [],
            }
            for agent, found in findings.items()
            if found.transfers
        ],
        "routing": routing,
        "matrix": _matrix_picture(dataset, sequences) if sequences else None,
        "sequences": sequence_table(dataset, sequences) if sequences else None,
        "zero_shot": held_out if held_out.rows else None,
        "wrong": wrong if wrong.rows else None,
        "spoken": spoken if spoken.rows else None,
        "spoken_tasks": spoken_tasks if spoken_tasks.rows else None,
    }


def _curves_picture(dataset: str, findings: Findings) -> NumberedFigure | None:
    curves, alone = _task_curves(findings)
    if not curves:
        return None
    figure = task_curves_figure(curves, alone, _boundaries(findings))
    picture = inline_svg(figure, f"tasks-{dataset}", "Learning curves of each task")
    caption = "Success rate of each task over the course of training. Bands are 95% intervals."
    return NumberedFigure([picture], caption, figure_files(f"tasks-{dataset}"))


def _transfer_picture(dataset: str, agent: str, found: AgentFindings) -> NumberedFigure:
    name = f"transfer-{dataset}-{agent}"
    caption = f"Success rate of {agent} and of its specialists on each task, with 95% intervals."
    picture = inline_svg(transfer_figure(found.transfers), name, caption)
    return NumberedFigure(
        [picture], caption, figure_files(name, File("CSV", f"{TABLES}/{name}.csv"))
    )


def _matrix_picture(dataset: str, sequences: Mapping[str, SequentialResult]) -> NumberedFigure:
    caption = "Success rate of each task after each phase of training, as a mean over seeds."
    picture = inline_svg(success_matrix_figure(sequences), f"matrix-{dataset}", caption)
    return NumberedFigure([picture], caption, figure_files(f"forgetting-{dataset}"))
