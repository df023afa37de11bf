"""The whole pipeline through DVC, on a tiny dataset: what a run leaves, what runs again, experiments, and killed stages.

The tests share one project, and so a warm process: each project has its own, which takes seconds to start.
"""

import csv
import io
import json
import os
import re
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from conftest import RECIPES, ROOT, published_look_alike
from project import Project, run_tiny_project, stages_that_ran

from offline_gcrl import load_policy
from offline_gcrl.commands.experiments import experiments_table
from offline_gcrl.config import load_recipe

pytestmark = [pytest.mark.long(seconds=150), pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return run_tiny_project(tmp_path_factory.mktemp("project"))


def test_a_run_leaves_data_policies_results_and_a_report(project: Project) -> None:
    folder = project.folder
    metrics = json.loads((folder / "reports/metrics.json").read_text())
    for agent in ("bc", "gciql"):
        rate = metrics["tiny-maze"][agent]["success_rate"]
        assert set(rate) == {"mean", "low", "high", "episodes", "seeds"}
        assert (rate["episodes"], rate["seeds"]) == (6, 2)
        for seed in (0, 1):
            results = folder / f"results/tiny-maze/{agent}/seed-{seed}"
            assert len(pl.read_parquet(results / "episodes.parquet")) == 3
            assert len(pl.read_parquet(results / "curve.parquet")) == 2
            policy = load_policy(folder / f"models/tiny-maze/{agent}/seed-{seed}")
            assert policy.act(np.zeros(4), np.zeros(2)).shape == (2,)
    assert "| gciql |" in (folder / "reports/table.md").read_text()
    for name in ("success", "learning_curves", "goals-tiny-maze", "hindsight-tiny-maze"):
        assert (folder / f"reports/figures/{name}.svg").read_text().count("<path") > 10
    assert not list(folder.rglob(".*.partial"))


def test_git_sees_nothing_of_a_run_but_its_lock_and_its_numbers(project: Project) -> None:
    seen = git_files(project.folder) - git_files(ROOT)
    assert seen <= {"dvc.lock", "datasets/recipes/tiny-maze.yaml"}
    assert (project.folder / ".gitignore").read_text() == (ROOT / ".gitignore").read_text()


def git_files(folder: Path) -> set[str]:
    """The files that are tracked, or that ``git status`` lists as untracked."""
    command = ["git", "ls-files", "-co", "--exclude-standard"]
    return set(subprocess.run(command, cwd=folder, capture_output=True, text=True).stdout.split())


def test_every_seed_is_one_run_in_mlflow_with_training_and_evaluation(project: Project) -> None:
    runs = {run.info.run_name: run for run in project.runs()}
    assert set(runs) == {
        f"{agent}{seed} on tiny-maze"
        for agent in ("bc", "gciql")
        for seed in ("", " seed 0", " seed 1")
    }
    over = runs["gciql on tiny-maze"]
    metrics = json.loads((project.folder / "reports/metrics.json").read_text())
    rate = metrics["tiny-maze"]["gciql"]["success_rate"]
    assert over.data.metrics["success_rate"] == rate["mean"]
    assert over.data.metrics["success_rate_high"] == rate["high"]
    assert over.info.status == "FINISHED"
    run = runs["gciql seed 1 on tiny-maze"]
    assert run.data.tags["mlflow.parentRunId"] == over.info.run_id
    assert len(run.outputs.model_outputs) == 1  # The policy, which other tests load.
    assert run.info.status == "FINISHED"
    assert run.data.tags["dataset"] == "tiny-maze"
    assert run.data.params["agent.alpha"] == "3.0"
    assert {"actor/loss", "success_rate", "success_rate_low", "evaluation/success_rate"} <= set(
        run.data.metrics
    )
    digest = run.inputs.dataset_inputs[0].dataset.digest
    assert project.outputs()["datasets/parquet/tiny-maze"] == f"{digest}.dir"


def test_a_second_run_does_nothing(project: Project) -> None:
    assert project.repro() == set()


def test_metrics_are_dvcs(project: Project) -> None:
    assert "success_rate" in project.dvc("metrics", "show", "--json")


def test_a_queued_experiment_reruns_its_agent_only_and_lands_in_the_same_store(
    project: Project,
) -> None:
    for command in (["git", "add", "-A"], ["git", "commit", "-qm", "x"]):
        subprocess.run(command, cwd=project.folder, env=project.environment(), check=True)
    known = {run.info.run_id for run in project.runs()}
    said = project.dvc("exp", "run", "--temp", "-n", "tried", "-S", "agents.gciql.learning_rate=0.002")  # fmt: skip
    ran = stages_that_ran(said)
    assert ran == {"check", "train@tiny-maze-gciql", "evaluate@tiny-maze-gciql", "report"}
    new = [run for run in project.runs() if run.info.run_id not in known]
    assert {run.data.tags["dvc.experiment"] for run in new} == {"tried"}
    assert {run.data.params["agent.learning_rate"] for run in new} == {"0.002"}
    rows = csv.DictReader(io.StringIO(project.dvc("exp", "show", "--csv")))
    heading, lines = experiments_table(list(rows))
    assert {"agents.gciql.learning_rate", "gciql on tiny-maze"} <= set(heading)
    (tried,) = (dict(zip(heading, line, strict=True)) for line in lines if line[0] == "tried")
    assert tried["agents.gciql.learning_rate"] == "0.002"
    assert re.fullmatch(r"\d\.\d\d \[\d\.\d\d, \d\.\d\d\]", tried["gciql on tiny-maze"])
    changed = json.loads(project.dvc("params", "diff", "HEAD", "tried", "--json"))
    assert changed["params.yaml"]["agents.gciql.learning_rate"]["new"] == 0.002


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


@dataclass(frozen=True)
class Growth:
    """What a run did for which a training seed and a published dataset were added."""

    before: dict[Path, bytes]
    """Policies of the seeds before."""
    saved: dict[Path, int]
    """Times at which their last checkpoints were written, in nanoseconds."""
    stages: set[str]


@pytest.fixture(scope="module")
def growth(project: Project) -> Growth:
    def grow(params: Any) -> None:
        datasets = ["tiny-maze", "pointmaze-umaze-d4rl"]
        params["experiment"].update(datasets=datasets, agents=["gciql"], seeds=[0, 1, 2])
        params["evaluate"]["video"]["episodes"] = 0

    policies = project.folder.glob("models/tiny-maze/gciql/seed-*/policy.pt")
    before = {path: path.read_bytes() for path in policies}
    checkpoints = project.folder.glob("checkpoints/tiny-maze/gciql/*/*/last.ckpt")
    saved = {path: path.stat().st_mtime_ns for path in checkpoints}
    project.change(grow)
    said = project.dvc("repro", "collect@pointmaze-umaze-d4rl", fails=True)
    assert "D4RL/pointmaze/umaze-v2/data/main_data.hdf5" in "".join(said.split())
    recipe = load_recipe("pointmaze-umaze-d4rl", RECIPES)
    published_look_alike(recipe, project.folder.parent / "minari", episodes=2, steps=400)
    return Growth(before, saved, project.repro())


def test_a_seed_added_later_leaves_the_others_alone(project: Project, growth: Growth) -> None:
    assert len(growth.before) == 2
    assert len(growth.saved) >= 2
    for path, content in growth.before.items():
        assert path.read_bytes() == content
    for path, written in growth.saved.items():
        assert path.stat().st_mtime_ns == written  # Not trained again.
    assert (project.folder / "models/tiny-maze/gciql/seed-2/policy.pt").exists()
    ran = {stage for stage in growth.stages if "tiny-maze" in stage}
    assert ran == {"train@tiny-maze-gciql", "evaluate@tiny-maze-gciql"}


def test_published_data_runs_through_the_pipeline_once_it_is_there(
    project: Project, growth: Growth
) -> None:
    added = "pointmaze-umaze-d4rl"
    assert {f"collect@{added}", f"train@{added}-gciql"} <= growth.stages
    schema = json.loads((project.folder / f"datasets/parquet/{added}/schema.json").read_text())
    counts = schema["counts"]["sources"]["D4RL/pointmaze/umaze-v2"]
    assert counts["episodes"] >= counts["successful_episodes"] > 2
    metrics = json.loads((project.folder / "reports/metrics.json").read_text())
    assert metrics[added]["gciql"]["success_rate"]["episodes"] == 9


def test_a_misspelt_key_ends_at_once_with_its_name(project: Project) -> None:
    original = (project.folder / "params.yaml").read_text()
    project.change(lambda params: params["agents"]["gciql"].update(expectil=0.9))
    said = project.dvc("repro", fails=True)
    (project.folder / "params.yaml").write_text(original)
    assert "params.yaml: agents.gciql.expectil: unknown key; did you mean 'expectile'?" in " ".join(
        said.split()
    )
    assert "Running stage 'check'" in said
    assert "Running stage 'train" not in said
    assert "Traceback" not in said
