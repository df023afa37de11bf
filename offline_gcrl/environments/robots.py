"""Faster access to joints, sites and actuators of gymnasium-robotics' robots, with identical results.

Its robots look up every joint by name, several times per step. This takes a quarter of the time of collecting and
evaluation; lookups of sites, actuators and welds take another twentieth. Here they are looked up once per environment.
"""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import gymnasium
import mujoco
import numpy as np
from gymnasium_robotics.envs.robot_env import MujocoRobotEnv
from gymnasium_robotics.utils import mujoco_utils
from numpy.typing import NDArray


def cache_lookups(environment: gymnasium.Env[Any, Any]) -> None:
    """Replace the lookups by name in a Fetch or Shadow hand environment; other environments are not changed."""
    robot = environment.unwrapped
    if isinstance(robot, MujocoRobotEnv):
        model, names = robot.model, robot._model_names
        replacements = {
            "robot_get_obs": _reader(model, names),
            "set_joint_qpos": _setter(model, names),
            **_site_readers(model, names.site_name2id),
        }
        if model.nmocap == 1:
            replacements |= {
                "ctrl_set_action": _actuator(model),
                "mocap_set_action": _mocap(model),
            }
        robot._utils = SimpleNamespace(**{**vars(mujoco_utils), **replacements})


def _reader(model: Any, names: Any) -> Callable[..., Any]:
    """A replacement of ``mujoco_utils.robot_get_obs``: positions and velocities of the robot's joints.

    Every joint of these robots is a hinge or a slide, so it has one position and one velocity.
    """
    joints = [names.joint_name2id[name] for name in names.joint_names if name.startswith("robot")]
    positions, velocities = model.jnt_qposadr[joints], model.jnt_dofadr[joints]

    def robot_get_obs(
        model: Any, data: Any, joint_names: Any
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        return data.qpos[positions], data.qvel[velocities]

    return robot_get_obs


def _setter(model: Any, names: Any) -> Callable[..., None]:
    """A replacement of ``mujoco_utils.set_joint_qpos``, which sets the position of one joint."""
    ends = [*model.jnt_qposadr[1:], model.nq]
    places = {
        name: slice(model.jnt_qposadr[joint], ends[joint])
        for name, joint in names.joint_name2id.items()
    }

    def set_joint_qpos(model: Any, data: Any, name: str, value: Any) -> None:
        data.qpos[places[name]] = value

    return set_joint_qpos


def _site_readers(model: Any, sites: dict[str, int]) -> dict[str, Callable[..., Any]]:
    """Replacements of the functions of ``mujoco_utils`` that read positions and velocities of a site."""

    def get_site_xpos(model: Any, data: Any, name: str) -> Any:
        return data.site_xpos[sites[name]]

    def get_site_xmat(model: Any, data: Any, name: str) -> Any:
        return data.site_xmat[sites[name]].reshape(3, 3)

    def get_site_xvelp(model: Any, data: Any, name: str) -> Any:
        jacobian = np.empty(shape)
        mujoco.mj_jacSite(model, data, jacobian, None, sites[name])
        return jacobian @ data.qvel

    def get_site_xvelr(model: Any, data: Any, name: str) -> Any:
        jacobian = np.empty(shape)
        mujoco.mj_jacSite(model, data, None, jacobian, sites[name])
        return jacobian @ data.qvel

    shape = (3, model.nv)
    return {
        reader.__name__: reader
        for reader in (get_site_xpos, get_site_xmat, get_site_xvelp, get_site_xvelr)
    }


MOCAP_SIZE = 7
"""Numbers of an action that move the mocap body of the gripper: a displacement and a rotation (quaternion)."""


def _actuator(model: Any) -> Callable[..., None]:
    """A replacement of ``mujoco_utils.ctrl_set_action``, which sets the controls of the fingers."""
    relative = model.actuator_biastype != 0
    positions = model.jnt_qposadr[model.actuator_trnid[:, 0]]

    def ctrl_set_action(model: Any, data: Any, action: NDArray[Any]) -> None:
        control = action[MOCAP_SIZE : MOCAP_SIZE + model.nu]  # FetchReach has no actuators.
        data.ctrl[:] = np.where(relative, data.qpos[positions] + control, control)

    return ctrl_set_action


def _mocap(model: Any) -> Callable[..., None]:
    """A replacement of ``mujoco_utils.mocap_set_action``, which moves the mocap body relative to the gripper.

    The mocap body has no mass; a weld constraint ties the gripper to it.
    """
    (weld,) = np.flatnonzero(model.eq_type == mujoco.mjtEq.mjEQ_WELD)
    ends = int(model.eq_obj1id[weld]), int(model.eq_obj2id[weld])
    (body,) = (end for end in ends if model.body_mocapid[end] == -1)

    def mocap_set_action(model: Any, data: Any, action: NDArray[Any]) -> None:
        data.mocap_pos[0] = data.xpos[body] + action[:3]
        data.mocap_quat[0] = data.xquat[body] + action[3:MOCAP_SIZE]

    return mocap_set_action
