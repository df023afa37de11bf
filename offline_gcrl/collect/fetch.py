"""Scripted demonstrators of the Fetch arm: reach, push, pick and place, slide.

They act on observations alone. The observation consists of (Plappert et al. 2018, arXiv 1802.09464): the gripper, 0:3;
the object, 3:6; the fingers, 9:11; the velocity of the object relative to the gripper, 14:17; the velocity of the
gripper, 20:23. An action moves the gripper by at most ``STRIDE``, and opens (above 0) or closes its fingers.
"""

from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from offline_gcrl.support.errors import SettingsError

Vector = NDArray[np.float64]

STRIDE = 0.033
"""Distance that the gripper moves in one step at full action, in metres, measured in the simulator."""
STEP_SECONDS = 0.04


class FetchReachDemonstrator:
    """Moves the gripper on a straight line to the goal and slows down near it."""

    def __init__(
        self,
        environment: gymnasium.Env[Any, Any],
        random: np.random.Generator,
        gain: float = 10.0,
    ) -> None:
        self.space, self.gain = environment.action_space, gain

    def act(self, observation: Any, info: dict[str, Any]) -> NDArray[Any]:
        """An action within bounds, shape (4,): the displacement of the gripper, and its fingers."""
        assert isinstance(self.space, gymnasium.spaces.Box)
        action = np.zeros(self.space.shape)
        action[:3] = self.gain * (observation["desired_goal"] - observation["achieved_goal"])
        return np.clip(action, self.space.low, self.space.high)


class FetchPushDemonstrator:
    """Moves the gripper behind the block, pushes the block to the goal, and then moves away.

    Args:
        environment: a Fetch environment with an object.
        random: unused, as the demonstrator is deterministic.
        near: distance of the block to the goal, in metres, at which pushing ends.
        far: distance at which pushing starts again, as action noise can move the block.
        speed: largest action while pushing; with larger values the block overshoots.
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
            # Towards the goal, and back to the line through block and goal.
            ahead = min(self.speed * STRIDE, 0.6 * distance) * direction - aside
            return _move([*ahead, low - gripper[2]])
        return _go_behind(gripper, block, block[:2] - 0.065 * direction, low, direction)


class FetchPickAndPlaceDemonstrator:
    """Opens the gripper above the block, lowers and closes it, and carries the block to the goal."""

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
        if opening > 0.055:  # The block is 0.05 m wide, so the fingers do not hold it yet.
            return _move(to_block, -1.0)
        return _move(observation["desired_goal"] - block, -1.0)

    def _clearance(self, off: float, height: float) -> float:
        """Height above the block, in metres, to keep until the gripper is above it."""
        if off <= 0.015 or (off < 0.03 and height < 0.03):
            return 0.0
        return 0.08 if off > 0.03 else 0.05


class FetchSlideDemonstrator:
    """Touches the puck from behind, pushes it once, and lets it slide.

    MuJoCo's friction pyramid decelerates the puck along x + y and along x - y independently, each like dry friction:
    with an initial speed u along such an axis, the puck moves by u^2 / (2 friction). Solved for u, this gives the
    velocity of the push (``_starting_velocity``). Noise on this single action changes where the puck stops: at 1 m/s,
    an error of 5% in speed is an error of 10% in distance.

    Args:
        environment: a Fetch environment with an object.
        random: draws the strength of the push of this episode, so that attempts differ.
        friction: deceleration of the sliding puck, in m/s^2.
        gain: speed of the puck, in m/s, after a push at full action.
        jitter: standard deviation of the strength, relative to the strength.
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
        low = puck[2] + 0.012  # Any lower, the fingers touch the table.
        off = stand - gripper[:2]
        if np.linalg.norm(off) < 0.003 and abs(gripper[2] - low) < 0.008:
            self.steps_since_push = 0
            push = velocity / self.gain
            push /= max(1.0, np.abs(push).max())  # Weaker, but in the same direction.
            return _move([*(push * STRIDE), low - gripper[2]])
        return _go_behind(gripper, puck, stand, low, direction, margin=0.012)

    def _may_try_again(self, observation: Any, puck: Vector) -> bool:
        """Whether the puck is at rest, not at the goal, within reach, and there is time to slide again."""
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
    """Positions of the gripper and the object, shape (3,) each, in metres."""
    return observation["observation"][:3], observation["observation"][3:6]


def _way(start: Vector, goal: Vector) -> tuple[Vector, float]:
    """Direction, shape (2,), and distance from start to goal in the horizontal plane."""
    way = (goal - start)[:2]
    distance = float(np.linalg.norm(way))
    return way / (distance + 1e-9), distance


def _move(displacement: Any, fingers: float = 0.0) -> Vector:
    """The action, shape (4,), that moves the gripper by a displacement in metres, limited to one step."""
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
    """A step towards a position behind the object, above the object if it is in the way.

    Args:
        gripper: position of the gripper, (3,), in metres.
        block: position of the object, (3,).
        stand: position behind the object, (2,).
        low: height of the gripper at that position.
        direction: direction of the push, (2,).
        margin: distance to the position within which the gripper is lowered.

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
        to_stand = (
            0.2 * to_stand
        )  # Mostly upwards first, so that the gripper does not hit the object.
    return _move([*to_stand, high - gripper[2]])


def _touching(direction: Vector) -> Vector:
    """Offset from the puck to a gripper that touches it from behind, shape (2,), in metres.

    The closed fingers are a box of 27 mm by 31 mm, and the puck is a disc with a radius of 25 mm. The corner of the box
    that points in the direction of the push touches the puck, or the face of the box for pushes along an axis.
    """
    corner = np.array([0.0135, 0.0155]) * np.clip(8.0 * direction, -1.0, 1.0)
    offset: Vector = -0.025 * direction - corner
    return offset


def _starting_velocity(way: Vector, friction: float) -> Vector:
    """The initial velocity, shape (2,), in m/s, with which a puck slides by ``way`` (in metres) and stops."""
    plus, minus = way[0] + way[1], way[0] - way[1]
    plus, minus = (np.sign(part) * np.sqrt(2.0 * friction * abs(part)) for part in (plus, minus))
    return np.array([plus + minus, plus - minus]) / 2.0
