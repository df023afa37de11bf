"""What the report says of many tasks: tables for the page and for Markdown, and sentences on the cost of sharing."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from offline_gcrl.evaluation.results import summarise_by_task
from offline_gcrl.figures.style import save
from offline_gcrl.report.drawing import Picture, inline_svg
from offline_gcrl.report.findings import AgentFindings, Findings, sharing_models
from offline_gcrl.report.multitask_figures import (
    Curves,
    success_matrix_figure,
    task_curves_figure,
    transfer_figure,
)
from offline_gcrl.report.results import Results
from offline_gcrl.report.verdict import interval
from offline_gcrl.statistics.contrasts import Contrast
from offline_gcrl.statistics.forgetting import SEQUENCE_METRICS, SequentialResult
from offline_gcrl.statistics.transfer import (
    SHARE_OF_FINAL,
    SharingCost,
    SharingModel,
    TaskCost,
    ThresholdCrossing,
)

WRONG_NAMES = {"task": "another task", "goal": "another goal"}
TRANSFER_NOTE = (
    "Difference: one policy for all minus the specialist, in the same episodes; the intervals of all tasks hold "
    "jointly. Positive and negative leave out zero, unclear does not."
)
WRONG_NOTE = (
    "The same episodes twice: told right, and told another task's number or another episode's goal. A policy that "
    "listens to what it is told must fall."
)
ZERO_SHOT_NOTE = (
    "Held-out goals lie in a region that training never had a goal in, though its states did pass there. A policy "
    "that is told only the task cannot be asked for a goal: what it reaches there, it reaches by accident."
)
SEQUENCE_NOTE = (
    "Average success over all tasks once the last was learned; backward transfer, what later tasks did to earlier "
    "ones since each was learned; forgetting, how far earlier tasks fell from their best. On the episodes of the "
    "learning curve; intervals resample training seeds and episodes."
)
Table = tuple[list[str], list[list[str]]]
"""Heading and rows."""


def task_metrics(results: Results) -> dict[str, dict[str, Any]]:
    """Metrics of each task with intervals, by dataset and agent; none where there is one task."""
    found = {
        dataset: {agent: summarise_by_task(own.episodes) for agent, own in of.agents.items()}
        for dataset, of in results.items()
    }
    return {dataset: agents for dataset, agents in found.items() if any(agents.values())}


def flat_task_metrics(metrics: Mapping[str, Mapping[str, Any]]) -> pl.DataFrame:
    """One row a dataset, agent, task and metric."""
    rows = [
        {"dataset": dataset, "agent": agent, "task": task, "metric": metric, **values}
        for dataset, agents in metrics.items()
        for agent, tasks in agents.items()
        for task, by_metric in tasks.items()
        for metric, values in by_metric.items()
    ]
    schema = {"dataset": pl.String, "agent": pl.String, "task": pl.String, "metric": pl.String}
    return pl.DataFrame(rows) if rows else pl.DataFrame(schema=schema)


def transfer_table(found: AgentFindings) -> Table:
    """Generalist beside specialists, a row a task and one for all."""
    rows = [*found.transfers, *([found.average] if found.average else [])]
    heading = ["task", "one policy for all", "specialist", "difference", "transfer"]
    return heading, [
        [row.name, interval(row.first), interval(row.second), interval(row.difference), row.kind]
        for row in rows
    ]


def cost_table(costs: Sequence[TaskCost]) -> Table:
    """Updates until each task is learned, a row a task."""
    heading = ["task", "threshold", "updates, specialist", "updates, one for all", "ratio"]
    return heading, [
        [
            cost.task,
            f"{cost.threshold:.2f}",
            _updates(cost.specialist),
            _updates(cost.multitask),
            "unknown" if cost.ratio is None else f"{cost.ratio:.1f}",
        ]
        for cost in costs
    ]


def _updates(reached: ThresholdCrossing | None) -> str:
    if reached is None:
        return "never"
    return f"{'at most ' if reached.at_first_snapshot else ''}{reached.updates:,.0f}"


def cost_sentences(cost: SharingCost | None) -> list[str]:
    """What the costs say of f and c, and what they cannot say."""
    threshold = (
        f"A task counts as learned at {SHARE_OF_FINAL:.0%} of its specialist's final success."
    )
    if cost is None:
        return [
            f"{threshold} No task tells what sharing costs: each was above that at a first snapshot already, or "
            "never. More snapshots would tell."
        ]
    total, batch = cost.tasks * cost.specialist, cost.batch_size
    said = [
        f"{threshold} Of both, that moment is known for {cost.compared} of {cost.tasks} tasks: a specialist needs N = "
        f"{cost.specialist:,.0f} updates on average ({cost.specialist * batch:,.0f} transitions), the policy for all "
        f"{cost.multitask:,.0f} ({cost.multitask * batch:,.0f} transitions, of all tasks).",
        f"{cost.tasks} specialists take {total:,.0f} updates in all; the policy for all takes "
        f"{cost.multitask / total:.0%} of that, {interval(cost.ratio)} times what one takes.",
    ]
    if cost.ratio.mean <= 1:
        return [*said, "That is less than one specialist: beyond what the model of sharing allows."]
    if cost.ratio.mean >= cost.tasks:
        return [*said, "That is no less than all of them: nothing was shared, or sharing cost it."]
    return [
        *said,
        f"In c N f + K (1 - f) N that is one equation for two unknowns: any f from {cost.least_shared:.2f} "
        f"(if nothing interfered, c = 1) to 1 (if all were shared, with c = {cost.most_interference:.1f}). "
        "Suites of two sizes tell them apart.",
    ]


def model_sentence(agent: str, model: SharingModel) -> str:
    """Shared share and interference, from suites of several sizes."""
    interference = "undefined" if model.interference is None else f"{model.interference:.2f}"
    return (
        f"{agent}, over suites of several sizes: shared share f = {model.shared:.2f}, interference c = "
        f"{interference}, if both are the same in all of them."
    )


def wrong_table(findings: Findings) -> Table:
    """Told right beside told wrong, a row an agent and identifier."""
    heading = ["agent", "told", "success, told right", "success, told wrong", "falls by"]
    return heading, [
        [agent, WRONG_NAMES[row.name], *_contrast(row)]
        for agent, found in findings.items()
        for row in found.wrong_identifiers
    ]


def zero_shot_table(findings: Findings) -> Table:
    """Goals seen in training beside goals held out, a row an agent."""
    heading = ["agent", "seen goals", "held-out goals", "difference"]
    return heading, [
        [agent, *_contrast(found.zero_shot)]
        for agent, found in findings.items()
        if found.zero_shot is not None
    ]


def sequences_of(findings: Findings) -> dict[str, SequentialResult]:
    """Agents that learned the tasks one after another."""
    return {
        agent: found.sequence for agent, found in findings.items() if found.sequence is not None
    }


def sequence_table(sequences: Mapping[str, SequentialResult]) -> Table:
    """The figures of forgetting, a row an agent."""
    heading = ["agent", "average success", "backward transfer", "forgetting"]
    return heading, [
        [agent, *(interval(found.metrics[name]) for name in SEQUENCE_METRICS)]
        for agent, found in sequences.items()
    ]


def _boundaries(findings: Findings) -> tuple[int, ...]:
    """Updates where phases end, where all agents share them."""
    found = {sequence.boundaries for sequence in sequences_of(findings).values()}
    return found.pop() if len(found) == 1 else ()


def _contrast(row: Contrast) -> list[str]:
    return [interval(row.first), interval(row.second), interval(row.difference)]


def markdown_multitask(findings: Mapping[str, Findings]) -> str:
    """All of it in Markdown, by dataset."""
    lines = ["# Many tasks", ""]
    for dataset, agents in findings.items():
        part = _dataset_lines(agents)
        if part:
            lines += [f"## {dataset}", "", *part]
    lines += model_sentences(findings)
    if len(lines) == 2:
        lines.append("No suite, held-out goals or wrong identifiers in this experiment.")
    return "\n".join(lines).rstrip() + "\n"


def _dataset_lines(agents: Findings) -> list[str]:
    lines: list[str] = []
    for agent, found in agents.items():
        if found.transfers:
            lines += [f"### {agent} beside its specialists", ""]
            lines += [*_markdown(transfer_table(found)), "", TRANSFER_NOTE, ""]
        if found.task_costs:
            lines += [*_markdown(cost_table(found.task_costs)), ""]
            lines += [*cost_sentences(found.cost), ""]
    sequences = sequences_of(agents)
    for title, table, note in (
        ("One task after another", sequence_table(sequences), SEQUENCE_NOTE),
        ("Told wrong", wrong_table(agents), WRONG_NOTE),
        ("Held-out goals", zero_shot_table(agents), ZERO_SHOT_NOTE),
    ):
        if table[1]:
            lines += [f"### {title}", "", *_markdown(table), "", note, ""]
    return lines


def _markdown(table: Table) -> list[str]:
    heading, rows = table
    cells = [heading, ["---"] * len(heading), *rows]
    return [f"| {' | '.join(row)} |" for row in cells]


def draw_multitask(findings: Mapping[str, Findings], figures: Path) -> None:
    """Transfer of each agent that has specialists, and learning curves of each task."""
    for dataset, agents in findings.items():
        curves, alone = _task_curves(agents)
        if curves:
            drawn = task_curves_figure(curves, alone, _boundaries(agents))
            save(drawn, figures / f"tasks-{dataset}.svg")
        if sequences := sequences_of(agents):
            save(success_matrix_figure(sequences), figures / f"forgetting-{dataset}.svg")
        for agent, found in agents.items():
            if found.transfers:
                path = figures / f"transfer-{dataset}-{agent}.svg"
                save(transfer_figure(found.transfers), path)


def _task_curves(findings: Findings) -> tuple[dict[str, Curves], dict[str, Curves]]:
    """Learning curves of each task, of agents and of their specialists."""
    curves: dict[str, Curves] = {
        agent: own.curves_by_task for agent, own in findings.items() if own.curves_by_task
    }
    return curves, {agent: own.specialist_curves_by_task for agent, own in findings.items()}


def page_content(dataset: str, findings: Findings) -> dict[str, Any] | None:
    """What the page shows of one dataset; None where nothing was asked beside the headline."""
    curves, alone = _task_curves(findings)
    pictures = []
    if curves:
        label = "Learning curves of each task"
        figure = task_curves_figure(curves, alone, _boundaries(findings))
        said = "Success on each task while training; bands are 95% intervals."
        pictures.append(Picture(inline_svg(figure, f"tasks-{dataset}", label), said))
    sequences = sequences_of(findings)
    wrong, held_out = wrong_table(findings), zero_shot_table(findings)
    if not (pictures or sequences or wrong[1] or held_out[1]):
        return None
    return {
        "curves": pictures,
        "sequences": sequence_table(sequences) if sequences else None,
        "matrix": _matrix_picture(dataset, sequences) if sequences else None,
        "sharing": [
            {
                "agent": agent,
                "picture": Picture(
                    inline_svg(
                        transfer_figure(found.transfers),
                        f"transfer-{dataset}-{agent}",
                        f"Success of {agent} on each task beside that of specialists",
                    ),
                    "",
                ),
                "table": transfer_table(found),
                "cost": cost_table(found.task_costs) if found.task_costs else None,
                "sentences": cost_sentences(found.cost) if found.task_costs else [],
            }
            for agent, found in findings.items()
            if found.transfers
        ],
        "wrong": wrong,
        "zero_shot": held_out,
        "notes": {
            "transfer": TRANSFER_NOTE,
            "wrong": WRONG_NOTE,
            "zero_shot": ZERO_SHOT_NOTE,
            "sequences": SEQUENCE_NOTE,
        },
    }


def _matrix_picture(dataset: str, sequences: Mapping[str, SequentialResult]) -> Picture:
    figure = success_matrix_figure(sequences)
    return Picture(inline_svg(figure, f"matrix-{dataset}", "Success on each task by phase"), "")


def model_sentences(findings: Mapping[str, Findings]) -> Sequence[str]:
    """The same of all agents that were judged so, in sentences."""
    return [model_sentence(agent, model) for agent, model in sharing_models(findings).items()]
