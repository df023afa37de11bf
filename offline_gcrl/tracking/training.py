"""Logs the stage ``train`` to one run per seed and to their parent run.

Specialists have no runs of their own, because their runs would outnumber those that are compared. Their training curves
are artifacts of the multi-task policy's run with the same seed.
"""

from collections.abc import Sequence
from typing import Any

from offline_gcrl.config.outputs import POLICY, SPECIALISTS, TRAINING_CURVE
from offline_gcrl.support.files import digest
from offline_gcrl.support.silence import LOGGING, working_on
from offline_gcrl.tracking.policies import find_or_log_policy
from offline_gcrl.tracking.runs import TrackedRun
from offline_gcrl.tracking.store import Subject, Tracker
from offline_gcrl.tracking.usage import Usage
from offline_gcrl.training.events import Event
from offline_gcrl.training.jobs import TrainingJob


class TrainingRuns:
    """The runs of all seeds that are trained in parallel, and their parent run."""

    def __init__(
        self,
        tracker: Tracker,
        subject: Subject,
        jobs: Sequence[TrainingJob],
        settings: dict[str, Any],
        tags: dict[str, str],
    ) -> None:
        self.tracker, self.subject, self.usage = tracker, subject, Usage()
        self.jobs = [job for job in jobs if job.task is None]
        self.specialists = [job for job in jobs if job.task is not None]
        self.runs = {
            job.seed: tracker.training_run(subject, job.seed, job.checkpoints.name)
            for job in self.jobs
        }
        self.parent = tracker.parent_run(subject, list(self.runs.values()))
        for run in self.all_runs:
            run.log_params(subject.__dict__ | settings)
            run.log_dataset(subject.dataset, jobs[0].episodes)
            run.set_tags(tags)
        for seed, run in self.runs.items():
            run.log_params({"seed": seed})

    @property
    def all_runs(self) -> list[TrackedRun]:
        """The parent run and the run of each seed."""
        return [self.parent, *self.runs.values()]

    @working_on(LOGGING)
    def log_event(self, event: Event) -> None:
        """Log the points of an event, and the resource usage of its worker; events of specialists are not logged."""
        if event.task is not None:
            return
        run = self.runs[event.seed]
        run.log_samples(self.usage.sample(event))
        run.log_points(event.points)

    @working_on(LOGGING)
    def finish(self) -> None:
        """Log policies and training curves, and mark all runs as finished."""
        finished = []
        for job in self.jobs:
            path = job.output / POLICY
            policy = digest([path])
            run = self.tracker.record_policy(self.runs[job.seed], job.checkpoints.name, policy)
            find_or_log_policy(self.tracker.client, run.run_id, path, policy)
            run.log_artifact(job.output / TRAINING_CURVE)
            for other in self.specialists:
                if other.seed == job.seed:
                    run.log_artifact(other.output / TRAINING_CURVE, f"{SPECIALISTS}/{other.task}")
            run.finish()
            finished.append(run)
        parent = self.tracker.parent_run(self.subject, finished)
        parent.finish()
        if parent.run_id != self.parent.run_id:  # The same policies had been trained before.
            self.tracker.delete_if_empty(self.parent.run_id)
