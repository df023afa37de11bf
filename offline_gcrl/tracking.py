"""MLflow: one run a dataset, agent and seed, with all that is needed to compare it to others.

A run is found again by what it is of, never by a stored id: training by its fingerprint (a resumed or
repeated training lands on its own run), evaluation by the digest of the policy it judged.
"""

import hashlib
import json
import logging
import os
import subprocess
import time
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mlflow
import mlflow.data
import polars as pl
import yaml
from filelock import FileLock
from mlflow.entities import DatasetInput, InputTag, Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from offline_gcrl.errors import OfflineGCRLError

METRICS_A_CALL, PARAMS_A_CALL = 1000, 100  # What one `log_batch` takes.


def store_root() -> Path:
    """Where the store lies: DVC's root, also for queued experiments, which run in a temporary folder."""
    return Path(os.environ.get("DVC_ROOT", ".")).resolve()


def store_uri() -> str:
    """``MLFLOW_TRACKING_URI``, else a SQLite file at the repository's root."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{store_root() / 'mlflow.db'}"


class Tracker:
    """One experiment of the MLflow store."""

    def __init__(self, experiment: str) -> None:
        for name in ("mlflow", "alembic"):  # Migrations of the store are no news to a user.
            logging.getLogger(name).setLevel(logging.ERROR)
        # Several stages that open a fresh SQLite store at once would destroy it.
        with FileLock(store_root() / ".mlflow.lock"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                self.client = MlflowClient(store_uri())
                self.experiment = self._experiment(experiment)
            except MlflowException as error:
                raise OfflineGCRLError(
                    f"the MLflow store {store_uri()} cannot be used: {error.message}; "
                    "MLFLOW_TRACKING_URI names another"
                ) from error

    def training_run(self, dataset: str, agent: str, seed: int, fingerprint: str) -> "TrackedRun":
        """The run of a training, made when there is none."""
        found = self._find(f"tags.fingerprint = '{fingerprint}'")
        tags = {"fingerprint": fingerprint}
        return self._wrap(found[0] if found else self._create(dataset, agent, seed, tags))

    def trained(self, run: "TrackedRun", fingerprint: str, policy: str) -> "TrackedRun":
        """Note the digest of the policy that a run trained.

        Code that changed and gave the same policy made nothing new: then the earlier run, which may
        have been evaluated already, stands for both.
        """
        earlier = self._find(f"tags.policy = '{policy}'")
        if earlier and run.run_id not in {other.info.run_id for other in earlier}:
            self.client.delete_run(run.run_id)
            run = self._wrap(earlier[0])
        run.set_tags({"policy": policy, "fingerprint": fingerprint})
        return run

    def evaluation_run(
        self, dataset: str, agent: str, seed: int, policy: str, settings: dict[str, Any]
    ) -> "TrackedRun":
        """The run that trained a policy, to hold its evaluation under these settings.

        Judged under other settings before, or unknown to the store, the policy gets a run of its own.
        """
        evaluation = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]
        found = self._find(f"tags.policy = '{policy}'")
        fitting = [
            run for run in found if run.data.tags.get("evaluation", evaluation) == evaluation
        ]
        run = fitting[0] if fitting else self._create(dataset, agent, seed, {"policy": policy})
        tracked = self._wrap(run)
        if found and not fitting:
            params = found[0].data.params.items()
            tracked.log_params({k: v for k, v in params if not k.startswith("evaluate.")})
        tracked.set_tags({"evaluation": evaluation})
        tracked.log_params({"evaluate": settings})
        return tracked

    def card_run(self, dataset: str, card: str) -> "TrackedRun":
        """The run that holds the card of a dataset, by the card's digest; made when there is none."""
        found = self._find(f"tags.card = '{card}'")
        tags = {"card": card, "dataset": dataset, "mlflow.source.name": "dvc.yaml"}
        return self._wrap(
            found[0]
            if found
            else self.client.create_run(self.experiment, run_name=dataset, tags=tags)
        )

    def _experiment(self, name: str) -> str:
        found = self.client.get_experiment_by_name(name)
        if found is None:
            made: str = self.client.create_experiment(name, self._artifacts(name))
            return made
        if found.lifecycle_stage == "deleted":
            self.client.restore_experiment(found.experiment_id)
        known: str = found.experiment_id
        return known

    def _artifacts(self, experiment: str) -> str | None:
        """An absolute location: a SQLite store would put artifacts below the process's folder."""
        if store_uri().startswith("sqlite:"):
            return (store_root() / "mlartifacts" / experiment).as_uri()
        return None

    def _find(self, filter_string: str) -> list[Run]:
        return list(self.client.search_runs([self.experiment], filter_string))

    def _create(self, dataset: str, agent: str, seed: int, tags: dict[str, str]) -> Run:
        context = {
            "dataset": dataset,
            "agent": agent,
            "seed": str(seed),
            "dvc.experiment": os.environ.get("DVC_EXP_NAME", ""),
            "mlflow.source.name": "dvc.yaml",
            "mlflow.source.git.commit": _git_commit(),
        }
        named = {key: value for key, value in {**context, **tags}.items() if value}
        return self.client.create_run(
            self.experiment, run_name=f"{agent}/seed-{seed} {dataset}", tags=named
        )

    def _wrap(self, run: Run) -> "TrackedRun":
        return TrackedRun(self.client, run.info.run_id)


class TrackedRun:
    """Writes to one run, in few calls: one call a metric would be the slowest part of training."""

    def __init__(self, client: MlflowClient, run_id: str) -> None:
        self.client, self.run_id = client, run_id

    def log_params(self, params: dict[str, Any]) -> None:
        """Log settings, nested ones with dots in their names."""
        entities = [Param(key, str(value)[:500]) for key, value in _flat(params).items()]
        known = self.client.get_run(self.run_id).data.params
        entities = [param for param in entities if param.key not in known]
        for start in range(0, len(entities), PARAMS_A_CALL):
            self.client.log_batch(self.run_id, params=entities[start : start + PARAMS_A_CALL])

    def log_points(self, points: Sequence[dict[str, float]]) -> None:
        """Log points of curves: each has its ``update``, the step of all its other values.

        Points up to the last one that the run has are passed over: a resumed training repeats them.
        """
        if not points:
            return
        known = self.client.get_run(self.run_id).data.metrics.get("update", 0.0)
        metrics = [
            (name, value, int(point["update"]))
            for point in points
            if point["update"] > known
            for name, value in point.items()
        ]
        self._send(metrics)

    def log_metrics(self, metrics: dict[str, float], step: int = 0) -> None:
        """Log values that belong to one step."""
        self._send([(name, value, step) for name, value in metrics.items()])

    def log_curve(self, name: str, curve: pl.DataFrame) -> None:
        """Log a learning curve with its interval: columns update, mean, low, high."""
        metrics = [
            (f"{name}{suffix}", row[column], row["update"])
            for row in curve.iter_rows(named=True)
            for column, suffix in (("mean", ""), ("low", "_low"), ("high", "_high"))
        ]
        self._send(metrics)

    def log_dataset(self, name: str, folder: Path) -> None:
        """Log the ingested dataset as an input, with its DVC digest; the data is not read."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dataset = mlflow.data.from_polars(  # type: ignore[attr-defined]
                # MLflow has no unsigned integers, and says so at length.
                pl.read_parquet(folder / "steps.parquet", n_rows=0).select(pl.exclude(pl.UInt32)),
                source=str(folder),
                digest=dvc_digest("dvc.lock", f"ingest@{name}"),
                name=name,
            )
        inputs = [DatasetInput(dataset._to_mlflow_entity(), [InputTag("context", "training")])]
        self.client.log_inputs(self.run_id, inputs)

    def log_artifact(self, path: Path, folder: str | None = None) -> None:
        """Store a file with the run."""
        self.client.log_artifact(self.run_id, str(path), folder)

    def set_tags(self, tags: dict[str, str]) -> None:
        """Set tags."""
        self.client.log_batch(self.run_id, tags=[RunTag(*item) for item in tags.items()])

    def finish(self, status: str = "FINISHED") -> None:
        """Mark the run as finished, or as ``FAILED``."""
        self.client.set_terminated(self.run_id, status)

    def _send(self, metrics: list[tuple[str, float, int]]) -> None:
        now = int(time.time() * 1000)
        stamped = [Metric(name, value, now, step) for name, value, step in metrics]
        for start in range(0, len(stamped), METRICS_A_CALL):
            self.client.log_batch(self.run_id, metrics=stamped[start : start + METRICS_A_CALL])


@contextmanager
def marked_failed(runs: Iterable[TrackedRun]) -> Iterator[None]:
    """Mark the runs as failed when the block fails; a later attempt takes them up again."""
    try:
        yield
    except BaseException:
        for run in runs:
            run.finish("FAILED")
        raise


def dvc_digest(lock: str, stage: str) -> str | None:
    """MD5 that ``dvc.lock`` holds of a stage's first output; None outside of DVC."""
    path = Path(lock)
    stages = (yaml.safe_load(path.read_text()) or {}).get("stages", {}) if path.exists() else {}
    outs = stages.get(stage, {}).get("outs", [{}])
    digest: str | None = outs[0].get("md5")
    return digest.split(".")[0] if digest else None


def _flat(params: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in params.items():
        if isinstance(value, dict) and value:
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _git_commit() -> str:
    """The commit that is checked out; empty outside of a repository."""
    answer = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True)  # noqa: S607
    return answer.stdout.strip() if answer.returncode == 0 else ""
