"""Rules of the repository: stages declare their imports, folders import in one direction, scripts are short."""

import ast
import subprocess
import sys
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import pytest
import yaml
from conftest import ROOT

STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
WITHOUT_EFFECT = ("__init__.py", "tracking")
"""Parts that cannot change an output of a stage."""
FOLDERS = (
    "support", "config", "statistics", "goals", "environments", "figures", "collect", "convert", "episodes",
    "cards", "hindsight", "networks", "agents", "policies", "training", "evaluation", "library", "tuning",
    "tracking", "report", "commands",
)  # fmt: skip
"""Folders of the package from the bottom to the top: a folder imports only itself and folders before it."""
MAX_LINES = 350
MAX_LINES_OF_AGENTS = 200
MAX_FOLDERS = 10
HEAVY = {"torch", "mujoco", "mlflow", "lightning", "polars", "pyarrow", "gymnasium", "matplotlib"}
IN_WORKERS = {"train": ["offline_gcrl.training.module"]}
"""Modules that a stage imports only in its workers."""


def imported(script: Path) -> list[str]:
    """Modules of the package that a script imports, at its top or within functions."""
    nodes = ast.walk(ast.parse(script.read_text()))
    names = [node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)]
    return [name for name in names if name.startswith("offline_gcrl")]


@cache
def imported_at_once(path: Path) -> list[str]:
    """Names that a file imports when it is imported itself: modules, and what is taken out of them."""
    nodes: list[ast.AST] = [ast.parse(path.read_text())]
    names = []
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.module is not None
            assert node.level == 0, f"{path} has a relative import"
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif not (isinstance(node, ast.FunctionDef) or is_for_types_only(node)):
            nodes += ast.iter_child_nodes(node)
    return names


def is_for_types_only(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


def files_behind(modules: Iterable[str]) -> set[Path]:
    """Files of the package that importing these modules runs, without running them."""
    found: set[Path] = set()
    waiting = list(modules)
    while waiting:
        parts = waiting.pop().split(".")
        if parts[0] != "offline_gcrl":
            continue
        for length in range(1, len(parts) + 1):
            place = ROOT.joinpath(*parts[:length])
            for path in (place / "__init__.py", place.with_suffix(".py")):
                if path.is_file() and path not in found:
                    found.add(path)
                    waiting += imported_at_once(path)
    return found


@pytest.mark.parametrize("stage", STAGES)
def test_the_imports_of_a_stage_are_among_its_dependencies(stage: str) -> None:
    modules = imported(ROOT / f"pipelines/{stage}.py") + IN_WORKERS.get(stage, [])
    assert len(modules) > 2
    declared = [dep for dep in STAGES[stage]["deps"] if "$" not in dep]
    for file in files_behind(modules):
        path = file.relative_to(ROOT)
        if any(path.is_relative_to(Path("offline_gcrl") / part) for part in WITHOUT_EFFECT):
            continue
        assert any(path.is_relative_to(dep) for dep in declared), f"{stage} imports {path}"


def test_the_files_behind_a_stage_are_those_that_python_loads() -> None:
    modules = imported(ROOT / "pipelines/ingest.py")
    program = f"import sys, {', '.join(modules)}; print(*[m.__file__ for n, m in sys.modules.items() if n.startswith('offline_gcrl')])"
    assert files_behind(modules) == {Path(path) for path in output_of(program).split()}


def output_of(program: str) -> str:
    """The output of a program that runs in its own process."""
    command = [sys.executable, "-c", program]
    return subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout


@pytest.fixture(scope="module")
def loaded() -> dict[str, set[str]]:
    """Modules that the package loads, and then those that the script of each stage adds."""
    program = (
        "import sys; sys.path.insert(0, 'pipelines'); import offline_gcrl, offline_gcrl.config\n"
        "print('package', *sys.modules)\n"
        f"for stage in {list(STAGES)}:\n"
        "    before = set(sys.modules)\n"
        "    __import__(stage)\n"
        "    print(stage, *(set(sys.modules) - before))\n"
    )
    lines = [line.split() for line in output_of(program).splitlines()]
    return {name: set(modules) for name, *modules in lines}


@pytest.mark.parametrize("stage", STAGES)
def test_a_script_imports_nothing_heavy_before_it_has_read_its_arguments(
    stage: str, loaded: dict[str, set[str]]
) -> None:
    assert stage in loaded[stage]
    assert not HEAVY & loaded[stage]


def test_importing_the_package_imports_nothing_heavy(loaded: dict[str, set[str]]) -> None:
    assert not HEAVY & loaded["package"]


@pytest.mark.parametrize("stage", STAGES)
def test_every_dependency_on_the_package_exists(stage: str) -> None:
    for dep in STAGES[stage]["deps"]:
        if dep.startswith(("offline_gcrl", "pipelines")):
            assert (ROOT / dep).exists(), dep


def functions(path: Path) -> list[ast.FunctionDef]:
    return [
        node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef)
    ]


def test_functions_are_short_and_scripts_thin() -> None:
    for path in [*(ROOT / "offline_gcrl").rglob("*.py"), *(ROOT / "pipelines").glob("*.py")]:
        for function in functions(path):
            length = (function.end_lineno or 0) - function.lineno + 1
            assert length <= 60, f"{path}: {function.name} has {length} lines"
    for path in (ROOT / "pipelines").glob("*.py"):
        assert len(path.read_text().splitlines()) <= 70, path


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_has_help_or_a_description(stage: str) -> None:
    source = ast.parse((ROOT / f"pipelines/{stage}.py").read_text())
    assert ast.get_docstring(source)
    assert STAGES[stage]["desc"]


def folder_of(module: str) -> str:
    return module.split(".")[1]


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_folder_imports_only_lower_folders(folder: str) -> None:
    below = FOLDERS[: FOLDERS.index(folder) + 1]
    for path in sorted((ROOT / "offline_gcrl" / folder).rglob("*.py")):
        for module in imported(path):
            if module != "offline_gcrl":
                assert folder_of(module) in below, f"{path.relative_to(ROOT)} imports {module}"


def test_the_package_consists_of_folders_with_docstrings() -> None:
    package = ROOT / "offline_gcrl"
    files = {path.name for path in package.iterdir() if path.is_file()}
    assert files == {"__init__.py", "py.typed"}
    folders = {path.name for path in package.iterdir() if path.is_dir()} - {"__pycache__"}
    assert folders == set(FOLDERS)
    for folder in FOLDERS:
        assert ast.get_docstring(ast.parse((package / folder / "__init__.py").read_text())), folder


def test_no_file_is_longer_than_the_limit() -> None:
    for path in (ROOT / "offline_gcrl").rglob("*.py"):
        assert len(path.read_text().splitlines()) <= MAX_LINES, path


def test_no_file_of_an_agent_is_longer_than_its_own_limit() -> None:
    for path in (ROOT / "offline_gcrl" / "agents").rglob("*.py"):
        assert len(path.read_text().splitlines()) <= MAX_LINES_OF_AGENTS, path


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_few_folders_of_the_package(stage: str) -> None:
    parts = [dep for dep in STAGES[stage]["deps"] if dep.startswith("offline_gcrl/")]
    assert len(parts) <= MAX_FOLDERS
    assert all((ROOT / part).is_dir() for part in parts)


def test_a_gitignore_that_dvc_writes_changes_no_dependency() -> None:
    """The report depends on folders of outputs, in which DVC lists some outputs sooner and some later."""
    folders = [dep for dep in STAGES["report"]["deps"] if not dep.endswith(".py")]
    paths = [f"{folder}/.gitignore" for folder in folders]
    command = [sys.executable, "-m", "dvc", "check-ignore", *paths]
    answer = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    assert answer.stdout.split() == paths
