"""One small dataset, made once and shared: real PointMaze episodes through the real pipeline."""

import os
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Each test process computes in one thread: threads would wait for each other on two cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import minari
import numpy as np
import pytest
from filelock import FileLock
from gymnasium import spaces
from minari.data_collector.episode_buffer import EpisodeBuffer

from offline_gcrl.collect.collector import collect_source, minari_root
from offline_gcrl.config import Collect, Dataset, Recipe, Relabel, load_recipe
from offline_gcrl.episodes.dataset import Episodes, open_episodes
from offline_gcrl.episodes.ingest import ingest
from offline_gcrl.hindsight.relabel import relabel
from offline_gcrl.support.imports import PRELOADED, pause_collection, resume_collection
from offline_gcrl.support.processes import preload_on_demand

pause_collection()  # until all tests are imported
USED_BY_WORKERS = (
    "offline_gcrl.collect.collector offline_gcrl.evaluation.videos offline_gcrl.training.module"
)
# Pools of workers fork from a process that has imported what the workers of most tests use, or of the tests to run.
preload_on_demand(*os.environ.get(PRELOADED, USED_BY_WORKERS).split())


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start the longest files first, so that none runs alone at the end."""
    items.sort(key=_seconds_of_file, reverse=True)


def _seconds_of_file(item: pytest.Item) -> int:
    marker = item.get_closest_marker("long")
    return marker.kwargs["seconds"] if marker else 0


def pytest_collection_finish() -> None:
    """Everything is imported now."""
    resume_collection()


ROOT = Path(__file__).parent.parent
RECIPES = ROOT / "datasets/recipes"


@dataclass(frozen=True)
class SmallDataset:
    """The small dataset at every stage."""

    recipe: Recipe
    minari: Path
    parquet: Path
    hindsight: Path
    relabel: Relabel

    @property
    def resolved(self) -> Dataset:
        return as_dataset(self.recipe)

    @property
    def episodes(self) -> Episodes:
        return open_episodes(self.parquet)


def as_dataset(*recipes: Recipe, pad: bool = False) -> Dataset:
    """Recipes as the tasks of one dataset."""
    return Dataset(name="small", title="small", recipes=recipes, pad=pad)


def small_recipe(name: str = "pointmaze-umaze", steps: int = 60) -> Recipe:
    """A recipe with a few short episodes: six of exploration and three of demonstration."""
    recipe = load_recipe(name, RECIPES)
    kwargs = {**recipe.environment.kwargs, "max_episode_steps": steps}
    counts = {"exploration": 6, "demonstration": 3}
    return recipe.model_copy(
        update={
            "environment": recipe.environment.model_copy(update={"kwargs": kwargs}),
            "sources": tuple(
                source.model_copy(update={"episodes": counts[source.kind], "share": None})
                for source in recipe.sources
            ),
        }
    )


def published_look_alike(recipe: Recipe, root: Path, episodes: int, steps: int) -> None:
    """Data with the schema of a recipe's published source, made in its environment, below a Minari root.

    The controller of the published PointMaze data is ours; elsewhere actions are random.
    """
    assert recipe.environment is not None
    maze = recipe.environment.id.startswith("PointMaze")
    collect = Collect(policy="maze_waypoint" if maze else "uniform", noise=0.5, cut_at_success=maze)
    kwargs = {**recipe.environment.kwargs, "max_episode_steps": steps}
    environment = recipe.environment.model_copy(update={"kwargs": kwargs})
    for source in recipe.sources:
        made = source.model_copy(update={"collect": collect, "episodes": episodes})
        collect_source(
            recipe.model_copy(update={"environment": environment}), made, root, workers=1
        )


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty local Minari root; the tests run in a folder in which they can write recipes."""
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "root"))
    monkeypatch.chdir(tmp_path)
    Path("datasets/recipes").mkdir(parents=True)
    return tmp_path / "root"


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """A folder that one of the test processes makes and all of them read."""
    folder = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    made, partial = folder / name, folder / f".{name}"
    with FileLock(folder / f"{name}.lock"):
        if not made.exists():
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir()
            make(partial)
            partial.rename(made)
    return made


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> SmallDataset:
    recipe, settings = small_recipe(), Relabel(k=3)

    def make(folder: Path) -> None:
        minari, parquet, hindsight = (folder / name for name in ("minari", "parquet", "hindsight"))
        for path in (minari, parquet, hindsight):
            path.mkdir()
        for source in recipe.sources:
            collect_source(recipe, source, minari, workers=1)
        ingest(as_dataset(recipe), minari, parquet)
        relabel(parquet, hindsight, settings, recipe.goal)

    folder = made_once(tmp_path_factory, "dataset", make)
    return SmallDataset(
        recipe, folder / "minari", folder / "parquet", folder / "hindsight", settings
    )


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow store to copy, because creating one takes seconds; two processes created it at the same time."""

    def make(folder: Path) -> None:
        program = "from offline_gcrl.tracking.store import Tracker; Tracker('first')"
        command = [sys.executable, "-c", program]
        processes = [subprocess.Popen(command, cwd=folder, env=plain) for _ in range(2)]
        assert [process.wait() for process in processes] == [0] * 2

    ours = ("DVC_ROOT", "MLFLOW_TRACKING_URI")
    plain = {name: value for name, value in os.environ.items() if name not in ours}
    return made_once(tmp_path_factory, "store", make) / "mlflow.db"


def episode_buffers(sizes: Any = 4) -> list[EpisodeBuffer]:
    """Three episodes of five transitions; ``sizes`` is that of the observation, or of each key."""
    random = np.random.default_rng(0)

    def filled(sizes: Any) -> Any:
        if isinstance(sizes, dict):
            return {key: filled(size) for key, size in sizes.items()}
        return random.normal(size=(6, sizes)).astype(np.float32)

    return [
        EpisodeBuffer(
            observations=filled(sizes),
            actions=random.uniform(-1, 1, (5, 2)).astype(np.float32),
            rewards=[0.0] * 5,
            terminations=[False] * 5,
            truncations=[False] * 4 + [True],
        )
        for _ in range(3)
    ]


def space_of(sizes: Any) -> spaces.Space[Any]:
    if isinstance(sizes, dict):
        return spaces.Dict({key: space_of(size) for key, size in sizes.items()})
    return spaces.Box(-np.inf, np.inf, (sizes,), np.float32)


def write_minari(
    dataset: str, root: Path, episodes: list[EpisodeBuffer], observation_space: spaces.Space[Any]
) -> None:
    """A Minari dataset of a user's own, without environment, below a Minari root."""
    with minari_root(root), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Minari asks for authors, an environment, a description.
        minari.create_dataset_from_buffers(
            dataset,
            episodes,
            observation_space=observation_space,
            action_space=spaces.Box(-1.0, 1.0, (2,), np.float32),
            data_format="hdf5",
        )
