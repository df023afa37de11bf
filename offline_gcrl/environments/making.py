"""Creating Gymnasium environments from settings, with errors that name the missing package or key."""

import difflib
import gc
import inspect
import os
import traceback
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import farama_notifications

# At its import, gymnasium_robotics prints a notice about environments that no recipe uses.
farama_notifications.notifications.pop("gymnasium_robotics", None)

import gymnasium  # noqa: E402
import gymnasium_robotics  # noqa: E402
import numpy as np  # noqa: E402

from offline_gcrl.config import Environment, Goal, Images, Recipe  # noqa: E402
from offline_gcrl.environments.actions import OrderedActions  # noqa: E402
from offline_gcrl.environments.arms import adapted  # noqa: E402
from offline_gcrl.environments.mazes import shorten_steps  # noqa: E402
from offline_gcrl.environments.robots import cache_lookups  # noqa: E402
from offline_gcrl.environments.selection import as_tree, evaluated_goal, select  # noqa: E402
from offline_gcrl.goals.success import size_mismatch  # noqa: E402
from offline_gcrl.support.errors import (  # noqa: E402
    DataError,
    OfflineGCRLError,
    RenderingError,
    SettingsError,
)

gymnasium.register_envs(gymnasium_robotics)

EXTRAS = ("ogbench", "metaworld")
"""Packages of environments that are optional extras of this package."""


def can_render() -> bool:
    """Whether a GL library for rendering is available."""
    return os.environ["MUJOCO_GL"].lower() not in ("disabled", "disable", "off", "false", "0")


GL_REMEDY = (
    "images need an off-screen GL library: on Debian and Ubuntu, install libegl1 and libegl-mesa0, or libosmesa6, and "
    "leave MUJOCO_GL unset; a program that imports mujoco before offline_gcrl must set MUJOCO_GL=egl"
)


def prepare_rendering() -> None:
    """Check that images can be rendered, and let each renderer use one thread; to be called before the first renderer.

    Raises:
        RenderingError: there is no GL library.
    """
    if not can_render():
        raise RenderingError(GL_REMEDY)
    # A thread per core in each of several processes would cost time; read by Mesa when it starts.
    os.environ.setdefault("LP_NUM_THREADS", "0")


def make_environment(settings: Environment, **extra: Any) -> gymnasium.Env[Any, Any]:
    """Create the environment of a recipe; ``extra`` are further arguments of ``gymnasium.make``.

    Raises:
        SettingsError: the environment id is unknown, its package is missing, it raises an error with these arguments, or
            the order of actions does not fit its action space.
    """
    with warnings.catch_warnings():
        # The passive checker warns of float64 observations outside float32 bounds, which no stage uses.
        warnings.simplefilter("ignore")
        try:
            environment = gymnasium.make(
                settings.id, disable_env_checker=True, **{**settings.kwargs, **extra}
            )
            environment = adapted(environment)
        except ModuleNotFoundError as error:
            # For `module:id`, Gymnasium raises a new error; its cause names the missing module.
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
        except (OfflineGCRLError, MemoryError):
            raise
        except TypeError as error:
            raise SettingsError(f"environment.kwargs of {settings.id}: {error}") from None
        except Exception as error:
            raise SettingsError(
                f"environment.kwargs of {settings.id}: {shown_error(error)}"
            ) from error
    cache_lookups(environment)
    shorten_steps(environment)
    if settings.action_order is not None:
        environment = OrderedActions(environment, settings.action_order)
    return environment


def shown_error(error: Exception) -> str:
    """An error of an environment, with its type and the place that raised it."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    said = str(error) or "no message"
    return f"{type(error).__name__}: {said} ({place.filename}, line {place.lineno})"


def _remedy(package: str | None) -> str:
    """How to provide a module: an extra of this package, or the user's own; a stranger's package is never proposed."""
    name = str(package).split(".")[0]
    if name in EXTRAS:
        return "`make extras` installs it"
    return (
        f"put {name}.py, or a folder {name}, into the folder environments/ (which programs of your own need in PYTHONPATH), "
        "or install the package that provides it"
    )


def shared_environment(settings: Environment) -> gymnasium.Env[Any, Any]:
    """The environment with these settings that this process shares; creating one takes longer than an episode."""
    return _cached_environment(settings.model_dump_json())


@lru_cache(
    maxsize=16
)  # Episodes of a suite alternate between its tasks; Meta-World's MT10 has ten.
def _cached_environment(settings: str) -> gymnasium.Env[Any, Any]:
    return make_environment(Environment.model_validate_json(settings))


@contextmanager
def seeded_episode(environment: gymnasium.Env[Any, Any], seed: int) -> Iterator[None]:
    """Make an episode a function of its seed alone, including draws that ``reset(seed)`` does not control.

    Some environments draw from NumPy's global generator or from their action space (OGBench: noise of starts and
    goals, and the pose in which a goal is shown). Within the block both generators start from the seed; afterwards the
    global generator is restored.
    """
    environment.action_space.seed(seed)
    before = np.random.get_state()
    np.random.seed(seed)
    try:
        yield
    finally:
        np.random.set_state(before)


@contextmanager
def without_collection() -> Iterator[None]:
    """Collect no garbage within the block, in which an episode is rendered.

    An earlier environment with reference cycles is freed by a collection. Its renderer then deletes its GL objects by
    their numbers, which are those of the present renderer: all further pictures of the episode would be black.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def reported_success(info: dict[str, Any]) -> bool | None:
    """The success that an environment reports, under the key of mazes or of Fetch; None if it reports none."""
    success = info.get("success", info.get("is_success"))
    return None if success is None else bool(success)


def check_environments(recipe: Recipe, where: str) -> None:
    """Create the environments of a recipe, and check that their observations contain its goals.

    Published data may contain desired goals under keys that the environment itself lacks. For such data the stage
    ``ingest`` checks them.

    Raises:
        SettingsError: naming the recipe (``where``) and the key.
    """
    if recipe.environment is not None:
        published = not any(source.collect for source in recipe.sources)
        goal = recipe.goal.model_copy(update={"desired": None}) if published else recipe.goal
        _check_environment(recipe.environment, goal, f"{where}: ")
    if recipe.images is not None and recipe.images.environment is not None:
        _check_renders(recipe.images, f"{where}: images.")
    if recipe.evaluation is not None:
        goal, settings = evaluated_goal(recipe), recipe.evaluation.environment
        options = first_options(recipe)
        _check_environment(settings, goal, f"{where}: evaluation.", options)
        _check_fixed_tasks(recipe, f"{where}: evaluation.fixed_tasks")


def _check_renders(images: Images, where: str) -> None:
    """Check that the environment of images can be set to a state, which consists of positions and the given infos.

    Raises:
        SettingsError: it has no ``set_state``, or that takes other infos.
    """
    assert images.environment is not None
    if not can_render():  # Some environments render when they are created.
        return
    try:
        environment = shared_environment(images.environment)
    except SettingsError as error:
        raise SettingsError(f"{where}{error}") from None
    name, set_state = images.environment.id, getattr(environment.unwrapped, "set_state", None)
    if set_state is None:
        raise SettingsError(
            f"{where}environment.id: {name} has no 'set_state', by which it would be set to the states of the data"
        )
    takes = [*inspect.signature(set_state).parameters][2:]
    if takes != [*images.state]:
        raise SettingsError(
            f"{where}state: 'set_state' of {name} takes {' and '.join(takes) or 'nothing'} besides positions and velocities; "
            f"write [{', '.join(takes)}]"
        )


def first_options(recipe: Recipe) -> dict[str, Any] | None:
    """Options of ``reset`` for the first numbered task of the evaluation environment; None without such tasks."""
    tasks = recipe.evaluation.fixed_tasks if recipe.evaluation else None
    return {tasks.option: tasks.values[0]} if tasks else None


def _check_fixed_tasks(recipe: Recipe, where: str) -> None:
    """Check that the option has an effect, since environments ignore unknown options of ``reset``."""
    assert recipe.evaluation is not None
    tasks, settings = recipe.evaluation.fixed_tasks, recipe.evaluation.environment
    if tasks is None or len(tasks.values) == 1:
        return
    environment = shared_environment(settings)
    starts = []
    for value in tasks.values[:2]:
        with seeded_episode(environment, 0):
            starts.append(as_tree(*environment.reset(seed=0, options={tasks.option: value})))
    if _is_same(*starts):
        raise SettingsError(
            f"{where}: {settings.id} starts in the same way with '{tasks.option}' {tasks.values[0]} and "
            f"{tasks.values[1]}; correct the name of the option"
        )


def _is_same(one: Any, other: Any) -> bool:
    """Whether two trees of arrays have the same content."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(_is_same(one[key], other[key]) for key in one)
    return bool(np.array_equal(np.asarray(one), np.asarray(other)))


def _check_environment(
    settings: Environment, goal: Goal, where: str, options: dict[str, Any] | None = None
) -> None:
    try:
        environment = shared_environment(settings)
    except SettingsError as error:
        raise SettingsError(f"{where}{error}") from None
    if environment.spec is None or environment.spec.max_episode_steps is None:
        raise SettingsError(
            f"{where}environment.kwargs: episodes of {settings.id} have no time limit and may never end; "
            "give max_episode_steps"
        )
    sizes = shown_sizes(environment, goal, where, options)
    if sizes.get("desired_goal", sizes["achieved_goal"]) != sizes["achieved_goal"]:
        raise SettingsError(
            f"{where}goal: achieved goals of {settings.id} have {sizes['achieved_goal']} dimensions, and "
            f"desired goals {sizes['desired_goal']}; select parts of the same size"
        )
    wrong = size_mismatch(goal.success, sizes["achieved_goal"])
    if wrong:
        raise SettingsError(
            f"{where}goal.success: {wrong}, and goals have {sizes['achieved_goal']} dimensions"
        )


def shown_sizes(
    environment: gymnasium.Env[Any, Any],
    goal: Goal,
    where: str = "",
    options: dict[str, Any] | None = None,
) -> dict[str, int]:
    """Sizes of the observation and the goals of a recipe in an environment, after a reset.

    Args:
        environment: the environment; it is reset.
        goal: selection of the parts.
        where: recipe and key, for errors.
        options: options of ``reset``.

    Returns:
        Sizes by the names of the columns in ``steps.parquet``; without ``desired_goal`` if the goal spec has none.

    Raises:
        SettingsError: the observation has no such key or column, or the reset raises an error.
    """
    shown = environment.spec.id if environment.spec else "the environment"
    try:
        tree = as_tree(*environment.reset(seed=0, options=options))
    except DataError as error:
        raise SettingsError(f"{where}environment.id: {shown}: {error}") from None
    except Exception as error:
        raise SettingsError(
            f"{where}environment.id: the first reset of {shown} raised {shown_error(error)}"
        ) from error
    sizes = {}
    for role in ("observation", "achieved", "desired"):
        selection = getattr(goal, role)
        if selection is None:
            continue
        try:
            name = role if role == "observation" else f"{role}_goal"
            sizes[name] = select(tree, selection).size
        except DataError as error:
            raise SettingsError(f"{where}goal.{role}: {shown}: {error}") from None
    return sizes
