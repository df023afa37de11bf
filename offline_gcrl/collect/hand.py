"""Scripted demonstrator of the Shadow hand, which moves the fingertips to their goals."""

from typing import Any

import gymnasium
import mujoco
import numpy as np
from numpy.typing import NDArray

from offline_gcrl.support.errors import SettingsError

FINGERTIPS = tuple(f"robot0:S_{finger}tip" for finger in ("ff", "mf", "rf", "lf", "th"))


class HandReachDemonstrator:
    """Changes the commanded joint angles by damped least squares on the error of the fingertips.

    With the error e of the 15 coordinates and their Jacobian J by commanded angles, each step adds
    gain J^T (J J^T + damping^2 I)^-1 e (Wampler 1986; Nakamura and Hanafusa 1986). It adds to the commanded angles and
    not to the observed angles, because the actuators are springs that yield to weight and contact. J is computed with
    the model of the environment at the observed joint angles.

    Args:
        environment: HandReach, for its model.
        random: unused, as the demonstrator is deterministic.
        gain: share of the error that one step corrects.
        damping: damping in metres; larger values are more stable and slower.
        foresight: time in seconds by which positions are extrapolated with the present velocities.
        largest: largest change of a commanded angle per step, in radians.
    """

    def __init__(
        self,
        environment: gymnasium.Env[Any, Any],
        random: np.random.Generator,
        gain: float = 0.7,
        damping: float = 0.02,
        foresight: float = 0.02,
        largest: float = 0.15,
    ) -> None:
        model = getattr(environment.unwrapped, "model", None)
        if model is None or mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_SITE, FINGERTIPS[0]) < 0:
            name = environment.spec.id if environment.spec else "this environment"
            raise SettingsError(f"'hand_reach' needs HandReach, and {name} has no fingertips")
        self.hand = HandModel(model)
        self.gain, self.damping = gain, damping
        self.foresight, self.largest = foresight, largest
        self.commanded: NDArray[np.float64] | None = None

    def act(self, observation: Any, info: dict[str, Any]) -> NDArray[Any]:
        """An action within bounds, shape (20,): the target of each actuated joint, scaled from its range to [-1, 1]."""
        angles, velocities = np.split(observation["observation"][:48], 2)
        low, high = self.hand.low, self.hand.high
        if self.commanded is None:
            self.commanded = np.clip(angles[self.hand.actuated], low, high)
        jacobian = self.hand.jacobian(angles)
        error = observation["desired_goal"] - observation["achieved_goal"]
        error = error - self.foresight * (jacobian @ velocities[self.hand.actuated])
        square = jacobian @ jacobian.T + self.damping**2 * np.eye(len(error))
        change = self.gain * (jacobian.T @ np.linalg.solve(square, error))
        change = np.clip(change, -self.largest, self.largest)
        self.commanded = np.clip(self.commanded + change, low, high)
        action: NDArray[Any] = (2.0 * self.commanded - (low + high)) / (high - low)
        return action


class HandModel:
    """The Jacobian of the fingertips by commanded angles, computed on a copy of the simulation's state."""

    def __init__(self, model: Any) -> None:
        self.model, self.data = model, mujoco.MjData(model)
        self.sites = [
            mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_SITE, name) for name in FINGERTIPS
        ]
        self.actuated = model.jnt_dofadr[model.actuator_trnid[:, 0]]
        self.low, self.high = model.actuator_ctrlrange.T
        # Shape (joints, actuators). A joint without an actuator, the last of a finger, is coupled by a tendon to the
        # joint before it and moves by the same angle.
        self.coupling = np.zeros((model.nv, model.nu))
        self.coupling[self.actuated, np.arange(model.nu)] = 1.0
        for joint in sorted(set(range(model.nv)) - set(self.actuated.tolist())):
            self.coupling[joint] = self.coupling[joint - 1]

    def jacobian(self, angles: NDArray[np.float64]) -> NDArray[np.float64]:
        """Derivatives of the fingertips' positions by commanded angles, shape (15, 20), in metres per radian."""
        self.data.qpos[:] = angles
        mujoco.mj_kinematics(self.model, self.data)
        mujoco.mj_comPos(self.model, self.data)
        rows = np.zeros((3 * len(self.sites), self.model.nv))
        for number, site in enumerate(self.sites):
            mujoco.mj_jacSite(self.model, self.data, rows[3 * number : 3 * number + 3], None, site)
        product: NDArray[np.float64] = rows @ self.coupling
        return product
