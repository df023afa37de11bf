"""Writes to one MLflow run in few calls; one call per metric would be the slowest part of training."""

import time
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import mlflow.data
import polars as pl
from mlflow.entities import DatasetInput, InputTag, Metric, Param, RunData, RunTag
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from offline_gcrl.support.stages import read_dvc_file

METRICS_PER_CALL, PARAMS_PER_CALL = 1000, 100  # Limits of one `log_batch` call.
CHARACTERS_OF_PARAM = 500
UPDATE = "update"
INTERVAL = (("mean", ""), ("low", "_low"), ("high", "_high"))
"""Columns of an estimate, with the suffixes of their metrics."""


@dataclass(frozen=True)
class Sample:
    """Values that were measured at a time, with the number of the update at that time."""

    update: int
    milliseconds: int
    values: dict[str, float]


class TrackedRun:
    """One run of the MLflow store. Values that the run has already are not written again."""

    def __init__(self, client: MlflowClient, run_id: str) -> None:
        self.client, self.run_id = client, run_id

    def content(self) -> RunData:
        """The run's params, latest metrics and tags."""
        return self.client.get_run(self.run_id).data

    def log_params(self, params: dict[str, Any]) -> None:
        """Log settings; the keys of nested settings are joined by dots."""
        entities = [Param(key, _shortened(str(value))) for key, value in _flat(params).items()]
        known = self.content().params
        entities = [param for param in entities if param.key not in known]
        for start in range(0, len(entities), PARAMS_PER_CALL):
            self.client.log_batch(self.run_id, params=entities[start : start + PARAMS_PER_CALL])

    def log_points(self, points: Sequence[dict[str, float]]) -> None:
        """Log points of curves; the ``update`` of a point is the step of its other values.

        Points at updates that the run has already are skipped, because a resumed training repeats them.
        """
        new: dict[int, dict[str, float]] = {}
        for point in points:
            update = int(point[UPDATE])
            if update not in self._known_updates:
                new.setdefault(update, {}).update(point)
        metrics = []
        for update, values in new.items():
            mark = values.pop(UPDATE)  # Sent last, so that an incomplete point is sent again.
            metrics += [(name, value, update) for name, value in (*values.items(), (UPDATE, mark))]
        self._send(metrics)
        self._known_updates.update(new)

    def log_samples(self, samples: Sequence[Sample]) -> None:
        """Log values with the times at which they were measured."""
        self._log(
            [
                Metric(name, value, sample.milliseconds, sample.update)
                for sample in samples
                for name, value in sample.values.items()
            ]
        )

    def log_metrics(
        self, metrics: dict[str, float], step: int = 0, model: str | None = None
    ) -> None:
        """Log values at one step, and for a logged model if ``model`` is given."""
        known = self.content().metrics
        new = [(name, value, step) for name, value in metrics.items() if known.get(name) != value]
        self._send(new, model)

    def log_curve(self, name: str, curve: pl.DataFrame) -> None:
        """Log a learning curve with its interval, from the columns update, mean, low, high."""
        for column, suffix in INTERVAL:
            metric = f"{name}{suffix}"
            known = {
                (point.step, point.value)
                for point in self.client.get_metric_history(self.run_id, metric)
            }
            new = [point for point in curve.select("update", column).rows() if point not in known]
            self._send([(metric, value, update) for update, value in new])

    def log_dataset(self, name: str, folder: Path) -> None:
        """Log the ingested dataset as an input with its DVC digest, without reading the data."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dataset = mlflow.data.from_polars(  # type: ignore[attr-defined]
                # MLflow has no unsigned integers and would warn about them.
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
        """Set the status of the run; a run with this status already keeps its duration."""
        if self.client.get_run(self.run_id).info.status != status:
            self.client.set_terminated(self.run_id, status)

    @cached_property
    def _known_updates(self) -> set[int]:
        """The updates of all points of the run."""
        history = self.client.get_metric_history(self.run_id, UPDATE)
        return {point.step for point in history}

    def _send(self, metrics: list[tuple[str, float, int]], model: str | None = None) -> None:
        now = int(time.time() * 1000)
        run = self.run_id if model else None
        self._log(
            [
                Metric(name, value, now, step, model_id=model, run_id=run)
                for name, value, step in metrics
            ]
        )

    def _log(self, metrics: list[Metric]) -> None:
        for start in range(0, len(metrics), METRICS_PER_CALL):
            self.client.log_batch(self.run_id, metrics=metrics[start : start + METRICS_PER_CALL])


@contextmanager
def mark_failed_on_error(runs: Iterable[TrackedRun]) -> Iterator[None]:
    """Mark the runs as failed if the block raises; a later attempt continues the same runs."""
    try:
        yield
    except MlflowException:
        raise  # The store does not answer, or it is full.
    except BaseException:
        for run in runs:
            run.finish("FAILED")
        raise


def dvc_digest(lock: str, stage: str) -> str | None:
    """The MD5 digest of a stage's first output in ``dvc.lock``; None outside of DVC."""
    path = Path(lock)
    stages = (read_dvc_file(path) or {}).get("stages", {}) if path.exists() else {}
    outs = stages.get(stage, {}).get("outs", [{}])
    digest: str | None = outs[0].get("md5")
    return digest.split(".")[0] if digest else None


def _shortened(text: str) -> str:
    """The value of a param, which has a limited length in MLflow's databases; a shorter one ends in dots."""
    return text if len(text) <= CHARACTERS_OF_PARAM else f"{text[: CHARACTERS_OF_PARAM - 4]} ..."


def _flat(params: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in params.items():
        if isinstance(value, dict) and key.endswith("goals"):  # A goal mixture becomes one param.
            flat[f"{prefix}{key}"] = ", ".join(f"{share:g} {name}" for name, share in value.items())
        elif isinstance(value, dict) and value:
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
