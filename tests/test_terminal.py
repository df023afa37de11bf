"""Stages speak in headings, plain progress and sentences, and end with DVC."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from offline_gcrl import terminal
from offline_gcrl.errors import DataError
from offline_gcrl.files import atomic_directory
from offline_gcrl.terminal import Bars, close, note, stage


def test_an_error_of_ours_is_a_sentence_and_an_exit_code(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended, stage("ingest", "maze"):
        raise DataError("dataset 'x', episode 3: no transitions")
    assert ended.value.code == 1
    out, err = capfd.readouterr()
    assert out == "ingest maze\n"
    assert err == "error: dataset 'x', episode 3: no transitions\n"


def test_a_bug_shows_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError), stage("ingest", "maze"):
        _ = 1 / 0


def test_progress_without_a_terminal_is_plain_lines(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    with stage("train", "bc"), Bars(["seed 0"], 1000, "updates") as bars:
        now[0] += 5
        bars.update("seed 0", 100)
        now[0] += 6
        bars.advance("seed 0", 120)
        now[0] += 20
        bars.update("seed 0", 1000)
        note("no videos")
        close("in models/")
    lines = capfd.readouterr().out.splitlines()
    assert lines == [
        "train bc",
        "  seed 0: 220 of 1,000 updates, 20/s, 39 s left",
        "  no videos",
        "  done in models/",
    ]
    assert not terminal.console.is_terminal


def test_a_stage_ends_with_dvc(tmp_path: Path) -> None:
    (tmp_path / "stage.py").write_text(
        "import os, time\nfrom pathlib import Path\nfrom offline_gcrl.terminal import stage\n"
        "with stage('train', 'bc'):\n"
        "    Path('pid').write_text(str(os.getpid()))\n"
        "    time.sleep(300)\n"
    )
    program = "import subprocess, sys; subprocess.run([sys.executable, 'stage.py'])"
    environment = {**os.environ, "DVC_STAGE": "train"}
    dvc = subprocess.Popen([sys.executable, "-c", program], cwd=tmp_path, env=environment)
    deadline = time.monotonic() + 60
    while not ((tmp_path / "pid").exists() and (tmp_path / "pid").read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    child = int((tmp_path / "pid").read_text())
    dvc.kill()
    dvc.wait()
    while Path(f"/proc/{child}").exists():
        assert time.monotonic() < deadline, "the stage outlived DVC"
        time.sleep(0.05)


def test_a_folder_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "out"
    with atomic_directory(target) as folder:
        (folder / "a").write_text("1")
    with pytest.raises(KeyError), atomic_directory(target) as folder:  # noqa: PT012
        (folder / "b").write_text("2")
        raise KeyError
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert [path.name for path in target.iterdir()] == ["a"]
    with atomic_directory(target) as folder:
        (folder / "b").write_text("2")
        assert (target / "a").exists()
    assert [path.name for path in target.iterdir()] == ["b"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
