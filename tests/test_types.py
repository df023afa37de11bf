"""The types of the package, its stages, tests and benchmarks."""

import subprocess
import sys

import pytest
from conftest import ROOT

pytestmark = pytest.mark.long(seconds=30)


def test_mypy_finds_no_errors() -> None:
    answer = subprocess.run(
        [sys.executable, "-m", "mypy"], cwd=ROOT, capture_output=True, text=True
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr
