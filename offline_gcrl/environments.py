"""Making Gymnasium environments from settings, with errors that say what is missing."""

import difflib
import os
import warnings
from ctypes.util import find_library
from functools import lru_cache
from typing import Any

import farama_notifications


def _rendering_backend() -> str:
    """The off-screen GL library there is: MuJoCo fails at import if told of one there is not."""
    found = (
        name for name, library in (("egl", "EGL"), ("osmesa", "OSMesa")) if find_library(library)
    )
    return next(found, "disabled")


# It has to be chosen before MuJoCo is imported.
os.environ.setdefault("MUJOCO_GL", _rendering_backend())

# A print at import, on environments that no recipe of ours uses; nothing a user could act on.
farama_notifications.notifications.pop("gymnasium_robotics", None)

import gymnasium  # noqa: E402
import gymnasium_robotics  # noqa: E402

from offline_gcrl.config import Environment, Recipe, nearest  # noqa: E402
from offline_gcrl.errors import SettingsError  # noqa: E402

gymnasium.register_envs(gymnasium_robotics)


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
            return gymnasium.make(
                settings.id, disable_env_checker=True, **{**settings.kwargs, **extra}
            )
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


def shared_environment(settings: Environment) -> gymnasium.Env[Any, Any]:
    """The one environment of this process with these settings; making it costs more than an episode."""
    return _kept(settings.model_dump_json())


@lru_cache(maxsize=4)
def _kept(settings: str) -> gymnasium.Env[Any, Any]:
    return make_environment(Environment.model_validate_json(settings))


def reported_success(info: dict[str, Any]) -> bool | None:
    """What an environment says of success, mazes and Fetch by different names; None if nothing."""
    said = info.get("success", info.get("is_success"))
    return None if said is None else bool(said)


def check_environments(recipe: Recipe, where: str) -> None:
    """Make the environments of a recipe once, and look for its goals in their observations.

    Raises:
        SettingsError: naming ``where`` the recipe stands, and the key.
    """
    for prefix, settings in (
        ("", recipe.environment),
        ("evaluation.", recipe.evaluation.environment),
    ):
        try:
            environment = make_environment(settings)
        except SettingsError as error:
            raise SettingsError(f"{where}: {prefix}{error}") from None
        space = environment.observation_space
        known = list(space) if isinstance(space, gymnasium.spaces.Dict) else []
        for role in ("observation", "achieved", "desired"):
            key = getattr(recipe.goal, role)
            if key not in known:
                raise SettingsError(
                    f"{where}: goal.{role}: {settings.id} has no observation key '{key}'; "
                    f"{nearest(key, known)}"
                )
        environment.close()
