"""Two levels of policies on one value, as HIQL and survival values have them: losses of advantage-weighted regression."""

from typing import Protocol

import torch
from torch import Tensor

from offline_gcrl.agents import Batch, Losses
from offline_gcrl.agents.shared.actors import awr_loss
from offline_gcrl.config import AgentSettings
from offline_gcrl.networks.actors import LAST_GAIN, HierarchicalActor
from offline_gcrl.networks.conditioning import Conditioning, Dimensions
from offline_gcrl.networks.goal_conditioned import GoalConditioned
from offline_gcrl.networks.representations import GoalRepresentation


class RepresentedValue(Protocol):
    """A value V(s, phi([s; g]))."""

    representation: GoalRepresentation

    def estimate(self, state: Tensor, goal: Tensor, task: Tensor | None = None) -> Tensor:
        """One number for each state and goal, (batch,), without a gradient."""

    def estimate_of(self, state: Tensor, representation: Tensor, task: Tensor | None) -> Tensor:
        """The same of a representation of the goal."""


def hierarchical_actor(
    settings: AgentSettings, dimensions: Dimensions, size: int
) -> HierarchicalActor:
    """A high-level policy pi(z | s, g) and a low-level policy pi(a | s, z), where z has ``size`` numbers."""
    high, low = (
        GoalConditioned(
            dimensions.observation,
            goals,
            outputs,
            settings.hidden,
            settings.activation,
            conditioning=Conditioning.of(settings, dimensions),
            last_gain=LAST_GAIN,
        )
        for goals, outputs in ((dimensions.goal, size), (size, dimensions.action))
    )
    return HierarchicalActor(high, low)


def low_level_loss(
    value: RepresentedValue,
    actor: HierarchicalActor,
    batch: Batch,
    alpha: float,
    *,
    max_weight: float,
    trains_representation: bool = False,
) -> Losses:
    """AWR of actions towards the subgoal w of the same episode, with A = V(s', w) - V(s, w)."""
    observations, goals, tasks = batch["observations"], batch["low_goals"], batch["tasks"]
    subgoal = value.representation(observations, goals, task=tasks)
    if not trains_representation:
        subgoal = subgoal.detach()
    advantage = value.estimate(batch["following_observations"], goals, tasks)
    advantage = advantage - value.estimate_of(observations, subgoal, tasks)
    actions = actor.low(observations, subgoal, task=tasks)
    return awr_loss(actions, batch["actions"], advantage, alpha, batch, max_weight=max_weight)


def high_level_loss(
    value: RepresentedValue,
    actor: HierarchicalActor,
    batch: Batch,
    alpha: float,
    *,
    max_weight: float,
) -> Losses:
    """AWR of representations phi([s; w]) of subgoals, with A = V(w, g) - V(s, g)."""
    observations, goals, tasks = batch["observations"], batch["actor_goals"], batch["tasks"]
    with torch.no_grad():
        target = value.representation(observations, batch["subgoals"], task=tasks)
    advantage = value.estimate(batch["subgoal_observations"], goals, tasks)
    advantage = advantage - value.estimate(observations, goals, tasks)
    proposed = actor.high(observations, goals, task=tasks)
    return awr_loss(
        proposed, target, advantage, alpha, batch, max_weight=max_weight, name="high_actor"
    )
