"""``make tune``: a search for settings of an agent, which ends in the settings to paste and their final evaluation.

``python -m offline_gcrl.commands.tune docs/searches/<name>.yaml`` runs or continues the search of a file. Its files are in
``searches/<name>/``.
"""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from offline_gcrl.config import PARAMS, Params, load_dataset, load_params
from offline_gcrl.support.errors import OfflineGCRLError
from offline_gcrl.support.numbers import duration, with_interval
from offline_gcrl.support.silence import working_on
from offline_gcrl.support.terminal import Bars, close, note, stage, stage_arguments

if TYPE_CHECKING:
    from offline_gcrl.tracking.searches import SearchRuns
    from offline_gcrl.training.events import Event
    from offline_gcrl.tuning.search import SearchPlan
    from offline_gcrl.tuning.study import Outcome, Report, Study, Trial
    from offline_gcrl.tuning.trials import FinalResult, Trials

FOLDER = Path("searches")
"""The folder of all searches."""


def main() -> None:
    """Run or continue a search."""
    (file,) = stage_arguments(__doc__, "file")
    path = Path(file)
    with stage("tune", path.stem, again=f"make tune NAME={path.stem}"):
        check_extra()
        from offline_gcrl.agents import settings_type
        from offline_gcrl.tuning.search import plan_search
        from offline_gcrl.tuning.study import locked

        params = load_params()
        plan = plan_search(path, params, settings_type)
        prepare_data(plan.dataset.name)
        folder = FOLDER / plan.name
        with locked(folder):
            search(plan, params, folder)


def check_extra() -> None:
    """Check that Optuna is installed.

    Raises:
        OfflineGCRLError: it is not.
    """
    if find_spec("optuna") is None:
        raise OfflineGCRLError(
            "a search needs the package optuna; install the extra: pip install '.[tune]' in the project"
        )


def prepare_data(dataset: str) -> None:
    """Run the stages that make the data and its hindsight goals, as far as they have changed.

    Raises:
        OfflineGCRLError: a stage failed; its own message is above.
    """
    command = [sys.executable, "-m", "dvc", "repro", "--quiet", f"relabel@{dataset}"]
    with working_on(f"preparing the data of '{dataset}'"):
        answer = subprocess.run(command)
    if answer.returncode != 0:
        raise OfflineGCRLError(
            f"the data of '{dataset}' could not be prepared; the reason is above this line"
        )


def search(plan: "SearchPlan", params: Params, folder: Path) -> None:
    """Run the trials that are missing, evaluate the best settings, and write the files of the search."""
    from dataclasses import replace

    from offline_gcrl.support.processes import preload
    from offline_gcrl.tracking.searches import SearchRuns
    from offline_gcrl.training.jobs import TRAINING
    from offline_gcrl.tuning.study import Study
    from offline_gcrl.tuning.trials import Trials

    preload(TRAINING, "offline_gcrl.evaluation.rollouts")
    trials = Trials(replace(plan, dataset=load_dataset(plan.dataset.name)), folder)
    study = Study(plan, trials.digest, folder)
    runs = SearchRuns(plan, trials.digest, params.experiment)
    if study.trials:
        note(f"continues after {len(study.trials)} trial(s)")
    run_trials(plan, study, trials, runs)
    conclude(plan, params, folder, study, trials, runs)


def run_trials(plan: "SearchPlan", study: "Study", trials: "Trials", runs: "SearchRuns") -> None:
    """Run the trials that are missing, each with a progress bar and a line."""
    total = plan.train.updates * len(plan.search.seeds)

    def work(trial: "Trial", report: "Report") -> "Outcome":
        runs.begin(trial)
        done = dict.fromkeys(plan.search.seeds, 0)
        with Bars([f"trial {trial.number}"], total, "updates") as bars:

            def on_event(event: "Event") -> None:
                done[event.seed] = event.updates
                bars.update(f"trial {trial.number}", sum(done.values()))

            return trials.run(trial, report, on_event)

    for trial in study.run(work):
        runs.log(trial)
        note(trial_line(trial, plan.search.trials))


def trial_line(trial: "Trial", trials: int) -> str:
    """A trial as a line: its values and how it ended."""
    from offline_gcrl.tuning.results import shown

    values = ", ".join(f"{name} {shown(value)}" for name, value in trial.values.items())
    end = trial.state
    if trial.outcome:
        end = f"success {trial.outcome.interval}"
    elif trial.curve:
        end += f" at update {max(trial.curve):,}"
    reason = f": {trial.reason}" if trial.reason else ""
    return f"trial {trial.number} of {trials}: {values}: {end} ({duration(trial.seconds)}){reason}"


def conclude(
    plan: "SearchPlan",
    params: Params,
    folder: Path,
    study: "Study",
    trials: "Trials",
    runs: "SearchRuns",
) -> None:
    """The final evaluation of the best settings, and the settings to paste.

    Raises:
        OfflineGCRLError: no trial is complete.
    """
    from offline_gcrl.tuning.results import (
        BEST,
        FINAL,
        TRIALS,
        settings_to_paste,
        write_final,
        write_trials,
    )

    write_trials(study.trials, folder)
    best = study.best
    if best is None:
        raise OfflineGCRLError(
            f"no trial is complete; {folder / TRIALS} has the reasons; change {plan.path}"
        )
    note(f"the best is trial {best.number}; final evaluation on other training seeds and episodes")
    paste = settings_to_paste(plan, params, best.values)
    result = evaluate_choice(plan, trials, best)
    write_final(result, paste, folder)
    runs.finish(study.trials, result.metrics, [folder / name for name in (TRIALS, BEST, FINAL)])
    for line in final_lines(result, trials.headline):
        note(line)
    note(f"to use the chosen settings, merge this into {PARAMS}:")
    for line in paste.splitlines():
        note(f"  {line}")
    close(f"{len(study.trials)} trials, in {folder}")


def evaluate_choice(plan: "SearchPlan", trials: "Trials", best: "Trial") -> "FinalResult":
    """The final evaluation, with a progress bar for each of the settings that are trained."""
    names = trials.final_settings(best.values)
    total = plan.train.updates * len(plan.final_seeds)
    done = {name: dict.fromkeys(plan.final_seeds, 0) for name in names}
    with Bars(list(names), total, "updates") as bars:

        def on_event(name: str, event: "Event") -> None:
            done[name][event.seed] = event.updates
            bars.update(name, sum(done[name].values()))

        result = trials.final(best.values, on_event)
    trials.tidy()
    return result


def final_lines(result: "FinalResult", headline: str) -> list[str]:
    """The success of the settings that were evaluated, and their difference."""
    from offline_gcrl.tuning.results import difference_sentence

    lines = []
    for name, metrics in result.metrics.items():
        rate = metrics[headline]
        interval = with_interval(rate)
        counts = f"{rate['seeds']} seed(s), {rate['episodes']} episodes"
        lines.append(f"settings {_described(name)}: success {interval}, {counts}")
    if sentence := difference_sentence(result):
        lines.append(sentence)
    else:
        lines.append(f"the settings of {PARAMS} are the best of those that were tried")
    return lines


def _described(name: str) -> str:
    return f"of {name}" if name == str(PARAMS) else "of the best trial"


if __name__ == "__main__":
    main()
