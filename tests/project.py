"""A project of a user: a clone of the repository with its own parameters, run through DVC."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import yaml
from conftest import ROOT

BIN = Path(sys.executable).parent


class Project:
    """A fresh clone of the repository with settings of its own."""

    def __init__(self, folder: Path, params: dict[str, Any]) -> None:
        self.folder = folder
        self.experiment = params["experiment"]["name"]
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
        self.change(lambda content: content.update(params))

    def environment(self) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("DVC_", "MLFLOW_"))}
        git = {
            f"GIT_{role}_{part}": "test@localhost"
            for role in ("AUTHOR", "COMMITTER")
            for part in ("NAME", "EMAIL")
        }
        minari_path = str(self.folder.parent / "minari")
        path = f"{BIN}:{kept['PATH']}"
        return {**kept, **git, "PATH": path, "MINARI_DATASETS_PATH": minari_path}

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
