"""Stages of one run of DVC share a process that has imported the heavy packages; a shell stands for DVC."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT
from ended import has_ended

from offline_gcrl.support import warm

HEAVY = "offline_gcrl.hindsight.draws"
SCRIPT = f"""
import atexit, json, os, sys, tempfile, time
from pathlib import Path
import this_project
from offline_gcrl.support import warm
from offline_gcrl.support.processes import ordered_map
from offline_gcrl.support.terminal import stage

def is_imported(_):
    return "{HEAVY}" in sys.modules

if __name__ == "__main__":
    with stage("train", sys.argv[1]):
        found = {{"in_fork": warm.in_fork, "folder": os.getcwd(), "arguments": sys.argv[1:]}}
        found["imported"] = [is_imported(0), *ordered_map(is_imported, [0], 1)]
        name = warm.address(this_project.ROOT, "*").name
        found["sockets"] = len(list(Path(tempfile.gettempdir()).glob(name)))
        print(json.dumps(found), flush=True)
        if sys.argv[1] == "sleep":
            Path("pid").write_text(str(os.getpid()))
            time.sleep(100)
    if sys.argv[1] == "raises":
        atexit.register(print, "at exit")
        print("not flushed", end=" ")
        raise RuntimeError("a defect")
    sys.exit({{"fails": 3, "says": "error: a sentence"}}.get(sys.argv[1], 0))
"""
GONE = f"""{sys.executable} -c "
import os, socket
from pathlib import Path
from offline_gcrl.support import warm
with socket.socket(socket.AF_UNIX) as script:
    script.connect(str(warm.address(Path.cwd().resolve(), os.getppid())))
"
"""
"""A script that does not wait for the answer of the warm process."""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with the package and one stage, which waits for the warm process."""
    (tmp_path / "pipelines").mkdir()
    (tmp_path / "offline_gcrl").symlink_to(ROOT / "offline_gcrl")
    shutil.copy(ROOT / "pipelines/this_project.py", tmp_path / "pipelines")
    for name in ("check", "train"):
        (tmp_path / f"pipelines/{name}.py").write_text(SCRIPT)
    (tmp_path / "pipelines/imports.py").write_text(f"from {HEAVY} import *\n")
    return tmp_path


def start(project: Path, *commands: str, **changed: str) -> subprocess.Popen[str]:
    """A run of DVC with these commands, one after the other."""
    lines = [re.sub("RUN (check|train)", rf"{sys.executable} pipelines/\1.py", c) for c in commands]
    ours = {name: v for name, v in os.environ.items() if name != "PYTEST_CURRENT_TEST"}
    environment = {**ours, "DVC_STAGE": "train", **changed}
    pipe = subprocess.PIPE
    return subprocess.Popen(
        ["sh", "-c", "\n".join(["trap : INT", *lines])], cwd=project, env=environment, stdout=pipe, stderr=pipe, text=True,
        start_new_session=True,
    )  # fmt: skip


def told(run: subprocess.Popen[str]) -> list[dict[str, Any]]:
    out, err = run.communicate(timeout=120)
    assert err == ""
    return [json.loads(line) for line in out.splitlines() if line.startswith("{")]


def wait_for(condition: Any, what: str) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def test_later_stages_run_in_forks_and_are_what_they_are_in_processes_of_their_own(
    project: Path,
) -> None:
    changed = "echo '# changed' >> pipelines/train.py"
    run = start(project, "RUN check first x", GONE, "RUN train fails y", "echo {\\\"status\\\": $?}", "A=1 RUN train other", changed, "RUN train last")  # fmt: skip
    first, fails, status, other, last = told(run)
    assert [line["in_fork"] for line in (first, fails, other, last)] == [False, True, False, False]
    assert status == {"status": 3}
    assert fails["arguments"] == ["fails", "y"]
    assert fails["folder"] == first["folder"]
    # Workers start none, and the process ends at the first stage that it does not fit.
    assert [line["sockets"] for line in (first, fails, other, last)] == [1, 1, 0, 0]
    assert (first["imported"], fails["imported"]) == ([False, False], [True, True])
    wait_for(lambda: not warm.address(project, run.pid).exists(), "the warm process outlived DVC")


def test_a_fork_ends_as_an_interpreter_does(project: Path) -> None:
    echo = "echo status $?"
    run = start(project, "RUN check first", "RUN train raises", echo, "RUN train says", echo)
    out, err = run.communicate(timeout=120)
    assert out.count('"in_fork": true') == 2
    assert [line for line in out.splitlines() if "status" in line or "at exit" in line] == [
        "not flushed at exit",
        "status 1",
        "status 1",
    ]
    assert err.startswith("Traceback")
    assert err.endswith("RuntimeError: a defect\nerror: a sentence\n")


def test_without_dvc_there_is_no_warm_process(project: Path) -> None:
    command = [sys.executable, "pipelines/train.py", "x"]
    kept = {name: value for name, value in os.environ.items() if name != "DVC_STAGE"}
    subprocess.run(command, cwd=project, env=kept, check=True, capture_output=True)
    assert not warm.address(project, os.getpid()).exists()


def test_where_a_socket_is_impossible_files_keep_their_usual_modes(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 120)
    warm._start_warm_process(tmp_path, path, os.getpid(), own_group=False)
    (tmp_path / "folder").mkdir()
    assert (tmp_path / "folder").stat().st_mode & 0o700 == 0o700


def test_runs_of_a_session_share_a_warm_process_until_the_code_changes(project: Path) -> None:
    changed = "echo '# changed' >> pipelines/check.py"
    shell = subprocess.Popen(["sleep", "100"])
    session = {warm.SESSION: str(shell.pid)}
    runs = [
        told(start(project, *commands, **session))
        for commands in (
            ["RUN train a"],
            ["RUN train b"],
            [changed, "RUN train c"],
            ["RUN train d"],
        )
    ]
    assert [line["in_fork"] for (line,) in runs] == [True, True, False, True]
    assert [line["imported"] for (line,) in runs][0::3] == [[True, True]] * 2
    assert warm.address(project, shell.pid).exists()
    shell.kill()
    shell.wait()
    wait_for(lambda: not warm.address(project, shell.pid).exists(), "it outlived its session")


def test_a_kill_of_a_run_leaves_the_warm_process_of_the_session(project: Path) -> None:
    shell = subprocess.Popen(["sleep", "100"])
    session = {warm.SESSION: str(shell.pid)}
    run = start(project, "RUN train sleep", **session)
    wait_for(lambda: (project / "pid").exists() and (project / "pid").read_text(), "no stage")
    os.killpg(run.pid, signal.SIGKILL)
    run.communicate()
    wait_for(lambda: has_ended(int((project / "pid").read_text())), "the stage outlived its script")
    (line,) = told(start(project, "RUN train b", **session))
    assert line["in_fork"]
    shell.kill()
    shell.wait()


def test_an_interruption_ends_the_stage_of_a_session(project: Path) -> None:
    shell = subprocess.Popen(["sleep", "100"])
    run = start(project, "RUN train sleep", **{warm.SESSION: str(shell.pid)})
    wait_for(lambda: (project / "pid").exists() and (project / "pid").read_text(), "no stage")
    os.killpg(run.pid, signal.SIGINT)
    wait_for(lambda: has_ended(int((project / "pid").read_text())), "the stage was not interrupted")
    assert "stopped; `dvc repro` continues" in run.communicate(timeout=60)[0]
    shell.kill()
    shell.wait()


def test_a_session_that_is_no_process_number_is_named(project: Path) -> None:
    run = start(project, "RUN train a", **{warm.SESSION: "mine"})
    assert "OFFLINE_GCRL_SESSION: 'mine' is not the number of a process" in run.communicate()[1]


@pytest.mark.parametrize("ended", ["dvc", "script", "interrupted", "terminated"])
def test_a_stage_in_a_fork_ends_with_its_script_and_with_dvc(project: Path, ended: str) -> None:
    run = start(project, "RUN check first", "sh -c 'echo $$ > script; exec RUN train sleep'")
    wait_for(lambda: (project / "pid").exists() and (project / "pid").read_text(), "no stage")
    stage, script = (int((project / name).read_text()) for name in ("pid", "script"))
    if ended == "dvc":
        run.kill()
    elif ended == "script":
        os.kill(script, signal.SIGKILL)
    elif ended == "interrupted":  # As a terminal does, all processes of the group.
        os.killpg(run.pid, signal.SIGINT)
    else:
        os.kill(script, signal.SIGTERM)
    wait_for(lambda: has_ended(stage) and has_ended(script), "the stage outlived its script")
    out, err = run.communicate(timeout=60)
    assert '"in_fork": true' in out
    assert re.search("Traceback", err) is None
    assert ("stopped; `dvc repro` continues" in out) == (ended in ("interrupted", "terminated"))
    wait_for(lambda: not warm.address(project, run.pid).exists(), "the warm process outlived DVC")
