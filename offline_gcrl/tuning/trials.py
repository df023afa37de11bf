"""Training and evaluation of trials by the code of the stages ``train`` and ``evaluate``."""

import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl

from offline_gcrl.collect.kept import PACKAGES
from offline_gcrl.config import Evaluate
from offline_gcrl.config.outputs import POLICY
from offline_gcrl.evaluation.jobs import CURVE, FINAL, episode_jobs
from offline_gcrl.evaluation.plan import run_plan
from offline_gcrl.evaluation.results import HEADLINES, Metrics, summarise
from offline_gcrl.statistics.comparison import Comparison, compare
from offline_gcrl.support.files import code_in, digest
from offline_gcrl.support.versions import installed_version
from offline_gcrl.training.events import Event, Listener
from offline_gcrl.training.jobs import TrainingJob, content_digest, fingerprint, train_seeds
from offline_gcrl.training.stale import discard_stale
from offline_gcrl.tuning.search import SearchPlan, Values
from offline_gcrl.tuning.study import Outcome, Report, Trial

PRESENT, CHOSEN = "params.yaml", "chosen"
"""The settings that the final evaluation compares."""
FOLDERS = {PRESENT: "present", CHOSEN: "chosen"}
TRIAL, CHECKPOINTS = "trial", "checkpoints"
"""Folders of the policies of the running trial, and of all checkpoints."""


@dataclass(frozen=True)
class FinalResult:
    """The final evaluation of settings, on training seeds and episodes that no trial has used."""

    metrics: Mapping[str, Metrics]
    """Metrics of ``PRESENT`` and ``CHOSEN`` settings."""
    comparison: Comparison | None
    """The paired comparison; None if both are the same."""


EVALUATING = ("environments", "evaluation", "goals", "policies")
"""Folders of the package that run and measure episodes."""


def evaluation_digest() -> str:
    """Digest of the code and of the versions of packages that success rates depend on besides the weights."""
    package = Path(__file__).parents[1]
    files = [path for folder in EVALUATING for path in code_in(package / folder)]
    return " ".join([digest(files), *map(installed_version, PACKAGES)])


class Trials:
    """Trains and evaluates the trials of a search.

    Args:
        plan: the search.
        folder: where checkpoints and policies are written.
        data: the folder ``datasets`` of the project.
    """

    def __init__(self, plan: SearchPlan, folder: Path, data: Path = Path("datasets")) -> None:
        self.plan, self.folder, self.data = plan, folder, data
        self.headline = HEADLINES[plan.dataset.criterion]
        self.content = content_digest(self._job({}, 0, TRIAL))

    @property
    def digest(self) -> str:
        """A digest of everything that the results of trials depend on."""
        return self.plan.digest(f"{self.content} {evaluation_digest()}")

    def run(self, trial: Trial, report: Report, on_event: Listener = lambda event: None) -> Outcome:
        """Train and evaluate a trial.

        Args:
            trial: its values.
            report: called with the objective at each snapshot except the last, if trials are pruned.
            on_event: called with the events of training.
        """
        jobs = self.jobs(trial.values, self.plan.search.seeds, TRIAL)
        curve = SnapshotReports(jobs, self._at_snapshot, report)

        def listen(event: Event) -> None:
            on_event(event)
            if self.plan.search.pruning:
                curve.follow(event)

        self._train(jobs, listen)
        tables = self._evaluated(self._policies(jobs), self.plan.choosing, FINAL)
        metrics = summarise(tables)
        rate, returned = metrics[self.headline], metrics["discounted_return"]
        mean, low, high, reward = (
            float(value or 0.0)
            for value in (rate["mean"], rate["low"], rate["high"], returned["mean"])
        )
        return Outcome(mean, low, high, reward)

    def final(
        self, values: Values, on_event: Callable[[str, Event], None] = lambda name, event: None
    ) -> FinalResult:
        """Train the chosen settings and those of ``params.yaml`` with the seeds of the experiment, and evaluate both.

        The policies and the episodes are those of ``dvc repro`` with these settings.
        """
        tables = {}
        for name, own in self.final_settings(values).items():
            jobs = self.jobs(own, self.plan.final_seeds, FOLDERS[name])
            self._train(jobs, lambda event, name=name: on_event(name, event))  # type: ignore[misc]
            tables[name] = self._evaluated(self._policies(jobs), self.plan.evaluate, FINAL)
        column = "success" if self.headline == "success_rate" else "success_any"
        return FinalResult(
            {name: summarise(own) for name, own in tables.items()},
            compare(tables, column) if len(tables) > 1 else None,
        )

    def final_settings(self, values: Values) -> dict[str, Values]:
        """The settings of the final evaluation by name; only one where the chosen ones are those of ``params.yaml``."""
        same = self.plan.settings(values) == self.plan.settings({})
        return {PRESENT: {}} if same else {PRESENT: {}, CHOSEN: values}

    def tidy(self) -> None:
        """Delete the policies and checkpoints of the last trial, which no one needs after the search."""
        for folder in (self.folder / TRIAL, self.folder / CHECKPOINTS / TRIAL):
            shutil.rmtree(folder, ignore_errors=True)

    def _train(self, jobs: list[TrainingJob], listen: Listener) -> None:
        for job in jobs:
            shutil.rmtree(job.output, ignore_errors=True)  # Of a process that was killed.
        discard_stale(jobs)  # Of the trial before.
        train_seeds(jobs, listen)

    def jobs(self, values: Values, seeds: Iterable[int], place: str) -> list[TrainingJob]:
        """The training of the settings with each seed; its outputs are in the folder ``place`` of the search."""
        jobs = [self._job(values, seed, place) for seed in seeds]
        return [
            replace(job, checkpoints=job.checkpoints / fingerprint(job, self.content))
            for job in jobs
        ]

    def _job(self, values: Values, seed: int, place: str) -> TrainingJob:
        name = self.plan.dataset.name
        return TrainingJob(
            dataset=name,
            agent=self.plan.search.agent,
            seed=seed,
            episodes=self.data / "parquet" / name,
            hindsight=self.data / "hindsight" / name,
            train=self.plan.train,
            settings=self.plan.settings(values),
            checkpoints=self.folder / CHECKPOINTS / place / f"seed-{seed}",
            output=self.folder / place / f"seed-{seed}",
        )

    def _policies(self, jobs: Iterable[TrainingJob]) -> dict[int, Path]:
        return {job.seed: job.output / POLICY for job in jobs}

    def _evaluated(
        self, policies: Mapping[int, Path], settings: Evaluate, purpose: int
    ) -> list[pl.DataFrame]:
        """The episodes of each policy, by training seed."""
        plan = {
            seed: episode_jobs(policy, self.plan.dataset, settings, seed, purpose)
            for seed, policy in policies.items()
        }
        return list(run_plan(plan, settings.workers).values())

    def _at_snapshot(self, snapshots: Mapping[int, Path]) -> float:
        """The objective in the episodes of the curve."""
        metrics = summarise(self._evaluated(snapshots, self.plan.choosing, CURVE))
        name = self.headline if self.plan.search.objective == "success" else "discounted_return"
        return float(metrics[name]["mean"] or 0.0)


class SnapshotReports:
    """Reports the objective at a snapshot as soon as all seeds of a trial have it, except at the last.

    Args:
        jobs: the seeds.
        measure: the objective of the snapshots of all seeds, by seed.
        report: receives it.
    """

    def __init__(
        self,
        jobs: list[TrainingJob],
        measure: Callable[[Mapping[int, Path]], float],
        report: Report,
    ) -> None:
        self.jobs, self.measure, self.report = jobs, measure, report
        self.done = {job.seed: 0 for job in jobs}
        self.left = list(jobs[0].train.snapshot_updates[:-1])

    def follow(self, event: Event) -> None:
        """Report the snapshots that are complete with this event, which has points if a round has ended."""
        if event.points:
            self.done[event.seed] = event.updates
        while self.left and self.left[0] <= min(self.done.values()):
            update = self.left.pop(0)
            snapshots = {job.seed: job.snapshot(update) for job in self.jobs}
            self.report(update, self.measure(snapshots))
