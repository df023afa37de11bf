"""Contrastive RL (Eysenbach et al., NeurIPS 2022; CRL of OGBench, Park et al. 2025).

A critic learns to tell the goal that a transition's episode reaches later from the goals of other transitions. Its
optimum is log p(g | s, a) / p(g), up to a constant, with the discounted distribution p(g | s, a) of later states under
the behaviour. There is no reward, no target network and no bootstrapping.
"""

from collections.abc import Iterable
from typing import Annotated, Any, ClassVar, Literal, Self

import torch
from pydantic import Field, PositiveFloat, PositiveInt, model_validator
from torch import Tensor, nn
from torch.nn.functional import softplus

from offline_gcrl.agents import Batch, Losses, batch_mean
from offline_gcrl.agents.shared.actors import awr_loss, ddpg_bc_loss
from offline_gcrl.agents.shared.distral import with_distillation
from offline_gcrl.config import (
    Activation,
    AgentSettings,
    Mixture,
    Sampling,
    Units,
    ValueMeaning,
    require_goal,
)
from offline_gcrl.networks.actors import LAST_GAIN, Actor
from offline_gcrl.networks.bilinear import Bilinear
from offline_gcrl.networks.conditioning import Conditioning, Dimensions
from offline_gcrl.networks.frozen import frozen
from offline_gcrl.networks.goal_conditioned import GoalConditioned
from offline_gcrl.networks.targets import TargetPair
from offline_gcrl.networks.values import Ensemble

FIELDS = ("observations", "actions", "tasks", "value_goals", "actor_goals")


class Settings(AgentSettings):
    """Settings of CRL; the defaults are OGBench's."""

    learning_rate: PositiveFloat = 3.0e-4
    hidden: Units = (512, 512, 512)
    activation: Activation = "gelu"
    layer_norm: bool = True  # in the encoders of critics and value; never in the actor
    latent: PositiveInt = 512  # size of the encoded states and goals
    actor_loss: Literal["awr", "ddpg+bc"] = "ddpg+bc"
    alpha: Annotated[float, Field(gt=0.0)] = 0.1  # AWR: inverse temperature; DDPG+BC: weight of BC
    # Positive goals of the critic. With `geometric` its discount is `relabel.discount`.
    value_goals: Mixture = {"geometric": 1.0}
    actor_goals: Mixture = {"future": 1.0}
    distils: ClassVar[bool] = True

    @model_validator(mode="after")
    def _learns_about_goals(self) -> Self:
        require_goal(self, "CRL learns how likely a goal is to be reached")
        return self

    @property
    def has_batch_statistics(self) -> bool:
        """Pairs of transitions."""
        return True

    @property
    def sampling(self) -> Sampling:
        """Goals, and no rewards."""
        return Sampling(fields=FIELDS, actor_goals=self.actor_goals, value_goals=self.value_goals)

    @property
    def has_ensemble(self) -> bool:
        """Two critics."""
        return True

    @property
    def has_positive_loss(self) -> bool:
        """With AWR all losses are cross-entropies or weighted squares."""
        return self.actor_loss == "awr"

    @property
    def suits_bfloat16(self) -> bool:
        """With AWR the weights are differences of values."""
        return self.actor_loss == "ddpg+bc"

    @property
    def value_meaning(self) -> ValueMeaning:
        """The contrastive critic."""
        return "log_ratio"


class Agent(nn.Module):
    """Two critics phi(s, a) . psi(g), for AWR a value phi(s) . psi(g), and a policy pi(a | s, g)."""

    def __init__(self, settings: Settings, dimensions: Dimensions) -> None:
        super().__init__()
        self.settings = settings
        state, goal, action = dimensions.observation, dimensions.goal, dimensions.action
        conditioning = Conditioning.of(settings, dimensions)
        shape = (settings.hidden, settings.activation)

        def bilinear(inputs: int) -> Bilinear:
            return Bilinear(
                inputs,
                goal,
                settings.latent,
                *shape,
                conditioning=conditioning,
                layer_norm=settings.layer_norm,
            )

        self.critic = Ensemble([bilinear(state + action) for _ in range(2)])
        self.has_value = settings.actor_loss == "awr"
        if self.has_value:
            self.value = bilinear(state)
        network = GoalConditioned(
            state, goal, action, *shape, conditioning=conditioning, last_gain=LAST_GAIN
        )
        self.actor = Actor(network, squash=False)

    def loss(self, batch: Batch) -> Losses:
        """Contrastive losses of critics and value, and the actor's; each sends gradients to its own network only."""
        loss, info = self.contrastive_loss("critic", self.critic.members, batch, batch["actions"])
        if self.has_value:
            value_loss, value_info = self.contrastive_loss("value", [self.value], batch)
            loss, info = loss + value_loss, info | value_info
        actor_loss, actor_info = self.awr_loss(batch) if self.has_value else self.ddpg_loss(batch)
        return with_distillation(self, batch, (loss + actor_loss, info | actor_info))

    def contrastive_loss(
        self, name: str, networks: Iterable[Any], batch: Batch, actions: Tensor | None = None
    ) -> Losses:
        """Cross-entropy of all pairs of a transition and a goal of the batch (NCE).

        The pair (i, j) of B transitions has the weight of the transition i, divided by B: how much a transition
        counts depends on its task, and the negative goals are those of the batch as it was drawn.
        """
        inputs = batch["observations"], batch["value_goals"], actions, batch["tasks"]
        logits = torch.stack([network.pairs(*inputs) for network in networks])
        positive = logits.diagonal(dim1=-2, dim2=-1)
        # softplus(x) is the loss of a negative pair, and softplus(x) - x that of a positive one.
        losses = softplus(logits).mean(-1) - positive / logits.shape[-1]
        loss = batch_mean(losses, batch).mean()
        is_first = positive.detach() >= logits.detach().amax(-1)
        return loss, {
            f"{name}/loss": loss.detach(),
            f"{name}/mean": positive.mean().detach(),
            f"{name}/accuracy": is_first.float().mean(),
        }

    def awr_loss(self, batch: Batch) -> Losses:
        """Advantage-weighted regression with A = min Q(s, a, g) - V(s, g)."""
        observations, goals, tasks = batch["observations"], batch["actor_goals"], batch["tasks"]
        with torch.no_grad():
            q = self.critic(observations, goals, batch["actions"], tasks).amin(0)
            advantage = q - self.value(observations, goals, task=tasks)
        actions = self.actor(observations, goals, tasks)
        return awr_loss(actions, batch["actions"], advantage, self.settings.alpha, batch)

    def ddpg_loss(self, batch: Batch) -> Losses:
        """DDPG with behaviour cloning on min Q, a log ratio, which receives no gradient."""
        observations, goals, tasks = batch["observations"], batch["actor_goals"], batch["tasks"]
        critic = frozen(self.critic)
        return ddpg_bc_loss(
            self.actor(observations, goals, tasks),
            lambda actions: critic(observations, goals, actions, tasks).amin(0),
            self.settings.alpha,
            batch,
        )

    def state_value(self, observations: Tensor, goals: Tensor, tasks: Tensor) -> Tensor:
        """Smaller Q at the policy's action, (batch,): a logarithm of how likely the goal is to be reached."""
        with torch.no_grad():
            actions = self.actor(observations, goals, tasks).clamp(-1.0, 1.0)
            values: Tensor = self.critic(observations, goals, actions, tasks).amin(0)
        return values

    def disagreement(self, batch: Batch) -> Tensor:
        """|Q_1 - Q_2| of the data's actions, (batch,): how uncertain the critics are of them."""
        q = self.critic(
            batch["observations"], batch["value_goals"], batch["actions"], batch["tasks"]
        )
        difference: Tensor = q[0] - q[1]
        return difference.abs()

    def parameter_groups(self) -> list[dict[str, Any]]:
        """One learning rate for all."""
        return [{"params": list(self.parameters()), "lr": self.settings.learning_rate}]

    def target_pairs(self) -> list[TargetPair]:
        """CRL has no targets."""
        return []
