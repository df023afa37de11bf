"""The trials of a search in Optuna: which values are tried, which trials are pruned, and how a search resumes.

Each trial has a sampler with a seed of its own, which depends on the number of the trials before it. A search that was
interrupted therefore tries the values that it would have tried without the interruption.
"""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import floor, log10
from pathlib import Path
from typing import TYPE_CHECKING, Any

from offline_gcrl.support.errors import DataError, DivergedError, PolicyError, SettingsError
from offline_gcrl.support.files import atomic_file, sqlite_uri
from offline_gcrl.support.locks import only_process
from offline_gcrl.support.numbers import with_interval
from offline_gcrl.tuning.search import Searched, SearchPlan, Values

if TYPE_CHECKING:  # An optional package, which is imported where it is used.
    import optuna
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial

STORE = "study.db"
"""File of a search in SQLite; several searches of one name are different studies in it."""
SIGNIFICANT_DIGITS = 3
"""Digits of the values of a range, so that they can be read and pasted; more where the range is narrow."""
TRIALS_BEFORE_PRUNING = 5
"""Trials that are completed before others are compared with their median."""
STATES = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed"}
"""Optuna's names of how a trial ended, and ours."""
Report = Callable[[int, float], None]
"""Reports the objective at a number of updates; it raises ``PrunedError`` if the trial is to stop."""


class PrunedError(Exception):
    """What ends a trial that is pruned."""


@dataclass(frozen=True)
class Outcome:
    """The result of a complete trial."""

    success: float
    success_low: float
    success_high: float
    discounted_return: float

    @property
    def interval(self) -> str:
        """The success rate with its interval, as text."""
        return with_interval(
            {"mean": self.success, "low": self.success_low, "high": self.success_high}
        )


@dataclass(frozen=True)
class Trial:
    """A trial that has ended, or that begins."""

    number: int
    """From 1 on, in the order in which trials ended."""
    values: Values
    state: str = "running"
    """``complete``, ``pruned`` or ``failed``."""
    outcome: Outcome | None = None
    """Of a complete trial."""
    curve: Mapping[int, float] = field(default_factory=dict)
    """The objective at the snapshots, by number of updates."""
    seconds: float = 0.0
    reason: str = ""
    """Why a trial failed."""


class Study:
    """The study of a search in its folder.

    Args:
        plan: the search.
        digest: everything that results depend on; another digest is another study in the same file.
        folder: the folder of the search.
    """

    def __init__(self, plan: SearchPlan, digest: str, folder: Path) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.plan, self._optuna = plan, optuna
        self.distributions = {
            name: _distribution(searched) for name, searched in plan.search.settings.items()
        }
        self._study = optuna.create_study(
            storage=optuna.storages.RDBStorage(_prepared(folder / STORE)),
            study_name=digest,
            load_if_exists=True,
            direction="maximize",
            pruner=(
                optuna.pruners.MedianPruner(n_startup_trials=TRIALS_BEFORE_PRUNING)
                if plan.search.pruning
                else optuna.pruners.NopPruner()
            ),
        )
        for trial in self._study.get_trials(states=(optuna.trial.TrialState.RUNNING,)):
            self._study.tell(
                trial.number, state=optuna.trial.TrialState.FAIL
            )  # A killed process left it.

    @property
    def trials(self) -> list[Trial]:
        """All trials that have ended, in order."""
        ended = [trial for trial in self._study.get_trials() if "seconds" in trial.user_attrs]
        return [self._trial(number, trial) for number, trial in enumerate(ended, start=1)]

    @property
    def best(self) -> Trial | None:
        """The complete trial with the highest objective; of equal ones that with the highest return, then the first."""
        complete = [trial for trial in self.trials if trial.outcome]
        return max(complete, key=self._merit, default=None)

    def run(self, work: Callable[[Trial, Report], Outcome]) -> Iterator[Trial]:
        """Run the trials that are missing, and yield each when it has ended.

        Args:
            work: trains and evaluates a trial, and reports the objective at its snapshots.
        """
        while (done := len(self.trials)) < self.plan.search.trials:
            self._study.sampler = self._optuna.samplers.TPESampler(seed=self._seed(done))
            if done == 0:
                self._begin_with_present_values()
            asked = self._study.ask(self.distributions)
            self._carry_out(asked, Trial(done + 1, self._values(asked.params)), work)
            yield self.trials[-1]

    def _carry_out(
        self, asked: "optuna.Trial", trial: Trial, work: Callable[[Trial, Report], Outcome]
    ) -> None:
        """Run one trial, and store how it ended; an interruption leaves it for the next run."""
        start = time.monotonic()

        def report(update: int, value: float) -> None:
            asked.report(value, update)
            if asked.should_prune():
                raise PrunedError

        states = self._optuna.trial.TrialState
        value, state = None, states.COMPLETE
        try:
            outcome = work(trial, report)
            asked.set_user_attr("outcome", outcome.__dict__)
            value = self._objective(outcome)
        except PrunedError:
            state = states.PRUNED
        except (SettingsError, DivergedError, DataError, PolicyError) as error:
            state = states.FAIL
            asked.set_user_attr("reason", str(error))
        asked.set_user_attr("seconds", time.monotonic() - start)
        self._study.tell(asked, value, state)

    def _begin_with_present_values(self) -> None:
        """Let the first trial have the values of ``params.yaml``, as far as they are among those that are tried."""
        present = {
            name: _label(searched.equal_choices(value)[0]) if searched.choices else value
            for name, value in self.plan.present.items()
            if (searched := self.plan.search.settings[name]).contains(value)
        }
        self._study.enqueue_trial(present, skip_if_exists=False)

    def _seed(self, done: int) -> int:
        return (self.plan.search.seed * 1_000_003 + done) % 2**32

    def _objective(self, outcome: Outcome) -> float:
        value: float = getattr(outcome, self.plan.search.objective)
        return value

    def _merit(self, trial: Trial) -> tuple[float, float]:
        assert trial.outcome is not None
        return self._objective(trial.outcome), trial.outcome.discounted_return

    def _trial(self, number: int, stored: "FrozenTrial") -> Trial:
        outcome = stored.user_attrs.get("outcome")
        return Trial(
            number,
            self._values(stored.params),
            STATES[stored.state.name],
            Outcome(**outcome) if outcome else None,
            dict(stored.intermediate_values),
            stored.user_attrs["seconds"],
            stored.user_attrs.get("reason", ""),
        )

    def _values(self, params: Mapping[str, Any]) -> Values:
        """The values of settings from Optuna's parameters, in the order of the file of the search."""
        present = self.plan.present
        return {
            name: _value(params[name], searched, present[name])
            for name, searched in self.plan.search.settings.items()
        }


def _distribution(searched: Searched) -> "BaseDistribution":
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if searched.choices is not None:
        return CategoricalDistribution([_label(choice) for choice in searched.choices])
    assert searched.low is not None
    assert searched.high is not None
    if searched.is_whole:
        return IntDistribution(int(searched.low), int(searched.high), log=searched.log)
    return FloatDistribution(searched.low, searched.high, log=searched.log)


def _label(choice: Any) -> str:
    """A choice as text, because Optuna stores no lists and dictionaries."""
    return json.dumps(choice)


def _value(param: Any, searched: Searched, present: Any) -> Any:
    """The value of a setting from Optuna's parameter; a number of a range is rounded within it, but not the present one."""
    if searched.choices is not None:
        return json.loads(param)
    if searched.is_whole or param == present:
        return param
    assert searched.low is not None
    assert searched.high is not None
    rounded = round(param, _decimals(param, searched.high - searched.low))
    return min(max(rounded, searched.low), searched.high)


def _decimals(value: float, width: float) -> int:
    """Decimals of a value: those of three significant digits, or as many as give the range 1,000 values."""
    of_range = floor(SIGNIFICANT_DIGITS - log10(width))
    return max(of_range, SIGNIFICANT_DIGITS - 1 - floor(log10(abs(value)))) if value else of_range


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other processes from working on a search.

    Raises:
        OfflineGCRLError: one does already.
    """
    folder.mkdir(parents=True, exist_ok=True)
    held = f"{folder}: another process runs this search; wait for its end, or end it"
    with only_process(folder / ".lock", 0.0, held):
        yield


def _prepared(path: Path) -> str:
    """The address of a SQLite file, which is created under another name, so that a killed process leaves none by half."""
    import optuna

    if not path.exists():
        with atomic_file(path) as partial:
            partial.unlink(missing_ok=True)
            storage = optuna.storages.RDBStorage(sqlite_uri(partial.absolute()))
            storage.remove_session()
            storage.engine.dispose()
    return sqlite_uri(path.absolute())
