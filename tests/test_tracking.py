"""Runs are found by digests of their content; several processes can create a store at the same time."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml
from conftest import RECIPES, ROOT, SmallDataset
from playwright.sync_api import sync_playwright

from offline_gcrl.agents import agent_type, settings_type
from offline_gcrl.cards.card import card_metrics, card_params, write_card
from offline_gcrl.evaluation.results import SeedResult, combine_seeds, episode_table, learning_curve
from offline_gcrl.policies.policy import load_policy, save_policy
from offline_gcrl.support.errors import OfflineGCRLError
from offline_gcrl.tracking.evaluation import log_results
from offline_gcrl.tracking.page import check_free, wait_for
from offline_gcrl.tracking.policies import find_or_log_policy
from offline_gcrl.tracking.runs import TrackedRun, dvc_digest, mark_failed_on_error
from offline_gcrl.tracking.store import PARENT, Subject, Tracker, evaluation_digest
from offline_gcrl.tracking.usage import Usage
from offline_gcrl.tracking.views import SEEDS, address, dataset_views
from offline_gcrl.training.batches.data import DeviceData
from offline_gcrl.training.events import Event

BC = Subject("maze", "bc", "bc")


@pytest.fixture
def tracker(empty_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tracker:
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return Tracker("test")


def test_a_training_finds_its_run_again(tracker: Tracker) -> None:
    run = tracker.training_run(BC, 0, "abc")
    assert tracker.training_run(BC, 0, "abc").run_id == run.run_id
    assert tracker.training_run(BC, 0, "abd").run_id != run.run_id
    # Agents and datasets with equal settings and transitions have equal fingerprints.
    for subject in (Subject("maze", "again", "bc"), Subject("copy", "bc", "bc")):
        other = tracker.training_run(subject, 0, "abc")
        assert other.run_id != run.run_id
        assert tracker.training_run(subject, 0, "abc").run_id == other.run_id


def test_an_evaluation_is_logged_to_the_run_that_trained_the_policy(tracker: Tracker) -> None:
    run = tracker.training_run(BC, 0, "abc")
    tracker.record_policy(run, "abc", "digest")
    asked = (BC, 0)
    assert tracker.evaluation_run(*asked, "digest", {"episodes": 3}).run_id == run.run_id
    assert tracker.evaluation_run(*asked, "digest", {"episodes": 3}).run_id == run.run_id
    other = tracker.evaluation_run(*asked, "digest", {"episodes": 4})
    assert other.run_id != run.run_id
    assert tracker.client.get_run(other.run_id).data.params["evaluate.episodes"] == "4"
    assert tracker.evaluation_run(*asked, "unknown", {"episodes": 3}).run_id != run.run_id


def test_changed_code_that_gives_the_same_policy_creates_no_second_run(tracker: Tracker) -> None:
    first = tracker.training_run(BC, 0, "before")
    tracker.record_policy(first, "before", "digest")
    second = tracker.training_run(BC, 0, "after")
    assert tracker.record_policy(second, "after", "digest").run_id == first.run_id
    assert tracker.training_run(BC, 0, "after").run_id == first.run_id


def test_a_repeated_training_keeps_its_run_despite_other_evaluations(tracker: Tracker) -> None:
    run = tracker.training_run(BC, 0, "abc")
    tracker.record_policy(run, "abc", "digest")
    for episodes in (3, 4):  # The second evaluation has a run of its own, with the same policy.
        tracker.evaluation_run(BC, 0, "digest", {"episodes": episodes})
    assert tracker.record_policy(run, "abc", "digest").run_id == run.run_id
    assert tracker.client.get_run(run.run_id).info.lifecycle_stage == "active"


def test_failed_runs_are_marked_and_a_deleted_experiment_comes_back(tracker: Tracker) -> None:
    run = tracker.training_run(BC, 0, "abc")
    with pytest.raises(KeyError), mark_failed_on_error([run]):
        raise KeyError
    assert tracker.client.get_run(run.run_id).info.status == "FAILED"
    tracker.client.delete_experiment(tracker.experiment)
    assert Tracker("test").experiment == tracker.experiment


def test_a_store_that_cannot_be_used_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "nonsense://x")
    with pytest.raises(
        OfflineGCRLError, match="nonsense://x cannot be used: .* MLFLOW_TRACKING_URI"
    ):
        Tracker("test")


def test_points_are_logged_once_at_their_own_updates(tracker: Tracker) -> None:
    run = tracker.training_run(BC, 0, "abc")
    points = [{"update": float(update), "actor/loss": 1.0 / update} for update in (10, 20, 30)]
    run.log_points(points[:2])
    run.log_points(points)
    history = tracker.client.get_metric_history(run.run_id, "actor/loss")
    assert [(metric.step, metric.value) for metric in history] == [
        (10, 0.1),
        (20, 0.05),
        (30, 1 / 30),
    ]


def test_a_run_has_params_curve_dataset_and_files(
    tracker: Tracker, dataset: SmallDataset, tmp_path: Path
) -> None:
    run = tracker.training_run(BC, 3, "abc")
    run.log_params({"train": {"updates": 5}, "agent": {"goals": {"future": 1.0}}})
    run.log_params({"train": {"updates": 5}})
    curve = pl.DataFrame(
        {"update": [1, 2], "mean": [0.1, 0.2], "low": [0.0, 0.1], "high": [0.2, 0.3]}
    )
    run.log_curve("evaluation/success_rate", curve)
    run.log_dataset("small", dataset.parquet)
    (tmp_path / "file.txt").write_text("x")
    run.log_artifact(tmp_path / "file.txt", "folder")
    run.finish()
    stored = tracker.client.get_run(run.run_id)
    assert stored.info.status == "FINISHED"
    assert stored.info.run_name == "bc seed 3 on maze"
    assert stored.data.params == {"train.updates": "5", "agent.goals": "1 future"}
    assert stored.data.metrics["evaluation/success_rate_high"] == 0.3
    assert stored.inputs.dataset_inputs[0].dataset.name == "small"
    assert [item.path for item in tracker.client.list_artifacts(run.run_id, "folder")] == [
        "folder/file.txt"
    ]
    assert (tmp_path / "mlartifacts/test").is_dir()


def test_the_digest_of_a_dataset_is_dvcs(tmp_path: Path) -> None:
    lock = tmp_path / "dvc.lock"
    lock.write_text("stages:\n  ingest@maze:\n    outs:\n    - path: x\n      md5: 0a1b.dir\n")
    assert dvc_digest(str(lock), "ingest@maze") == "0a1b"
    assert dvc_digest(str(lock), "ingest@other") is None
    assert dvc_digest(str(tmp_path / "none"), "ingest@maze") is None


def seed_run(tracker: Tracker, seed: int, policy: str) -> TrackedRun:
    run = tracker.training_run(BC, seed, f"of {policy}")
    return tracker.record_policy(run, f"of {policy}", policy)


def parent(tracker: Tracker, run: TrackedRun) -> str | None:
    return tracker.client.get_run(run.run_id).data.tags.get(PARENT)


def names(tracker: Tracker) -> list[str]:
    return sorted(run.info.run_name for run in tracker.client.search_runs([tracker.experiment]))


def test_the_seeds_of_an_agent_have_one_parent_run_even_if_added_later(tracker: Tracker) -> None:
    runs = [seed_run(tracker, seed, f"policy {seed}") for seed in (0, 1)]
    parent_run = tracker.parent_run(BC, runs)
    runs.append(seed_run(tracker, 2, "policy 2"))
    assert tracker.parent_run(BC, runs).run_id == parent_run.run_id
    assert {parent(tracker, run) for run in runs} == {parent_run.run_id}
    assert names(tracker) == ["bc on maze", *(f"bc seed {seed} on maze" for seed in (0, 1, 2))]
    other = [seed_run(tracker, 0, "policy of other settings")]
    assert tracker.parent_run(BC, other).run_id != parent_run.run_id


def test_a_training_that_gives_known_policies_leaves_no_parent_run(tracker: Tracker) -> None:
    before = seed_run(tracker, 0, "policy")
    parent_run = tracker.parent_run(BC, [before])
    again = tracker.training_run(BC, 0, "of changed code")
    empty = tracker.parent_run(BC, [again])
    assert empty.run_id != parent_run.run_id
    again = tracker.record_policy(again, "of changed code", "policy")
    assert tracker.parent_run(BC, [again]).run_id == parent_run.run_id
    tracker.delete_if_empty(empty.run_id)
    tracker.delete_if_empty(parent_run.run_id)
    assert names(tracker) == ["bc on maze", "bc seed 0 on maze"]


def test_each_evaluation_of_the_same_policies_has_its_own_parent_run(tracker: Tracker) -> None:
    trained = [seed_run(tracker, seed, f"policy {seed}") for seed in (0, 1)]
    parent_run = tracker.parent_run(BC, trained)

    def log_evaluation(episodes: int, seeds: Iterable[int]) -> TrackedRun:
        settings = {"episodes": episodes}
        runs = [tracker.evaluation_run(BC, seed, f"policy {seed}", settings) for seed in seeds]
        return tracker.parent_run(BC, runs, evaluation_digest(settings))

    assert log_evaluation(3, (0, 1)).run_id == parent_run.run_id
    other = log_evaluation(4, (0, 1))
    assert other.run_id != parent_run.run_id
    assert log_evaluation(3, (0, 1)).run_id == parent_run.run_id
    seed_run(tracker, 2, "policy 2")
    assert log_evaluation(4, (0, 1, 2)).run_id == other.run_id


def test_points_that_a_killed_training_did_not_send_are_logged_later(tracker: Tracker) -> None:
    run = tracker.training_run(BC, 0, "abc")
    points = [{"update": float(update), "actor/loss": 1.0 / update} for update in (10, 20, 30)]
    run.log_points(points[:1])
    run.log_points(points[2:])
    tracker.training_run(BC, 0, "abc").log_points(points)
    history = tracker.client.get_metric_history(run.run_id, "actor/loss")
    assert sorted(metric.step for metric in history) == [10, 20, 30]


def test_events_of_training_are_logged_with_the_resource_usage(
    tracker: Tracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    usage, run = Usage(), tracker.training_run(BC, 0, "abc")
    points = ({"update": 50.0},)
    for event in (Event(0, 10), Event(0, 20), Event(0, 50, points), Event(0, 50, points)):
        run.log_samples(usage.sample(event))
        now[0] += 4.0
    rates = tracker.client.get_metric_history(run.run_id, "system/updates_per_second")
    assert [(metric.step, metric.value) for metric in rates] == [(20, 2.5), (50, 7.5), (50, 0.0)]
    assert tracker.client.get_run(run.run_id).data.metrics["system/memory_megabytes"] > 10
    gone = Event(1, 10, points, process=2**22)
    assert usage.sample(gone) == []


def a_result(success: list[bool], updates: int = 10) -> SeedResult:
    rows = [
        {"update": updates, "episode": number, "seed": number, "task": "t", "task_id": None, "start": [0.0, 0.0],
         "goal": [1.0, 1.0], "success": value, "success_any": value, "final_distance": 0.5,
         "return": float(value), "discounted_return": value / 2, "steps_to_goal": 3 if value else None,
         "length": 5}
        for number, value in enumerate(success)
    ]  # fmt: skip
    table = episode_table(rows)
    return SeedResult(table, learning_curve(table))


@pytest.fixture
def policies(dataset: SmallDataset, tmp_path: Path) -> dict[int, Path]:
    """Untrained policies of two seeds, in their folders."""
    settings = settings_type("bc").model_validate_json('{"algorithm": "bc", "hidden": [8]}')
    data = DeviceData(dataset.episodes)
    for seed in (0, 1):
        agent = agent_type("bc")(settings, data.dimensions)
        training = {"dataset": "maze", "agent": "bc", "seed": seed, "updates": 10}
        path = tmp_path / f"models/seed-{seed}/policy.pt"
        tasks = tuple(dataset.episodes.schema["tasks"])
        save_policy(path, agent, "bc", settings, data.scaling, data.dimensions, tasks, training)
    return {seed: tmp_path / f"models/seed-{seed}" for seed in (0, 1)}


def log_evaluation(
    tracker: Tracker, policies: dict[int, Path], seeds: Iterable[int] = (0, 1)
) -> None:
    """Log results of two seeds, each with one success in two episodes."""
    folder = policies[0].parent.parent / "results"
    results = {seed: a_result([True, False] * 5) for seed in seeds}
    for seed in seeds:
        (folder / f"seed-{seed}").mkdir(parents=True, exist_ok=True)
        (folder / f"seed-{seed}/metrics.json").write_text("{}")
    summary = combine_seeds(list(results.values()))
    log_results(tracker, BC, policies, results, summary, "success_rate", folder, {"episodes": 10})


def metric_rows(tracker: Tracker) -> int:
    return sum(
        len(tracker.client.get_metric_history(run.info.run_id, name))
        for run in tracker.client.search_runs([tracker.experiment])
        for name in run.data.metrics
    )


def test_an_evaluation_is_logged_to_child_runs_and_their_parent(
    tracker: Tracker, policies: dict[int, Path]
) -> None:
    log_evaluation(tracker, policies)
    before, models = metric_rows(tracker), len(logged_models(tracker))
    log_evaluation(tracker, policies)  # Again: nothing is doubled.
    log_evaluation(tracker, policies, seeds=(0,))  # Of fewer seeds: the result of all stays.
    assert (metric_rows(tracker), len(logged_models(tracker))) == (before, models) == (before, 2)
    runs = {run.info.run_name: run for run in tracker.client.search_runs([tracker.experiment])}
    parent_run = runs["bc on maze"]
    assert parent_run.data.metrics["success_rate"] == 0.5
    assert parent_run.data.metrics["seeds"] == 2
    assert parent_run.data.tags["success_interval"].startswith("0.50 [")
    assert "in 20 episodes of 2 seeds" in parent_run.data.tags["mlflow.note.content"]
    assert runs["bc seed 1 on maze"].data.params["seed"] == "1"
    curve = tracker.client.get_metric_history(parent_run.info.run_id, "evaluation/success_rate_low")
    assert [point.step for point in curve] == [10]
    model = next(model for model in logged_models(tracker) if model.tags["seed"] == "1")
    assert model.source_run_id == runs["bc seed 1 on maze"].info.run_id
    assert {metric.key: metric.value for metric in model.metrics}["success_rate"] == 0.5


def logged_models(tracker: Tracker) -> list[Any]:
    return list(tracker.client.search_logged_models([tracker.experiment]))


def test_a_policy_whose_logging_was_interrupted_is_logged_again(
    tracker: Tracker, policies: dict[int, Path]
) -> None:
    run = tracker.training_run(BC, 0, "abc")
    path = policies[0] / "policy.pt"
    tracker.client.create_logged_model(tracker.experiment, "x", run.run_id, {"policy": "digest"})
    model = find_or_log_policy(tracker.client, run.run_id, path, "digest")
    assert find_or_log_policy(tracker.client, run.run_id, path, "digest") == model
    assert [(found.model_id, str(found.status)) for found in logged_models(tracker)] == [
        (model, "READY")
    ]


def test_a_logged_policy_acts_in_a_new_process(
    tracker: Tracker, policies: dict[int, Path], tmp_path: Path
) -> None:
    run = tracker.training_run(BC, 0, "abc")
    model = find_or_log_policy(tracker.client, run.run_id, policies[0] / "policy.pt", "digest")
    states = {"observation": np.ones((3, 4), np.float32), "goal": np.ones((3, 2), np.float32)}
    np.savez(tmp_path / "states.npz", **states)
    program = (
        "import mlflow, numpy, sys\n"
        f"policy = mlflow.pyfunc.load_model('models:/{model}')\n"
        "numpy.save('actions.npy', policy.predict(dict(numpy.load('states.npz'))))\n"
        "names = [spec.name for spec in policy.metadata.signature.inputs.inputs]\n"
        "assert names == ['observation', 'goal'], names\n"
    )
    environment = {**os.environ, "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path / 'mlflow.db'}"}
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env=environment, check=True)
    assert np.array_equal(np.load(tmp_path / "actions.npy"), load_policy(policies[0]).act(**states))


def test_views_name_columns_that_runs_have(tracker: Tracker, policies: dict[int, Path]) -> None:
    log_evaluation(tracker, policies)
    tags = tracker.client.get_experiment(tracker.experiment).tags
    views = [tag for tag in tags if tag.startswith("mlflow.sharedViewState.")]
    assert len(views) == 2
    for view in views:
        state = json.loads(json.loads(tags[view])["state"])
        runs = tracker.client.search_runs(
            [tracker.experiment], state["searchFilter"], order_by=[f"{state['orderByKey']} DESC"]
        )
        assert runs
        for run in runs:
            held = {f"tags.`{name}`" for name in run.data.tags}
            held |= {f"metrics.`{name}`" for name in run.data.metrics}
            assert {"tags.`dataset`", "tags.`success_interval`"} <= held & set(
                state["selectedColumns"]
            )
            assert state["orderByKey"] in held - set(state["selectedColumns"])


def test_a_card_is_logged_to_its_own_run_and_shown_in_a_view(
    tracker: Tracker, dataset: SmallDataset, tmp_path: Path
) -> None:
    cards = Tracker("test datasets", dataset_views())
    card = write_card(dataset.resolved, dataset.parquet, {}, tmp_path / "card")
    for _ in range(2):  # Described again, the same card is the same run.
        run = cards.card_run("maze", "0a1b")
        run.log_metrics(card_metrics(card))
        run.log_params(card_params(card))
    assert cards.card_run("maze", "0a1c").run_id != run.run_id
    (view,) = dataset_views().values()
    assert view in cards.client.get_experiment(cards.experiment).tags.values()
    data = cards.client.get_run(run.run_id).data
    held = {f"metrics.`{name}`" for name in data.metrics}
    held |= {f"params.`{name}`" for name in data.params}
    assert set(json.loads(json.loads(view)["state"])["selectedColumns"]) <= held
    assert not tracker.client.search_runs([tracker.experiment])


CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chrome")


@pytest.fixture
def page_address(tracker: Tracker, policies: dict[int, Path], tmp_path: Path) -> Iterator[str]:
    """MLflow's server on a store with the results of two agents."""
    log_evaluation(tracker, policies)
    (tmp_path / "datasets").mkdir()
    (tmp_path / "datasets/recipes").symlink_to(RECIPES)
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params["experiment"]["name"] = "test"
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    program = [sys.executable, "-u", "-m", "offline_gcrl.tracking.page", str(port)]
    with (tmp_path / "server.log").open("w") as log:
        server = subprocess.Popen(
            program, stdout=subprocess.PIPE, stderr=log, cwd=tmp_path, text=True
        )
    assert server.stdout is not None
    try:
        (line,) = islice((line for line in server.stdout if "open http" in line), 1)
        yield re.findall(r"http:\S+/", line.split("#")[0])[0]
    finally:
        server.terminate()
        server.wait()
        server.stdout.close()
        assert not is_up(f"http://127.0.0.1:{port}/health")


def is_up(address: str) -> bool:
    try:
        return bool(urllib.request.urlopen(address, timeout=5).status == 200)
    except OSError:
        return False


def test_a_port_in_use_is_named(tracker: Tracker) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(OfflineGCRLError, match="cannot be used, .* make ui PORT=5001"):
            check_free(str(other.getsockname()[1]))


def test_a_server_that_ends_at_its_start_is_named() -> None:
    ended = subprocess.Popen([sys.executable, "-c", "pass"])
    ended.wait()
    with pytest.raises(OfflineGCRLError, match="MLflow's server has ended"):
        wait_for(ended, "http://127.0.0.1:9/health")


def test_a_copied_project_writes_its_artifacts_into_itself(
    tracker: Tracker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tracker.training_run(BC, 0, "f")
    (tmp_path / "file.txt").write_text("content")
    run.log_artifact(tmp_path / "file.txt")
    copy = tmp_path / "copy"
    copy.mkdir()
    shutil.copy(tmp_path / "mlflow.db", copy)
    monkeypatch.setenv("DVC_ROOT", str(copy))
    without_artifacts = Tracker("test")
    assert location(without_artifacts, run).startswith((tmp_path / "mlartifacts").as_uri())
    new = without_artifacts.training_run(BC, 1, "g")
    assert location(without_artifacts, new).startswith((copy / "mlartifacts").as_uri())
    shutil.copy(tmp_path / "mlflow.db", copy)
    shutil.copytree(tmp_path / "mlartifacts", copy / "mlartifacts")
    shutil.rmtree(tmp_path / "mlartifacts")
    moved = Tracker("test")
    assert [item.path for item in moved.client.list_artifacts(run.run_id)] == ["file.txt"]
    assert location(moved, run).startswith((copy / "mlartifacts").as_uri())
    moved.training_run(BC, 2, "h").log_artifact(tmp_path / "file.txt")
    assert not (tmp_path / "mlartifacts").exists()


def location(tracker: Tracker, run: TrackedRun) -> str:
    return str(tracker.client.get_run(run.run_id).info.artifact_uri)


def test_mlflow_sends_no_telemetry() -> None:
    program = "import offline_gcrl.tracking.store; from mlflow.telemetry import get_telemetry_client as c; print(c())"
    plain = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    answer = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=plain
    )
    assert answer.stdout == "None\n", answer.stderr


@pytest.mark.timeout(600)  # A server and a browser, on a machine that may be busy.
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
def test_the_page_of_mlflow_shows_the_table_of_runs(
    tracker: Tracker, page_address: str, tmp_path: Path
) -> None:
    with sync_playwright() as browsers:
        browser = browsers.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"]
        )
        page = browser.new_page(viewport={"width": 1400, "height": 900})
        page.set_default_timeout(90_000)
        page.goto(page_address + address(tracker.experiment))
        page.get_by_text("bc on maze").first.wait_for()
        assert page.get_by_text("bc seed 0 on maze").count() == 0  # The view is of all seeds.
        page.get_by_text("0.50 [").first.wait_for()
        page.screenshot(path=tmp_path / "runs.png")
        page.goto(page_address + address(tracker.experiment, SEEDS))
        for seed in (0, 1):
            page.get_by_text(f"bc seed {seed} on maze").first.wait_for()
        boxes = page.get_by_role("checkbox")
        boxes.nth(1).check()
        boxes.nth(2).check()
        page.get_by_role("button", name="Compare").click()
        page.get_by_text("Comparing 2 Runs from 1 Experiment").wait_for()
        page.get_by_text("Parallel Coordinates Plot").wait_for()
        page.locator(".js-plotly-plot").first.wait_for()
        page.screenshot(path=tmp_path / "compare.png")
        browser.close()
    assert (tmp_path / "compare.png").stat().st_size > 10_000
