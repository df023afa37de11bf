"""Output of stages: headings, progress and errors as sentences; stages end when DVC ends."""

import errno
import fcntl
import gc
import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest
import yaml
from conftest import ROOT
from ended import has_ended
from mlflow.exceptions import MlflowException
from rich.text import Text

from offline_gcrl.support import silence, terminal
from offline_gcrl.support.errors import DataError, SettingsError
from offline_gcrl.support.files import atomic_directory, code_in, copy_contents
from offline_gcrl.support.numbers import duration
from offline_gcrl.support.silence import working_on
from offline_gcrl.support.stages import place_of_stage
from offline_gcrl.support.terminal import Bars, close, note, stage, stage_arguments


def test_an_error_of_the_package_is_a_sentence_and_an_exit_code(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as ended, stage("ingest", "maze"):
        raise DataError("dataset 'x', episode 3: no transitions")
    assert ended.value.code == 1
    out, err = capfd.readouterr()
    assert out == "ingest maze\n"
    assert err == "error: dataset 'x', episode 3: no transitions\n"


def test_no_garbage_is_collected_while_a_stage_imports(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["ingest.py", "maze"])
    assert stage_arguments("Ingest.", "dataset") == ["maze"]
    assert not gc.isenabled()
    with stage("ingest", "maze"):
        assert gc.isenabled()


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
        "  done in models/ (31 s)",
    ]
    assert not terminal.console.is_terminal


def test_a_stage_that_has_nothing_to_show_says_what_it_does(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(silence, "SECONDS_OF_SILENCE", 0.1)
    with stage("evaluate", "bc"):
        with working_on("downloading 'a/b-v0'"):
            time.sleep(0.3)
        with Bars(["evaluating"], 300, "episodes") as bars:
            bars.update("evaluating", 1)
            time.sleep(0.3)
    lines = capfd.readouterr().out.splitlines()
    assert lines[1] == "  still at work: downloading 'a/b-v0'; nothing new for 0 s"
    assert "  still at work: evaluating, 1 of 300 episodes; nothing new for 0 s" in lines
    assert len(lines) < 8


def test_a_stage_with_news_says_nothing_else(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(silence, "SECONDS_OF_SILENCE", 0.4)
    with stage("evaluate", "bc"):
        for number in range(6):
            note(str(number))
            time.sleep(0.1)
    assert "still at work" not in capfd.readouterr().out
    time.sleep(0.5)  # The stage has ended, and its watch with it.
    assert capfd.readouterr().out == ""


def test_the_rate_excludes_start_up(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    with Bars(["evaluate"], 1000, "episodes") as bars:
        now[0] += 300
        bars.advance("evaluate", 1)
        now[0] += 2
        bars.advance("evaluate", 1)
    assert capfd.readouterr().out == "  evaluate: 2 of 1,000 episodes, 0.5/s, 33 min left\n"


def test_two_items_that_end_at_the_same_time_give_no_rate(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    with Bars(["filming"], 3, "videos") as bars:
        now[0] += 30
        bars.advance("filming", 1)
        now[0] += 1e-5
        bars.advance("filming", 1)
    assert capfd.readouterr().out == ""


def test_a_note_keeps_the_styles_of_a_text_and_brackets_of_a_string(
    capfd: pytest.CaptureFixture[str],
) -> None:
    note("success 0.92 [0.87, 0.96] [bold]")
    note(Text.assemble(("umaze: use gciql.", "bold"), " It reached [most]"))
    assert capfd.readouterr().out.splitlines() == [
        "  success 0.92 [0.87, 0.96] [bold]",
        "  umaze: use gciql. It reached [most]",
    ]


@pytest.mark.parametrize(
    ("seconds", "said"), [(0.4, "0 s"), (99, "99 s"), (720, "12 min"), (7500, "2 h 5 min")]
)
def test_durations_have_readable_units(seconds: float, said: str) -> None:
    assert duration(seconds) == said


def said_on_a_terminal(**environment: str) -> str:
    """The output of a stage on a terminal of 80 columns."""
    program = (
        "from offline_gcrl.support.terminal import Bars, close, stage\n"
        "with stage('train', 'bc'):\n"
        "    with Bars(['seed 0'], 10, 'updates') as bars:\n"
        "        bars.update('seed 0', 5)\n"
        "    close('in models/')\n"
    )
    kept = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "DVC_STAGE", "TERM")}
    reader, writer = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=writer,
        env={**kept, "COLUMNS": "80", "TERM": "xterm", **environment},
    )
    os.close(writer)
    said = b""
    try:
        while part := os.read(reader, 4096):
            said += part
    except OSError:  # The other end is closed.
        pass
    os.close(reader)
    assert process.wait() == 0
    return said.decode()


COLOUR = re.compile(r"\x1b\[(?:\d+;)*(?:3[0-7]|9[0-7]|38;[\d;]+)m")


def test_a_terminal_gets_a_bar_with_rate_and_time_left() -> None:
    said = said_on_a_terminal()
    assert "━" in said
    assert "5/10" in said
    assert "updates/s" in said
    assert COLOUR.search(said)
    assert "done" in said


def test_colours_are_left_out_where_they_are_disabled() -> None:
    assert not COLOUR.search(said_on_a_terminal(NO_COLOR="1"))
    plain = said_on_a_terminal(TERM="dumb")
    assert "\x1b" not in plain
    assert "━" not in plain


@pytest.mark.parametrize("killed", ["while it works", "while it imports", "before it has started"])
def test_a_stage_ends_with_dvc(killed: str, tmp_path: Path) -> None:
    """A process that has the stage as its child, as DVC has, is killed."""
    (tmp_path / "pipelines").mkdir()
    shutil.copy(ROOT / "pipelines/this_project.py", tmp_path / "pipelines")
    (tmp_path / "offline_gcrl").symlink_to(ROOT / "offline_gcrl")
    before = "time.sleep(300)\n" if killed == "while it imports" else ""
    (tmp_path / "stage.py").write_text(
        f"import sys, time\nfrom pathlib import Path\nsys.path.insert(0, 'pipelines')\n"
        f"import this_project\nPath('begun').write_text('x')\n{before}"
        "from offline_gcrl.support.terminal import stage\n"
        "with stage('train', 'bc'):\n    time.sleep(300)\n"
    )
    late = "sleep 1; " if killed == "before it has started" else ""
    shell = f"echo $$ >pid; {late}exec {sys.executable} stage.py"
    program = f"import subprocess; subprocess.run(['sh', '-c', {shell!r}])"
    environment = {**os.environ, "DVC_STAGE": "train"}
    dvc = subprocess.Popen([sys.executable, "-c", program], cwd=tmp_path, env=environment)
    child = int(appeared(tmp_path / "pid"))
    if not late:
        appeared(tmp_path / "begun")
    dvc.kill()
    dvc.wait()
    deadline = time.monotonic() + 60
    while not has_ended(child):
        assert time.monotonic() < deadline, "the stage outlived DVC"
        time.sleep(0.05)


def appeared(path: Path) -> str:
    """The content of a file that another process writes."""
    deadline = time.monotonic() + 60
    while not (path.exists() and path.read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return path.read_text()


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_ends_a_stage_and_its_workers_with_one_line(
    tmp_path: Path, sent: signal.Signals
) -> None:
    (tmp_path / "jobs.py").write_text(
        "import os, time\nfrom pathlib import Path\n"
        "def work(number):\n"
        "    Path(f'pid-{number}').write_text(str(os.getpid()))\n"
        "    time.sleep(300)\n"
    )
    (tmp_path / "stage.py").write_text(
        "from jobs import work\nfrom offline_gcrl.support.processes import ordered_map\n"
        "from offline_gcrl.support.terminal import stage\n"
        "if __name__ == '__main__':\n"
        "    with stage('train', 'bc'):\n"
        "        list(ordered_map(work, range(2), 2))\n"
    )
    process = subprocess.Popen(
        [sys.executable, "stage.py"], cwd=tmp_path, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    pids = [tmp_path / f"pid-{number}" for number in range(2)]
    deadline = time.monotonic() + 60
    while not all(pid.exists() and pid.read_text() for pid in pids):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    if sent == signal.SIGINT:  # As a terminal does, to all processes of the group.
        os.killpg(process.pid, sent)
    else:
        process.send_signal(sent)
    said, _ = process.communicate(timeout=30)
    assert said.splitlines() == ["train bc", "  stopped; `dvc repro` continues from here"]
    assert process.returncode == 130
    while not all(has_ended(int(pid.read_text())) for pid in pids):
        assert time.monotonic() < deadline, "a worker outlived its stage"
        time.sleep(0.05)


@pytest.mark.parametrize("importing", ["stage", "fork server"])
def test_an_interruption_during_imports_ends_a_stage_with_one_line(
    tmp_path: Path, importing: str
) -> None:
    (tmp_path / "slow.py").write_text(
        "import time\nfrom pathlib import Path\nPath('begun').write_text('x')\ntime.sleep(2)\n"
    )
    imports = "import slow" if importing == "stage" else "preload('slow'); time.sleep(300)"
    (tmp_path / "stage.py").write_text(
        f"import sys, time\nsys.path.insert(0, {str(ROOT / 'pipelines')!r})\nimport this_project\n"
        f"from offline_gcrl.support.processes import preload\n{imports}\n"
    )
    process = subprocess.Popen(
        [sys.executable, "stage.py"], cwd=tmp_path, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    appeared(tmp_path / "begun")
    os.killpg(process.pid, signal.SIGINT)
    said, _ = process.communicate(timeout=60)
    assert said.splitlines() == ["  stopped; `dvc repro` continues from here"]
    assert process.returncode != 0


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.ENOSPC, "No space left", "a/b"), "a/b: the disk is full"),
        (
            OSError(errno.EFBIG, "File too large", "e"),
            "e: the file is larger than the limit of this system; raise the limit with `ulimit -f",
        ),
        (PermissionError(errno.EACCES, "denied", "c"), "c: permission denied"),
        (
            MemoryError("cannot allocate 9 GB"),
            "there is not enough memory: 8.4 GiB more were needed, ",
        ),
        (json.JSONDecodeError("bad", "{", 0), "a file cannot be read (JSONDecodeError: bad"),
        (pa.ArrowInvalid("Parquet magic bytes not found"), "a file cannot be read (ArrowInvalid"),
        (pl.exceptions.ComputeError("parquet: out of spec"), "a file cannot be read (ComputeError"),
        (SettingsError("params.yaml: x"), "params.yaml: x"),
        (
            IsADirectoryError(errno.EISDIR, "Is a directory", "d"),
            "d: is a folder, and a file is expected",
        ),
        (
            MlflowException("API request failed"),
            "the MLflow store does not take the results (API request failed)",
        ),
    ],
)
def test_errors_of_the_system_and_of_readers_end_in_a_sentence(
    error: Exception, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit), terminal.stage("train", "bc"):
        raise error
    assert f"error: {said}" in capsys.readouterr().err


def test_folders_of_processes_that_run_at_the_same_time_differ_and_remains_of_dead_ones_go(
    tmp_path: Path,
) -> None:
    """A number of a process tells nothing: it may be a zombie's, or another process may have it now."""
    dead, alive = (tmp_path / f".out.{number}.partial" for number in (os.getppid(), 99999))
    for folder in (dead, alive):
        (folder / "inner").mkdir(parents=True)
    (dead / "inner").chmod(0o500)
    handle = os.open(alive, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    with atomic_directory(tmp_path / "out") as folder:
        assert folder not in (dead, alive)
        assert not dead.exists()
    os.close(handle)
    assert sorted(path.name for path in tmp_path.iterdir()) == [alive.name, "out"]


def test_a_folder_that_was_being_replaced_when_its_process_was_killed_is_there_again(
    tmp_path: Path,
) -> None:
    for name, content in ((".out.1.old.partial", "old"), (".out.1.partial", "new")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(content)
    with pytest.raises(KeyError), atomic_directory(tmp_path / "out"):
        raise KeyError
    assert (tmp_path / "out/file").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_locks_of_editors_are_no_code(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("")
    (tmp_path / ".#a.py").symlink_to("someone@somewhere")
    assert code_in(tmp_path) == [tmp_path / "a.py"]


def test_paths_are_printed_without_emoji(capsys: pytest.CaptureFixture[str]) -> None:
    note("written to x:100:y")
    assert "x:100:y" in capsys.readouterr().out


def test_a_link_is_replaced_by_the_folder_and_what_it_leads_to_is_kept(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/file").write_text("1")
    for name, target in (("out", "elsewhere"), ("dangling", "nowhere")):
        (tmp_path / name).symlink_to(tmp_path / target)
        for _ in range(2):
            with atomic_directory(tmp_path / name) as folder:
                (folder / "new").write_text("2")
        assert not (tmp_path / name).is_symlink()
        assert (tmp_path / name / "new").read_text() == "2"
    assert (tmp_path / "elsewhere/file").read_text() == "1"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dangling", "elsewhere", "out"]


def test_a_read_only_folder_is_copied_without_its_modes(tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "data").mkdir(parents=True)
    (source / "data/file").write_text("1")
    for path in (source / "data/file", source / "data", source):
        path.chmod(path.stat().st_mode & ~0o222)
    copy_contents(source, tmp_path / "copy")
    (tmp_path / "copy/data/file").write_text("2")
    assert (tmp_path / "copy/data").stat().st_mode & 0o200


def test_a_folder_is_replaced_completely_or_not_at_all(tmp_path: Path) -> None:
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


def test_a_stage_of_dvc_is_numbered_among_all_stages(monkeypatch: pytest.MonkeyPatch) -> None:
    params = yaml.safe_load((ROOT / "params.yaml").read_text())["experiment"]
    first, last = params["datasets"][0], params["agents"][-1]
    count = 2 + 4 * len(params["datasets"]) + 2 * len(params["datasets"]) * len(params["agents"])
    for name, number in (
        ("check", 1),
        (f"collect@{first}", 2),
        (f"evaluate@{params['datasets'][-1]}-{last}", count - 1),
        ("report", count),
    ):
        monkeypatch.setenv("DVC_STAGE", name)
        assert place_of_stage(ROOT) == f"stage {number} of {count}"
    monkeypatch.setenv("DVC_STAGE", "unknown")
    assert place_of_stage(ROOT) == ""
    assert place_of_stage(ROOT / "docs") == ""
    monkeypatch.delenv("DVC_STAGE")
    assert place_of_stage(ROOT) == ""
