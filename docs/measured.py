"""Results of long studies that are kept in the repository: their episodes, and the tables that are computed from these.

    python docs/measured.py gofar

A study of many hours can run in parts, on several machines, each with some of the training seeds and datasets. After a
part, this script adds the episodes in ``results/`` to ``docs/measured/<study>/episodes.parquet``, where they replace
those of the same dataset, agent and training seed. It then writes every table as CSV and LaTeX next to them, and prints
it in Markdown for ``docs/results.md``. Without ``results/`` it only writes and prints the tables.

A study whose papers print success rates also has its learning curves, in ``curves.parquet`` and as a figure.
"""

import argparse
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from offline_gcrl.config.outputs import LEARNING_CURVE
from offline_gcrl.config.published import PublishedNumbers, load_published
from offline_gcrl.evaluation.results import curve_across_seeds, summarise
from offline_gcrl.figures.style import save
from offline_gcrl.figures.success import SeedCurves, curves_figure
from offline_gcrl.report.exports import Cell, Table, as_csv, as_latex, markdown
from offline_gcrl.statistics.intervals import Estimate
from offline_gcrl.support.files import write_text
from offline_gcrl.support.tables import write_parquet

MEASURED = Path("docs/measured")
EPISODES = "episodes.parquet"
POLICY = ("dataset", "agent", "training_seed")
"""What a policy was trained with."""
KEY = (*POLICY, "noise", "episode")
"""What an episode was run with; ``noise`` is null without noise on the actions."""
VALUES = (
    "success",
    "success_any",
    "final_distance",
    "return",
    "discounted_return",
    "steps_to_goal",
)
CURVES, FIGURE = "curves.parquet", "learning_curves.svg"
METRICS = {
    "discounted_return": {
        "success_rate": ("success (last step)", 1.0),
        "final_distance": ("final distance (cm)", 100.0),
        "discounted_return": ("discounted return", 1.0),
    },
    "success_rate": {
        "success_rate": ("success", 1.0),
        "steps_to_goal": ("steps to the goal", 1.0),
    },
}
"""Column and unit of each metric of a table, by the metric that the papers print."""


def main() -> None:
    """Add results, and write and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("study", help="name of a file in docs/published")
    parser.add_argument("--results", type=Path, default=Path("results"))
    given = parser.parse_args()
    folder = MEASURED / given.study
    folder.mkdir(parents=True, exist_ok=True)
    episodes = add(results_in(given.results), folder / EPISODES, KEY)
    numbers = load_published(given.study)
    if has_curves(numbers):
        write_curves(given.results, folder)
    for table in tables(episodes, numbers):
        for name, text in files_of(table).items():
            write_text(folder / name, text)
        print(f"{table.caption}\n", *markdown(table), "", sep="\n")


def results_in(folder: Path) -> Iterator[pl.DataFrame]:
    """The episodes of every policy in a folder of results, without and with noise, with their keys."""
    for path in sorted(folder.glob("*/*/seed-*/episodes.parquet")):
        for found in (path, path.with_name("noisy.parquet")):
            if found.exists():
                table = pl.read_parquet(found)
                noise = pl.col("noise") if "noise" in table.columns else pl.lit(None, pl.Float64)
                yield table.select(*policy_of(found), noise.alias("noise"), "episode", *VALUES)


def policy_of(path: Path) -> Iterator[pl.Expr]:
    """The values of ``POLICY`` for a file of results, from the folders in which it is."""
    dataset, agent, seed = path.parts[-4:-1]
    number = pl.lit(int(seed.removeprefix("seed-")), pl.Int64)
    for name, value in zip(POLICY, (pl.lit(dataset), pl.lit(agent), number), strict=True):
        yield value.alias(name)


def add(parts: Iterable[pl.DataFrame], path: Path, key: Sequence[str]) -> pl.DataFrame:
    """Add rows to those of a file, and return all of them."""
    earlier = [pl.read_parquet(path)] if path.exists() else []
    rows = joined([*earlier, *parts], key)
    write_parquet(rows, path)
    return rows


def joined(parts: Sequence[pl.DataFrame], key: Sequence[str] = KEY) -> pl.DataFrame:
    """All rows in a fixed order; later parts replace rows of earlier ones with the same key."""
    return pl.concat(parts).unique(key, keep="last").sort(key)


def has_curves(numbers: PublishedNumbers) -> bool:
    """Whether a study has learning curves, which are success rates."""
    return numbers.tables[0].metric == "success_rate"


def write_curves(results: Path, folder: Path) -> None:
    """Add the learning curves in a folder of results to those of a study, and draw all of them."""
    curves = add(curves_in(results), folder / CURVES, (*POLICY, "update"))
    save(curves_figure(*curves_by_agent(curves)), folder / FIGURE)


def curves_in(folder: Path) -> Iterator[pl.DataFrame]:
    """The learning curve of every policy in a folder of results, with its key."""
    for path in sorted(folder.glob(f"*/*/seed-*/{LEARNING_CURVE}")):
        yield pl.read_parquet(path).select(*policy_of(path), pl.all())


def curves_by_agent(
    curves: pl.DataFrame,
) -> tuple[Mapping[str, Mapping[str, pl.DataFrame]], Mapping[str, SeedCurves]]:
    """The learning curve across seeds and those of single seeds, by dataset and agent."""
    over: dict[str, dict[str, pl.DataFrame]] = {}
    single: dict[str, dict[str, list[pl.DataFrame]]] = {}
    for (dataset, agent), group in curves.group_by("dataset", "agent", maintain_order=True):
        seeds = [
            seed.drop(POLICY) for _, seed in group.group_by("training_seed", maintain_order=True)
        ]
        over.setdefault(str(dataset), {})[str(agent)] = curve_across_seeds(seeds)
        single.setdefault(str(dataset), {})[str(agent)] = seeds if len(seeds) > 1 else []
    return over, single


def tables(episodes: pl.DataFrame, numbers: PublishedNumbers) -> Iterator[Table]:
    """One table per dataset, and one per dataset with noise on the actions, in the order of the printed tables."""
    printed = numbers.tables[0].values
    for dataset in [name for name in printed if name in set(episodes["dataset"])]:
        own = episodes.filter(dataset=dataset)
        yield _table(dataset, own.filter(pl.col("noise").is_null()), numbers)
        noisy = own.filter(pl.col("noise").is_not_null())
        if len(noisy):
            yield _table(dataset, noisy, numbers)


def _table(dataset: str, episodes: pl.DataFrame, numbers: PublishedNumbers) -> Table:
    """One row per agent and level of noise: seeds, metrics with 95% intervals, and the printed number."""
    printed_metric = numbers.tables[0].metric
    columns = METRICS[printed_metric]
    has_noise = episodes["noise"].null_count() == 0
    rows: list[list[Cell]] = []
    for agent in _in_order(episodes, numbers, dataset):
        for (noise,), group in episodes.filter(agent=agent).group_by("noise", maintain_order=True):
            seeds = [table for _, table in group.group_by("training_seed", maintain_order=True)]
            metrics = summarise(seeds)
            printed = _printed(numbers, dataset, agent, noise)
            level: list[Cell] = [f"{noise:g}"] if has_noise else []
            values = [_scaled(metrics[name], scale) for name, (_, scale) in columns.items()]
            rows.append([agent, *level, len(seeds), *values, printed])
    heading = [
        "agent",
        *(["noise"] if has_noise else []),
        "seeds",
        *(title for title, _ in columns.values()),
        "printed",
    ]
    name = f"{dataset}-noise" if has_noise else dataset
    what = f"{dataset} with noise on the actions" if has_noise else dataset
    printed_name = printed_metric.replace("_", " ")
    caption = (
        f"{what}: means over training seeds with 95% intervals, and the printed {printed_name}."
    )
    return Table(name, caption, heading, rows)


def _scaled(values: Mapping[str, Any], scale: float) -> Cell:
    """A metric with its interval; a dash if no episode has it."""
    if values["mean"] is None:
        return "-"
    return Estimate(*(values[part] * scale for part in ("mean", "low", "high")))


def _in_order(episodes: pl.DataFrame, numbers: PublishedNumbers, dataset: str) -> list[str]:
    """Agents in the order of the printed table, then the others."""
    agents = episodes["agent"].unique().sort().to_list()
    printed = [agent for agent in numbers.tables[0].values[dataset] if agent in agents]
    return [*printed, *(agent for agent in agents if agent not in printed)]


def _printed(numbers: PublishedNumbers, dataset: str, agent: str, noise: float | None) -> str:
    found = [
        table.printed(dataset, agent)
        if noise is None
        else table.printed_with_noise(dataset, noise, agent)
        for table in numbers.tables
    ]
    return next((str(number) for number in found if number is not None), "-")


def files_of(table: Table) -> dict[str, str]:
    """The files of a table, by name."""
    return {f"{table.name}.csv": as_csv(table), f"{table.name}.tex": as_latex(table)}


if __name__ == "__main__":
    main()
