"""The whole pipeline through DVC, on a tiny dataset: what a run leaves, what runs again, and experiments."""

import csv
import io
import json
import re
import subprocess
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from conftest import ROOT
from project import Project, finished_project, stages_that_ran

from offline_gcrl import load_policy
from offline_gcrl.commands.experiments import experiments_table

pytestmark = [pytest.mark.long(seconds=60), pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return finished_project(tmp_path_factory)


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
