"""A run of the pipeline for which a training seed and a published dataset were added."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from conftest import RECIPES, published_look_alike
from project import Project, finished_project

from offline_gcrl.config import load_recipe

pytestmark = [pytest.mark.long(seconds=70), pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return finished_project(tmp_path_factory)


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
    os.environ["HF_HUB_OFFLINE"] = "1"
    try:
        said = project.dvc("repro", "collect@pointmaze-umaze-d4rl", fails=True)
        assert "D4RL/pointmaze/umaze-v2/data/main_data.hdf5" in "".join(said.split())
        recipe = load_recipe("pointmaze-umaze-d4rl", RECIPES)
        published_look_alike(recipe, project.folder.parent / "minari", episodes=2, steps=400)
        return Growth(before, saved, project.repro())
    finally:
        del os.environ["HF_HUB_OFFLINE"]


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
