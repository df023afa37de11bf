"""From what a user names to a recipe: the recipes of the package, a file with a recipe, or a Minari dataset."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gymnasium
import minari
from gymnasium.envs.registration import EnvSpec

import offline_gcrl
from offline_gcrl.config import (
    RECIPES,
    Dataset,
    Environment,
    Evaluation,
    Goal,
    Part,
    Recipe,
    Source,
    load_recipe,
    recipe_names,
)
from offline_gcrl.config.reading import validated
from offline_gcrl.library.plain import plain
from offline_gcrl.support.errors import SettingsError
from offline_gcrl.support.stores import is_remote

LOAD = Path("load_dataset()")
"""The name of the function in errors about its arguments."""
DESIRED = (Part(key="desired_goal"),)
"""Where the environments of Gymnasium-Robotics and others show the goal of an episode."""
EnvironmentLike = str | Mapping[str, Any] | EnvSpec | gymnasium.Env[Any, Any] | Environment
"""An environment: its id, the section ``environment`` of a recipe, a spec, or an environment that has a spec."""


def check_arguments(source: object, episodes: object) -> None:
    """Check the types of the arguments of ``load_dataset``.

    Raises:
        SettingsError: naming the argument and what it must be.
    """
    if not isinstance(source, str | Path | minari.MinariDataset):
        raise SettingsError(
            f"{LOAD}: source: expected a name, a path or a Minari dataset, not {type(source).__name__}"
        )
    if source == "":
        raise SettingsError(
            f"{LOAD}: source: is empty; name a recipe, a dataset, a file or a folder"
        )
    if isinstance(source, str | Path):
        _check_recipe_file(str(source))
    if episodes is not None and (type(episodes) is not int or episodes < 1):
        raise SettingsError(f"{LOAD}: episodes: expected a positive whole number, not {episodes!r}")


def _check_recipe_file(name: str) -> None:
    """Check the ending of the name of a file with a recipe, and that there is such a file."""
    if name.endswith(".yml"):
        raise SettingsError(f"{LOAD}: {name}: files of recipes end with .yaml; rename it")
    if name.endswith(".yaml") and not is_remote(name) and not Path(name).exists():
        raise SettingsError(
            f"{LOAD}: {name}: no such file; recipes of this package are named without .yaml"
        )


def packaged_recipes() -> Path:
    """The folder of the recipes: in an installed wheel, or in the project that this package belongs to."""
    package = Path(offline_gcrl.__file__).parent
    installed = package / "recipes"
    return installed if installed.is_dir() else package.parent / RECIPES


def environment_settings(environment: EnvironmentLike, where: Path = LOAD) -> Environment:
    """The section ``environment`` of a recipe, from any description of an environment.

    Args:
        environment: the description.
        where: the function that it was given to, for errors.

    Raises:
        SettingsError: an environment has no spec, or keys are unknown.
    """
    if isinstance(environment, Environment):
        return environment
    if isinstance(environment, str):
        return Environment(id=environment)
    if isinstance(environment, Mapping):
        return validated(Environment, plain(environment), where, ("environment",))
    spec = environment.spec if isinstance(environment, gymnasium.Env) else environment
    if not isinstance(spec, EnvSpec):
        raise SettingsError(
            f"{where}: environment: expected an id, a dict with 'id' and 'kwargs', or an environment that "
            f"gymnasium.make has created, not {type(environment).__name__}"
        )
    limit = {} if spec.max_episode_steps is None else {"max_episode_steps": spec.max_episode_steps}
    data = {"id": _importable_id(spec), "kwargs": {**spec.kwargs, **limit}}
    return validated(Environment, plain(data), where, ("environment",))


def _importable_id(spec: EnvSpec) -> str:
    """The id, with the package that registers it if it is not registered yet."""
    if spec.id in gymnasium.registry or not isinstance(spec.entry_point, str):
        return spec.id
    return f"{re.split('[.:]', spec.entry_point)[0]}:{spec.id}"


def is_minari_id(name: str) -> bool:
    """Whether a name has the form of a Minari id, such as ``D4RL/pointmaze/umaze-v2``."""
    try:
        Source(dataset=name, kind="demonstration")
    except ValueError:
        return False
    return True


def recipe_with_source(dataset: str) -> str | None:
    """The name of the first recipe of the package whose only source is a Minari dataset; None if there is none."""
    folder = packaged_recipes()
    for name in recipe_names(folder):
        if dataset in (folder / f"{name}.yaml").read_text("utf-8"):
            sources = load_recipe(name, folder).sources
            if [source.dataset for source in sources] == [dataset]:
                return name
    return None


def dataset_of_minari(
    data: minari.MinariDataset,
    goal: Mapping[str, Any] | Goal,
    environment: Environment | None,
    episodes: int | None,
) -> Dataset:
    """A Minari dataset as a dataset of one task.

    Args:
        data: the Minari dataset.
        goal: the section ``goal`` of a recipe.
        environment: where policies are evaluated; None for the environment that the data names, if it has goals.
        episodes: number of episodes to use, from the first on; None for all.

    Raises:
        SettingsError: the goal, or the number of episodes, is not valid.
    """
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", data.id).lstrip("-_")
    spec = goal if isinstance(goal, Goal) else validated(Goal, plain(goal), LOAD, ("goal",))
    source = {"dataset": data.id, "kind": "demonstration", "episodes": episodes}
    place = environment or (environment_of(data) if spec.desired else None)
    recipe = Recipe(
        title=data.id,
        sources=(validated(Source, source, LOAD),),
        goal=spec,
        evaluation=evaluation_in(place, spec) if place else None,
        task=name,
        instruction="",
    )
    return Dataset(name=name, title=recipe.title, recipes=(recipe,))


def evaluation_in(environment: Environment, goal: Goal) -> Evaluation:
    """Evaluation in an environment, whose goals are under its own key if the data has none."""
    return Evaluation(environment=environment, desired=None if goal.desired else DESIRED)


def environment_of(data: minari.MinariDataset) -> Environment | None:
    """The environment that a Minari dataset names for evaluation, or else the one that it was collected in."""
    spec = data._eval_env_spec or data.env_spec
    return None if spec is None else environment_settings(spec)
