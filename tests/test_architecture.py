"""The house rules: stages declare what they import, data flows one way, scripts stay thin."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from conftest import ROOT

STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
WITHOUT_EFFECT = ("__init__.py", "errors.py", "terminal.py", "tracking")
"""Modules that cannot change an output: what is said, and where it is logged."""
HEAVY = {"torch", "mujoco", "mlflow", "lightning", "polars", "pyarrow", "gymnasium", "matplotlib"}
IN_WORKERS = {"train": ["offline_gcrl.training"]}
"""Modules that a stage imports in its workers only."""


def imported(script: Path) -> list[str]:
    """Modules of the package that a script imports, at its top or where it needs them."""
    nodes = ast.walk(ast.parse(script.read_text()))
    names = [node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)]
    return [name for name in names if name.startswith("offline_gcrl")]


@pytest.mark.parametrize("stage", STAGES)
def test_what_a_stage_imports_lies_within_its_dependencies(stage: str) -> None:
    modules = imported(ROOT / f"pipelines/{stage}.py") + IN_WORKERS.get(stage, [])
    assert len(modules) > 2
    program = (
        f"import sys, {', '.join(modules)}\n"
        "print('\\n'.join(m.__file__ for n, m in sys.modules.items() if n.startswith('offline_gcrl')))"
    )
    answer = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT
    )
    declared = [dep for dep in STAGES[stage]["deps"] if "$" not in dep]
    for line in answer.stdout.split():
        path = Path(line).relative_to(ROOT)
        if any(path.is_relative_to(Path("offline_gcrl") / part) for part in WITHOUT_EFFECT):
            continue
        assert any(path.is_relative_to(dep) for dep in declared), f"{stage} imports {path}"


@pytest.mark.parametrize("stage", STAGES)
def test_a_script_imports_nothing_heavy_before_it_knows_what_to_do(stage: str) -> None:
    program = (
        f"import sys; sys.path.insert(0, 'pipelines'); import {stage}; print(' '.join(sys.modules))"
    )
    answer = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert not HEAVY & set(answer.stdout.split())


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


def test_importing_the_package_imports_nothing_heavy() -> None:
    program = "import sys, offline_gcrl, offline_gcrl.config; print(' '.join(sys.modules))"
    answer = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert not HEAVY & set(answer.stdout.split())


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_has_help_or_a_description(stage: str) -> None:
    source = ast.parse((ROOT / f"pipelines/{stage}.py").read_text())
    assert ast.get_docstring(source)
    assert STAGES[stage]["desc"]
