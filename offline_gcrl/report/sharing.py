"""The cost of sharing one policy between tasks: its table, and sentences on it."""

from collections.abc import Mapping, Sequence

from offline_gcrl.report.exports import Table
from offline_gcrl.report.findings import Findings, sharing_models
from offline_gcrl.report.numbers import interval
from offline_gcrl.statistics.transfer import (
    SHARE_OF_FINAL,
    SharingCost,
    SharingModel,
    TaskCost,
    ThresholdCrossing,
)


def cost_table(dataset: str, agent: str, costs: Sequence[TaskCost]) -> Table:
    """The number of updates until a task is learned, one row per task."""
    heading = ["task", "threshold", "updates, specialist", "updates, multi-task policy", "ratio"]
    rows = [
        [
            cost.task,
            f"{cost.threshold:.2f}",
            _updates(cost.specialist),
            _updates(cost.multitask),
            "unknown" if cost.ratio is None else f"{cost.ratio:.1f}",
        ]
        for cost in costs
    ]
    caption = f"Cost of sharing of {agent} on {dataset}: updates until each task was learned."
    return Table(f"cost-{dataset}-{agent}", caption, heading, rows)


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
    batch = cost.batch_size
    sentences = [
        f"{threshold} The number of updates to this threshold is known for {cost.compared} of {cost.tasks} tasks. "
        f"A specialist of these needs N = {cost.specialist:,.0f} updates on average "
        f"({cost.specialist * batch:,.0f} transitions). The multi-task policy needs {cost.multitask:,.0f} updates "
        f"({cost.multitask * batch:,.0f} transitions of all tasks).",
        _total_sentence(cost),
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


def _total_sentence(cost: SharingCost) -> str:
    """The updates of all specialists together, which are an extrapolation if those of some tasks are not known."""
    total = cost.tasks * cost.specialist
    share, ratio = f"{cost.multitask / total:.0%} of that", interval(cost.ratio)
    if cost.compared == cost.tasks:
        return (
            f"{cost.tasks} specialists need {total:,.0f} updates together. The multi-task policy needs {share}, "
            f"which is {ratio} times the updates of one specialist."
        )
    return (
        f"If all tasks needed as many, {cost.tasks} specialists would need {total:,.0f} updates together, and the multi-task "
        f"policy {share}, which is {ratio} times the updates of one specialist."
    )


def model_sentence(agent: str, model: SharingModel) -> str:
    """The shared fraction and the interference, fitted to suites of several sizes."""
    if model.interference is None:
        interference = "is not determined, because f may be zero"
    else:
        interference = f"= {interval(model.interference)}"
    sizes = ", ".join(str(cost.tasks) for cost in model.costs)
    ratios = ", ".join(interval(cost.ratio) for cost in model.costs)
    return (
        f"{agent}: suites of {sizes} tasks need {ratios} times the updates of one specialist. A line through these gives the "
        f"shared fraction f = {interval(model.shared)}; the interference c {interference}. Both are assumed to be the same "
        "in all suites, and the intervals resample training seeds."
    )


def model_sentences(findings: Mapping[str, Findings]) -> Sequence[str]:
    """A sentence on the model of sharing for each agent with specialists on suites of several sizes."""
    return [model_sentence(agent, model) for agent, model in sharing_models(findings).items()]
