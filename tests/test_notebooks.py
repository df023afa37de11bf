"""The notebooks run on a small run of the pipeline, and lie in the repository light and whole."""

import json
import shutil
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path
from typing import Any

import nbformat
import pytest
from conftest import RECIPES, ROOT, SmallDataset
from execute import execute, kernel_in
from jupyter_client import KernelManager

from offline_gcrl.agents import settings_type
from offline_gcrl.config import Dataset, agent_settings, load_dataset, load_params
from offline_gcrl.evaluation.plan import evaluate, plan_evaluation
from offline_gcrl.evaluation.results import combine_seeds
from offline_gcrl.hindsight.statistics import describe
from offline_gcrl.report.facts import Folders
from offline_gcrl.report.results import load_results
from offline_gcrl.report.writing import write_report
from offline_gcrl.support.files import write_json
from offline_gcrl.tracking.evaluation import log_results
from offline_gcrl.tracking.store import Subject, Tracker
from offline_gcrl.tracking.training import TrainingRuns
from offline_gcrl.training.jobs import training_jobs
from offline_gcrl.training.module import train_seed

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
TRAINING = ("06-instructions",)
"""Notebooks that train a policy, which takes half a minute; only in `make test-all`."""
NAME = "pointmaze-umaze"
AGENTS, SEEDS = ("gciql", "bc"), (0, 1)
PARAMS = {
    "experiment": {
        "name": "small",
        "datasets": [NAME],
        "agents": list(AGENTS),
        "seeds": list(SEEDS),
    },
    "collect": {},
    "relabel": {"k": 3},
    "train": {"updates": 20, "batch_size": 32, "snapshots": 2},
    "evaluate": {"episodes": 3, "curve_episodes": 1},
    "agents": {agent: {"algorithm": agent, "hidden": [16, 16]} for agent in AGENTS},
}
OUTPUT_LIMIT, NOTEBOOK_LIMIT = 60_000, 250_000  # Bytes.
pytestmark = pytest.mark.timeout(600)  # kernels take as long as the machine is busy


@pytest.fixture(scope="module")
def run(dataset: SmallDataset, empty_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as a run of the pipeline leaves it, with a few updates and episodes."""
    project = tmp_path_factory.mktemp("run")
    shutil.copy(empty_store, project)
    shutil.copytree(RECIPES, project / "datasets/recipes")
    for kind in ("parquet", "hindsight"):
        shutil.copytree(getattr(dataset, kind), project / "datasets" / kind / NAME)
    write_json(project / f"datasets/resolved/{NAME}.json", shortened(dataset))
    write_json(project / "params.yaml", PARAMS)  # JSON is YAML.
    with chdir(project), pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.delenv("DVC_ROOT", raising=False)
        make_outputs(dataset)
    return project


def shortened(dataset: SmallDataset) -> Any:
    """The resolved recipe, with short evaluation episodes."""
    content = dataset.resolved.model_copy(update={"name": NAME}).model_dump(mode="json")
    content["recipes"][0]["evaluation"]["environment"]["kwargs"]["max_episode_steps"] = 60
    return content


def make_outputs(dataset: SmallDataset) -> None:
    """Statistics, policies, results, runs in MLflow and a report, in the working folder."""
    table = Path("datasets/hindsight") / NAME
    goal = dataset.recipe.goal
    write_json(table / "stats.json", describe(dataset.parquet, table, dataset.relabel, goal))
    resolved = load_dataset(NAME)
    for agent in AGENTS:
        train_and_evaluate(agent, resolved)
    params, datasets, folders = load_params(), {NAME: resolved}, Folders()
    results = load_results(params.experiment, datasets, folders.results)
    write_report(params, datasets, results, folders, Path("reports"))


def train_and_evaluate(agent: str, resolved: Dataset) -> None:
    """What the stages `train` and `evaluate` do, in this process."""
    params, tracker, subject = load_params(), Tracker("small"), Subject(NAME, agent, agent)
    train, evaluation = params.train_for(NAME), params.evaluate_for(NAME)
    settings = agent_settings(params, agent, NAME, settings_type(agent))
    models, folder = Path("models") / NAME / agent, Path("results") / NAME / agent
    jobs = training_jobs(NAME, agent, SEEDS, train, settings, models)
    said = {"train": train.model_dump(), "agent": settings.model_dump()}
    runs = TrainingRuns(tracker, subject, jobs, said, {})
    for job in jobs:
        train_seed(job, runs.log_event)
    runs.finish()
    policies = {seed: models / f"seed-{seed}" for seed in SEEDS}
    results = evaluate(plan_evaluation(policies, resolved, evaluation), 1)
    for seed, result in results.items():
        result.write(folder / f"seed-{seed}")
    over, said = (
        combine_seeds(list(results.values())),
        evaluation.model_dump(exclude={"workers", "video"}),
    )
    log_results(tracker, subject, policies, results, over, "success_rate", folder, said)


def texts(notebook: Any) -> str:
    """All that the cells of a notebook printed or showed as text."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return "\n".join(
        output.get("text", "") or output.get("data", {}).get("text/plain", "") for output in outputs
    )


@pytest.fixture(scope="module")
def kernel(run: Path) -> Iterator[KernelManager]:
    """One kernel, because a new one imports torch, MLflow and Matplotlib again."""
    with kernel_in(run) as started:
        yield started


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(path, marks=[pytest.mark.slow] if path.stem in TRAINING else [], id=path.stem)
        for path in NOTEBOOKS
    ],
)
def test_every_notebook_runs_on_what_a_run_leaves(path: Path, kernel: KernelManager) -> None:
    executed = execute(path, kernel)
    assert all(
        output.output_type != "error"
        for cell in executed.cells
        for output in cell.get("outputs", [])
    )
    assert len(texts(executed)) > 100


def test_the_worked_example_gives_its_known_numbers() -> None:
    said = texts(nbformat.read(ROOT / "notebooks/02-hindsight.ipynb", as_version=4))
    assert "rewards: [0.0, 0.0]  share of rewarded labels: 0.0" in said
    assert "Q(s2, up, g')    = 0.1\n" in said
    assert "Q(s1, right, g') = 0.0098" in said


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_committed_outputs_are_of_one_whole_run(path: Path) -> None:
    code = [c for c in nbformat.read(path, as_version=4).cells if c.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    for cell in code:
        for output in cell.outputs:
            assert output.output_type != "error"
            assert output.get("name") != "stderr", output.text


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_committed_outputs_are_light_and_name_no_machine(path: Path) -> None:
    content = path.read_text()
    assert len(content) < NOTEBOOK_LIMIT
    for cell in nbformat.read(path, as_version=4).cells:
        for output in cell.get("outputs", []):
            said = json.dumps(output)
            assert len(said) < OUTPUT_LIMIT, f"{len(said)} bytes from:\n{cell.source}"
            for word in ("/tmp", "/home/", "/root/", "/work/", "site-packages"):
                assert word not in said, f"{word} in the output of:\n{cell.source}"
