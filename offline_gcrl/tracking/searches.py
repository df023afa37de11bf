"""Searches in MLflow: a parent run per search, with a child run per trial.

The runs are in an experiment of their own, since trials would outnumber the runs that are compared.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from mlflow.entities import Run

from offline_gcrl.config import Experiment
from offline_gcrl.evaluation.results import Metrics, flat
from offline_gcrl.support.silence import LOGGING, working_on
from offline_gcrl.tracking.runs import TrackedRun
from offline_gcrl.tracking.store import PARENT, open_tracker
from offline_gcrl.tracking.views import search_views
from offline_gcrl.tuning.results import shown
from offline_gcrl.tuning.search import SearchPlan
from offline_gcrl.tuning.study import Trial

STATUS = {"complete": "FINISHED", "pruned": "KILLED", "failed": "FAILED"}
"""MLflow's status of the run of a trial."""


class SearchRuns:
    """The runs of a search, which a resumed search finds again.

    Args:
        plan: the search.
        digest: everything that its results depend on.
        experiment: the section ``experiment`` of ``params.yaml``.
    """

    def __init__(self, plan: SearchPlan, digest: str, experiment: Experiment) -> None:
        self.plan, self.digest = plan, digest
        self.tracker = open_tracker(
            experiment, " searches", search_views(list(plan.search.settings))
        )
        self.parent = self._run("all", plan.name, {})
        settings = {"train": plan.train.model_dump(), "relabel": plan.relabel.model_dump()}
        search = plan.search.model_dump(mode="json", exclude={"settings", "trials"})
        self.parent.log_params({**search, **settings})

    @working_on(LOGGING)
    def begin(self, trial: Trial) -> None:
        """Create the run of a trial with its settings, or find that of an interrupted one."""
        run = self._trial_run(trial)
        settings = self.plan.settings(trial.values)
        values = {name: shown(value) for name, value in trial.values.items()}
        run.log_params({**values, "agent": settings.model_dump(mode="json")})

    @working_on(LOGGING)
    def log(self, trial: Trial) -> None:
        """Log the result of a trial that has ended."""
        run = self._trial_run(trial)
        run.log_points(
            [{"update": float(update), "objective": value} for update, value in trial.curve.items()]
        )
        if trial.outcome:
            run.log_metrics(dict(trial.outcome.__dict__), self.plan.train.updates)
            run.set_tags({"success_interval": trial.outcome.interval})
        run.set_tags({"state": trial.state, **({"reason": trial.reason} if trial.reason else {})})
        run.finish(STATUS[trial.state])

    @working_on(LOGGING)
    def finish(
        self,
        trials: Sequence[Trial],
        metrics: Mapping[str, Metrics],
        files: Sequence[Path],
    ) -> None:
        """Log the final evaluation and the files of the search to the parent run.

        Args:
            trials: all trials.
            metrics: metrics of the final evaluation by the settings that were evaluated, each with its mean and interval.
            files: the files to store with the run.
        """
        values = {
            f"final/{name}/{metric}": value
            for name, own in metrics.items()
            for metric, value in flat(own).items()
        }
        self.parent.log_metrics({"trials": float(len(trials))} | values)
        for path in files:
            self.parent.log_artifact(path, "search")
        self.parent.finish()

    def _trial_run(self, trial: Trial) -> TrackedRun:
        name = f"{self.plan.name} trial {trial.number}"
        return self._run(str(trial.number), name, {PARENT: self.parent.run_id})

    def _run(self, trial: str, name: str, tags: dict[str, str]) -> TrackedRun:
        """The run of a trial, or of the search itself; it is created if there is none."""
        client, experiment = self.tracker.client, self.tracker.experiment
        found: Sequence[Run] = client.search_runs(
            [experiment], f"tags.search = '{self.digest}' and tags.trial = '{trial}'"
        )
        context = {
            "search": self.digest,
            "trial": trial,
            "dataset": self.plan.dataset.name,
            "agent": self.plan.search.agent,
            "mlflow.source.name": str(self.plan.path),
        }
        run = (
            found[0] if found else client.create_run(experiment, run_name=name, tags=context | tags)
        )
        return TrackedRun(client, run.info.run_id)
