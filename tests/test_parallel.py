"""Pools preserve order, report a dead worker, and leave no orphans."""

import gc
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from ended import has_ended

from offline_gcrl.support.errors import OfflineGCRLError
from offline_gcrl.support.imports import OBJECTS_BETWEEN_COLLECTIONS
from offline_gcrl.support.processes import balanced_workers, cores, ordered_map


def square(number: int) -> int:
    time.sleep(0.01 * (number % 3))
    return number * number


def die(number: int) -> int:
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def test_results_have_the_order_of_the_items() -> None:
    assert list(ordered_map(square, range(40), workers=3, window=5)) == [n * n for n in range(40)]


def test_a_killed_worker_ends_the_work_with_an_error_of_the_package() -> None:
    with pytest.raises(OfflineGCRLError, match="a worker process died"):
        list(ordered_map(die, range(9), workers=2))


def start_of_a_worker(_: int) -> tuple[bool, bool, bool, int]:
    is_imported = "gymnasium_robotics" in sys.modules
    return is_imported, gc.isenabled(), gc.get_freeze_count() > 10_000, gc.get_threshold()[0]


def test_workers_start_with_the_preloaded_modules_and_collect_their_own_garbage() -> None:
    (start,) = ordered_map(start_of_a_worker, [0], workers=1)
    assert start == (True, True, True, OBJECTS_BETWEEN_COLLECTIONS)


@pytest.mark.parametrize(("jobs", "rounds"), [(1, 1), (2, 1), (3, 1), (4, 2), (5, 2), (8, 4)])
def test_workers_share_the_rounds_evenly_on_two_cores(
    jobs: int, rounds: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("offline_gcrl.support.processes.cores", lambda: 2)
    assert balanced_workers(jobs) == -(-jobs // rounds)
    assert cores() >= 1


def test_workers_end_with_a_killed_parent(tmp_path: Path) -> None:
    (tmp_path / "sleeper.py").write_text(
        "import os, time\nfrom pathlib import Path\n"
        "def sleep(number):\n"
        "    Path(f'pid-{number}').write_text(str(os.getpid()))\n"
        "    time.sleep(300)\n"
        "if __name__ == '__main__':\n"
        "    from offline_gcrl.support.processes import ordered_map\n"
        "    import sleeper\n"
        "    list(ordered_map(sleeper.sleep, range(2), workers=2))\n"
    )
    parent = subprocess.Popen([sys.executable, "sleeper.py"], cwd=tmp_path)
    deadline = time.monotonic() + 60
    while len([p for p in tmp_path.glob("pid-*") if p.read_text()]) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    workers = [int(path.read_text()) for path in tmp_path.glob("pid-*")]
    parent.kill()
    parent.wait()
    while not all(has_ended(worker) for worker in workers):
        assert time.monotonic() < deadline, "a worker outlived its parent"
        time.sleep(0.05)
