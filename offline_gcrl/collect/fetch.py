"""Scripted demonstrations of a Fetch arm: reach, push, pick and place, slide.

All act on observations alone. Layout of the observation (Plappert et al. 2018, arXiv 1802.09464): gripper
0:3, object 3:6, fingers 9:11, the object's velocity relative to the gripper's 14:17, the gripper's 20:23. An
action moves the gripper by up to ``STRIDE`` and opens (above 0) or closes its fingers.
"""

from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from offline_gcrl.support.errors import SettingsError

Vector = NDArray[np.float64]

STRIDE = 0.033
"""Metres that the gripper moves in one step at full action, as measured in the simulator."""
STEP_SECONDS = 0.04


class FetchReachDemonstrator:
    """Moves the gripper of a Fetch arm straight to the goal, slowing down near it."""

    def __init__(
        self,
        environment: gymnasium.Env[Any, Any],
        random: np.random.Generator,
        gain: float = 10.0,
    ) -> None:
        self.space, self.gain = environment.action_space, gain

    def act(self, observation: Any, info: dict[str, Any]) -> NDArray[Any]:
        """An action within bounds, shape (4,): displacement of the gripper, and its fingers."""
        assert isinstance(self.space, gymnasium.spaces.Box)
        action = np.zeros(self.space.shape)
        action[:3] = self.gain * (observation["desired_goal"] - observation["achieved_goal"])
        return np.clip(action, self.space.low, self.space.high)


class FetchPushDemonstrator:
    """Goes behind the block, pushes it to the goal, and then keeps away from it.

    Args:
        environment: a Fetch environment with an object.
        random: unused; the pushing itself is deterministic.
        near: distance to the goal, in metres, at which the block is left.
        far: distance at which it is pushed again: action noise may have moved it.
        speed: largest action while pushing; more and the block overshoots.
    """

    def __init__(
        self,
        environment: gymnasium.Env[Any, Any],
        random: np.random.Generator,
        near: float = 0.02,
        far: float = 0.035,
        speed: float = 0.7,
    ) -> None:
        _require_object(environment, "fetch_push")
        self.near, self.far, self.speed = near, far, speed
        self.is_placed = False

    def act(self, observation: Any, info: dict[str, Any]) -> NDArray[Any]:
        """An action within bounds, shape (4,)."""
        gripper, block = _gripper_and_object(observation)
        direction, distance = _way(block, observation["desired_goal"])
        self.is_placed = distance < (self.far if self.is_placed else self.near)
        beside = (gripper - block)[:2]
        if self.is_placed:
            away = beside / (np.linalg.norm(beside) + 1e-9)
            return _move(block - gripper + np.array([*(0.08 * away), 0.06]))
        along = beside @ direction
        aside = beside - along * direction
        low = block[2] - 0.008
        if along < -0.03 and np.linalg.norm(aside) < 0.015 and gripper[2] < block[2] + 0.01:
            # Towards the goal, and back onto the line through block and goal.
            ahead = min(self.speed * STRIDE, 0.6 * distance) * direction - aside
            return _move([*ahead, low - gripper[2]])
        return _go_behind(gripper, block, block[:2] - 0.065 * direction, low, direction)


class FetchPickAndPlaceDemonstrator:
    """Opens the gripper above the block, goes down, closes it, and carries the block to the goal."""

    def __init__(self, environment: gymnasium.Env[Any, Any], random: np.random.Generator) -> None:
        _require_object(environment, "fetch_pick_and_place")

    def act(self, observation: Any, info: dict[str, Any]) -> NDArray[Any]:
        """An action within bounds, shape (4,)."""
        gripper, block = _gripper_and_object(observation)
        to_block = block - gripper
        off = np.linalg.norm(to_block[:2])
        if off >= 0.02 or abs(to_block[2]) >= 0.02:
            above = self._clearance(float(off), -to_block[2])
            return _move(to_block + np.array([0.0, 0.0, above]), 1.0)
        opening = observation["observation"][9:11].sum()
        if opening > 0.055:  # The block is 0.05 wide: not yet held.
            return _move(to_block, -1.0)
        return _move(observation["desired_goal"] - block, -1.0)

    def _clearance(self, off: float, height: float) -> float:
        """How far above the block to stay, in metres, until the gripper is over it."""
        if off <= 0.015 or (off < 0.03 and height < 0.03):
            return 0.0
        return 0.08 if off > 0.03 else 0.05


class FetchSlideDemonstrator:
    """Touches the puck from behind, gives it one push of the right speed, and lets it coast.

    MuJoCo's friction pyramid brakes the puck along x + y and along x - y independently, each like dry
    friction: a start at speed u along such an axis ends u^2 / (2 friction) further along it. Solved for the
    start, this gives the velocity of the push (``_starting_velocity``). Whatever noise falls on that one
    action moves the puck's end: at 1 m/s, a twentieth of the speed is a tenth of the way.

    Args:
        environment: a Fetch environment with an object.
        random: draws the strength of this episode's push, so that another attempt differs.
        friction: deceleration of the coasting puck, in m/s^2.
        gain: speed of the puck, in m/s, that a push at full action gives.
        jitter: standard deviation of the strength, as a share of it.
    """

    def __init__(
        self,
        environment: gymnasium.Env[Any, Any],
        random: np.random.Generator,
        friction: float = 0.98,
        gain: float = 1.12,
        jitter: float = 0.03,
    ) -> None:
        _require_object(environment, "fetch_slide")
        self.friction = friction
        self.gain = gain / (1.0 + jitter * random.normal())
        self.steps = 0
        self.steps_since_push: int | None = None

    def act(self, observation: Any, info: dict[str, Any]) -> NDArray[Any]:
        """An action within bounds, shape (4,)."""
        self.steps += 1
        gripper, puck = _gripper_and_object(observation)
        if self.steps_since_push is not None:
            self.steps_since_push += 1
            if not self._may_try_again(observation, puck):
                return _move([0.0, 0.0, puck[2] + 0.05 - gripper[2]])
            self.steps_since_push = None
        velocity = _starting_velocity(observation["desired_goal"] - puck, self.friction)
        direction = velocity / (np.linalg.norm(velocity) + 1e-9)
        stand = puck[:2] + _touching(direction) - 0.005 * direction
        low = puck[2] + 0.012  # Lower, and the fingers rub on the table.
        off = stand - gripper[:2]
        if np.linalg.norm(off) < 0.003 and abs(gripper[2] - low) < 0.008:
            self.steps_since_push = 0
            push = velocity / self.gain
            push /= max(1.0, np.abs(push).max())  # Weaker, but in the same direction.
            return _move([*(push * STRIDE), low - gripper[2]])
        return _go_behind(gripper, puck, stand, low, direction, margin=0.012)

    def _may_try_again(self, observation: Any, puck: Vector) -> bool:
        """Whether the puck lies still, off the goal, within reach, with time left to coast once more."""
        moving = observation["observation"][14:16] + observation["observation"][20:22]
        return bool(
            self.steps_since_push is not None
            and self.steps_since_push > 3
            and np.linalg.norm(moving) < 0.03 * STEP_SECONDS
            and _way(puck, observation["desired_goal"])[1] > 0.045
            and puck[0] < 1.25
            and self.steps < 40
        )


def _require_object(environment: gymnasium.Env[Any, Any], policy: str) -> None:
    space = environment.observation_space
    shown = space["observation"].shape if isinstance(space, gymnasium.spaces.Dict) else None
    if shown != (25,):
        name = environment.spec.id if environment.spec else "this environment"
        raise SettingsError(f"'{policy}' needs a Fetch arm with an object, and {name} has none")


def _gripper_and_object(observation: Any) -> tuple[Vector, Vector]:
    """Where they are, shape (3,) each, in metres."""
    return observation["observation"][:3], observation["observation"][3:6]


def _way(start: Vector, goal: Vector) -> tuple[Vector, float]:
    """Direction in the plane, shape (2,), and distance in it."""
    way = (goal - start)[:2]
    distance = float(np.linalg.norm(way))
    return way / (distance + 1e-9), distance


def _move(displacement: Any, fingers: float = 0.0) -> Vector:
    """The action, shape (4,), that moves the gripper by metres, as far as one step goes."""
    action: Vector = np.clip([*(np.asarray(displacement) / STRIDE), fingers], -1.0, 1.0)
    return action


def _go_behind(
    gripper: Vector,
    block: Vector,
    stand: Vector,
    low: float,
    direction: Vector,
    margin: float = 0.02,
) -> Vector:
    """A step towards ``stand`` behind the object: over it where it is in the way, then down to ``low``.

    Returns:
        The action, shape (4,).
    """
    to_stand = stand - gripper[:2]
    off = np.linalg.norm(to_stand)
    beside = (gripper - block)[:2]
    is_clear = beside @ direction < -0.04 and off < 0.08
    if off < margin or is_clear:
        return _move([*to_stand, low - gripper[2]])
    high = block[2] + 0.055
    if gripper[2] < high - 0.015 and np.linalg.norm(beside) < 0.1:
        to_stand = 0.2 * to_stand  # Up first, or the object is knocked away.
    return _move([*to_stand, high - gripper[2]])


def _touching(direction: Vector) -> Vector:
    """From the puck to the gripper whose edge touches it from behind, shape (2,), in metres.

    The closed fingers are a box 27 by 31 mm wide, the puck a disc of 25 mm radius: it is met with that
    corner of the box that points in the direction of the push, or nearly straight, with the box's face.
    """
    corner = np.array([0.0135, 0.0155]) * np.clip(8.0 * direction, -1.0, 1.0)
    offset: Vector = -0.025 * direction - corner
    return offset


def _starting_velocity(way: Vector, friction: float) -> Vector:
    """The velocity, shape (2,), in m/s, from which a puck coasts ``way`` and stops."""
    plus, minus = way[0] + way[1], way[0] - way[1]
    plus, minus = (np.sign(part) * np.sqrt(2.0 * friction * abs(part)) for part in (plus, minus))
    return np.array([plus + minus, plus - minus]) / 2.0
