"""The README: its links, numbers and commands agree with the code and with the other pages."""

import re
import shutil
from pathlib import Path
from urllib.parse import urlparse

from conftest import RECIPES, ROOT
from dvc.utils.hydra import apply_overrides, get_hydra_sweeps

from benchmarks.run import BUDGETS
from offline_gcrl.agents import settings_type
from offline_gcrl.config import algorithm_names, check_agent, load_params, resolve

README = (ROOT / "README.md").read_text()
STARTED = (ROOT / "docs/getting-started.md").read_text()


def test_links_lead_to_files_that_are_there() -> None:
    for link in re.findall(r"\]\(([^)#]+)\)", README):
        assert urlparse(link).scheme == "https" or (ROOT / link).exists(), link


def test_the_algorithms_and_the_recipes_are_counted() -> None:
    assert len(algorithm_names()) == 12
    assert "**Twelve algorithms**" in README
    assert "| goal-conditioned algorithms | 12 | 6 |" in README
    assert f"**{len(list(RECIPES.glob('*.yaml')))} datasets and suites**" in README


def test_the_default_run_has_the_same_results_and_time_in_both_introductions() -> None:
    def results(page: str) -> list[str]:
        return re.findall(r"^\| (?:gofar|gciql|bc) \|.* \|$", page, re.MULTILINE)

    assert results(README) == results(STARTED)
    assert len(results(README)) == 3
    assert "2.5 to 4 minutes on 2 cores after installing" in README
    assert "2.5 to 4 minutes on 2 cores after installing" in STARTED


def test_the_time_of_the_benchmarks_is_the_sum_of_their_limits() -> None:
    minutes = sum(limit for part, limit in BUDGETS.items() if part != "gpu") // 60
    for page in ("README.md", "Makefile", "benchmarks/README.md"):
        assert f"at most {minutes} minutes on 2 cores" in (ROOT / page).read_text()


def experiments(page: str) -> list[list[str]]:
    """The settings that each line with ``dvc exp run`` of a page changes, in the order of the lines."""
    lines = re.findall(r"^\$ dvc exp run .*-S.*$", page, re.MULTILINE)
    return [re.findall(r"-S '?([^\s']+)", line) for line in lines]


def test_the_experiments_are_valid_in_the_order_in_which_they_are_printed(tmp_path: Path) -> None:
    """Changes of ``params.yaml`` accumulate, so that a line could name an agent that an earlier one has left out."""
    assert all(line in experiments(README) for line in experiments(STARTED))
    shutil.copytree(RECIPES, tmp_path / "datasets/recipes")
    file = Path(shutil.copy(ROOT / "params.yaml", tmp_path))
    for changes in experiments(README):
        *_, last = get_hydra_sweeps({str(file): changes})
        apply_overrides(str(file), last[str(file)])
        check(file, changes)


def check(file: Path, changes: list[str]) -> None:
    """Read the settings as the stage ``check`` does; the agents that a line changes must be part of the run."""
    params = load_params(file)
    for name in params.experiment.datasets:
        resolve(name, params.collect_for(name).episodes, file.parent / "datasets/recipes")
    for agent in params.experiment.agents:
        check_agent(params, agent, settings_type(params.agents[agent]["algorithm"]), {})
    changed = {found[1] for change in changes if (found := re.match(r"agents\.([^.]+)", change))}
    assert changed <= set(params.experiment.agents)
