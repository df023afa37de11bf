"""Results of long studies that are kept in the repository: their episodes, and the tables that are computed from these.

    python docs/measured.py gofar

A study of many hours can run in parts, on several machines, each with some of the training seeds and datasets. After a
part, this script adds the episodes in ``results/`` to ``docs/measured/<study>/episodes.parquet``. The episodes of a
policy replace all those that are there of the same dataset, agent and training seed. It then writes every table as CSV
and LaTeX next to them, and prints it in Markdown for ``docs/results.md``. Without ``results/`` it only writes and prints
the tables. Which policies belong to the study is in the ``params.yaml`` next to the results.

``seeds.csv`` has the metrics of single training seeds. Figures have the measured and the printed numbers. A study whose papers print success rates also has its learning curves,
in ``curves.parquet`` and as a figure.
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import polars as pl
from matplotlib.figure import Figure

from offline_gcrl.config import PARAMS, Params, load_params
from offline_gcrl.config.outputs import EPISODES, LEARNING_CURVE, NOISY_EPISODES
from offline_gcrl.config.published import PrintedNumber, PublishedNumbers, load_published
from offline_gcrl.evaluation.results import curve_across_seeds, summarise
from offline_gcrl.figures.noise import noise_figure
from offline_gcrl.figures.published import Compared, published_figure
from offline_gcrl.figures.style import save
from offline_gcrl.figures.success import SeedCurves, curves_figure
from offline_gcrl.report.exports import Cell, Table, as_csv, as_latex, markdown
from offline_gcrl.report.numbers import complete_estimate, shown
from offline_gcrl.statistics.intervals import Estimate
from offline_gcrl.support.digests import intact
from offline_gcrl.support.errors import DataError
from offline_gcrl.support.files import atomic_file, write_text
from offline_gcrl.support.tables import write_parquet
from offline_gcrl.support.terminal import close, stage

MEASURED = Path("docs/measured")
POLICY = ("dataset", "agent", "training_seed")
"""Columns with what a policy was trained on and with."""
Policy = tuple[str, str, int]
VALUES = (
    "success",
    "success_any",
    "final_distance",
    "return",
    "discounted_return",
    "steps_to_goal",
)
CURVES, FIGURE = "curves.parquet", "learning_curves.svg"
SEEDS = "seeds.csv"
COMPARISON, NOISE = "measured_and_printed.svg", "noise.svg"
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
    with stage("measured", given.study, again=f"python docs/measured.py {given.study}"):
        numbers, folder = load_published(given.study), MEASURED / given.study
        found = policies_in(given.results, given.study)
        episodes = add(episodes_of(found), folder / EPISODES)
        if has_curves(numbers):
            write_curves(found, folder)
        write_text(folder / SEEDS, by_seed(episodes).write_csv(float_precision=4))
        measured = summaries(episodes, numbers)
        for name, figure in figures(measured, numbers).items():
            save(figure, folder / name)
        for table in tables(measured, numbers):
            for name, text in files_of(table).items():
                write_text(folder / name, text)
            print(f"\n{table.caption}\n", *markdown(table), sep="\n")
        close(f"{len(found)} policies added; the study is in {folder}")


def policies_in(results: Path, study: str) -> dict[Policy, Path]:
    """The folders of results of a study, by dataset, agent and training seed.

    Args:
        results: folder with all results of a project; ``params.yaml`` is next to it. It need not exist.
        study: value of ``experiment.published``.

    Raises:
        DataError: the project runs another study, or a policy has been trained or evaluated with other settings.
    """
    if not results.is_dir():
        return {}
    params = load_params(results.parent / PARAMS)
    if params.experiment.published != study:
        raise DataError(
            f"{results}: experiment.published in {params.path} is {params.experiment.published}, not {study}; "
            f"`make study NAME={study}` makes its results"
        )
    experiment, found = params.experiment, {}
    for policy in product(experiment.datasets, experiment.agents, experiment.seeds):
        folder = results / policy[0] / policy[1] / f"seed-{policy[2]}"
        if (folder / EPISODES).exists():
            _check_settings(folder, params, policy)
            found[policy] = folder
    return found


def _check_settings(folder: Path, params: Params, policy: Policy) -> None:
    """A folder of results can be that of an earlier run with other settings."""
    dataset, agent, _ = policy
    made = pl.read_parquet(intact(folder / EPISODES), columns=["update"])
    updates = params.train_for(dataset, agent).updates
    episodes = params.evaluate_for(dataset).episodes
    if len(made.filter(update=updates)) != episodes or len(made) != episodes:
        raise DataError(
            f"{folder}: is not of {episodes} episodes after {updates:,} updates, as {params.path} asks for; run `dvc repro`"
        )


def episodes_of(policies: Mapping[Policy, Path]) -> list[pl.DataFrame]:
    """The episodes of every policy, without and with noise, with their keys."""
    return [
        _with_noise(pl.read_parquet(intact(path))).select(
            *_keys(policy), "noise", "episode", *VALUES
        )
        for policy, folder in policies.items()
        for path in (folder / EPISODES, folder / NOISY_EPISODES)
        if path.exists()
    ]


def _with_noise(episodes: pl.DataFrame) -> pl.DataFrame:
    """Episodes with their level of noise, which is null without noise."""
    noise = pl.col("noise") if "noise" in episodes.columns else pl.lit(None)
    return episodes.with_columns(noise.cast(pl.Float64).alias("noise"))


def _keys(policy: Policy) -> list[pl.Expr]:
    """The values of ``POLICY`` as columns."""
    types = (pl.String, pl.String, pl.Int64)
    return [
        pl.lit(value, dtype).alias(name)
        for value, dtype, name in zip(policy, types, POLICY, strict=True)
    ]


def add(parts: Sequence[pl.DataFrame], path: Path, row: str = "episode") -> pl.DataFrame:
    """Add the rows of policies to those in a file, and return all of them.

    Raises:
        DataError: there are no rows.
    """
    earlier = pl.read_parquet(path) if path.exists() else None
    if not parts:
        if earlier is None:
            raise DataError(f"{path}: no such file, and there are no results to make it of")
        return earlier
    rows = joined(earlier, pl.concat(parts), row)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path) as partial:
        write_parquet(rows, partial)
    return rows


def joined(earlier: pl.DataFrame | None, later: pl.DataFrame, row: str = "episode") -> pl.DataFrame:
    """All rows in a fixed order; those of a policy replace all earlier ones of the same policy."""
    kept = [] if earlier is None else [earlier.join(later, on=POLICY, how="anti")]
    order = [name for name in (*POLICY, "noise", row) if name in later.columns]
    return pl.concat([*kept, later.select(kept[0].columns if kept else later.columns)]).sort(order)


def has_curves(numbers: PublishedNumbers) -> bool:
    """Whether a study has learning curves, which are success rates."""
    return numbers.tables[0].metric == "success_rate"


def write_curves(policies: Mapping[Policy, Path], folder: Path) -> None:
    """Add the learning curves of policies to those of a study, and draw all of them."""
    parts = [
        pl.read_parquet(intact(path / LEARNING_CURVE)).select(*_keys(policy), pl.all())
        for policy, path in policies.items()
    ]
    curves = add(parts, folder / CURVES, "update")
    save(curves_figure(*curves_by_agent(curves)), folder / FIGURE)


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


def by_seed(episodes: pl.DataFrame) -> pl.DataFrame:
    """One row per policy and level of noise: its number of episodes, and their means; null if no episode has a value."""
    means = pl.col(VALUES).cast(pl.Float64).mean()
    keys = [*POLICY, "noise"]
    return episodes.group_by(keys, maintain_order=True).agg(pl.len().alias("episodes"), means)


@dataclass(frozen=True)
class Summary:
    """The metrics of an agent on a dataset, over all training seeds."""

    dataset: str
    agent: str
    noise: float | None
    seeds: int
    metrics: Mapping[str, Any]
    printed: PrintedNumber | None

    def belongs(self, dataset: str, has_noise: bool) -> bool:
        """Whether it is a row of a table."""
        return self.dataset == dataset and (self.noise is not None) == has_noise


def summaries(episodes: pl.DataFrame, numbers: PublishedNumbers) -> list[Summary]:
    """One per dataset, agent and level of noise, in the order of the printed tables, those without noise first."""
    found: list[Summary] = []
    for dataset in numbers.tables[0].values:
        own = episodes.filter(dataset=dataset)
        order = _in_order(own, numbers, dataset)
        groups = own.group_by("agent", "noise", maintain_order=True)
        rows = [_summary(dataset, *key, group, numbers) for key, group in groups]
        found += sorted(
            rows, key=lambda row: (row.noise is not None, order.index(row.agent), row.noise or 0.0)
        )
    return found


def _summary(
    dataset: str, agent: Any, noise: Any, episodes: pl.DataFrame, numbers: PublishedNumbers
) -> Summary:
    seeds = [own for _, own in episodes.group_by("training_seed", maintain_order=True)]
    printed = numbers.printed(numbers.tables[0].metric, dataset, agent, noise or 0.0)
    return Summary(dataset, agent, noise, len(seeds), summarise(seeds), printed)


def _in_order(episodes: pl.DataFrame, numbers: PublishedNumbers, dataset: str) -> list[str]:
    """Agents in the order of the printed table, then the others."""
    agents = episodes["agent"].unique().sort().to_list()
    printed = [agent for agent in numbers.tables[0].values[dataset] if agent in agents]
    return [*printed, *(agent for agent in agents if agent not in printed)]


def tables(found: Sequence[Summary], numbers: PublishedNumbers) -> list[Table]:
    """One table per dataset, and one per dataset with noise on the actions, in the order of the printed tables."""
    parts = dict.fromkeys((row.dataset, row.noise is not None) for row in found)
    return [
        _table(dataset, [row for row in found if row.belongs(dataset, has_noise)], numbers)
        for dataset, has_noise in parts
    ]


def figures(found: Sequence[Summary], numbers: PublishedNumbers) -> dict[str, Figure]:
    """The measured and the printed numbers, and those with noise on the actions if there are any, by file name."""
    metric = numbers.tables[0].metric
    (title, _), is_rate = METRICS[metric][metric], metric == "success_rate"
    panels: dict[str, dict[str, Compared]] = {}
    levels: dict[str, dict[float, Estimate]] = {}
    printed: dict[str, dict[float, float]] = {}
    for row in found:
        measured = complete_estimate(row.metrics[metric])
        if row.noise is None:
            panels.setdefault(row.dataset, {})[row.agent] = Compared(measured, row.printed)
            continue
        levels.setdefault(row.agent, {})[row.noise] = measured
        if row.printed:
            printed.setdefault(row.agent, {})[row.noise] = row.printed.mean
    comparison = {COMPARISON: published_figure(panels, title, is_rate=is_rate)}
    if not levels:
        return comparison
    return comparison | {NOISE: noise_figure({title: levels}, {title: printed})}


def _table(dataset: str, found: Sequence[Summary], numbers: PublishedNumbers) -> Table:
    """One row per agent and level of noise: seeds, metrics with 95% intervals, and the printed number."""
    metric = numbers.tables[0].metric
    columns = METRICS[metric]
    has_noise = found[0].noise is not None
    rows: list[list[Cell]] = []
    for row in found:
        level: list[Cell] = [f"{row.noise:g}"] if has_noise else []
        values = [_scaled(row.metrics[name], scale) for name, (_, scale) in columns.items()]
        printed = "-" if row.printed is None else str(row.printed)
        rows.append([row.agent, *level, row.seeds, *values, printed])
    titles = [title for title, _ in columns.values()]
    heading = ["agent", *(["noise"] if has_noise else []), "seeds", *titles, "printed"]
    name = f"{dataset}-noise" if has_noise else dataset
    what = f"{dataset} with noise on the actions" if has_noise else dataset
    caption = f"{what}: means over training seeds with 95% intervals, and the printed {metric.replace('_', ' ')}."
    return Table(name, caption, heading, rows)


def _scaled(values: Mapping[str, Any], scale: float) -> Cell:
    """A metric with its interval, without one if only one episode has it; a dash if none has it."""
    if values["mean"] is None:
        return "-"
    parts = ("mean", "low", "high")
    return shown({part: None if values[part] is None else values[part] * scale for part in parts})


def files_of(table: Table) -> dict[str, str]:
    """The files of a table, by name."""
    return {f"{table.name}.csv": as_csv(table), f"{table.name}.tex": as_latex(table)}


if __name__ == "__main__":
    main()
