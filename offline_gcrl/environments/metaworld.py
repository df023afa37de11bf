"""Meta-World's tasks as a Gymnasium environment whose episodes depend on the reset seed alone.

Its id is ``offline_gcrl.environments.metaworld:offline-gcrl/MetaWorld-v0``, with an argument such as
``task: reach-v3``. The environment ``Meta-World/MT1`` of the package draws goals with NumPy's global generator and
ignores ``reset(seed)``, and Minari cannot store its entry point. Physics, rewards and success are those of the package
(Yu et al., CoRL 2019).
"""

from typing import Any

import gymnasium
import mujoco
import numpy as np
from gymnasium.utils.ezpickle import EzPickle
from numpy.typing import NDArray

from offline_gcrl.config import nearest
from offline_gcrl.support.errors import SettingsError

ID = "offline-gcrl/MetaWorld-v0"
HORIZON = 500
"""Steps per episode in Meta-World's benchmarks, and the largest number that its environments accept."""
CAMERA = "corner4"


class MetaWorldEnv(gymnasium.Env[NDArray[np.float64], NDArray[np.float32]], EzPickle):
    """One task with its goal in the observation, and a new start and goal at every reset.

    Observations have 39 numbers: the position of the hand (0-2), the opening of the gripper (3), positions and
    rotations of up to two objects (4-17, zeros for missing objects), all of these one step earlier (18-35), and the
    goal (36-38). Lengths are in metres. Actions have 4 numbers in [-1, 1]: the displacement of the hand in
    centimetres, and the closing of the gripper. Only ``max_episode_steps`` ends an episode.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 80}

    def __init__(
        self, task: str, render_mode: str | None = None, width: int = 480, height: int = 480
    ) -> None:
        EzPickle.__init__(self, task, render_mode, width, height)
        self.task, self.render_mode = task, render_mode
        self.sawyer = _task(task)(
            render_mode=render_mode, width=width, height=height, camera_name=CAMERA
        )
        self.sawyer._set_task_called = True
        self.sawyer._partially_observable = False  # The goal is part of the observation.
        del self.sawyer.sawyer_observation_space  # Cached for observations without the goal.
        self.sawyer.seeded_rand_vec = True  # Starts and goals are drawn from self.np_random.
        self.action_space = self.sawyer.action_space
        self.observation_space = self.sawyer.sawyer_observation_space

    @property
    def data(self) -> Any:
        """State of the MuJoCo simulation."""
        return self.sawyer.data

    @property
    def model(self) -> Any:
        """Model of the MuJoCo simulation."""
        return self.sawyer.model

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float64], dict[str, Any]]:
        """Draw a start and a goal, which depend on ``seed`` alone, or without a seed on the generator's state.

        Meta-World places objects while the arm settles, and its first observation contains some objects at their
        previous positions. Therefore the positions are drawn first, then everything is reset to them, and then the
        observation is computed again.
        """
        super().reset(seed=seed)
        self.sawyer.np_random = self.np_random
        self.sawyer._freeze_rand_vec = False
        self.sawyer.reset_model()
        self.sawyer._freeze_rand_vec = True
        self.sawyer.reset()
        mujoco.mj_forward(self.sawyer.model, self.sawyer.data)
        now = self.sawyer._get_curr_obs_combined_no_goal()
        self.sawyer._prev_obs = now
        observation = np.concatenate([now, now, self.sawyer._get_pos_goal()])
        space = self.sawyer.sawyer_observation_space
        return np.clip(observation, space.low, space.high), {"success": False}

    def step(
        self, action: NDArray[np.float32]
    ) -> tuple[NDArray[np.float64], float, bool, bool, dict[str, Any]]:
        """One step of 12.5 ms; ``info["success"]`` is the success test of Meta-World."""
        observation, reward, terminated, truncated, info = self.sawyer.step(action)
        return observation, float(reward), terminated, truncated, info

    def render(self) -> NDArray[np.uint8]:
        """A picture, (height, width, 3), rotated by 180 degrees because this camera of Meta-World is upside down."""
        picture: NDArray[np.uint8] = self.sawyer.render()[::-1, ::-1]
        return picture

    def close(self) -> None:
        """Close the renderer."""
        self.sawyer.close()


def _task(name: str) -> Any:
    """The class of a task; the package is an optional extra, and imported only here."""
    from metaworld.env_dict import ALL_V3_ENVIRONMENTS as TASKS

    if name not in TASKS:
        raise SettingsError(
            f"environment.kwargs.task: Meta-World has no task '{name}'; {nearest(name, TASKS)}"
        )
    return TASKS[name]


gymnasium.register(ID, entry_point=f"{__name__}:MetaWorldEnv", max_episode_steps=HORIZON)
