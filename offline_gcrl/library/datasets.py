"""``load_dataset``: from a name to episodes that agents are trained on, in a temporary folder."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import minari
import numpy as np
from minari.storage import get_dataset_path

from offline_gcrl.collect.collector import (
    check_sources,
    collect_source,
    max_steps_per_episode,
)
from offline_gcrl.collect.published import fetch_published
from offline_gcrl.config import (
    Dataset,
    Environment,
    Goal,
    Recipe,
    Relabel,
    Source,
    nearest,
    recipe_names,
    resolve,
)
from offline_gcrl.config import load_dataset as load_resolved
from offline_gcrl.config.outputs import DATASET, SCHEMA
from offline_gcrl.environments.held_out_goals import check_region
from offline_gcrl.environments.making import check_environments
from offline_gcrl.environments.tasks import check_tasks
from offline_gcrl.episodes.ingest import ingest
from offline_gcrl.episodes.outliers import isolated_sentence
from offline_gcrl.episodes.published import check_published
from offline_gcrl.episodes.sources import open_source
from offline_gcrl.goals.instructions import Sentences
from offline_gcrl.hindsight.relabel import relabel
from offline_gcrl.library.explained import explained
from offline_gcrl.library.folders import TemporaryFolder
from offline_gcrl.library.plain import plain
from offline_gcrl.library.processes import without_main_module
from offline_gcrl.library.sources import (
    LOAD,
    EnvironmentLike,
    check_arguments,
    dataset_of_minari,
    environment_settings,
    evaluation_in,
    is_minari_id,
    packaged_recipes,
    recipe_with_source,
)
from offline_gcrl.support.digests import read_json
from offline_gcrl.support.errors import DataError, OfflineGCRLError, SettingsError
from offline_gcrl.support.files import atomic_directory, write_text
from offline_gcrl.support.stores import copy_from_store, is_remote
from offline_gcrl.support.terminal import Bars

REMEDY = "copy a folder such as datasets/parquet/<name> there, with all of its files"
EXAMPLE = "goal={'success': {'kind': 'distance', 'tolerance': 0.45}}"


@dataclass(frozen=True, repr=False)
class LearningData:
    """Episodes to train on, with the recipe that describes them; ``load_dataset`` makes it."""

    dataset: Dataset
    """Name, tasks, goals and evaluation."""
    episodes: Path
    """The folder of the ingested episodes."""
    folder: TemporaryFolder
    """The temporary folder, which exists as long as this object does."""

    def __repr__(self) -> str:
        counts, tasks = self.counts, ", ".join(self.dataset.tasks)
        size = f"{counts['episodes']:,} episodes, {counts['transitions']:,} transitions"
        return f"LearningData({self.dataset.name}: {size}, tasks: {tasks})"

    @property
    def recipe(self) -> Recipe:
        """The recipe of the first task, which is the only one unless the dataset is a suite."""
        return self.dataset.recipes[0]

    @property
    def counts(self) -> dict[str, Any]:
        """Numbers of episodes, steps and transitions, and of each source."""
        counts: dict[str, Any] = read_json(self.episodes / SCHEMA)["counts"]
        return counts

    def hindsight(self, settings: Relabel) -> Path:
        """The folder of the hindsight table with these settings, which is computed at its first use."""
        words = settings.model_dump_json()
        known = self.folder.path / "hindsight"
        # Another thread may be writing one, whose name begins with a dot.
        finished = list(known.glob("[!.]*"))
        for folder in finished:
            if (folder / "settings.json").read_text("utf-8") == words:
                return folder
        target = known / str(len(finished))
        with (
            atomic_directory(target) as made,
            Bars(["relabel"], self.counts["transitions"], "transitions") as bars,
        ):
            relabel(
                self.episodes,
                made,
                settings,
                self.recipe.goal,
                lambda count: bars.advance("relabel", count),
                sentences=Sentences.of(self.dataset),
            )
            write_text(made / "settings.json", words)
        return target


def load_dataset(
    source: str | Path | minari.MinariDataset,
    *,
    goal: Mapping[str, Any] | Goal | None = None,
    environment: EnvironmentLike | None = None,
    episodes: int | None = None,
) -> LearningData:
    """Load data to train on, convert it to checked episodes, and find the environment to evaluate policies in.

    Args:
        source: one of

            - a Minari dataset, or its id: read from the local Minari root, or downloaded to it;
            - the name of a recipe of this package, whose data is generated or downloaded;
            - a file with a recipe (``.yaml``);
            - a folder of ingested episodes, such as ``datasets/parquet/<name>`` of a project, also in an object store
              (``s3://...``), from which it is copied.
        goal: for a Minari dataset, which keys are the goals and when a goal counts as reached: the section ``goal`` of
            a recipe. It may be left out for a dataset that a recipe of this package describes.
        environment: where policies are evaluated, if not in the environment that the data or the recipe names.
        episodes: number of episodes of a Minari dataset, all if left out; or per task of a recipe, instead of its number.

    Raises:
        OfflineGCRLError: the source is unknown, its data is broken, or the goal or the environment does not fit it.
    """
    place = environment_settings(environment) if environment is not None else None
    episodes = plain(episodes)
    check_arguments(source, episodes)
    if isinstance(source, minari.MinariDataset):
        return _from_minari(source, goal, place, episodes)
    if goal is None and is_remote(source):
        return _from_store(str(source), place, episodes)
    path, name = Path(source), str(source)
    is_folder = path.is_dir() and ((path / SCHEMA).is_file() or not is_minari_id(name))
    if goal is None and (is_folder or path.suffix == ".yaml" or name in _recipes()):
        if is_folder:
            return _ingested(path, place, episodes)
        folder = path.parent if path.suffix == ".yaml" else packaged_recipes()
        return _from_recipe(resolve(path.stem, episodes, folder), place)
    if is_minari_id(name):
        known = recipe_with_source(name) if goal is None else None
        if known:
            return _from_recipe(resolve(known, episodes, packaged_recipes()), place)
        return _from_minari(_opened(name), goal, place, episodes)
    if goal is not None:
        raise SettingsError(
            f"{LOAD}: goal: is for a Minari dataset, and '{name}' is none; a recipe has its own goal"
        )
    raise SettingsError(
        f"{LOAD}: '{name}' is no folder, no file, no Minari id such as 'D4RL/pointmaze/umaze-v2' and no recipe; "
        f"{nearest(name, _recipes())}"
    )


def _recipes() -> list[str]:
    return recipe_names(packaged_recipes())


def _from_store(address: str, place: Environment | None, episodes: int | None) -> LearningData:
    """A copy of a folder of ingested episodes; its digests are compared when it is opened."""
    kept = TemporaryFolder()
    folder = kept.path / "parquet" / (address.rstrip("/").rpartition("/")[2] or "data")
    copy_from_store(address, folder, SCHEMA, REMEDY)
    return _ingested(folder, place, episodes, kept)


def _ingested(
    folder: Path,
    place: Environment | None,
    episodes: int | None,
    kept: TemporaryFolder | None = None,
) -> LearningData:
    """A folder of ingested episodes, which contains its resolved dataset."""
    if missing := [name for name in (SCHEMA, DATASET) if not (folder / name).is_file()]:
        raise DataError(
            f"{folder}: has no {missing[0]}; name a complete folder of ingested episodes, such as datasets/parquet/<name>"
        )
    if episodes is not None:
        raise SettingsError(f"{LOAD}: episodes: a folder of ingested episodes is used completely")
    dataset = load_resolved(Path(DATASET).stem, folder)
    return LearningData(_evaluated_in(dataset, place), folder.resolve(), kept or TemporaryFolder())


def _evaluated_in(dataset: Dataset, place: Environment | None) -> Dataset:
    """The dataset with another environment for evaluation, if one is given."""
    return dataset if place is None else with_environment(dataset, place)


def with_environment(dataset: Dataset, environment: Environment) -> Dataset:
    """The dataset with another environment for evaluation.

    Raises:
        SettingsError: the dataset has several tasks, which one environment cannot evaluate, or it does not fit.
    """
    if len(dataset.recipes) > 1:
        raise SettingsError(
            f"environment: '{dataset.name}' has {len(dataset.recipes)} tasks, each with its own environment; leave it out"
        )
    (recipe,) = dataset.recipes
    former = recipe.evaluation
    evaluation = (
        former.model_copy(update={"environment": environment})
        if former
        else evaluation_in(environment, recipe.goal)
    )
    changed = recipe.model_copy(update={"evaluation": evaluation})
    check_environments(changed.model_copy(update={"environment": None}), dataset.name)
    return dataset.model_copy(update={"recipes": (changed,)})


def _from_recipe(dataset: Dataset, place: Environment | None) -> LearningData:
    """The data of a recipe or suite: generated or fetched, then ingested."""
    for recipe in dataset.recipes:
        for check in (check_environments, check_sources, check_region):
            check(recipe, recipe.task)
    check_tasks(dataset, dataset.name)
    dataset = _evaluated_in(dataset, place)
    folder = TemporaryFolder()
    root = folder.path / "minari"
    root.mkdir()
    with without_main_module(), explained(LOAD):
        for recipe in dataset.recipes:
            for source in recipe.sources:
                _provide(recipe, source, root)
    return _ingest(dataset, root, folder)


def _provide(recipe: Recipe, source: Source, root: Path) -> None:
    """Generate a source below a Minari root, or fetch it."""
    if source.collect is None:
        local = get_dataset_path(source.dataset) / "data"
        if source.address or not _link(local, source.dataset, root):
            fetch_published(source.dataset, root, source.address)
        for remark in check_published(recipe, source, root):
            warnings.warn(remark, stacklevel=5)
        return
    assert source.episodes is not None
    total = source.episodes * max_steps_per_episode(recipe)
    with Bars([source.dataset], total, "steps") as bars:
        collect_source(
            recipe, source, root, on_steps=lambda count: bars.advance(source.dataset, count)
        )


def _link(data: Path, name: str, root: Path) -> bool:
    """Make a Minari dataset appear below another root, if it exists."""
    if not (data / "metadata.json").exists():
        return False
    (root / name).mkdir(parents=True)
    (root / name / "data").symlink_to(data.resolve(), target_is_directory=True)
    return True


def _opened(name: str) -> minari.MinariDataset:
    """A Minari dataset of the local root, or downloaded to it."""
    root = get_dataset_path("")
    if not (root / name / "data" / "metadata.json").exists():
        with TemporaryDirectory() as copy:
            fetch_published(name, Path(copy))
    return open_source(Source(dataset=name, kind="demonstration"), root)


def _from_minari(
    data: minari.MinariDataset,
    goal: Mapping[str, Any] | Goal | None,
    place: Environment | None,
    episodes: int | None,
) -> LearningData:
    """The data of a Minari dataset, with the environment that it names."""
    name = data.id
    if goal is None:
        raise SettingsError(
            f"{LOAD}: goal: is missing, and no recipe describes '{name}'; say when a goal counts as reached, for "
            f"example {EXAMPLE}"
        )
    if not np.array_equal(data.episode_indices, np.arange(data.storage.total_episodes)):
        raise DataError(
            f"{LOAD}: '{name}' is a selection of its episodes; pass the complete dataset, with 'episodes' for the first ones"
        )
    dataset = dataset_of_minari(data, goal, place, episodes)
    dataset = _checked(dataset, is_given=place is not None)
    folder = TemporaryFolder()
    root = folder.path / "minari"
    _link(Path(data.storage.data_path), name, root)
    check_published(dataset.recipes[0], dataset.recipes[0].sources[0], root)
    return _ingest(dataset, root, folder)


def _checked(dataset: Dataset, *, is_given: bool) -> Dataset:
    """The dataset; without evaluation if the environment that the data names cannot be used."""
    (recipe,) = dataset.recipes
    try:
        check_environments(recipe, dataset.name)
        check_tasks(dataset, dataset.name)
    except OfflineGCRLError as error:
        if is_given:
            raise
        warnings.warn(
            f"policies cannot be evaluated in the environment that the data names: {error}; pass 'environment'",
            stacklevel=4,
        )
        without = recipe.model_copy(update={"evaluation": None})
        return dataset.model_copy(update={"recipes": (without,)})
    return dataset


def _ingest(dataset: Dataset, root: Path, folder: TemporaryFolder) -> LearningData:
    """Ingest the sources below a Minari root."""
    episodes = folder.path / "episodes"
    episodes.mkdir()
    sources = [source for recipe in dataset.recipes for source in recipe.sources]
    total = sum(open_source(source, root).total_steps for source in sources)
    names = ["ingest", *(["images"] if dataset.images else [])]
    progress = Bars(names, total, "transitions")
    with without_main_module(), explained(LOAD), progress as bars:
        on_parts = (partial(bars.advance, "ingest"), partial(bars.advance, "images"))
        schema = ingest(dataset, root, episodes, *on_parts)
    for found in schema["isolated_values"]:
        warnings.warn(isolated_sentence(found), stacklevel=4)
    return LearningData(dataset, episodes, folder)
