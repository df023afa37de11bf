"""Dual goal representations (Park, Mann and Levine, ICLR 2026): any agent, with a goal encoder in front of it.

A goal is represented by how far it is from every state. The optimal value is written as V(s, g) = psi(s) . phi(g) /
sqrt(d) and learned by goal-conditioned IQL; all networks of the agent then read phi(g) instead of g.
"""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from offline_gcrl.agents import INNER, STATE, Batch, Losses, batch_mean
from offline_gcrl.agents.shared.values import expectile_losses
from offline_gcrl.config import AgentSettings
from offline_gcrl.networks.actors import EncodedGoalActor
from offline_gcrl.networks.bilinear import Bilinear
from offline_gcrl.networks.conditioning import Conditioning, Dimensions
from offline_gcrl.networks.targets import TargetPair, copy_as_target, target_pair
from offline_gcrl.networks.values import Ensemble, Value


class DualAgent(nn.Module):
    """An agent for goals phi(g), the value psi(s) . phi(g), and two critics Q(s, a, g) with targets.

    Args:
        agent: type of the agent.
        settings: of the agent, with ``dual``.
        dimensions: of the data.
    """

    inner: Any
    """The agent; its goals have ``settings.dual.size`` numbers."""

    def __init__(self, agent: Any, settings: AgentSettings, dimensions: Dimensions) -> None:
        super().__init__()
        self.settings, self.dual = settings, settings.dual
        state, goal, size = dimensions.observation, dimensions.goal, self.dual.size
        shape = (settings.hidden, settings.activation)
        conditioning, norm = Conditioning.of(settings, dimensions), self.dual.layer_norm
        self.representation = Bilinear(
            state, goal, size, *shape, conditioning=conditioning, layer_norm=norm
        )
        inputs = state + dimensions.action
        self.representation_critic = Ensemble(
            Value(inputs, goal, 1, *shape, conditioning=conditioning, layer_norm=norm)
            for _ in range(2)
        )
        self.target_representation_critic = copy_as_target(self.representation_critic)
        self.inner = agent(settings, replace(dimensions, goal=size))

    @property
    def actor(self) -> nn.Module:
        """The agent's policy after phi. It is not registered, so that each weight has one name."""
        return EncodedGoalActor(self.representation.goal_encoder, self.inner.actor)

    @property
    def values_achieved_goals(self) -> bool:
        """Whether ``state_value`` reads the goal that a state achieves instead of the state."""
        return getattr(self.inner, "values_achieved_goals", False)

    def loss(self, batch: Batch) -> Losses:
        """The representation's loss and the agent's; the agent sends no gradient into phi."""
        loss, info = self.representation_loss(batch)
        inner_loss, inner_info = self.inner.loss(self.encoded(batch))
        return loss + inner_loss, info | {_within(name): each for name, each in inner_info.items()}

    def representation_loss(self, batch: Batch) -> Losses:
        """Goal-conditioned IQL of V(s, g) = psi(s) . phi(g) / sqrt(d), with critics that are plain networks."""
        states, goals, tasks = batch["observations"], batch["representation_goals"], batch["tasks"]
        v = self.representation(states, goals, task=tasks)
        with torch.no_grad():
            target_q = self.target_representation_critic(states, goals, batch["actions"], tasks)
            next_v = self.representation(batch["representation_observations"], goals, task=tasks)
            discounts = batch["representation_discounts"] * batch["representation_masks"]
            target = batch["representation_rewards"] + discounts * next_v
        q = self.representation_critic(states, goals, batch["actions"], tasks)
        differences = target_q.amin(0) - v
        value_loss = batch_mean(expectile_losses(differences, self.dual.expectile), batch)
        critic_loss = batch_mean((q - target).square(), batch).sum()
        return value_loss + critic_loss, {
            "representation/value_loss": value_loss.detach(),
            "representation/critic_loss": critic_loss.detach(),
            "representation/mean": v.mean().detach(),
        }

    def encoded(self, batch: Batch) -> dict[str, Tensor]:
        """The batch with phi(g) for every goal g, in all fields whose name ends in ``goals``."""
        return {
            name: self.encode(values, batch["tasks"])
            if name.endswith("goals") and name != "representation_goals"
            else values
            for name, values in batch.items()
        }

    def encode(self, goals: Tensor, tasks: Tensor) -> Tensor:
        """phi(g), (batch, size), without a gradient."""
        with torch.no_grad():
            encoded: Tensor = self.representation.goal_encoder(goals, tasks)
        return encoded

    def state_value(self, observations: Tensor, goals: Tensor, tasks: Tensor) -> Tensor:
        """The agent's value, (batch,); of an agent without one, psi(s) . phi(g) / sqrt(d)."""
        if not hasattr(self.inner, "state_value"):
            with torch.no_grad():
                return self.representation(observations, goals, task=tasks)  # type: ignore[no-any-return]
        if self.values_achieved_goals:
            observations = self.encode(observations, tasks)
        value: Tensor = self.inner.state_value(observations, self.encode(goals, tasks), tasks)
        return value

    def disagreement(self, batch: Batch) -> Tensor:
        """That of the agent's values or critics, (batch,)."""
        difference: Tensor = self.inner.disagreement(self.encoded(batch))
        return difference

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Those of the agent, and one for the representation and its critics."""
        networks = (self.representation, self.representation_critic)
        parameters = [parameter for network in networks for parameter in network.parameters()]
        own = {"params": parameters, "lr": self.settings.learning_rate}
        return [*self.inner.parameter_groups(), own]

    def target_pairs(self) -> list[TargetPair]:
        """Those of the agent, and the target critics, which follow the critics."""
        critics = (self.target_representation_critic, self.representation_critic)
        return [*self.inner.target_pairs(), target_pair(*critics, self.dual.tau)]


def _within(name: str) -> str:
    """The name of a diagnostic of the agent; its running state is at a place within this module."""
    return f"{STATE}{INNER}{name.removeprefix(STATE)}" if name.startswith(STATE) else name
