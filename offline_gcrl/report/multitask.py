"""Multi-task results of the report: tables for the page and for Markdown, and sentences on the cost of sharing."""

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
from offline_gcrl.report.routing import ROUTING_NOTE, routing_pictures
from offline_gcrl.report.sentences import SENTENCES_NOTE, sentences_table
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
Table = tuple[list[str], list[list[str]]]
"""Column names and rows."""


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


def transfer_table(found: AgentFindings) -> Table:
    """The multi-task policy compared with specialists: one row per task, and one for all tasks."""
    rows = [*found.transfers, *([found.average] if found.average else [])]
    heading = ["task", "multi-task policy", "specialist", "difference", "transfer"]
    return heading, [
        [row.name, interval(row.first), interval(row.second), interval(row.difference), row.kind]
        for row in rows
    ]


def cost_table(costs: Sequence[TaskCost]) -> Table:
    """The number of updates until a task is learned, one row per task."""
    heading = ["task", "threshold", "updates, specialist", "updates, multi-task policy", "ratio"]
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
    """Sentences on the cost of sharing and on the values of f and c that it allows.

    In the model of sharing, K specialists need K N updates, and a multi-task policy with the shared fraction f and
    the interference c needs c N f + K (1 - f) N.
    """
    threshold = (
        f"A task counts as learned at {SHARE_OF_FINAL:.0%} of its specialist's final success."
    )
    if cost is None:
        return [
            f"{threshold} The cost of sharing is unknown: every task was above this threshold at its first snapshot, "
            "or never reached it. More snapshots would help."
        ]
    total, batch = cost.tasks * cost.specialist, cost.batch_size
    sentences = [
        f"{threshold} The number of updates to this threshold is known for {cost.compared} of {cost.tasks} tasks. "
        f"A specialist needs N = {cost.specialist:,.0f} updates on average "
        f"({cost.specialist * batch:,.0f} transitions). The multi-task policy needs {cost.multitask:,.0f} updates "
        f"({cost.multitask * batch:,.0f} transitions of all tasks).",
        f"{cost.tasks} specialists need {total:,.0f} updates together. The multi-task policy needs "
        f"{cost.multitask / total:.0%} of that, which is {interval(cost.ratio)} times the updates of one specialist.",
    ]
    if cost.ratio.mean <= 1:
        return [
            *sentences,
            "That is fewer than one specialist needs, which the model of sharing cannot explain.",
        ]
    if cost.ratio.mean >= cost.tasks:
        return [
            *sentences,
            "That is at least as many as all specialists need: nothing was shared, or sharing slowed learning down.",
        ]
    return [
        *sentences,
        "The model c N f + K (1 - f) N has two unknowns, the shared fraction f and the interference c, so one suite "
        f"does not determine them. Possible values of f are {cost.least_shared:.2f} (no interference, c = 1) to 1 "
        f"(everything shared, c = {cost.most_interference:.1f}). Suites of two sizes would determine both.",
    ]


def model_sentence(agent: str, model: SharingModel) -> str:
    """The shared fraction and the interference, fitted to suites of several sizes."""
    interference = "undefined" if model.interference is None else f"{model.interference:.2f}"
    return (
        f"{agent}: shared fraction f = {model.shared:.2f}, interference c = {interference}, assuming that both are "
        "the same in all suites."
    )


def wrong_table(findings: Findings) -> Table:
    """Success with the right and with a wrong identifier, one row per agent and identifier."""
    heading = ["agent", "wrong identifier", "success, right one", "success, wrong one", "drop"]
    return heading, [
        [agent, WRONG_NAMES[row.name], *_contrast(row)]
        for agent, found in findings.items()
        for row in found.wrong_identifiers
    ]


def zero_shot_table(findings: Findings) -> Table:
    """Success on goals that training saw and on held-out goals, one row per agent."""
    heading = ["agent", "seen goals", "unseen goals", "difference"]
    return heading, [
        [agent, *_contrast(found.zero_shot)]
        for agent, found in findings.items()
        if found.zero_shot is not None
    ]


def sequences_of(findings: Findings) -> dict[str, SequentialResult]:
    """Results of the agents that were trained on the tasks one after another."""
    return {
        agent: found.sequence for agent, found in findings.items() if found.sequence is not None
    }


def sequence_table(sequences: Mapping[str, SequentialResult]) -> Table:
    """Average success, backward transfer and forgetting, one row per agent."""
    heading = ["agent", "average success", "backward transfer", "forgetting"]
    return heading, [
        [agent, *(interval(found.metrics[name]) for name in SEQUENCE_METRICS)]
        for agent, found in sequences.items()
    ]


def _boundaries(findings: Findings) -> tuple[int, ...]:
    """Updates at which the phases of sequential training end; empty if agents differ in them."""
    found = {sequence.boundaries for sequence in sequences_of(findings).values()}
    return found.pop() if len(found) == 1 else ()


def _contrast(row: Contrast) -> list[str]:
    return [interval(row.first), interval(row.second), interval(row.difference)]


def markdown_multitask(findings: Mapping[str, Findings]) -> str:
    """The multi-task results of all datasets in Markdown."""
    lines = ["# Multi-task results", ""]
    for dataset, agents in findings.items():
        part = _dataset_lines(agents)
        if part:
            lines += [f"## {dataset}", "", *part]
    lines += model_sentences(findings)
    if len(lines) == 2:
        lines.append("This experiment has no suite, no held-out goals and no wrong identifiers.")
    return "\n".join(lines).rstrip() + "\n"


def _dataset_lines(agents: Findings) -> list[str]:
    lines: list[str] = []
    for agent, found in agents.items():
        if found.transfers:
            lines += [f"### {agent} compared with its specialists", ""]
            lines += [*_markdown(transfer_table(found)), "", TRANSFER_NOTE, ""]
        if found.task_costs:
            lines += [*_markdown(cost_table(found.task_costs)), ""]
            lines += [*cost_sentences(found.cost), ""]
    sequences = sequences_of(agents)
    for title, table, note in (
        ("Sequential training", sequence_table(sequences), SEQUENCE_NOTE),
        ("Wrong identifiers", wrong_table(agents), WRONG_NOTE),
        ("Unseen goals", zero_shot_table(agents), ZERO_SHOT_NOTE),
        ("Sentences", sentences_table(agents), SENTENCES_NOTE),
    ):
        if table[1]:
            lines += [f"### {title}", "", *_markdown(table), "", note, ""]
    return lines


def _markdown(table: Table) -> list[str]:
    heading, rows = table
    cells = [heading, ["---"] * len(heading), *rows]
    return [f"| {' | '.join(row)} |" for row in cells]


def draw_multitask(findings: Mapping[str, Findings], figures: Path) -> None:
    """Write figures of transfer, forgetting and the learning curves of each task."""
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
    """Learning curves by agent and task: those of multi-task policies, and those of their specialists."""
    curves: dict[str, Curves] = {
        agent: own.curves_by_task for agent, own in findings.items() if own.curves_by_task
    }
    return curves, {agent: own.specialist_curves_by_task for agent, own in findings.items()}


def page_content(dataset: str, findings: Findings) -> dict[str, Any] | None:
    """The multi-task section of the page for one dataset; None if it would be empty."""
    curves, alone = _task_curves(findings)
    pictures = []
    if curves:
        label = "Learning curves of each task"
        figure = task_curves_figure(curves, alone, _boundaries(findings))
        caption = "Success rate of each task over the course of training. Bands are 95% intervals."
        pictures.append(Picture(inline_svg(figure, f"tasks-{dataset}", label), caption))
    sequences = sequences_of(findings)
    wrong, held_out = wrong_table(findings), zero_shot_table(findings)
    routing, spoken = routing_pictures(dataset, findings), sentences_table(findings)
    if not (pictures or sequences or wrong[1] or held_out[1] or routing or spoken[1]):
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
                        f"Success rate of {agent} and of its specialists on each task",
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
        "routing": routing,
        "wrong": wrong,
        "zero_shot": held_out,
        "spoken": spoken,
        "notes": {
            "transfer": TRANSFER_NOTE,
            "wrong": WRONG_NOTE,
            "zero_shot": ZERO_SHOT_NOTE,
            "spoken": SENTENCES_NOTE,
            "sequences": SEQUENCE_NOTE,
            "routing": ROUTING_NOTE,
        },
    }


def _matrix_picture(dataset: str, sequences: Mapping[str, SequentialResult]) -> Picture:
    figure = success_matrix_figure(sequences)
    label = "Success rate of each task after each phase of training"
    return Picture(inline_svg(figure, f"matrix-{dataset}", label), "")


def model_sentences(findings: Mapping[str, Findings]) -> Sequence[str]:
    """A sentence on the model of sharing for each agent with specialists on suites of several sizes."""
    return [model_sentence(agent, model) for agent, model in sharing_models(findings).items()]
