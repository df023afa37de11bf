"""The MLflow store: one child run per dataset, agent and seed, and one parent run over the seeds.

Runs are found by tags, and not by stored ids. A training run is found by the fingerprint of its training, so a
resumed or repeated training continues the same run. An evaluation is found by the digest of the evaluated policy. A
parent run is found by its child runs.
"""

import hashlib
import json
import logging
import os
import shutil
import subprocess
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from sqlalchemy.exc import SQLAlchemyError

from offline_gcrl.config.experiment import Experiment, WithoutServer
from offline_gcrl.support.errors import OfflineGCRLError
from offline_gcrl.support.files import sqlite_uri
from offline_gcrl.tracking.database import (
    DATABASE,
    prepare_store,
    reachable_store,
    remove_misread_folder,
    store_lock,
    store_root,
    store_uri,
)
from offline_gcrl.tracking.locations import ARTIFACTS, move_artifacts_along
from offline_gcrl.tracking.runs import TrackedRun
from offline_gcrl.tracking.views import agent_views

PARENT = "mlflow.parentRunId"
ALL_SEEDS = "all"
"""The value of the tag ``seed`` of a parent run."""


@dataclass(frozen=True)
class Subject:
    """The dataset, agent and algorithm of a run."""

    dataset: str
    agent: str
    algorithm: str

    def name(self, seed: int | None) -> str:
        """The name of a seed's run, or of the parent run if ``seed`` is None; includes the DVC experiment."""
        part = "" if seed is None else f" seed {seed}"
        experiment = os.environ.get("DVC_EXP_NAME", "")
        return f"{self.agent}{part} on {self.dataset}{experiment and f' ({experiment})'}"


def evaluation_digest(settings: dict[str, Any]) -> str:
    """A digest that identifies the settings of an evaluation."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]


class Tracker:
    """An experiment of the MLflow store with its saved views.

    Args:
        experiment: its name; it is created if there is none.
        views: its saved views; those that compare agents if left out.
        without_server: what to do if the server of ``MLFLOW_TRACKING_URI`` does not answer
            (``experiment.without_server``).

    Raises:
        OfflineGCRLError: the store cannot be used, or the server does not answer.
    """

    def __init__(
        self,
        experiment: str,
        views: Mapping[str, str] | None = None,
        without_server: WithoutServer = "stop",
    ) -> None:
        self.views = agent_views() if views is None else views
        for name in ("mlflow", "alembic"):  # Users need no messages about store migrations.
            logging.getLogger(name).setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                reachable_store(without_server)
                prepare_store(store_uri())
                self.client = MlflowClient(store_uri())
                # One process creates the experiment.
                with store_lock(store_root() / ".mlflow.lock"):
                    if store_uri() == sqlite_uri(store_root() / DATABASE):
                        move_artifacts_along(store_root() / DATABASE, store_root())
                    self.experiment = self._experiment(experiment)
                remove_misread_folder(store_uri())
            except (MlflowException, SQLAlchemyError) as error:
                reason = str(error).strip().splitlines()[0]
                remedy = (
                    "check the server and the user name and password that it asks for (MLFLOW_TRACKING_USERNAME, "
                    "MLFLOW_TRACKING_PASSWORD)"
                    if store_uri().startswith("http")
                    else "move the file away, which starts a new store"
                )
                raise OfflineGCRLError(
                    f"the MLflow store {store_uri()} cannot be used: {reason}; {remedy}, or set MLFLOW_TRACKING_URI to "
                    "another store"
                ) from error

    def training_run(self, subject: Subject, seed: int, fingerprint: str) -> TrackedRun:
        """The run of a training, found by its fingerprint; it is created if there is none.

        Two agents with equal settings have the same fingerprint and different runs.
        """
        own = {"fingerprint": fingerprint, "dataset": subject.dataset, "agent": subject.agent}
        found = self._find(" and ".join(f"tags.{tag} = '{value}'" for tag, value in own.items()))
        run = found[0] if found else self._create(subject, seed, {"fingerprint": fingerprint})
        return self._wrap(run)

    def record_policy(self, run: TrackedRun, fingerprint: str, policy: str) -> TrackedRun:
        """Tag a run with the digest of the policy that it trained, and return the run of that policy.

        Changed code may train the same policy again. The new run is then deleted, and the earlier run of the same
        policy, which may have been evaluated already, is returned.
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
        """The run to which the evaluation of a policy is logged.

        This is the run that trained the policy. A new run is created if the store does not know the policy, or if the
        policy was evaluated with other settings before.
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
        """The parent run of the runs of several seeds: an existing parent of some of them, else a new one.

        Args:
            subject: dataset, agent and algorithm.
            runs: one child run per seed.
            evaluation: the digest of the evaluation settings, or None before the evaluation. A policy that was
                evaluated with several settings has one run, with its own parent run, for each of them.
        """
        parents = [self.client.get_run(run.run_id).data.tags.get(PARENT) for run in runs]
        known = [self.client.get_run(parent) for parent in dict.fromkeys(filter(None, parents))]
        fitting = [
            run
            for run in sorted(known, key=lambda run: run.info.start_time)
            if run.info.lifecycle_stage == "active"
            and (evaluation is None or _fits(run, evaluation))
        ]
        chosen = self._wrap(fitting[0] if fitting else self._create(subject, None, {}))
        active = {run.info.run_id for run in fitting}
        for run, parent in zip(runs, parents, strict=True):
            if evaluation is not None or parent not in active:
                run.set_tags({PARENT: chosen.run_id})
        if evaluation is not None:
            chosen.set_tags({"evaluation": evaluation})
        for other in known:
            self.delete_if_empty(other.info.run_id)
        return chosen

    def card_run(self, dataset: str, card: str) -> TrackedRun:
        """The run of a dataset card, found by the card's digest; it is created if there is none."""
        found = self._find(f"tags.card = '{card}'")
        tags = {"card": card, "dataset": dataset, "mlflow.source.name": "dvc.yaml"}
        return self._wrap(
            found[0]
            if found
            else self.client.create_run(self.experiment, run_name=dataset, tags=tags)
        )

    def delete_if_empty(self, run_id: str) -> None:
        """Delete a parent run that has no child runs left."""
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
        """An absolute location, because a SQLite store would put artifacts into the working directory."""
        if store_uri().startswith("sqlite:"):
            return (store_root() / ARTIFACTS / experiment).as_uri()
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


def open_tracker(
    experiment: Experiment, suffix: str = "", views: Mapping[str, str] | None = None
) -> Tracker:
    """The tracker of the experiment in ``params.yaml``, or of another one whose name has a suffix."""
    return Tracker(f"{experiment.name}{suffix}", views, experiment.without_server)


def _fits(run: Run, evaluation: str) -> bool:
    """Whether a run has this evaluation, or none yet."""
    return bool(run.data.tags.get("evaluation", evaluation) == evaluation)


def _git_commit() -> str:
    """The current commit; an empty string outside of a repository, or without Git."""
    if shutil.which("git") is None:
        return ""
    answer = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True)  # noqa: S607
    return answer.stdout.strip() if answer.returncode == 0 else ""
