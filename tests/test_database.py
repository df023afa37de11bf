"""The MLflow store is created completely or not at all, in any folder, and a server that is not there is named."""

import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from offline_gcrl.support.errors import OfflineGCRLError
from offline_gcrl.tracking import database
from offline_gcrl.tracking.database import (
    prepare_store,
    reachable_store,
    sqlite_uri,
    store_lock,
    store_uri,
)
from offline_gcrl.tracking.store import Subject, Tracker

CREATE = """
import sys, warnings
warnings.simplefilter("ignore")
from pathlib import Path
from offline_gcrl.support.files import sqlite_uri
from offline_gcrl.tracking.database import prepare_store
prepare_store(sqlite_uri(Path(sys.argv[1])))
"""


@pytest.mark.parametrize("name", ["what?", "100%20done", "a#b", "Größe (v2)"])
def test_the_store_works_in_folders_of_any_name(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / name
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("DVC_ROOT", str(folder))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (folder / "file.txt").write_text("x")
    tracker = Tracker("e", {})
    run = tracker.training_run(Subject("d", "a", "bc"), 0, "f")
    run.log_artifact(folder / "file.txt")
    assert [file.path for file in tracker.client.list_artifacts(run.run_id)] == ["file.txt"]
    assert (folder / "mlflow.db").exists()
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_store_whose_creation_was_killed_is_created_by_the_next_process(tmp_path: Path) -> None:
    file = tmp_path / "mlflow.db"
    partial = file.with_name(".mlflow.db.partial")
    killed = subprocess.Popen([sys.executable, "-c", CREATE, str(file)])
    deadline = time.monotonic() + 60
    while not (partial.exists() and partial.stat().st_size):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    killed.kill()
    killed.wait()
    assert not file.exists()
    prepare_store(sqlite_uri(file))
    assert file.exists()
    assert not partial.exists()


def test_a_server_that_does_not_answer_is_named_at_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        uri = f"http://127.0.0.1:{free.getsockname()[1]}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    begun = os.times().elapsed
    with pytest.raises(
        OfflineGCRLError, match="MLFLOW_TRACKING_URI: the server at .* does not answer"
    ):
        Tracker("e", {})
    assert os.times().elapsed - begun < 60  # MLflow's own client tries for four and a half minutes.


def test_runs_are_logged_to_the_project_where_a_server_does_not_answer_and_the_setting_allows_it(
    monkeypatch: pytest.MonkeyPatch,
    empty_store: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    tracker = Tracker("e", {}, without_server="local")
    assert "so runs are logged to" in capsys.readouterr().out
    assert store_uri() == sqlite_uri(tmp_path / "mlflow.db")
    assert tracker.client.get_experiment_by_name("e") is not None


def test_a_server_that_accepts_and_stays_silent_is_named_within_the_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(database, "SECONDS_TO_ANSWER", 0.2)
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{server.getsockname()[1]}")
        with pytest.raises(OfflineGCRLError, match=r"does not answer \(timed out\)"):
            reachable_store("stop")


def test_a_lock_that_another_process_keeps_is_named_after_a_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "SECONDS_FOR_A_LOCK", 0.2)
    with (
        store_lock(tmp_path / "lock"),
        pytest.raises(OfflineGCRLError, match="lock: another process has held this lock for 0 s"),
        store_lock(tmp_path / "lock"),
    ):
        raise AssertionError
    with store_lock(tmp_path / "lock"):
        pass
