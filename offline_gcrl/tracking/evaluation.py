"""Logs the results of the stage ``evaluate`` to the runs of the seeds and to their parent run."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from offline_gcrl.config.outputs import POLICY
from offline_gcrl.evaluation.probes import ProbeResults
from offline_gcrl.evaluation.results import SeedResult, Summary, flat_metrics
from offline_gcrl.support.files import digest
from offline_gcrl.support.numbers import with_interval
from offline_gcrl.support.silence import LOGGING, working_on
from offline_gcrl.tracking.policies import find_or_log_policy
from offline_gcrl.tracking.probes import probe_metrics
from offline_gcrl.tracking.runs import TrackedRun
from offline_gcrl.tracking.store import Subject, Tracker, evaluation_digest

SUCCESS_CURVE = "evaluation/success_rate"
MOMENTS = {"success_rate": "the last step", "success_any_rate": "any step"}
NOTE = "mlflow.note.content"
"""The tag that MLflow shows as a run's description."""


@working_on(LOGGING)
def log_results(
    tracker: Tracker,
    subject: Subject,
    policies: Mapping[int, Path],
    results: Mapping[int, SeedResult],
    summary: Summary,
    headline: str,
    folder: Path,
    settings: dict[str, Any],
    probes: ProbeResults | None = None,
) -> None:
    """Log the evaluation of all seeds of an agent.

    Args:
        tracker: the MLflow experiment.
        subject: dataset, agent and algorithm.
        policies: the model folder of each training seed.
        results: the results of each training seed.
        summary: the results of all seeds together.
        headline: the name of the main success rate.
        folder: the folder of the results, with ``seed-<n>`` for each seed.
        settings: the settings of the evaluation.
        probes: the results of the probes.
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
    parent = tracker.parent_run(subject, runs, evaluation_digest(settings))
    _log_parent(parent, runs, summary, headline, folder, probed.get(None, {}))


def _log_parent(
    run: TrackedRun,
    runs: Sequence[TrackedRun],
    summary: Summary,
    headline: str,
    folder: Path,
    probed: dict[str, float],
) -> None:
    """Log the results of all seeds to the parent run, unless it has the results of more seeds already."""
    if run.content().metrics.get("seeds", 0) > len(runs):
        return
    params = runs[0].content().params
    run.log_params({name: value for name, value in params.items() if name != "seed"})
    _log_metrics(run, summary, headline)
    run.log_metrics({"seeds": len(runs)} | probed, _updates(summary))
    run.set_tags({NOTE: _sentence(headline, summary)})
    _log_files(run, folder)
    run.finish()


def _log_metrics(
    run: TrackedRun, result: SeedResult | Summary, headline: str, model: str | None = None
) -> None:
    rate, flat = result.metrics[headline], flat_metrics(result)
    # The main success has the same name for all datasets, so that tables can sort by it.
    run.log_metrics({"success": flat[headline]} | flat, _updates(result), model)
    run.log_curve(SUCCESS_CURVE, result.curve)
    for task in result.by_task:
        if len(result.task_curves) and task in result.task_curves["task"]:
            curve = result.task_curves.filter(pl.col("task") == task)
            run.log_curve(f"{SUCCESS_CURVE}/{task}", curve)
    run.set_tags({"success_interval": with_interval(rate)})


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
