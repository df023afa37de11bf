"""Results of the probes as metrics of the evaluation's runs."""

from collections.abc import Mapping

import polars as pl

from offline_gcrl.evaluation.probes import ProbeResults
from offline_gcrl.evaluation.results import HEADLINES, SUCCESS_COLUMNS, SeedResult
from offline_gcrl.statistics.contrasts import (
    paired_contrast,
    success_rate,
    wrong_identifiers,
    zero_shot,
)
from offline_gcrl.statistics.intervals import Estimate, rate_across_seeds
from offline_gcrl.statistics.transfer import average_transfer, transfers

COLUMNS = {HEADLINES[criterion]: column for criterion, column in SUCCESS_COLUMNS.items()}


def probe_metrics(
    results: Mapping[int, SeedResult], probes: ProbeResults, headline: str
) -> dict[int | None, dict[str, float]]:
    """Metrics of the probes by training seed; the key None has the metrics over all seeds.

    ``specialist/<task>`` is the success rate of a specialist. ``transfer/<task>`` and ``transfer`` are success rates of
    the multi-task policy minus those of specialists. ``wrong_identifier/task`` and ``wrong_identifier/goal`` are success
    rates with a wrong identifier, and ``wrong_identifier_drop/...`` the decrease that it causes. ``held_out`` and ``seen``
    are success rates on held-out goals and on all others, ``seen/<task>`` if several tasks hold goals out. ``planned`` is
    the success rate with a planner, and ``planned_gain`` that minus the success rate without it. ``noise/<level>`` is the
    success rate with noise on the actions.
    """
    groups: dict[int | None, list[int]] = {seed: [seed] for seed in results}
    groups[None] = list(results)
    return {
        name: _metrics(results, probes, seeds, COLUMNS[headline]) for name, seeds in groups.items()
    }


def _metrics(
    results: Mapping[int, SeedResult], probes: ProbeResults, seeds: list[int], column: str
) -> dict[str, float]:
    every = [results[seed].episodes for seed in seeds]
    flat: dict[str, float] = {}
    specialists = {
        task: [found[seed].episodes for seed in seeds] for task, found in probes.specialists.items()
    }
    if specialists:
        for contrast in transfers(every, specialists, column):
            flat |= _parts(f"specialist/{contrast.name}", contrast.second)
            flat |= _parts(f"transfer/{contrast.name}", contrast.difference)
        flat |= _parts("transfer", average_transfer(every, specialists, column).difference)
    tested = [seed for seed in seeds if seed in probes.wrong]
    if tested:
        right = [results[seed].episodes for seed in tested]
        for contrast in wrong_identifiers(right, [probes.wrong[seed] for seed in tested], column):
            flat |= _parts(f"wrong_identifier/{contrast.name}", contrast.second)
            flat |= _parts(f"wrong_identifier_drop/{contrast.name}", contrast.difference)
    tested = [seed for seed in seeds if seed in probes.planned]
    if tested:
        without = [results[seed].episodes for seed in tested]
        planned = [probes.planned[seed] for seed in tested]
        contrast = paired_contrast("planner", planned, without, column)
        flat |= _parts("planned", contrast.first) | _parts("planned_gain", contrast.difference)
    flat |= _with_noise(probes, seeds, column)
    tested = [seed for seed in seeds if seed in probes.held_out]
    if tested:
        unseen = [probes.held_out[seed] for seed in tested]
        flat |= _parts("held_out", success_rate(unseen, column))
        known = zero_shot([results[seed].episodes for seed in tested], unseen, column)
        for task, compared in known.items():
            name = "seen" if len(known) == 1 else f"seen/{task}"
            flat |= _parts(name, compared.first) if compared else {}
    return flat


def _with_noise(probes: ProbeResults, seeds: list[int], column: str) -> dict[str, float]:
    """Success rates at each level of noise on the actions."""
    tables = [probes.noisy[seed] for seed in seeds if seed in probes.noisy]
    levels = sorted(tables[0]["noise"].unique()) if tables else []
    flat: dict[str, float] = {}
    for level in levels:
        groups = [table.filter(pl.col("noise") == level)[column] for table in tables]
        rates = [group.cast(pl.Float64).to_numpy() for group in groups]
        flat |= _parts(f"noise/{level:g}", rate_across_seeds(rates))
    return flat


def _parts(name: str, estimate: Estimate) -> dict[str, float]:
    return {name: estimate.mean, f"{name}_low": estimate.low, f"{name}_high": estimate.high}
