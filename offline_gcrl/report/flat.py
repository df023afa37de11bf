"""The numbers of the report as data: nested for JSON, and one row per number for CSV."""

from collections.abc import Mapping
from typing import Any

import polars as pl

from offline_gcrl.report.results import DatasetResults, Results
from offline_gcrl.statistics.aggregates import THRESHOLDS, Aggregates
from offline_gcrl.statistics.intervals import Estimate

COMPARISON_SCHEMA = {
    "dataset": pl.String,
    "agent": pl.String,
    "rank": pl.Int64,
    "rank_low": pl.Int64,
    "rank_high": pl.Int64,
    **{
        f"{name}{part}": pl.Float64
        for name in ("interquartile_mean", "difference_to_best", "probability_best_is_better")
        for part in ("", "_low", "_high")
    },
}


def headline_numbers(results: Results) -> dict[str, Any]:
    """The numbers that ``dvc metrics diff`` shows: success rate with interval, final distance and return."""
    return {
        dataset: {
            agent: {
                "success_rate": values[found.metric]["mean"],
                "success_rate_low": values[found.metric]["low"],
                "success_rate_high": values[found.metric]["high"],
                "final_distance": values["final_distance"]["mean"],
                "discounted_return": values["discounted_return"]["mean"],
            }
            for agent, values in found.metrics.items()
        }
        for dataset, found in results.items()
    }


def flat_metrics(metrics: Mapping[str, Any]) -> pl.DataFrame:
    """One row per dataset, agent and metric."""
    return pl.DataFrame(
        [
            {"dataset": dataset, "agent": agent, "metric": metric, **values}
            for dataset, agents in metrics.items()
            for agent, by_metric in agents.items()
            for metric, values in by_metric.items()
        ]
    )


def flat_comparisons(results: Results) -> pl.DataFrame:
    """One row per dataset and agent: its rank, and its comparison with the best agent."""
    rows = []
    for dataset, found in results.items():
        comparison = found.comparison
        for agent, standing in comparison.ranking.items() if comparison else ():
            rival = comparison.against_best.get(agent) if comparison else None
            rows.append(
                {
                    "dataset": dataset,
                    "agent": agent,
                    "rank": standing.rank,
                    "rank_low": standing.rank_low,
                    "rank_high": standing.rank_high,
                    **_parts("interquartile_mean", standing.interquartile_mean),
                    **_parts("difference_to_best", rival.difference if rival else None),
                    **_parts("probability_best_is_better", rival.improvement if rival else None),
                }
            )
    return pl.DataFrame(rows, schema=COMPARISON_SCHEMA)


def flat_curves(curves: Mapping[str, Mapping[str, pl.DataFrame]]) -> pl.DataFrame:
    """One row per dataset, agent and snapshot, for ``dvc plots``."""
    tables = [
        curve.select(
            pl.lit(dataset).alias("dataset"),
            pl.lit(agent).alias("agent"),
            pl.lit(f"{dataset}: {agent}").alias("run"),
            "update",
            pl.col("mean").alias("success_rate"),
            "low",
            "high",
        )
        for dataset, agents in curves.items()
        for agent, curve in agents.items()
    ]
    return pl.concat(tables) if tables else pl.DataFrame(schema={"update": pl.Int64})


def episodes_csv(found: DatasetResults) -> str:
    """All evaluation episodes with their agent and training seed; starts and goals are numbers separated by spaces."""
    text = [
        pl.col(name).list.eval(pl.element().cast(pl.String)).list.join(" ")
        for name in ("start", "goal")
    ]
    tables = [
        table.select(pl.lit(agent).alias("agent"), pl.lit(number).alias("run"), pl.all())
        for agent, own in found.agents.items()
        for number, table in enumerate(own.episodes)
    ]
    return pl.concat(tables).with_columns(text).write_csv(float_precision=6)


def profiles_csv(found: Aggregates) -> str:
    """Performance profiles: one row per agent and threshold."""
    tables = [
        pl.DataFrame(
            {
                "agent": [agent] * len(THRESHOLDS),
                "success_rate": THRESHOLDS,
                "share_of_runs_above": profile.mean,
                "low": profile.low,
                "high": profile.high,
            }
        )
        for agent, profile in found.profiles.items()
    ]
    return pl.concat(tables).write_csv(float_precision=6)


def _parts(name: str, found: Estimate | None) -> dict[str, float | None]:
    values = (found.mean, found.low, found.high) if found else (None, None, None)
    return dict(zip((name, f"{name}_low", f"{name}_high"), values, strict=True))
