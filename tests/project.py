"""A project of a user: a clone of the repository with its own parameters, run through DVC."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
import yaml
from conftest import ROOT

from offline_gcrl.support import warm

BIN = Path(sys.executable).parent
TINY: dict[str, Any] = {
    "experiment": {"name": "tiny", "datasets": ["tiny-maze"], "agents": ["gciql", "bc"], "seeds": [0, 1]},
    "train": {"updates": 40, "batch_size": 32, "snapshots": 2},
    "evaluate": {"episodes": 3, "curve_episodes": 1, "video": {"episodes": 1, "size": 64}},
}  # fmt: skip


def add_tiny_maze(recipes: Path) -> None:
    """The default dataset with a few short episodes."""
    recipe = yaml.safe_load((recipes / "pointmaze-umaze.yaml").read_text())
    recipe["environment"]["kwargs"]["max_episode_steps"] = 100
    for source, episodes in zip(recipe["sources"], (6, 3), strict=True):
        source["episodes"] = episodes
        del source["share"]
    recipe["evaluation"]["environment"]["kwargs"]["max_episode_steps"] = 50
    (recipes / "tiny-maze.yaml").write_text(yaml.safe_dump(recipe))


@dataclass(frozen=True)
class Project:
    """A clone of the repository with settings of its own."""

    folder: Path
    experiment: str

    @classmethod
    def cloned(cls, folder: Path, params: dict[str, Any]) -> "Project":
        """A fresh clone."""
        tracked = subprocess.run(
            ["git", "ls-files", "-co", "--exclude-standard"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
        for name in tracked.stdout.split():
            if (ROOT / name).is_file() and name != "dvc.lock":
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / name, folder / name)
        subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
        project = cls(folder, params["experiment"]["name"])
        project.change(lambda content: content.update(params))
        return project

    def environment(self) -> dict[str, str]:
        """The variables of this process, with which all runs of DVC in this project share a warm process."""
        others = ("DVC_", "MLFLOW_", "PYTEST_")
        kept = {k: v for k, v in os.environ.items() if not k.startswith(others)}
        git = {
            f"GIT_{role}_{part}": "test@localhost"
            for role in ("AUTHOR", "COMMITTER")
            for part in ("NAME", "EMAIL")
        }
        minari_path = str(self.folder.parent / "minari")
        path = f"{BIN}:{kept['PATH']}"
        session = {warm.SESSION: str(os.getpid())}
        own = {"PATH": path, "MINARI_DATASETS_PATH": minari_path, "HF_HUB_OFFLINE": "1"}
        return {**kept, **git, **session, **own}

    def dvc(self, *arguments: str, fails: bool = False) -> str:
        answer = subprocess.run(
            ["dvc", *arguments], cwd=self.folder, env=self.environment(), capture_output=True, text=True
        )  # fmt: skip
        assert (answer.returncode != 0) == fails, answer.stdout + answer.stderr
        return answer.stdout + answer.stderr

    def repro(self) -> set[str]:
        """Names of the stages that ran."""
        return stages_that_ran(self.dvc("repro"))

    def change(self, edit: Callable[[Any], None]) -> None:
        path = self.folder / "params.yaml"
        content = yaml.safe_load(path.read_text())
        edit(content)
        path.write_text(yaml.safe_dump(content))

    def outputs(self) -> dict[str, str]:
        """Digest of every output, by its path."""
        lock = yaml.safe_load((self.folder / "dvc.lock").read_text())
        return {
            out["path"]: out["md5"]
            for stage in lock["stages"].values()
            for out in stage.get("outs", [])
        }

    def runs(self) -> list[Any]:
        client = mlflow.MlflowClient(f"sqlite:///{self.folder / 'mlflow.db'}")
        experiment = client.get_experiment_by_name(self.experiment)
        return list(client.search_runs([experiment.experiment_id]))


def stages_that_ran(output: str) -> set[str]:
    """Names of the stages that ran, by what DVC printed."""
    return set(re.findall(r"Running stage '([^']+)'", output))


def run_tiny_project(folder: Path) -> Project:
    """A project with a tiny maze in ``folder/repo`` after its first run."""
    project = Project.cloned(folder / "repo", TINY)
    add_tiny_maze(project.folder / "datasets/recipes")
    stages = {
        "check",
        "collect@tiny-maze",
        "ingest@tiny-maze",
        "describe@tiny-maze",
        "relabel@tiny-maze",
        "report",
    }
    stages |= {
        f"{stage}@tiny-maze-{agent}" for stage in ("train", "evaluate") for agent in ("bc", "gciql")
    }
    assert project.repro() == stages
    return project
