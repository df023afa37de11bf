"""Stages of the pipeline that are killed in the middle: nothing is half-written, and the next run completes them."""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from project import Project, finished_project

pytestmark = [pytest.mark.long(seconds=40), pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return finished_project(tmp_path_factory)


KILLED = {
    "report": "reports",
    "evaluate@tiny-maze-gciql": "results/tiny-maze/gciql",
    "train@tiny-maze-gciql": "models/tiny-maze/gciql",
    "relabel@tiny-maze": "datasets/hindsight/tiny-maze",
    "ingest@tiny-maze": "datasets/parquet/tiny-maze",
    "collect@tiny-maze": "datasets/minari/tiny-maze",
}
"""Last stage first: each still has what it works on."""


def kill_in_the_middle(project: Project, stage: str, target: Path) -> None:
    """Remove a stage's output, run it again, and kill everything once it has begun to write."""
    shutil.rmtree(target)
    process = subprocess.Popen(
        ["dvc", "repro", "-s", stage],
        cwd=project.folder,
        env=project.environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    checkpoints = project.folder / "checkpoints"

    def has_begun() -> bool:
        if stage.startswith("train"):  # Killed after the first checkpoint, so that it resumes.
            return any(checkpoints.rglob("last.ckpt"))
        partial = target.parent.glob(f".{target.name}.*partial")
        return any(path.is_file() for folder in partial for path in folder.rglob("*"))

    while not has_begun():
        assert process.poll() is None, f"{stage} ended before it could be killed"
        time.sleep(0.001)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not target.exists() or {path.name for path in target.iterdir()} <= {".gitignore"}


def test_stages_killed_in_the_middle_are_made_whole(project: Project) -> None:
    before = project.outputs()
    cache = project.folder / ".dvc/cache"
    shutil.rmtree(cache / "runs")  # Nothing to restore outputs from, and nothing to resume.
    shutil.rmtree(project.folder / "checkpoints")
    for path, md5 in before.items():
        if path.startswith(tuple(KILLED.values())):
            (cache / "files/md5" / md5[:2] / md5[2:]).unlink(missing_ok=True)
    for stage, output in KILLED.items():
        kill_in_the_middle(project, stage, project.folder / output)
    assert project.repro() == set(KILLED)
    assert project.outputs() == before
    assert not list(project.folder.rglob(".*.partial"))
