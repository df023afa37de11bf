"""What the stage `train` puts into the store: the runs of the seeds, and the one over them.

Specialists have no runs of their own, which would bury those that are compared: their curves lie in the run of
the generalist of the same seed.
"""

from collections.abc import Sequence
from typing import Any

from offline_gcrl.config.outputs import POLICY, SPECIALISTS, TRAINING_CURVE
from offline_gcrl.support.files import digest
from offline_gcrl.tracking.policies import find_or_log_policy
from offline_gcrl.tracking.runs import TrackedRun
from offline_gcrl.tracking.store import Subject, Tracker
from offline_gcrl.tracking.usage import Usage
from offline_gcrl.training.events import Event
from offline_gcrl.training.jobs import TrainingJob


class TrainingRuns:
    """The runs of all seeds that train side by side, and the one over them."""

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
        """The run over the seeds, and each seed's."""
        return [self.parent, *self.runs.values()]

    def log_event(self, event: Event) -> None:
        """Log what a worker tells, and what it uses of the machine; of specialists, nothing until the end."""
        if event.task is not None:
            return
        run = self.runs[event.seed]
        run.log_samples(self.usage.sample(event))
        run.log_points(event.points)

    def finish(self) -> None:
        """Log policies and curves; the runs are complete."""
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
        over = self.tracker.parent_run(self.subject, finished)
        over.finish()
        if over.run_id != self.parent.run_id:  # The seeds' policies were known before.
            self.tracker.delete_if_empty(self.parent.run_id)
