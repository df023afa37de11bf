"""The fields that an agent can ask for by name: a new field is a function here.

A field takes a draw of (count, batch) transitions and returns a tensor (count, batch, ...). The first sentence of
its docstring is the shape within one batch, for the table of the documentation. The name of a field of goals ends in
``goals``: by that name a goal encoder finds it.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from offline_gcrl.training.batches.draw import Draw


def observations(draw: Draw) -> Tensor:
    """(batch, observation). The state s, normalised."""
    return draw.observations(draw.row)


def actions(draw: Draw) -> Tensor:
    """(batch, action). The action a of the data, scaled to [-1, 1]."""
    return draw.data.actions[draw.row]


def tasks(draw: Draw) -> Tensor:
    """(batch,). The number of the task in the dataset."""
    return draw.transitions.task[draw.pick]


def achieved_goals(draw: Draw) -> Tensor:
    """(batch, goal). The goal that the state s achieves, normalised."""
    return draw.goals(draw.row)


def next_achieved_goals(draw: Draw) -> Tensor:
    """(batch, goal). The goal that the next state s' achieves, normalised."""
    return draw.goals(draw.row + 1)


def following_observations(draw: Draw) -> Tensor:
    """(batch, observation). The next state s', one step after s whatever ``n_step`` is."""
    return draw.observations(draw.row + 1)


def next_observations(draw: Draw) -> Tensor:
    """(batch, observation). The state that the value target bootstraps from, at most ``n_step`` steps after s."""
    return draw.observations(draw.row + draw.value_target.ahead)


def next_actions(draw: Draw) -> Tensor:
    """(batch, action). The action of the data at s'; where s' ends the episode, the action at s again."""
    return draw.data.actions[torch.minimum(draw.row + 1, draw.last_row - 1)]


def has_next_actions(draw: Draw) -> Tensor:
    """(batch,). 1 where the data has an action at s', and 0 where s' ends the episode."""
    return (draw.row + 1 < draw.last_row).float()


def initial_observations(draw: Draw) -> Tensor:
    """(batch, observation). By ``initial_states``: the first state of the episode, or any state of the data."""
    if draw.sampling.initial_states == "any":
        other = draw.integers("initial_state", len(draw.transitions.rows))
        return draw.observations(draw.transitions.rows[other])
    return draw.observations(draw.transitions.first_row[draw.pick])


def value_goals(draw: Draw) -> Tensor:
    """(batch, goal). The goal of values and critics, normalised; with ``conditioning: language`` an embedding."""
    return draw.vectors(draw.value_goal)


def rewards(draw: Draw) -> Tensor:
    """(batch,). Sum of discounted rewards for the value goal until the state that is bootstrapped from."""
    return draw.value_target.rewards


def masks(draw: Draw) -> Tensor:
    """(batch,). 0 where the value goal is reached before that state, so that nothing is bootstrapped; else 1."""
    return draw.value_target.masks


def discounts(draw: Draw) -> Tensor:
    """(batch,). The discount to the power of the steps to that state."""
    return draw.sampling.discount**draw.value_target.ahead


def value_goal_steps(draw: Draw) -> Tensor:
    """(batch,). Steps from s to the value goal where it is a state of the episode, now or later; -1 elsewhere."""
    return draw.steps_to(draw.value_goal)


def actor_goals(draw: Draw) -> Tensor:
    """(batch, goal). The goal of the actor, normalised."""
    return draw.vectors(draw.actor_goal)


def actor_rewards(draw: Draw) -> Tensor:
    """(batch,). The reward of one step for the actor goal."""
    return draw.actor_target.rewards


def actor_masks(draw: Draw) -> Tensor:
    """(batch,). 0 where s' reaches the actor goal, and 1 elsewhere."""
    return draw.actor_target.masks


def actor_goal_steps(draw: Draw) -> Tensor:
    """(batch,). Steps from s to the actor goal where it is a state of the episode, now or later; -1 elsewhere."""
    return draw.steps_to(draw.actor_goal)


def steps_left(draw: Draw) -> Tensor:
    """(batch,). Steps from s to the last state of the episode."""
    return draw.last_row - draw.row


def sub_trajectory_ends(draw: Draw) -> Tensor:
    """(batch,). 1 where s' is the last state of a sub-trajectory, drawn from the later states of the episode; else 0."""
    return (draw.integers("sub_trajectory", steps_left(draw)) == 0).float()


def subgoal_observations(draw: Draw) -> Tensor:
    """(batch, observation). The state ``subgoal_steps`` after s, or at the actor goal or the end if that is sooner."""
    return draw.observations(draw.subgoal_row)


def subgoals(draw: Draw) -> Tensor:
    """(batch, goal). The goal that the state of ``subgoal_observations`` achieves, normalised."""
    return draw.goals(draw.subgoal_row)


def low_goals(draw: Draw) -> Tensor:
    """(batch, goal). The goal achieved ``subgoal_steps`` after s, or at the end of the episode if that is sooner."""
    return draw.goals(draw.low_row)


def midpoint_observations(draw: Draw) -> Tensor:
    """(batch, observation). A state drawn between s and the value goal; s itself where the goal is not ahead."""
    return draw.observations(draw.midpoint_row)


def midpoint_actions(draw: Draw) -> Tensor:
    """(batch, action). The action of the data at the midpoint."""
    return draw.data.actions[draw.midpoint_row]


def midpoint_goals(draw: Draw) -> Tensor:
    """(batch, goal). The goal that the midpoint achieves, normalised."""
    return draw.goals(draw.midpoint_row)


def midpoint_steps(draw: Draw) -> Tensor:
    """(batch,). Steps from s to the midpoint."""
    return draw.midpoint_row - draw.row


def permuted_value_goals(draw: Draw) -> Tensor:
    """(batch, goal). The value goals of the batch in a random order: a goal of another transition."""
    order = draw.integers("permutation", 2**31).argsort(dim=-1, stable=True)
    return draw.goals(draw.value_goal.row.gather(-1, order))


def representation_goals(draw: Draw) -> Tensor:
    """(batch, goal). The goal of a goal encoder's own loss, normalised."""
    return draw.goals(draw.representation_goal.row)


def representation_observations(draw: Draw) -> Tensor:
    """(batch, observation). The state that the target of a goal encoder's own loss bootstraps from."""
    return draw.observations(draw.row + draw.representation_target.ahead)


def representation_rewards(draw: Draw) -> Tensor:
    """(batch,). Sum of discounted rewards of -1 for the representation goal until that state."""
    return draw.representation_target.rewards


def representation_masks(draw: Draw) -> Tensor:
    """(batch,). 0 where the representation goal is reached before that state, and 1 elsewhere."""
    return draw.representation_target.masks


def representation_discounts(draw: Draw) -> Tensor:
    """(batch,). The discount to the power of the steps to that state."""
    return draw.sampling.representation_discount**draw.representation_target.ahead


def mixing(draw: Draw) -> Tensor:
    """(batch,). A uniform number in [0, 1), for interpolation and for random choices."""
    return draw.units("mixing")


def uniform_actions(draw: Draw) -> Tensor:
    """(batch, n, action). As many uniform actions in [-1, 1] as the agent's ``uniform_actions`` says."""
    count, size = draw.sampling.uniform_actions, draw.data.actions.shape[1]
    units = draw.unit_vectors("uniform_actions", count * size)
    return (2.0 * units - 1.0).view(*units.shape[:-1], count, size)


def noise(draw: Draw) -> Tensor:
    """(batch, action). Standard normal numbers."""
    return draw.normals("noise", draw.data.actions.shape[1])


def update(draw: Draw) -> Tensor:
    """(batch,). The number of the update, from 0, the same for all transitions of the batch."""
    return draw.step.expand_as(draw.counter)


Field = Callable[[Draw], Tensor]
FIELDS: dict[str, Field] = {
    function.__name__: function
    for function in (
        observations, actions, tasks, achieved_goals, next_achieved_goals, following_observations,
        next_observations, next_actions, has_next_actions, initial_observations,
        value_goals, rewards, masks, discounts, value_goal_steps,
        actor_goals, actor_rewards, actor_masks, actor_goal_steps, steps_left,
        sub_trajectory_ends,
        subgoal_observations, subgoals, low_goals,
        midpoint_observations, midpoint_actions, midpoint_goals, midpoint_steps,
        permuted_value_goals, representation_goals, representation_observations, representation_rewards,
        representation_masks, representation_discounts, mixing, uniform_actions, noise, update,
    )
}  # fmt: skip
