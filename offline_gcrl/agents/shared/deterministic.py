"""A deterministic policy with critics of its actions, as DDPG, WGCSL and Actionable Models have them."""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from offline_gcrl.config import AgentSettings
from offline_gcrl.networks.actors import Actor
from offline_gcrl.networks.conditioning import Conditioning, Dimensions
from offline_gcrl.networks.goal_conditioned import GoalConditioned
from offline_gcrl.networks.values import Value


def tanh_actor(settings: AgentSettings, dimensions: Dimensions) -> Actor:
    """pi(s, g) that ends in a tanh."""
    network = GoalConditioned(
        dimensions.observation,
        dimensions.goal,
        dimensions.action,
        settings.hidden,
        settings.activation,
        conditioning=Conditioning.of(settings, dimensions),
    )
    return Actor(network, squash=True)


def critic_of(settings: AgentSettings, dimensions: Dimensions, kind: type[Value] = Value) -> Value:
    """Q(s, a, g)."""
    return kind(
        dimensions.observation + dimensions.action,
        dimensions.goal,
        1,
        settings.hidden,
        settings.activation,
        conditioning=Conditioning.of(settings, dimensions),
    )


def policy_value(
    critic: Callable[..., Any],
    actor: Callable[..., Tensor],
    observations: Tensor,
    goals: Tensor,
    tasks: Tensor,
) -> Tensor:
    """Q(s, pi(s, g), g): (batch,), or (members, batch) of an ensemble."""
    q: Tensor = critic(observations, goals, actor(observations, goals, tasks), tasks)
    return q
