"""Measured numbers next to those that papers print, and the numbers of single training seeds."""

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl
from matplotlib.figure import Figure

from offline_gcrl.config import Params
from offline_gcrl.config.published import PublishedNumbers, PublishedTable, load_published
from offline_gcrl.evaluation.results import outcomes_of_rate
from offline_gcrl.figures.published import Compared, published_figure
from offline_gcrl.report.drawing import WIDTH, NumberedFigure, inline_svg
from offline_gcrl.report.exports import (
    TABLES,
    Cell,
    File,
    Save,
    Table,
    as_latex,
    figure_files,
)
from offline_gcrl.report.facts import Folders
from offline_gcrl.report.numbers import complete_estimate, shown
from offline_gcrl.report.results import AgentResults, DatasetResults, Results
from offline_gcrl.report.tables import COLUMNS, columns, metrics_table
from offline_gcrl.statistics.comparison import DIGITS
from offline_gcrl.statistics.intervals import Estimate, rate_across_seeds

SEED_METRICS = ("final_distance", "discounted_return")
SEEDS_SCHEMA = {
    "dataset": pl.String,
    "agent": pl.String,
    "seed": pl.Int64,
    "metric": pl.String,
    "mean": pl.Float64,
    "episodes": pl.Int64,
}


def numbers_of(params: Params, folders: Folders) -> PublishedNumbers | None:
    """The printed numbers that the experiment is compared with; None if it names none."""
    name = params.experiment.published
    return None if name is None else load_published(name, folders.published)


def published_content(
    dataset: str, found: DatasetResults, numbers: PublishedNumbers | None
) -> dict[str, Any] | None:
    """The section of printed numbers: pairs of a table and its figure; None if there are no printed numbers."""
    pairs = [
        (
            _published_table(dataset, found, printed, name),
            _published_picture(dataset, found, printed, name),
        )
        for name, printed in _printed_tables(dataset, found, numbers).items()
    ]
    return {"pairs": pairs} if pairs else None


def published_tables(
    dataset: str, found: DatasetResults, numbers: PublishedNumbers | None
) -> list[Table]:
    """One table per table of a paper that has values for a dataset: each agent, measured and printed."""
    tables = _printed_tables(dataset, found, numbers)
    return [_published_table(dataset, found, printed, name) for name, printed in tables.items()]


def draw_published(results: Results, numbers: PublishedNumbers | None, save: Save) -> None:
    """Write the figure of each table of a paper, one per dataset."""
    for dataset, found in results.items():
        for name, printed in _printed_tables(dataset, found, numbers).items():
            save(_figure(dataset, found, printed), name)


def _printed_tables(
    dataset: str, found: DatasetResults, numbers: PublishedNumbers | None
) -> dict[str, PublishedTable]:
    """The tables of papers with values for a dataset, by the name of the files that compare with them."""
    if numbers is None or not found.agents:
        return {}
    tables = [table for table in numbers.tables if dataset in table.values]
    return {f"published-{dataset}{_suffix(place)}": table for place, table in enumerate(tables)}


def _figure(dataset: str, found: DatasetResults, printed: PublishedTable) -> Figure:
    is_rate = printed.metric == "success_rate"
    panels = {dataset: compare(dataset, found, printed)}
    return published_figure(panels, measured_label(found, printed), is_rate=is_rate)


def _published_picture(
    dataset: str, found: DatasetResults, printed: PublishedTable, name: str
) -> NumberedFigure:
    figure = _figure(dataset, found, printed)
    figure.axes[0].set_title("", loc="left")
    figure.set_figwidth(WIDTH)
    picture = inline_svg(figure, name, f"{measured_label(found, printed)}, measured and printed")
    caption = f"Measured numbers with 95% intervals, and the printed ones of {printed.title}."
    data = File("CSV", f"{TABLES}/{name}.csv")
    return NumberedFigure([picture], caption, figure_files(name, data))


def _published_table(
    dataset: str, found: DatasetResults, printed: PublishedTable, name: str
) -> Table:
    """Measured metric, printed number, their difference and ranks, and the other metrics of each agent."""
    metric = _metric(found, printed)
    numbers = compare(dataset, found, printed)
    both = {agent: (own, number) for agent, (own, number) in numbers.items() if number}
    ranks = _ranks({agent: own.mean for agent, (own, _) in both.items()})
    printed_ranks = _ranks({agent: number.mean for agent, (_, number) in both.items()})
    others = [key for key in (found.metric, "discounted_return", "final_distance") if key != metric]
    names = columns(found)
    heading = ["agent", measured_label(found, printed), "printed", "minus printed"]
    heading += ["rank", "printed rank", *(names[key] for key in others)]
    rows: list[list[Cell]] = []
    for agent, (measured, number) in numbers.items():
        difference = None if number is None else _signed(measured.mean - number.mean)
        row: list[Cell] = [agent, measured, None if number is None else str(number)]
        row += [difference, ranks.get(agent), printed_ranks.get(agent)]
        rows.append([*row, *(shown(found.metrics[agent][key]) for key in others)])
    return Table(name, _caption(dataset, printed), heading, rows)


def compare(dataset: str, found: DatasetResults, printed: PublishedTable) -> dict[str, Compared]:
    """The measured and the printed number of each agent."""
    metric = _metric(found, printed)
    return {
        agent: Compared(_measured(own, metric, found, printed), printed.printed(dataset, agent))
        for agent, own in found.agents.items()
    }


def measured_label(found: DatasetResults, printed: PublishedTable) -> str:
    """The name of the measured metric, with the evaluations that it is the mean of if there are several."""
    count = printed.last_snapshots
    name = columns(found)[_metric(found, printed)]
    return name if count is None else f"{name}, last {count} evaluations"


def _metric(found: DatasetResults, printed: PublishedTable) -> str:
    """The key of the measured metric that is compared."""
    return found.metric if printed.metric == "success_rate" else printed.metric


def _measured(
    own: AgentResults, metric: str, found: DatasetResults, printed: PublishedTable
) -> Estimate:
    """The measured number that is comparable with the printed one.

    The snapshots of a seed are evaluated on the same episodes, so several of them count as one evaluation of these.
    """
    if printed.last_snapshots is None or metric != found.metric:
        return complete_estimate(own.metrics[metric])
    last = [curve.sort("update").tail(printed.last_snapshots) for curve in own.curves]
    return rate_across_seeds(
        [
            outcomes_of_rate(curve["mean"].to_numpy().mean(), int(curve["episodes"][0]))
            for curve in last
        ]
    )


def _caption(dataset: str, printed: PublishedTable) -> str:
    """What the numbers are, and where the printed ones come from."""
    spread = f" The number after ± is the {printed.spread}." if printed.spread else ""
    return (
        f"Measured and printed numbers on {dataset}, with 95% intervals of the measured ones. Printed: {printed.title}; "
        f"{printed.setting}.{spread} Ranks are among the agents that have a printed number. The table of settings has those of "
        "the measured numbers."
    )


def _ranks(means: Mapping[str, float]) -> dict[str, int]:
    """The rank of each agent, 1 for the highest number; equal numbers have the same rank."""
    rounded = {agent: round(mean, DIGITS) for agent, mean in means.items()}
    return {agent: 1 + sum(o > mean for o in rounded.values()) for agent, mean in rounded.items()}


def _signed(difference: float) -> str:
    sign = "+" if difference > 0 else "\N{MINUS SIGN}" if difference < 0 else ""
    return f"{sign}{abs(difference):.2f}"


def _suffix(number: int) -> str:
    return "" if number == 0 else f"-{number + 1}"


def seeds_table(dataset: str, found: DatasetResults, seeds: Sequence[int]) -> Table:
    """The main metrics of each training seed, without intervals; one row per agent and seed."""
    names = columns(found)
    keys = (found.metric, *SEED_METRICS)
    rows: list[list[Cell]] = [
        [agent, seed, *(_number(values[key]) for key in keys), values[found.metric]["episodes"]]
        for agent, seed, values in _by_seed(found, seeds)
    ]
    caption = f"Metrics of each training run on {dataset}, as means over its episodes."
    heading = ["agent", "seed", *(names[key] for key in keys), "episodes"]
    return Table(f"seeds-{dataset}", caption, heading, rows)


def flat_seeds(results: Results, seeds: Sequence[int]) -> pl.DataFrame:
    """One row per dataset, agent, training seed and metric."""
    rows = [
        {"dataset": dataset, "agent": agent, "seed": seed, "metric": metric, **of}
        for dataset, found in results.items()
        for agent, seed, values in _by_seed(found, seeds)
        for metric, of in values.items()
    ]
    return pl.DataFrame(rows, schema=SEEDS_SCHEMA)


def _by_seed(
    found: DatasetResults, seeds: Sequence[int]
) -> list[tuple[str, int, dict[str, dict[str, Any]]]]:
    """Agent, seed, and the mean and the number of episodes of each metric."""
    return [
        (agent, seed, seed_means(table))
        for agent, own in found.agents.items()
        for seed, table in zip(seeds, own.episodes, strict=True)
    ]


def seed_means(table: pl.DataFrame) -> dict[str, dict[str, Any]]:
    """Mean and number of episodes of each metric; ``steps_to_goal`` uses only episodes that reached the goal."""
    named = {"success_rate": "success", "success_any_rate": "success_any"}
    found = {}
    for metric in COLUMNS:
        values = table[named.get(metric, metric)].drop_nulls().cast(pl.Float64)
        found[metric] = {"mean": values.mean(), "episodes": len(values)}
    return found


def _number(of: Mapping[str, Any]) -> str | None:
    return None if of["mean"] is None else f"{of['mean']:.3f}"


def latex_report(results: Results, seeds: Sequence[int], numbers: PublishedNumbers | None) -> str:
    """All tables of results as LaTeX: of each dataset the metrics, the comparison with papers, and the single seeds."""
    parts = []
    for dataset, found in results.items():
        if found.agents:
            tables = [metrics_table(dataset, found), *published_tables(dataset, found, numbers)]
            parts += [as_latex(table) for table in (*tables, seeds_table(dataset, found, seeds))]
    return "\n".join(parts)
