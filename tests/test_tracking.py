"""Runs are found by what they are of; a fresh store survives several processes at once."""

import shutil
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
from conftest import SmallDataset

from offline_gcrl.errors import OfflineGCRLError
from offline_gcrl.tracking import Tracker, dvc_digest, marked_failed


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store that four processes opened at once: making one takes seconds."""
    folder = tmp_path_factory.mktemp("store")
    program = "from offline_gcrl.tracking import Tracker; Tracker('first')"
    processes = [subprocess.Popen([sys.executable, "-c", program], cwd=folder) for _ in range(4)]
    assert [process.wait() for process in processes] == [0] * 4
    return folder / "mlflow.db"


@pytest.fixture
def tracker(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tracker:
    shutil.copy(template, tmp_path / "mlflow.db")
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return Tracker("test")


def test_a_training_finds_its_run_again(tracker: Tracker) -> None:
    run = tracker.training_run("maze", "bc", 0, "abc")
    assert tracker.training_run("maze", "bc", 0, "abc").run_id == run.run_id
    assert tracker.training_run("maze", "bc", 0, "abd").run_id != run.run_id


def test_evaluation_lands_on_the_run_that_trained_the_policy(tracker: Tracker) -> None:
    run = tracker.training_run("maze", "bc", 0, "abc")
    tracker.trained(run, "abc", "digest")
    asked = ("maze", "bc", 0)
    assert tracker.evaluation_run(*asked, "digest", {"episodes": 3}).run_id == run.run_id
    assert tracker.evaluation_run(*asked, "digest", {"episodes": 3}).run_id == run.run_id
    other = tracker.evaluation_run(*asked, "digest", {"episodes": 4})
    assert other.run_id != run.run_id
    assert tracker.client.get_run(other.run_id).data.params["evaluate.episodes"] == "4"
    assert tracker.evaluation_run(*asked, "unknown", {"episodes": 3}).run_id != run.run_id


def test_a_change_of_code_that_gives_the_same_policy_makes_no_second_run(tracker: Tracker) -> None:
    first = tracker.training_run("maze", "bc", 0, "before")
    tracker.trained(first, "before", "digest")
    second = tracker.training_run("maze", "bc", 0, "after")
    assert tracker.trained(second, "after", "digest").run_id == first.run_id
    assert tracker.training_run("maze", "bc", 0, "after").run_id == first.run_id


def test_a_training_noted_again_keeps_its_run_beside_other_evaluations(tracker: Tracker) -> None:
    run = tracker.training_run("maze", "bc", 0, "abc")
    tracker.trained(run, "abc", "digest")
    for episodes in (3, 4):  # The second evaluation has a run of its own, with the same policy.
        tracker.evaluation_run("maze", "bc", 0, "digest", {"episodes": episodes})
    assert tracker.trained(run, "abc", "digest").run_id == run.run_id
    assert tracker.client.get_run(run.run_id).info.lifecycle_stage == "active"


def test_failed_runs_are_marked_and_a_deleted_experiment_comes_back(tracker: Tracker) -> None:
    run = tracker.training_run("maze", "bc", 0, "abc")
    with pytest.raises(KeyError), marked_failed([run]):
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
    run = tracker.training_run("maze", "bc", 0, "abc")
    points = [{"update": float(update), "actor/loss": 1.0 / update} for update in (10, 20, 30)]
    run.log_points(points[:2])
    run.log_points(points)
    history = tracker.client.get_metric_history(run.run_id, "actor/loss")
    assert [(metric.step, metric.value) for metric in history] == [
        (10, 0.1),
        (20, 0.05),
        (30, 1 / 30),
    ]


def test_a_run_holds_params_curve_dataset_and_files(
    tracker: Tracker, dataset: SmallDataset, tmp_path: Path
) -> None:
    run = tracker.training_run("maze", "bc", 3, "abc")
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
    assert stored.info.run_name == "bc/seed-3 maze"
    assert stored.data.params == {"train.updates": "5", "agent.goals.future": "1.0"}
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
