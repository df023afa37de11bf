"""Scripted demonstrations of the Shadow hand: fingertips to where they should be."""

from typing import Any

import gymnasium
import mujoco
import numpy as np
from numpy.typing import NDArray

from offline_gcrl.support.errors import SettingsError

FINGERTIPS = tuple(f"robot0:S_{finger}tip" for finger in ("ff", "mf", "rf", "lf", "th"))


class HandReachDemonstrator:
    """A servo: moves the commanded joint angles by damped least squares on the fingertips' error.

    With error e of the 15 coordinates and their Jacobian J by commanded angles, each step adds
    gain J^T (J J^T + damping^2 I)^-1 e (Wampler 1986; Nakamura and Hanafusa 1986). It adds to what is
    commanded, not to where the joints are: the actuators are springs that give way to weight and touch, and
    this makes up for it. The environment's model gives J, at the joint angles that are observed.

    Args:
        environment: HandReach, for its model.
        random: unused; the servo is deterministic.
        gain: share of the error that a step makes up for.
        damping: in metres; more is steadier, and slower.
        foresight: seconds that the fingertips are thought ahead at their present velocity.
        largest: largest change of a commanded angle in a step, in radians.
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
        """An action within bounds, shape (20,): where each actuated joint should be in its range."""
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
    """How the fingertips move with the commanded angles, worked out beside the simulation."""

    def __init__(self, model: Any) -> None:
        self.model, self.data = model, mujoco.MjData(model)
        self.sites = [
            mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_SITE, name) for name in FINGERTIPS
        ]
        self.actuated = model.jnt_dofadr[model.actuator_trnid[:, 0]]
        self.low, self.high = model.actuator_ctrlrange.T
        # Shape (joints, actuators). A joint without an actuator, the last of a finger, is tied by a
        # tendon to the one before it and turns as that does.
        self.coupling = np.zeros((model.nv, model.nu))
        self.coupling[self.actuated, np.arange(model.nu)] = 1.0
        for joint in sorted(set(range(model.nv)) - set(self.actuated.tolist())):
            self.coupling[joint] = self.coupling[joint - 1]

    def jacobian(self, angles: NDArray[np.float64]) -> NDArray[np.float64]:
        """Change of the fingertips with each commanded angle, shape (15, 20), in metres a radian."""
        self.data.qpos[:] = angles
        mujoco.mj_kinematics(self.model, self.data)
        mujoco.mj_comPos(self.model, self.data)
        rows = np.zeros((3 * len(self.sites), self.model.nv))
        for number, site in enumerate(self.sites):
            mujoco.mj_jacSite(self.model, self.data, rows[3 * number : 3 * number + 3], None, site)
        product: NDArray[np.float64] = rows @ self.coupling
        return product
