"""The MLflow store: one run a dataset, agent and seed, and over the seeds one that holds them together.

A run is found again by what it is of, never by a stored id: training by its fingerprint (a resumed or
repeated training lands on its own run), evaluation by the digest of the policy it judged, and the run
over the seeds by the runs within it.
"""

import hashlib
import json
import logging
import os
import subprocess
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from offline_gcrl.support.errors import OfflineGCRLError
from offline_gcrl.tracking.runs import TrackedRun
from offline_gcrl.tracking.views import agent_views

PARENT = "mlflow.parentRunId"
ALL_SEEDS = "all"
"""The tag ``seed`` of a run over the seeds."""


@dataclass(frozen=True)
class Subject:
    """What a run is about."""

    dataset: str
    agent: str
    algorithm: str

    def name(self, seed: int | None) -> str:
        """Of a seed's run, or of the run over all of them; names its experiment, if it is DVC's."""
        part = "" if seed is None else f" seed {seed}"
        experiment = os.environ.get("DVC_EXP_NAME", "")
        return f"{self.agent}{part} on {self.dataset}{experiment and f' ({experiment})'}"


def store_root() -> Path:
    """Where the store lies: DVC's root, also for queued experiments, which run in a temporary folder."""
    return Path(os.environ.get("DVC_ROOT", ".")).resolve()


def store_uri() -> str:
    """``MLFLOW_TRACKING_URI``, else a SQLite file at the repository's root."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{store_root() / 'mlflow.db'}"


def evaluation_digest(settings: dict[str, Any]) -> str:
    """Name the settings of an evaluation."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]


class Tracker:
    """One experiment of the MLflow store, with views of it that are saved there."""

    def __init__(self, experiment: str, views: Mapping[str, str] | None = None) -> None:
        self.views = agent_views() if views is None else views
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

    def training_run(self, subject: Subject, seed: int, fingerprint: str) -> TrackedRun:
        """The run of a training, made when there is none."""
        found = self._find(f"tags.fingerprint = '{fingerprint}'")
        run = found[0] if found else self._create(subject, seed, {"fingerprint": fingerprint})
        return self._wrap(run)

    def record_policy(self, run: TrackedRun, fingerprint: str, policy: str) -> TrackedRun:
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
        self, subject: Subject, seed: int, policy: str, settings: dict[str, Any]
    ) -> TrackedRun:
        """The run that trained a policy, to hold its evaluation under these settings.

        Judged under other settings before, or unknown to the store, the policy gets a run of its own.
        """
        evaluation = evaluation_digest(settings)
        found = self._find(f"tags.policy = '{policy}'")
        fitting = [run for run in found if _fits(run, evaluation)]
        run = fitting[0] if fitting else self._create(subject, seed, {"policy": policy})
        tracked = self._wrap(run)
        if found and not fitting:
            params = found[0].data.params.items()
            tracked.log_params({k: v for k, v in params if not k.startswith("evaluate.")})
        tracked.set_tags({"evaluation": evaluation})
        tracked.log_params({"evaluate": settings})
        return tracked

    def parent_run(
        self, subject: Subject, runs: Sequence[TrackedRun], evaluation: str | None = None
    ) -> TrackedRun:
        """The run over these seeds: the one that some are in already, else a new one.

        Args:
            subject: what all of them are about.
            runs: one a seed.
            evaluation: the digest of settings under which all of them were judged, if they were:
                judged under others too, a policy has several runs, and each is in a run of its own.
        """
        parents = [self.client.get_run(run.run_id).data.tags.get(PARENT) for run in runs]
        known = [self.client.get_run(parent) for parent in dict.fromkeys(filter(None, parents))]
        fitting = [
            run
            for run in sorted(known, key=lambda run: run.info.start_time)
            if run.info.lifecycle_stage == "active"
            and (evaluation is None or _fits(run, evaluation))
        ]
        over = self._wrap(fitting[0] if fitting else self._create(subject, None, {}))
        active = {run.info.run_id for run in fitting}
        for run, parent in zip(runs, parents, strict=True):
            if evaluation is not None or parent not in active:
                run.set_tags({PARENT: over.run_id})
        if evaluation is not None:
            over.set_tags({"evaluation": evaluation})
        for other in known:
            self.delete_if_empty(other.info.run_id)
        return over

    def card_run(self, dataset: str, card: str) -> TrackedRun:
        """The run that holds the card of a dataset, by the card's digest; made when there is none."""
        found = self._find(f"tags.card = '{card}'")
        tags = {"card": card, "dataset": dataset, "mlflow.source.name": "dvc.yaml"}
        return self._wrap(
            found[0]
            if found
            else self.client.create_run(self.experiment, run_name=dataset, tags=tags)
        )

    def delete_if_empty(self, run_id: str) -> None:
        """Delete a run over seeds that none is left in."""
        if not self._find(f"tags.`{PARENT}` = '{run_id}'"):
            self.client.delete_run(run_id)

    def _experiment(self, name: str) -> str:
        found = self.client.get_experiment_by_name(name)
        if found is None:
            made: str = self.client.create_experiment(name, self._artifacts(name))
            known, tags = made, {}
        else:
            if found.lifecycle_stage == "deleted":
                self.client.restore_experiment(found.experiment_id)
            known, tags = found.experiment_id, found.tags
        for tag, value in self.views.items():
            if tags.get(tag) != value:
                self.client.set_experiment_tag(known, tag, value)
        return known

    def _artifacts(self, experiment: str) -> str | None:
        """An absolute location: a SQLite store would put artifacts below the process's folder."""
        if store_uri().startswith("sqlite:"):
            return (store_root() / "mlartifacts" / experiment).as_uri()
        return None

    def _find(self, filter_string: str) -> list[Run]:
        return list(self.client.search_runs([self.experiment], filter_string))

    def _create(self, subject: Subject, seed: int | None, tags: dict[str, str]) -> Run:
        context = {
            "dataset": subject.dataset,
            "agent": subject.agent,
            "algorithm": subject.algorithm,
            "seed": ALL_SEEDS if seed is None else str(seed),
            "dvc.experiment": os.environ.get("DVC_EXP_NAME", ""),
            "mlflow.source.name": "dvc.yaml",
            "mlflow.source.git.commit": _git_commit(),
        }
        named = {key: value for key, value in {**context, **tags}.items() if value}
        return self.client.create_run(self.experiment, run_name=subject.name(seed), tags=named)

    def _wrap(self, run: Run) -> TrackedRun:
        return TrackedRun(self.client, run.info.run_id)


def _fits(run: Run, evaluation: str) -> bool:
    """Whether a run holds this evaluation, or none yet."""
    return bool(run.data.tags.get("evaluation", evaluation) == evaluation)


def _git_commit() -> str:
    """The commit that is checked out; empty outside of a repository."""
    answer = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True)  # noqa: S607
    return answer.stdout.strip() if answer.returncode == 0 else ""
