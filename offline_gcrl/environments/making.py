"""Making Gymnasium environments from settings, with errors that say what is missing."""

import difflib
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import farama_notifications

# A print at import, on environments that no recipe of ours uses; nothing a user could act on.
farama_notifications.notifications.pop("gymnasium_robotics", None)

import gymnasium  # noqa: E402
import gymnasium_robotics  # noqa: E402
import numpy as np  # noqa: E402

from offline_gcrl.config import Environment, Goal, Recipe  # noqa: E402
from offline_gcrl.environments.robots import cache_lookups  # noqa: E402
from offline_gcrl.environments.selection import as_tree, evaluated_goal, select  # noqa: E402
from offline_gcrl.goals.success import size_mismatch  # noqa: E402
from offline_gcrl.support.errors import DataError, SettingsError  # noqa: E402

gymnasium.register_envs(gymnasium_robotics)

EXTRAS = ("ogbench", "metaworld")
"""Packages of environments that are optional extras of this one."""


def can_render() -> bool:
    """Whether there is a GL library to draw pictures with."""
    return os.environ["MUJOCO_GL"].lower() not in ("disabled", "disable", "off", "false", "0")


def make_environment(settings: Environment, **extra: Any) -> gymnasium.Env[Any, Any]:
    """Make the environment that a recipe names; ``extra`` goes to ``gymnasium.make`` as well.

    Raises:
        SettingsError: unknown environment id, or keyword arguments that it does not take.
    """
    with warnings.catch_warnings():
        # The passive checker warns of float64 observations outside float32 bounds: not our data.
        warnings.simplefilter("ignore")
        try:
            environment = gymnasium.make(
                settings.id, disable_env_checker=True, **{**settings.kwargs, **extra}
            )
            environment = _with_one_action_space(environment)
        except ModuleNotFoundError as error:
            # Of `module:id`, Gymnasium raises an error of its own about the one that names the module.
            package = error.name or getattr(error.__cause__, "name", None)
            raise SettingsError(
                f"environment.id: '{settings.id}' needs the package '{package}', which is not "
                f"installed; {_remedy(package)}"
            ) from None
        except gymnasium.error.UnregisteredEnv:
            close = difflib.get_close_matches(settings.id, gymnasium.registry, n=1)
            guess = f"did you mean '{close[0]}'?" if close else "is its package installed?"
            raise SettingsError(
                f"environment.id: no environment '{settings.id}'; {guess}"
            ) from None
        except gymnasium.error.Error as error:
            raise SettingsError(f"environment.id: '{settings.id}': {error}") from None
        except TypeError as error:
            raise SettingsError(f"environment.kwargs of {settings.id}: {error}") from None
    cache_lookups(environment)
    return environment


def _remedy(package: str | None) -> str:
    """How to get a package: by the extra that has it, where there is one."""
    extra = str(package).split(".")[0]
    return "`make extras` adds it" if extra in EXTRAS else f"`pip install {extra}` adds it"


def shared_environment(settings: Environment) -> gymnasium.Env[Any, Any]:
    """The one environment of this process with these settings; making it costs more than an episode."""
    return _kept(settings.model_dump_json())


@lru_cache(maxsize=16)  # A suite takes turns at its tasks, of which Meta-World's has ten.
def _kept(settings: str) -> gymnasium.Env[Any, Any]:
    return make_environment(Environment.model_validate_json(settings))


@contextmanager
def seeded_episode(environment: gymnasium.Env[Any, Any], seed: int) -> Iterator[None]:
    """Make an episode a function of its seed alone, also in what ``reset(seed)`` does not reach.

    Some environments draw from NumPy's global generator, or from their action space (OGBench: the noise of
    starts and goals, the pose in which a goal is shown). Within the block both start from the seed; the
    global one is given back as it was.
    """
    environment.action_space.seed(seed)
    before = np.random.get_state()
    np.random.seed(seed)
    try:
        yield
    finally:
        np.random.set_state(before)


def _with_one_action_space(
    environment: gymnasium.Env[Any, Any],
) -> gymnasium.Env[Any, Any]:
    """The environment, with an action space that can be seeded.

    OGBench's arms make another one at every look, and draw from it in ``reset``.
    """
    inner = environment.unwrapped
    if inner.action_space is not inner.action_space:
        kind = type(inner)
        inner.__class__ = type(kind.__name__, (kind,), {"action_space": inner.action_space})
    return environment


def reported_success(info: dict[str, Any]) -> bool | None:
    """What an environment says of success, mazes and Fetch by different names; None if nothing."""
    said = info.get("success", info.get("is_success"))
    return None if said is None else bool(said)


def check_environments(recipe: Recipe, where: str) -> None:
    """Make the environments of a recipe once, and look for its goals in what they show.

    Data from elsewhere may hold goals that its environment does not show in that place: they are looked for in the
    data itself, at ingest.

    Raises:
        SettingsError: naming ``where`` the recipe stands, and the key.
    """
    if recipe.environment is not None:
        elsewhere = not any(source.collect for source in recipe.sources)
        goal = recipe.goal.model_copy(update={"desired": None}) if elsewhere else recipe.goal
        _check_environment(recipe.environment, goal, f"{where}: ")
    if recipe.evaluation is not None:
        goal, settings = evaluated_goal(recipe), recipe.evaluation.environment
        options = first_options(recipe)
        _check_environment(settings, goal, f"{where}: evaluation.", options)


def first_options(recipe: Recipe) -> dict[str, Any] | None:
    """Options of ``reset`` for the first of the environment's numbered tasks, if it has any."""
    tasks = recipe.evaluation.fixed_tasks if recipe.evaluation else None
    return {tasks.option: tasks.values[0]} if tasks else None


def _check_environment(
    settings: Environment, goal: Goal, where: str, options: dict[str, Any] | None = None
) -> None:
    try:
        environment = shared_environment(settings)
    except SettingsError as error:
        raise SettingsError(f"{where}{error}") from None
    sizes = shown_sizes(environment, goal, where, options)
    if sizes.get("desired_goal", sizes["achieved_goal"]) != sizes["achieved_goal"]:
        raise SettingsError(
            f"{where}goal: {settings.id} shows achieved goals of {sizes['achieved_goal']} numbers and "
            f"desired ones of {sizes['desired_goal']}"
        )
    wrong = size_mismatch(goal.success, sizes["achieved_goal"])
    if wrong:
        raise SettingsError(
            f"{where}goal.success: {wrong}, and the goals have {sizes['achieved_goal']} numbers"
        )


def shown_sizes(
    environment: gymnasium.Env[Any, Any],
    goal: Goal,
    where: str = "",
    options: dict[str, Any] | None = None,
) -> dict[str, int]:
    """Numbers in what an environment shows at a reset: the observation and the goals of a recipe.

    Args:
        environment: a freshly made one.
        goal: which parts to take.
        where: the recipe and key, for errors.
        options: of ``reset``.

    Returns:
        By the columns' names in ``steps.parquet``; without ``desired_goal`` where the goal spec has none.

    Raises:
        SettingsError: it shows no such key or column.
    """
    tree = as_tree(*environment.reset(seed=0, options=options))
    sizes = {}
    for role in ("observation", "achieved", "desired"):
        selection = getattr(goal, role)
        if selection is None:
            continue
        try:
            name = role if role == "observation" else f"{role}_goal"
            sizes[name] = select(tree, selection).size
        except DataError as error:
            shown = environment.spec.id if environment.spec else "the environment"
            raise SettingsError(f"{where}goal.{role}: {shown}: {error}") from None
    return sizes
