"""Files that nobody meant to be used stop no run: leftovers of editors, broken recipes, links; and other folders."""

import importlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from conftest import RECIPES, ROOT

import offline_gcrl.config.agents
from offline_gcrl.agents import settings_type
from offline_gcrl.commands import catalogue, experiments
from offline_gcrl.config import (
    algorithm_names,
    check_agent,
    load_params,
    recipe_names,
    resolve,
    unusable_recipes,
)
from offline_gcrl.environments.own_code import _files, own_code, unwatched_code
from offline_gcrl.support.errors import OfflineGCRLError, SettingsError

RECIPE = (RECIPES / "pointmaze-umaze.yaml").read_text()
BROKEN = {
    "my maze.yaml": "my maze.yaml: its name is not made of letters, digits, '-' and '_'",
    "half.yaml": "half.yaml: environment: Input should be an object",
    "link.yaml": "link.yaml: is a link to gone.yaml, which does not exist",
    "folder.yaml": "folder.yaml: is a folder, and a file is expected",
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The recipes of a project, among what editors, archives and people leave behind."""
    monkeypatch.chdir(tmp_path)
    recipes = tmp_path / "datasets/recipes"
    recipes.mkdir(parents=True)
    for name in ("pointmaze-umaze.yaml", "fetch-reach.yaml"):
        shutil.copy(RECIPES / name, recipes)
    for name in ("pointmaze-umaze.yaml~", "x.yaml.orig", "._x.yaml", ".x.yaml.swp", "#x.yaml#"):
        (recipes / name).write_text("no recipe")
    (recipes / ".#x.yaml").symlink_to("user@host.1234")
    return recipes


@pytest.fixture
def broken(folder: Path) -> Path:
    (folder / "my maze.yaml").write_text(RECIPE)
    (folder / "half.yaml").write_text(RECIPE.split("environment:")[0] + "environment: 1\n")
    (folder / "link.yaml").symlink_to("gone.yaml")
    (folder / "folder.yaml").mkdir()
    return folder


def test_leftovers_in_the_folder_of_recipes_are_no_recipes(folder: Path) -> None:
    assert recipe_names(folder) == ["fetch-reach", "pointmaze-umaze"]
    assert unusable_recipes(folder) == {}


def test_recipes_that_cannot_be_used_are_named_with_the_reason(broken: Path) -> None:
    reasons = unusable_recipes(broken)
    assert sorted(f"{name}.yaml" for name in reasons) == sorted(BROKEN)
    for file, reason in BROKEN.items():
        assert reason in reasons[file.removesuffix(".yaml")]


def test_a_broken_recipe_stops_only_a_run_that_uses_it(
    broken: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(RECIPES, broken, dirs_exist_ok=True)  # Patterns of params.yaml name them.
    shutil.copy(ROOT / "params.yaml", "params.yaml")
    monkeypatch.syspath_prepend(ROOT / "pipelines")
    monkeypatch.setattr(sys, "argv", ["check.py"])
    check = importlib.import_module("check")
    check.main()
    shown = capsys.readouterr().out
    assert shown.count("warning not used: ") == len(BROKEN)
    assert "half.yaml: environment" in shown
    resolved = {path.name for path in Path("datasets/resolved").glob("*.json")}
    assert resolved & {"pointmaze-umaze.json", "half.json"} == {"pointmaze-umaze.json"}
    text = Path("params.yaml").read_text().replace("[pointmaze-umaze]", "[pointmaze-umaze, half]")
    Path("params.yaml").write_text(text)
    with pytest.raises(SystemExit):
        check.main()
    assert "half.yaml: environment: Input should be" in capsys.readouterr().err


def test_a_pattern_that_matches_a_broken_recipe_stops_no_run(broken: Path) -> None:
    content = yaml.safe_load((ROOT / "params.yaml").read_text())
    content["agents"] = {"bc": content["agents"]["bc"]}
    content["experiment"]["agents"] = ["bc"]
    content["train"].pop("per_dataset", None)
    content["agents"]["bc"]["per_dataset"] = {"h*": {"hidden": [8]}}
    Path("params.yaml").write_text(yaml.safe_dump(content))
    params, settings = load_params(Path("params.yaml")), settings_type("bc")
    check_agent(params, "bc", settings, unusable_recipes(broken))
    with pytest.raises(SettingsError, match=r"half\.yaml: environment"):
        check_agent(params, "bc", settings)


def test_a_recipe_that_is_a_link_is_read(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere.yaml").write_text(RECIPE)
    (folder / "linked.yaml").symlink_to(tmp_path / "elsewhere.yaml")
    assert (
        resolve("linked", folder=folder).recipes
        == resolve("pointmaze-umaze", folder=folder).recipes
    )


def test_leftovers_in_the_folder_of_agents_are_no_algorithms(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("bc.py", "._bc.py", "bc.py~", "bc.py.orig", "bc copy.py", "#bc.py#", "bc-old.py"):
        (tmp_path / "agents" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "agents" / name).write_text("")
    (tmp_path / "agents/.#bc.py").symlink_to("user@host.1234")
    monkeypatch.setattr(offline_gcrl.config.agents, "AGENTS", tmp_path / "agents")
    assert algorithm_names() == ["bc"]


def test_leftovers_beside_an_environment_are_not_part_of_its_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "left_over_arm"
    package.mkdir()
    for name in ("__init__.py", "arm.xml", "arm.xml~", ".arm.xml.swp", "._arm.xml", "arm.xml.orig"):
        (package / name).write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    found = [path.name for path in _files("left_over_arm", tmp_path)]
    assert found == ["__init__.py", "arm.xml"]


def test_the_code_of_an_own_environment_is_part_of_its_dataset_and_watched_in_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = resolve("pointmaze-umaze", folder=RECIPES)
    recipe = dataset.recipes[0]
    assert recipe.environment is not None
    own = recipe.environment.model_copy(update={"id": "own_arm:Arm-v0"})
    dataset = dataset.model_copy(
        update={"recipes": (recipe.model_copy(update={"environment": own}),)}
    )
    (tmp_path / "environments").mkdir()
    (tmp_path / "environments/own_arm.py").write_text("x = 1")
    monkeypatch.syspath_prepend(tmp_path / "environments")
    before = own_code(dataset, tmp_path)
    assert list(before) == ["own_arm"]
    assert unwatched_code(dataset, tmp_path) == []
    (tmp_path / "environments/own_arm.py").write_text("x = 2")
    assert own_code(dataset, tmp_path) != before
    (tmp_path / "environments/own_arm.py").rename(tmp_path / "own_arm.py")
    monkeypatch.syspath_prepend(tmp_path)
    assert unwatched_code(dataset, tmp_path) == [tmp_path / "own_arm.py"]


def test_check_depends_on_the_folder_of_own_environments() -> None:
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    assert "environments" in stages["check"]["deps"]
    assert (ROOT / "environments").is_dir()


@pytest.mark.parametrize("command", [catalogue, experiments])
def test_commands_outside_of_a_project_say_so(
    command: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    calls = {catalogue: catalogue.catalogue, experiments: experiments.read_experiments}
    with pytest.raises(OfflineGCRLError, match="no such file|no such folder") as error:
        calls[command]()  # type: ignore[index]
    assert "run from the root of the project" in str(error.value)


def test_the_list_of_datasets_leaves_out_what_cannot_be_used(broken: Path) -> None:
    assert [entry.name for entry in catalogue.catalogue(broken)] == [
        "fetch-reach",
        "pointmaze-umaze",
    ]


def test_a_copy_without_git_says_so(tmp_path: Path) -> None:
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / ".dvc").mkdir()
    needed = ["make", "needs-git"]
    environment = os.environ | {"GIT_CEILING_DIRECTORIES": str(tmp_path.parent)}
    answer = subprocess.run(needed, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert answer.returncode != 0
    assert "has no Git repository, which DVC needs; clone the project, or run" in answer.stderr
    (tmp_path / ".dvc/config").write_text("[core]\n    no_scm = true\n")
    subprocess.run(needed, cwd=tmp_path, env=environment, check=True)


@pytest.mark.parametrize(
    ("key", "names"), [("datasets", ["fetch-reach", "Fetch-Reach"]), ("agents", ["bc", "BC"])]
)
def test_names_that_differ_in_case_only_are_refused(
    key: str, names: list[str], folder: Path
) -> None:
    (folder / "Fetch-Reach.yaml").write_text(RECIPE)
    content = yaml.safe_load((ROOT / "params.yaml").read_text())
    content["experiment"][key] = names
    Path("params.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(
        SettingsError, match=f"experiment.{key}: '{names[0]}' and '{names[1]}' differ"
    ):
        load_params(Path("params.yaml"))
