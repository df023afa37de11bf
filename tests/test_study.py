"""A study is run by one command, which continues after a kill; long runs say how much is left."""

import ctypes
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
import yaml
from conftest import ROOT

from offline_gcrl.agents import settings_type
from offline_gcrl.commands.study import STUDIES, study_settings
from offline_gcrl.config import load_params, resolve
from offline_gcrl.config.checks import check_agent
from offline_gcrl.config.episode_checks import check_evaluation
from offline_gcrl.support.errors import SettingsError
from offline_gcrl.support.stages import end_of_stage, stage_items
from offline_gcrl.support.times import TIMES, StageTime, add_time, by_stage, left, read_times

SIZES = [
    (path.stem, path.parent.name) for path in sorted((ROOT / STUDIES).glob("*/*.yaml"))
]  # fmt: skip


# -------------------------------------------------------------------------------------- settings


@pytest.mark.parametrize(("name", "size"), SIZES)
def test_every_size_of_a_study_is_valid(name: str, size: str, tmp_path: Path) -> None:
    (tmp_path / "datasets").mkdir()
    (tmp_path / "datasets/recipes").symlink_to(ROOT / "datasets/recipes")
    path = tmp_path / "params.yaml"
    path.write_text(study_settings(name, size, ROOT / STUDIES))
    params = load_params(path)
    for agent, section in params.agents.items():
        check_agent(params, agent, settings_type(section["algorithm"]))
    for dataset in params.experiment.datasets:
        check_evaluation(params, resolve(dataset, folder=ROOT / "datasets/recipes"))
    assert params.experiment.name == f"{name}-{size}"  # Times and runs of sizes are separate.


def test_a_size_changes_what_it_names_and_nothing_else() -> None:
    small = yaml.safe_load(study_settings("gofar", None, ROOT / STUDIES))
    full = yaml.safe_load(study_settings("gofar", "full", ROOT / STUDIES))
    assert (small["train"]["updates"], full["train"]["updates"]) == (20000, 40000)
    assert full["collect"]["per_dataset"] == small["collect"]["per_dataset"]
    assert full["agents"] == small["agents"]
    assert full["train"]["batch_size"] == small["train"]["batch_size"]


@pytest.mark.parametrize(
    ("name", "size", "message"),
    [
        ("gofa", None, "no study 'gofa'; did you mean 'gofar'?"),
        ("", None, "no study ''; known: agents"),
        ("gofar", "ful", "no size 'ful' of the study 'gofar'; did you mean 'full'?"),
        ("bf16", "full", "no size 'full' of the study 'bf16'; it has the committed size only"),
    ],
)
def test_an_unknown_study_or_size_is_refused(name: str, size: str | None, message: str) -> None:
    with pytest.raises(SettingsError) as caught:
        study_settings(name, size, ROOT / STUDIES)
    assert message in str(caught.value)


# ---------------------------------------------------------------------------------- time that is left


STAGES = {
    "check": {"cmd": ""},
    "train": {"matrix": {"dataset": "${experiment.datasets}", "agent": "${experiment.agents}"}},
    "report": {"cmd": ""},
}
PARAMS = {"experiment": {"name": "small", "datasets": ["a", "b"], "agents": ["slow", "fast"]}}
ITEMS = stage_items(STAGES, PARAMS)


def test_the_time_left_is_that_of_the_same_agent_on_other_datasets() -> None:
    done = {"check": 1.0, "train@a-slow": 100.0, "train@a-fast": 10.0}
    rest = left("train@a-fast", ITEMS, done)
    assert (rest.stages, rest.seconds, rest.unmeasured) == (3, 110.0, ("report",))


def test_an_agent_that_has_not_run_is_expected_to_take_as_long_as_the_others() -> None:
    rest = left("train@a-slow", ITEMS, {"train@a-slow": 100.0})
    assert rest.seconds == 300.0


def test_interrupted_runs_of_a_stage_count_and_damaged_lines_do_not(tmp_path: Path) -> None:
    path = tmp_path / "times.jsonl"
    for seconds, state in ((30.0, "stopped"), (2.0, "failed"), (12.0, "done")):
        add_time(StageTime("small", "train@a-slow", seconds, state, 0.0), path)  # type: ignore[arg-type]
    add_time(StageTime("other", "train@a-slow", 9.0, "done", 0.0), path)
    with path.open("a") as file:
        file.write('{"experiment": "small", "stage"')
    assert by_stage(read_times("small", path)) == {"train@a-slow": 42.0}


def test_a_long_run_says_what_is_done_and_what_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("dvc.yaml").write_text(yaml.safe_dump({"stages": STAGES}, sort_keys=False))
    Path("params.yaml").write_text(yaml.safe_dump(PARAMS))
    monkeypatch.setenv("DVC_STAGE", "check")
    assert end_of_stage(2.0, "done") == ""  # Nothing is known of the time that is left.
    monkeypatch.setenv("DVC_STAGE", "train@a-slow")
    assert end_of_stage(900.0, "stopped") == ""
    assert end_of_stage(900.0, "done") == (
        "2 of 6 stages; so far 30 min (check 2 s, train 30 min); "
        "at most about 90 min left, without report"
    )
    monkeypatch.setenv("DVC_STAGE", "report")
    assert end_of_stage(3.0, "done") == ""
    assert len(TIMES.read_text().splitlines()) == 4


def test_outside_of_dvc_no_time_is_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_STAGE", raising=False)
    assert end_of_stage(1e6, "done") == ""
    assert not TIMES.exists()


# --------------------------------------------------------------------------------------- restarts

WORK = """
import sys, time
from pathlib import Path
from offline_gcrl.support.terminal import close, stage, stage_arguments

(name,) = stage_arguments("work", "name")
with stage("work", name):
    with open("began.txt", "a") as log:
        log.write(name + "\\n")
    while name == "b" and not Path("go").exists():
        time.sleep(0.05)
    Path(f"out-{name}").write_text(name)
    close("written")
"""


AUTHOR = ("-c", "user.name=test", "-c", "user.email=test@localhost")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with two studies, whose stages wait for nothing except for ``b``, which waits for a file."""
    stages = {"work": {"matrix": {"dataset": "${experiment.datasets}"}, "outs": ["out-${item.dataset}"]}}  # fmt: skip
    stages["work"]["cmd"] = f"{sys.executable} work.py ${{item.dataset}}"  # type: ignore[assignment]
    (tmp_path / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}))
    (tmp_path / "work.py").write_text(WORK)
    folder = tmp_path / STUDIES
    folder.mkdir(parents=True)
    for name in ("usual", "letters"):
        settings = {"experiment": {"name": name, "datasets": ["a", "b", "c"]}}
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(settings))
    (tmp_path / "params.yaml").write_text((folder / "usual.yaml").read_text())
    (tmp_path / ".gitignore").write_text("/out-*\nbegan.txt\ngo\n/checkpoints\n")
    for command in (["git", "init", "-q"], ["dvc", "init", "-q"], ["git", "add", "."],
                    ["git", *AUTHOR, "commit", "-q", "-m", "study"]):  # fmt: skip
        if command[0] == "dvc":
            command = [sys.executable, "-m", *command]
        subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    return tmp_path


def started(project: Path, name: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "offline_gcrl.commands.study", name, ""]
    kept = {key: value for key, value in os.environ.items() if not key.startswith("DVC_")}
    return subprocess.Popen(
        command, cwd=project, env={**kept, "PYTHONPATH": str(ROOT)}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
    )  # fmt: skip


def kill_all(process: "subprocess.Popen[str]") -> None:
    """Kill a study with DVC and its stage, and wait until none of them exists: DVC takes even a dead process for a running one.

    Orphans become children of this process, so that they are reaped on machines whose first process does not.
    """
    adopt_orphans(True)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    with suppress(ProcessLookupError):
        for _ in range(600):
            os.killpg(process.pid, 0)
            with suppress(ChildProcessError):
                os.waitpid(-process.pid, os.WNOHANG)
            time.sleep(0.05)
    adopt_orphans(False)


def adopt_orphans(on: bool) -> None:
    """Whether orphaned descendants become children of this process (PR_SET_CHILD_SUBREAPER of Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(36, int(on), 0, 0, 0)


def test_a_study_that_is_killed_continues_and_repeats_nothing_that_is_done(project: Path) -> None:
    first = started(project, "letters")
    log, deadline = project / "began.txt", time.monotonic() + 60
    while not (log.exists() and "b" in log.read_text()) and time.monotonic() < deadline:
        time.sleep(0.05)
    kill_all(first)
    assert not (project / "out-b").exists()
    (project / "go").touch()
    second = started(project, "letters")
    output, _ = second.communicate(timeout=60)
    assert second.returncode == 0, output
    assert log.read_text().split() == ["a", "b", "b", "c"]
    assert "params.yaml has the settings of this study" in output
    assert "work: " in output
    assert "3 of 3 done" in output


def test_a_study_without_git_copies_the_settings_of_before(project: Path) -> None:
    shutil.rmtree(project / ".git")
    (project / ".dvc/config").write_text("[core]\n    no_scm = true\n")
    (project / "go").touch()
    before = (project / "params.yaml").read_text()
    output, _ = started(project, "letters").communicate(timeout=60)
    assert "the settings of before are in params.1.yaml" in output
    assert "3 of 3 done" in output
    assert "git" not in output
    assert (project / "params.1.yaml").read_text() == before


@pytest.mark.parametrize("hidden", [("update-index", "--skip-worktree"), ("rm", "--cached", "-q")])
def test_changes_that_git_diff_does_not_show_are_kept(
    project: Path, hidden: tuple[str, ...]
) -> None:
    subprocess.run(["git", *hidden, "params.yaml"], cwd=project, check=True)
    if "rm" in hidden:
        subprocess.run(["git", *AUTHOR, "commit", "-qm", "untracked"], cwd=project, check=True)
    (project / "params.yaml").write_text("mine: true\n")
    output, _ = started(project, "letters").communicate(timeout=60)
    assert "params.yaml has changes that would be overwritten" in output
    assert (project / "params.yaml").read_text() == "mine: true\n"


def test_changes_of_params_that_belong_to_no_study_are_kept(project: Path) -> None:
    (project / "params.yaml").write_text("mine: true\n")
    process = started(project, "letters")
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "params.yaml has changes that would be overwritten" in output
    assert (project / "params.yaml").read_text() == "mine: true\n"
