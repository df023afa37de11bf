"""Making Gymnasium environments from settings, with errors that say what is missing."""

import difflib
import os
import warnings
from typing import Any

# Off-screen rendering has to be chosen before MuJoCo is imported.
os.environ.setdefault("MUJOCO_GL", "egl")

import farama_notifications

# A print at import, on environments that no recipe of ours uses; nothing a user could act on.
farama_notifications.notifications.pop("gymnasium_robotics", None)

import gymnasium
import gymnasium_robotics

from offline_gcrl.config import Environment
from offline_gcrl.errors import SettingsError

gymnasium.register_envs(gymnasium_robotics)


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
            raise SettingsError(f"environment.id: no environment '{settings.id}'; {guess}") from None
        except TypeError as error:
            raise SettingsError(f"environment.kwargs of {settings.id}: {error}") from None
