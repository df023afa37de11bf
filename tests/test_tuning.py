"""A search tries settings, resumes where it was interrupted, and evaluates its choice on other seeds."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import RECIPES, SmallDataset

from offline_gcrl.agents import settings_type
from offline_gcrl.config import load_params
from offline_gcrl.config.reading import read_yaml
from offline_gcrl.policies.saved import content_digest, read_content
from offline_gcrl.support.errors import DataError, DivergedError, OfflineGCRLError, SettingsError
from offline_gcrl.training.events import Event
from offline_gcrl.training.jobs import train_seeds, training_jobs
from offline_gcrl.tuning.search import SearchPlan, plan_search

optuna = pytest.importorskip("optuna", reason="needs the extra 'tune'")

from offline_gcrl.tracking.searches import SearchRuns  # noqa: E402
from offline_gcrl.tuning import results, study, trials  # noqa: E402

PARAMS: dict[str, Any] = {
    "experiment": {"datasets": ["pointmaze-umaze"], "agents": ["gciql"], "seeds": [0]},
    "relabel": {"k": 3},
    "train": {"updates": 20, "snapshots": 2, "batch_size": 8},
    "evaluate": {"episodes": 2, "curve_episodes": 1},
    "agents": {
        "gciql": {
            "algorithm": "gciql", "learning_rate": 1e-3, "hidden": [8], "alpha": 3.0,
            "per_dataset": {"pointmaze-*": {"expectile": 0.8}, "pointmaze-umaze": {"tau": 0.02}},
        }
    },
}  # fmt: skip
SEARCH: dict[str, Any] = {
    "dataset": "pointmaze-umaze",
    "agent": "gciql",
    "settings": {
        "alpha": {"low": 0.3, "high": 30.0, "log": True},
        "n_step": {"low": 1, "high": 20},
        "actor_goals": {"choices": [{"future": 1.0}, {"random": 1.0}]},
    },
    "trials": 8,
    "choosing": {"episodes": 2, "curve_episodes": 2},
}
MakePlan = Callable[..., SearchPlan]


@pytest.fixture
def make_plan(tmp_path: Path) -> MakePlan:
    """Makes the plan of a search in a project, with other settings of the search or of ``params.yaml``."""
    recipes = tmp_path / "datasets/recipes"
    recipes.mkdir(parents=True, exist_ok=True)
    shutil.copy(RECIPES / "pointmaze-umaze.yaml", recipes)

    def make(params: dict[str, Any] | None = None, **search: Any) -> SearchPlan:
        (tmp_path / "params.yaml").write_text(yaml.safe_dump(PARAMS | (params or {})))
        path = tmp_path / "search.yaml"
        path.write_text(yaml.safe_dump(SEARCH | search))
        return plan_search(path, load_params(tmp_path / "params.yaml"), settings_type)

    return make


def searched(**settings: Any) -> dict[str, Any]:
    return {"settings": settings}


@pytest.mark.parametrize(
    ("search", "message"),
    [
        ({"dataset": "fetch-reach"}, r"dataset: 'fetch-reach' is not in experiment.datasets of"),
        ({"agent": "gciq"}, r"agent: no section agents.gciq in .*; did you mean 'gciql'"),
        ({"trial": 3}, r"trial: unknown key; did you mean 'trials'"),
        ({"trials": 0}, r"trials: .*, not 0"),
        ({"seeds": [1, 0]}, r"seeds: 0 is in experiment.seeds of .*; choose other seeds"),
        ({"choosing": {"seed": 0}}, r"choosing.seed: 0 is evaluate.seed of the final evaluation"),
        (searched(alhpa={"low": 1.0, "high": 2.0}), r"settings.alhpa: 'gciql' has no such .*'alpha'"),
        (searched(algorithm={"choices": ["bc", "crl"]}), r"settings.algorithm: .* no such setting"),
        (searched(alpha={"low": 2.0, "high": 1.0}), r"'low' \(2.0\) must be smaller than 'high'"),
        (searched(alpha={"low": 0.0, "high": 1.0, "log": True}), r"'low' \(0.0\) must be positive"),
        (searched(alpha={"low": 1.0}), r"settings.alpha: needs 'low' and 'high', or 'choices'"),
        (searched(alpha={"choices": [1.0], "low": 1.0}), r"'choices' and a range exclude each other"),
        (searched(alpha={"choices": [1.0]}), r"'choices' needs at least two different values"),
        (searched(expectile={"low": 0.5, "high": 2.0}), r"settings.expectile: .*, not 2.0"),
        (searched(actor_goals={"choices": [{"near": 1.0}, {"random": 1.0}]}), r"actor_goals"),
        (searched(task_network={"choices": ["heads", "film"]}), r"task_network: .* several tasks"),
    ],
)  # fmt: skip
def test_a_wrong_search_ends_with_a_sentence(
    make_plan: MakePlan, search: dict[str, Any], message: str
) -> None:
    with pytest.raises(SettingsError, match=message):
        make_plan(**search)


def test_settings_that_are_not_searched_are_those_of_the_dataset(make_plan: MakePlan) -> None:
    plan = make_plan(settings={"dual.size": {"choices": [4, 8]}} | SEARCH["settings"], params={
        "agents": {"gciql": {**PARAMS["agents"]["gciql"], "goal_encoder": "dual", "dual": {"tau": 0.1}}}
    })  # fmt: skip
    settings: Any = plan.settings({"alpha": 1.0, "dual.size": 8})
    assert (settings.alpha, settings.expectile, settings.tau) == (1.0, 0.8, 0.02)
    assert (settings.dual.size, settings.dual.tau) == (8, 0.1)
    assert plan.present["dual.size"] == 256


def test_a_narrow_range_has_values_of_more_than_three_digits(make_plan: MakePlan) -> None:
    searched = make_plan(settings={"alpha": {"low": 0.9, "high": 0.9999}}).search.settings["alpha"]
    assert [study._value(value, searched, 3.0) for value in (0.99951, 0.99938)] == [0.9995, 0.9994]
    assert study._value(0.99951, searched, 0.99951) == 0.99951  # The present value is not rounded.


def test_a_choice_is_the_present_one_by_its_value(make_plan: MakePlan, tmp_path: Path) -> None:
    goals = {"random": 0.5, "future": 0.5}
    plan = make_plan(
        settings={"alpha": {"choices": [3, 4]}, "actor_goals": {"choices": [goals, {"random": 1}]}},
        params={"agents": {"gciql": {**PARAMS["agents"]["gciql"], "alpha": 3.0, "actor_goals": dict(reversed(goals.items()))}}},
    )  # fmt: skip
    (tmp_path / "search").mkdir()
    ran: list[study.Trial] = []

    def keep(trial: study.Trial, report: study.Report) -> study.Outcome:
        ran.append(trial)
        return study.Outcome(0.0, 0.0, 0.0, 0.0)

    next(study.Study(plan, "digest", tmp_path / "search").run(keep))
    assert ran[0].values == {"alpha": 3, "actor_goals": goals}
    assert not plan.search.settings["alpha"].contains(True)


def test_a_trial_whose_evaluation_fails_does_not_stop_the_search(
    make_plan: MakePlan, tmp_path: Path
) -> None:
    def broken(trial: study.Trial, report: study.Report) -> study.Outcome:
        raise DataError("the achieved goal is not finite")

    (tmp_path / "search").mkdir()
    found = list(study.Study(make_plan(trials=2), "digest", tmp_path / "search").run(broken))
    assert [(trial.state, trial.reason) for trial in found] == [
        ("failed", "the achieved goal is not finite")
    ] * 2


class Interrupted(BaseException):
    """What ends a search from outside."""


def work(trial: study.Trial, report: study.Report) -> study.Outcome:
    """A trial whose success is known: highest at alpha 3, with random goals."""
    right = trial.values["actor_goals"] == {"random": 1.0}
    success = 1.0 / (1.0 + abs(trial.values["alpha"] - 3.0)) * (1.0 if right else 0.5)
    if trial.values["n_step"] > 15:
        raise DivergedError("training diverged")
    report(10, success)
    return study.Outcome(success, 0.0, 1.0, 10.0 * success)


def ended(plan: SearchPlan, folder: Path, digest: str = "digest") -> list[study.Trial]:
    folder.mkdir(exist_ok=True)
    made = study.Study(plan, digest, folder)
    list(made.run(work))
    return [replace(trial, seconds=0.0) for trial in made.trials]


def test_the_first_trial_has_the_present_settings_and_the_best_one_wins(
    make_plan: MakePlan, tmp_path: Path
) -> None:
    plan = make_plan(trials=12)
    found = ended(plan, tmp_path / "search")
    assert len(found) == 12
    assert found[0].values == {"alpha": 3.0, "n_step": 1, "actor_goals": {"future": 1.0}}
    assert {trial.state for trial in found} == {"complete", "pruned", "failed"}
    assert all("diverged" in trial.reason for trial in found if trial.state == "failed")
    best = study.Study(plan, "digest", tmp_path / "search").best
    assert best is not None
    assert best.outcome is not None
    assert best.outcome.success == max(trial.outcome.success for trial in found if trial.outcome)
    for trial in found:
        assert 0.3 <= trial.values["alpha"] <= 30.0
        assert trial.values["alpha"] == float(f"{trial.values['alpha']:.3g}")


def test_an_interrupted_search_tries_what_an_uninterrupted_one_tries(
    make_plan: MakePlan, tmp_path: Path
) -> None:
    plan, folder = make_plan(trials=8), tmp_path / "search"
    expected = ended(plan, tmp_path / "uninterrupted")

    def interrupted(trial: study.Trial, report: study.Report) -> study.Outcome:
        if trial.number % 4 == 0:
            raise Interrupted
        return work(trial, report)

    folder.mkdir()
    with pytest.raises(Interrupted):
        list(study.Study(plan, "digest", folder).run(interrupted))
    assert len(study.Study(plan, "digest", folder).trials) == 3
    assert ended(plan, folder) == expected


def test_a_search_continues_with_more_trials_and_starts_again_with_other_settings(
    make_plan: MakePlan, tmp_path: Path
) -> None:
    short, long = make_plan(trials=2), make_plan(trials=4)
    assert short.digest("data") == long.digest("data")
    assert ended(long, tmp_path / "search")[:2] == ended(short, tmp_path / "short")
    other = make_plan(choosing={"seed": 5})
    assert other.digest("data") != short.digest("data") != short.digest("other data")
    recipe = short.dataset.recipes[0].model_copy(update={"evaluation": None})
    elsewhere = replace(short, dataset=short.dataset.model_copy(update={"recipes": (recipe,)}))
    assert elsewhere.digest("data") != short.digest("data")
    assert len(ended(make_plan(trials=1), tmp_path / "search", other.digest("data"))) == 1


def test_two_processes_do_not_run_the_same_search(tmp_path: Path) -> None:
    refused = pytest.raises(OfflineGCRLError, match="another process runs this search")
    with study.locked(tmp_path), refused, study.locked(tmp_path):
        pass


def test_the_settings_to_paste_are_those_of_the_trial(make_plan: MakePlan, tmp_path: Path) -> None:
    plan, params = make_plan(), load_params(tmp_path / "params.yaml")
    values = {"alpha": 0.5, "n_step": 4, "actor_goals": {"random": 1.0}}
    path = tmp_path / "pasted.yaml"
    path.write_text(results.settings_to_paste(plan, params, values))
    special = read_yaml(path)["agents"]["gciql"]["per_dataset"]
    pasted = {**PARAMS["agents"]["gciql"]}
    pasted["per_dataset"] = pasted["per_dataset"] | special
    again = make_plan(params={"agents": {"gciql": pasted}})
    assert again.settings({}) == plan.settings(values)


@pytest.fixture
def prepared(dataset: SmallDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project whose data is prepared, as the working directory."""
    for stage in ("parquet", "hindsight"):
        (tmp_path / "datasets" / stage).mkdir(parents=True)
        (tmp_path / f"datasets/{stage}/pointmaze-umaze").symlink_to(getattr(dataset, stage))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_trials_are_trained_and_the_choice_has_the_policies_of_the_stage(
    prepared: Path, make_plan: MakePlan
) -> None:
    ran = trials.Trials(make_plan(), prepared / "search")
    reported: list[int] = []
    trial = study.Trial(1, {"alpha": 1.0, "n_step": 2, "actor_goals": {"random": 1.0}})
    outcome = ran.run(trial, lambda update, value: reported.append(update))
    assert reported == [10]
    assert 0.0 <= outcome.success_low <= outcome.success <= outcome.success_high <= 1.0
    final = ran.final(trial.values)
    assert final.metrics[trials.CHOSEN]["success_rate"]["episodes"] == 2
    sentence = results.difference_sentence(final)
    assert sentence is not None
    assert sentence.startswith("success of")
    plan, settings = ran.plan, ran.plan.settings(trial.values)
    (job,) = training_jobs("pointmaze-umaze", "gciql", [0], plan.train, settings, Path("models"))
    train_seeds([job], lambda event: None)
    policies = (Path("search/chosen/seed-0/policy.pt"), Path("models/seed-0/policy.pt"))
    chosen, of_the_stage = (content_digest(read_content(file)) for file in policies)
    assert chosen == of_the_stage
    assert set(ran.final_settings(plan.present)) == {trials.PRESENT}
    ran.tidy()
    assert not Path("search/trial").exists()


def test_a_trial_that_is_pruned_stops_its_training(prepared: Path, make_plan: MakePlan) -> None:
    train = {"updates": 20_000, "snapshots": 2_000, "batch_size": 8, "compile": False}
    ran = trials.Trials(make_plan({"train": train}), prepared / "search")

    def prune(update: int, value: float) -> None:
        raise study.PrunedError

    with pytest.raises(study.PrunedError):
        ran.run(study.Trial(1, ran.plan.present), prune)
    assert not (prepared / "search/trial/seed-1000/policy.pt").exists()


def test_a_snapshot_is_measured_when_all_seeds_have_it(prepared: Path, make_plan: MakePlan) -> None:
    plan = make_plan({"train": {"updates": 40, "snapshots": 4}}, seeds=[7, 8])
    ran, point = trials.Trials(plan, Path("search")), ({"update": 0.0},)
    jobs = ran.jobs({}, (7, 8), trials.TRIAL)
    measured: list[Any] = []
    reports = trials.SnapshotReports(
        jobs,
        lambda files: measured.append([file.name for file in files.values()]) or 0.5,  # type: ignore[func-returns-value]
        lambda update, value: measured.append((update, value)),
    )
    for seed, updates, points in [(7, 10, point), (8, 9, ()), (8, 10, point), (7, 40, point)]:
        reports.follow(Event(seed, updates, points))
    assert measured == [["update-00000010.pt"] * 2, (10, 0.5)]
    reports.follow(
        Event(8, 40, point)
    )  # The last event of a resumed training has all of its curve.
    assert [entry for entry in measured if isinstance(entry, tuple)] == [
        (10, 0.5),
        (20, 0.5),
        (30, 0.5),
    ]


def test_trials_are_nested_runs_that_a_resumed_search_finds_again(
    make_plan: MakePlan, empty_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    plan = make_plan()
    values = {"alpha": 1.0, "n_step": 2, "actor_goals": {"random": 1.0}}
    outcome = study.Outcome(0.5, 0.2, 0.8, 3.0)
    trial = study.Trial(1, values, "complete", outcome, {10: 0.25}, 2.0)
    for _ in range(2):
        runs = SearchRuns(plan, "digest", load_params(tmp_path / "params.yaml").experiment)
        runs.begin(trial)
        runs.log(trial)
    runs.finish([trial], {"chosen": {"success_rate": {"mean": 0.5, "low": 0.2, "high": None}}}, [])
    client = runs.tracker.client
    found = {run.data.tags["trial"]: run for run in client.search_runs([runs.tracker.experiment])}
    assert found.keys() == {"all", "1"}
    assert found["1"].data.tags["mlflow.parentRunId"] == found["all"].info.run_id
    assert found["1"].data.params["actor_goals"] == "{random: 1.0}"
    assert found["1"].data.metrics["success"] == 0.5
    assert client.get_metric_history(found["1"].info.run_id, "objective")[0].step == 10
    assert found["all"].data.metrics["final/chosen/success_rate"] == 0.5
