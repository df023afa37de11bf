"""From the name of a recipe or suite to a ``Dataset``: read files, fill in numbers of episodes, join tasks."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic_core import PydanticCustomError

from offline_gcrl.config.reading import (
    NAME,
    NAME_IN_WORDS,
    nearest,
    read_yaml,
    reject_repeats,
    validated,
)
from offline_gcrl.config.recipes import Dataset, Recipe, Suite
from offline_gcrl.support.digests import intact
from offline_gcrl.support.errors import SettingsError, message_of

RECIPES = Path("datasets/recipes")
RESOLVED = Path("datasets/resolved")


def load_recipe(name: str, folder: Path = RECIPES) -> Recipe:
    """Read and check one recipe.

    Raises:
        SettingsError: naming file, key, expectation and remedy.
    """
    recipe = _load(name, folder)
    if isinstance(recipe, Suite):
        raise SettingsError(
            f"{_file(name, folder)}: this is a suite; a recipe with sources is needed"
        )
    return recipe


def resolve(
    name: str, episodes: int | Literal["full"] | None = None, folder: Path = RECIPES
) -> Dataset:
    """A recipe or suite as a dataset, with the number of episodes of every source filled in.

    Args:
        name: name of the recipe or suite.
        episodes: episodes per task, instead of the number in the recipe; ``full`` is the published size.
        folder: folder of the recipes.

    Raises:
        SettingsError: naming file, key, expectation and remedy.
    """
    loaded = _load(name, folder)
    members = loaded.members if isinstance(loaded, Suite) else (name,)
    recipes = tuple(
        _counted(load_recipe(member, folder), episodes, _file(member, folder)) for member in members
    )
    pad = isinstance(loaded, Suite) and loaded.pad
    dataset = Dataset(name=name, title=loaded.title, recipes=recipes, pad=pad)
    _check_joined(dataset, _file(name, folder))
    return dataset


def load_dataset(name: str, folder: Path = RESOLVED) -> Dataset:
    """The dataset that the stage ``check`` resolved.

    Raises:
        SettingsError: ``check`` has not run for this dataset, or its output was changed.
    """
    path = _file(name, folder, ".json")
    if not path.exists():
        raise SettingsError(f"{path}: no such file; run `dvc repro`, whose first stage writes it")
    try:
        return Dataset.model_validate_json(intact(path).read_text("utf-8"))
    except ValueError:
        raise SettingsError(
            f"{path}: is damaged, or of another version; run `dvc repro --force --single-item check` to write it again"
        ) from None


def recipe_names(folder: Path = RECIPES) -> list[str]:
    """Names of all recipes and suites in a folder; hidden files, as editors and archives leave them, are none.

    Raises:
        SettingsError: the folder does not exist.
    """
    if not folder.is_dir():
        raise SettingsError(f"{folder}: no such folder; run from the root of the project")
    return sorted(path.stem for path in folder.glob("*.yaml") if NAME.fullmatch(path.stem))


def read_recipes(folder: Path = RECIPES) -> tuple[dict[str, Dataset], dict[str, str]]:
    """All recipes and suites of a folder as datasets, and why no run can use the others; both by name."""
    datasets, reasons = {}, {}
    for path in sorted(folder.glob("[!.]*.yaml")):
        if not NAME.fullmatch(path.stem):
            reasons[path.stem] = f"{path}: its name is not made of {NAME_IN_WORDS}"
            continue
        try:
            datasets[path.stem] = resolve(path.stem, folder=folder)
        except (SettingsError, OSError) as error:
            reasons[path.stem] = (message_of(error) or str(error)).splitlines()[0]
    return datasets, reasons


def unusable_recipes(folder: Path = RECIPES) -> dict[str, str]:
    """The recipes and suites of a folder that no run can use, with the reasons, by name."""
    return read_recipes(folder)[1]


def _file(name: str, folder: Path, suffix: str = ".yaml") -> Path:
    return folder / f"{name}{suffix}"


def _load(name: str, folder: Path) -> Recipe | Suite:
    path = _file(name, folder)
    if path.exists() and not NAME.fullmatch(name):
        raise SettingsError(f"{path}: its name is not made of {NAME_IN_WORDS}; rename the file")
    if path.is_symlink() and not path.exists():
        raise SettingsError(f"{path}: is a link to {path.readlink()}, which does not exist")
    if not path.exists():
        raise SettingsError(f"{folder}: no recipe '{name}'; {nearest(name, recipe_names(folder))}")
    data = read_yaml(path)
    if isinstance(data, dict) and "members" in data:
        return validated(Suite, data, path)
    return validated(Recipe, data, path)


def _counted(recipe: Recipe, episodes: int | Literal["full"] | None, path: Path) -> Recipe:
    """The recipe with numbers of episodes instead of shares."""
    if episodes == "full":
        if recipe.full_episodes is None:
            raise SettingsError(
                f"{path}: 'full_episodes' is missing, and collect.episodes of params.yaml is 'full'; set a "
                "number there"
            )
        if recipe.sources[0].collect is None and len(recipe.sources) == 1:
            return recipe  # Its published size is that of the published dataset.
        episodes = recipe.full_episodes
    total = episodes or recipe.episodes
    if total is None:
        return recipe
    if episodes is None and not any(source.share for source in recipe.sources):
        return recipe
    counts = _apportioned(total, _weights(recipe, path))
    sources = tuple(
        source.model_copy(update={"episodes": count, "share": None})
        for source, count in zip(recipe.sources, counts, strict=True)
    )
    return recipe.model_copy(update={"sources": sources, "episodes": total})


def _weights(recipe: Recipe, path: Path) -> list[float]:
    """The relative sizes of the sources; the only source of a recipe needs none."""
    weights = [source.share or source.episodes for source in recipe.sources]
    if len(weights) == 1:
        return [1.0]
    if None in weights:
        raise SettingsError(
            f"{path}: sources.{weights.index(None)}: 'episodes' is missing, by which collect.episodes of params.yaml is "
            "divided among the sources; set a number there"
        )
    return [float(weight or 0.0) for weight in weights]


def _apportioned(total: int, weights: Sequence[float]) -> list[int]:
    """Integers in proportion to the weights, at least 1 each, by the largest-remainder method."""
    exact = [total * weight / sum(weights) for weight in weights]
    counts = [max(1, int(share)) for share in exact]
    by_remainder = sorted(range(len(exact)), key=lambda index: counts[index] - exact[index])
    for index in by_remainder[: max(0, total - sum(counts))]:
        counts[index] += 1
    return counts


def _check_joined(dataset: Dataset, path: Path) -> None:
    """Check the properties that the tasks of a suite must share."""
    first = dataset.recipes[0]
    for recipe in dataset.recipes[1:]:
        if recipe.goal.success != first.goal.success:
            raise SettingsError(
                f"{path}: members: '{recipe.task}' and '{first.task}' differ in goal.success; it must be the "
                "same for all tasks of a suite"
            )
        if (recipe.goal.desired is None) != (first.goal.desired is None):
            raise SettingsError(
                f"{path}: members: only one of '{recipe.task}' and '{first.task}' has a goal.desired"
            )
        if recipe.goal.is_full_state != first.goal.is_full_state:
            raise SettingsError(
                f"{path}: members: the goals of only one of '{recipe.task}' and '{first.task}' are full "
                "states"
            )
    _check_images(dataset, path)
    criteria = {recipe.evaluation.criterion for recipe in dataset.recipes if recipe.evaluation}
    if len(criteria) > 1:
        raise SettingsError(
            f"{path}: members: evaluation.criterion is 'last_step' for some and 'any_step' for others; it must "
            "be the same for all tasks of a suite"
        )
    sources = [source.dataset for recipe in dataset.recipes for source in recipe.sources]
    for what, names in (("task", dataset.tasks), ("source", sources)):
        try:
            reject_repeats(names)
        except PydanticCustomError as error:
            raise SettingsError(f"{path}: members: {what} {error}") from None


def _check_images(dataset: Dataset, path: Path) -> None:
    """Check that all tasks have images of the same size, or none has any."""
    shapes = {recipe.images.shape if recipe.images else None for recipe in dataset.recipes}
    if len(shapes) > 1:
        raise SettingsError(
            f"{path}: members: images have different sizes, or only some tasks have any; they must be the same for all "
            "tasks of a suite"
        )
