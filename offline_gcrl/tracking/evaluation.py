"""What the stage `evaluate` puts into the store: results, on the runs of the seeds and the one over them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from offline_gcrl.config.outputs import POLICY
from offline_gcrl.evaluation.probes import ProbeResults
from offline_gcrl.evaluation.results import SeedResult, Summary, flat_metrics
from offline_gcrl.support.files import digest
from offline_gcrl.tracking.policies import find_or_log_policy
from offline_gcrl.tracking.probes import probe_metrics
from offline_gcrl.tracking.runs import TrackedRun
from offline_gcrl.tracking.store import Subject, Tracker, evaluation_digest

SUCCESS_CURVE = "evaluation/success_rate"
MOMENTS = {"success_rate": "the last step", "success_any_rate": "any step"}
NOTE = "mlflow.note.content"
"""The tag that MLflow shows as a run's description."""


def log_results(
    tracker: Tracker,
    subject: Subject,
    policies: Mapping[int, Path],
    results: Mapping[int, SeedResult],
    over: Summary,
    headline: str,
    folder: Path,
    settings: dict[str, Any],
    probes: ProbeResults | None = None,
) -> None:
    """Log how the policies of all seeds were judged.

    Args:
        tracker: the experiment of the store.
        subject: what the runs are about.
        policies: the folder of each training seed.
        results: of each training seed.
        over: of all of them together.
        headline: the metric of success that the field reports here.
        folder: with the files of all results, and a folder ``seed-<n>`` for those of each.
        settings: of the evaluation.
        probes: what else was asked of the policies.
    """
    probed = probe_metrics(results, probes, headline) if probes else {}
    runs = []
    for seed, result in results.items():
        path = policies[seed] / POLICY
        policy = digest([path])
        run = tracker.evaluation_run(subject, seed, policy, settings)
        run.log_params(subject.__dict__ | {"seed": seed})
        model = find_or_log_policy(tracker.client, run.run_id, path, policy)
        _log_metrics(run, result, headline, model)
        run.log_metrics(probed.get(seed, {}), _updates(result))
        run.set_tags({NOTE: f"{_sentence(headline, result)}\n\n{_how_to_load(model)}"})
        _log_files(run, folder / f"seed-{seed}")
        run.finish()
        runs.append(run)
    over_run = tracker.parent_run(subject, runs, evaluation_digest(settings))
    _log_parent(over_run, runs, over, headline, folder, probed.get(None, {}))


def _log_parent(
    run: TrackedRun,
    runs: Sequence[TrackedRun],
    over: Summary,
    headline: str,
    folder: Path,
    probed: dict[str, float],
) -> None:
    """Log the results over the seeds, unless the run has them of more seeds already."""
    if run.content().metrics.get("seeds", 0) > len(runs):
        return
    params = runs[0].content().params
    run.log_params({name: value for name, value in params.items() if name != "seed"})
    _log_metrics(run, over, headline)
    run.log_metrics({"seeds": len(runs)} | probed, _updates(over))
    run.set_tags({NOTE: _sentence(headline, over)})
    _log_files(run, folder)
    run.finish()


def _log_metrics(
    run: TrackedRun, result: SeedResult | Summary, headline: str, model: str | None = None
) -> None:
    rate, flat = result.metrics[headline], flat_metrics(result)
    # First and by one name for all datasets: what tables sort by, and comparisons show at once.
    run.log_metrics({"success": flat[headline]} | flat, _updates(result), model)
    run.log_curve(SUCCESS_CURVE, result.curve)
    for task in result.by_task:
        if len(result.task_curves) and task in result.task_curves["task"]:
            curve = result.task_curves.filter(pl.col("task") == task)
            run.log_curve(f"{SUCCESS_CURVE}/{task}", curve)
    run.set_tags({"success": f"{rate['mean']:.2f} [{rate['low']:.2f}, {rate['high']:.2f}]"})


def _log_files(run: TrackedRun, folder: Path) -> None:
    for path in sorted(folder.iterdir()):
        if path.is_file():
            run.log_artifact(path, "evaluation")


def _updates(result: SeedResult | Summary) -> int:
    return int(result.episodes["update"][0])


def _sentence(headline: str, result: SeedResult | Summary) -> str:
    rate, moment = result.metrics[headline], MOMENTS[headline]
    seeds = f" of {rate['seeds']} seeds" if isinstance(result, Summary) else ""
    return (
        f"**Success {rate['mean']:.2f}** at {moment}, 95% interval "
        f"[{rate['low']:.2f}, {rate['high']:.2f}], in {rate['episodes']} episodes{seeds}."
    )


def _how_to_load(model: str) -> str:
    return (
        f'```python\npolicy = mlflow.pyfunc.load_model("models:/{model}")\n'
        'actions = policy.predict({"observation": observations, "goal": goals})\n```'
    )
