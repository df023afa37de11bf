"""What else was asked of policies, as metrics of the runs that hold their evaluation."""

from collections.abc import Mapping

from offline_gcrl.evaluation.probes import ProbeResults
from offline_gcrl.evaluation.results import HEADLINES, SUCCESS_COLUMNS, SeedResult
from offline_gcrl.statistics.contrasts import wrong_identifiers, zero_shot
from offline_gcrl.statistics.intervals import Estimate
from offline_gcrl.statistics.transfer import average_transfer, transfers

COLUMNS = {HEADLINES[criterion]: column for criterion, column in SUCCESS_COLUMNS.items()}


def probe_metrics(
    results: Mapping[int, SeedResult], probes: ProbeResults, headline: str
) -> dict[int | None, dict[str, float]]:
    """Metrics of each training seed, and under None those over all of them.

    ``specialist/<task>`` is a success rate, ``transfer/<task>`` and ``transfer`` are generalist minus specialist;
    ``told_wrong/task`` and ``told_wrong/goal`` are success rates; ``held_out`` and ``seen`` too.
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
    told = [seed for seed in seeds if seed in probes.wrong]
    if told:
        right = [results[seed].episodes for seed in told]
        for contrast in wrong_identifiers(right, [probes.wrong[seed] for seed in told], column):
            flat |= _parts(f"told_wrong/{contrast.name}", contrast.second)
            flat |= _parts(f"told_wrong_drop/{contrast.name}", contrast.difference)
    asked = [seed for seed in seeds if seed in probes.held_out]
    if asked:
        contrast = zero_shot(
            [results[seed].episodes for seed in asked],
            [probes.held_out[seed] for seed in asked],
            column,
        )
        flat |= _parts("seen", contrast.first) | _parts("held_out", contrast.second)
    return flat


def _parts(name: str, estimate: Estimate) -> dict[str, float]:
    return {name: estimate.mean, f"{name}_low": estimate.low, f"{name}_high": estimate.high}
