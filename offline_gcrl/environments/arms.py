"""OGBench's arms as this package needs them: with one action space, and with the state in which they observed their goal."""

from typing import Any

import gymnasium

GOAL_STATE = "goal_state"
"""The attribute, and the info of ``reset``, with the infos of the state of the goal."""


def adapted(environment: gymnasium.Env[Any, Any]) -> gymnasium.Env[Any, Any]:
    """An arm of OGBench with the properties that are described here; any other environment as it is.

    - ``action_space`` is one object, which can be seeded. The arms create a new one at every access, and draw from it in
      ``reset``.
    - ``goal_state`` are the infos of the state that the arm was in when ``reset`` took the observation of the goal from it.
    """
    inner = environment.unwrapped
    if inner.action_space is not inner.action_space:
        kind = type(inner)
        members = {
            "action_space": inner.action_space,
            "_cur_goal_ob": GoalObservation(),
            "get_reset_info": get_reset_info,
        }
        inner.__class__ = type(kind.__name__, (kind,), members)
    return environment


def get_reset_info(arm: Any) -> dict[str, Any]:
    """The infos of a reset, with ``goal_state`` where there is a goal."""
    infos: dict[str, Any] = super(type(arm), arm).get_reset_info()
    goal = getattr(arm, GOAL_STATE, None)
    return infos if goal is None else {**infos, GOAL_STATE: goal}


class GoalObservation:
    """The attribute to which an arm assigns the observation of its goal, while it is in the state of the goal."""

    def __get__(self, arm: Any, kind: type | None = None) -> Any:
        """The observation of the goal; None before the first ``reset``."""
        return None if arm is None else arm.__dict__.get("_cur_goal_ob")

    def __set__(self, arm: Any, observation: Any) -> None:
        """Store the observation, and the infos of the current state as ``goal_state``."""
        arm.__dict__["_cur_goal_ob"] = observation
        arm.goal_state = arm.compute_ob_info()
