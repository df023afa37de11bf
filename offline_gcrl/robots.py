"""Quicker access to the joints of gymnasium-robotics' simulators, bit for bit the same.

Its robots look up every joint by name, several times a step, which takes a quarter of the time of collecting
or judging. Here the places of the joints are looked up once for each environment.
"""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import gymnasium
import numpy as np
from gymnasium_robotics.envs.robot_env import MujocoRobotEnv
from gymnasium_robotics.utils import mujoco_utils
from numpy.typing import NDArray


def quicken(environment: gymnasium.Env[Any, Any]) -> None:
    """Let a Fetch or Shadow hand environment read its joints at once; leave any other as it is."""
    robot = environment.unwrapped
    if isinstance(robot, MujocoRobotEnv):
        ours = {
            "robot_get_obs": _reader(robot.model, robot._model_names),
            "set_joint_qpos": _setter(robot.model, robot._model_names),
        }
        robot._utils = SimpleNamespace(**{**vars(mujoco_utils), **ours})


def _reader(model: Any, names: Any) -> Callable[..., Any]:
    """In place of ``mujoco_utils.robot_get_obs``: positions and velocities of the robot's joints.

    Every joint of these robots turns or slides, so that it has one number of each.
    """
    joints = [names.joint_name2id[name] for name in names.joint_names if name.startswith("robot")]
    positions, velocities = model.jnt_qposadr[joints], model.jnt_dofadr[joints]

    def robot_get_obs(
        model: Any, data: Any, joint_names: Any
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        return data.qpos[positions], data.qvel[velocities]

    return robot_get_obs


def _setter(model: Any, names: Any) -> Callable[..., None]:
    """In place of ``mujoco_utils.set_joint_qpos``: writes the position of one joint."""
    ends = [*model.jnt_qposadr[1:], model.nq]
    places = {
        name: slice(model.jnt_qposadr[joint], ends[joint])
        for name, joint in names.joint_name2id.items()
    }

    def set_joint_qpos(model: Any, data: Any, name: str, value: Any) -> None:
        data.qpos[places[name]] = value

    return set_joint_qpos
