"""Goal-conditioned implicit Q-learning (Kostrikov et al., ICLR 2022; GCIQL of OGBench, Park et al. 2025).

V is an upper expectile of Q over the data's actions, so that Q learns from the best of them without ever
asking about others; the actor follows by advantage-weighted regression or by DDPG+BC.
"""

from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor, nn

from offline_gcrl.agents import Batch, Losses, batch_mean
from offline_gcrl.agents.shared.actors import awr_loss, ddpg_bc_loss
from offline_gcrl.agents.shared.distral import with_distillation
from offline_gcrl.agents.shared.values import expectile_losses
from offline_gcrl.config import (
    Activation,
    AgentSettings,
    Discount,
    Mixture,
    Sampling,
    Units,
    ValueMeaning,
)
from offline_gcrl.networks.actors import LAST_GAIN, Actor
from offline_gcrl.networks.conditioning import Conditioning, Dimensions
from offline_gcrl.networks.frozen import frozen
from offline_gcrl.networks.goal_conditioned import GoalConditioned
from offline_gcrl.networks.targets import TargetPair, copy_as_target, target_pair
from offline_gcrl.networks.values import Ensemble, Value

FIELDS = (
    "observations", "actions", "tasks", "next_observations", "value_goals", "rewards", "masks", "discounts",
    "actor_goals",
)  # fmt: skip


class Settings(AgentSettings):
    """Settings of GC-IQL; the defaults are OGBench's."""

    learning_rate: PositiveFloat = 3.0e-4
    hidden: Units = (512, 512, 512)
    activation: Activation = "gelu"
    layer_norm: bool = True  # in values and critics; never in the actor
    discount: Discount = 0.99
    expectile: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.9  # of Q that V estimates
    tau: Annotated[float, Field(gt=0.0, le=1.0)] = 0.005  # rate at which the target critic follows
    n_step: PositiveInt = 1  # steps until the critic's target bootstraps
    actor_loss: Literal["awr", "ddpg+bc"] = "ddpg+bc"
    alpha: Annotated[float, Field(gt=0.0)] = 0.3  # AWR: inverse temperature; DDPG+BC: weight of BC
    max_weight: Annotated[float, Field(gt=0.0)] = 100.0  # of an action in AWR
    value_goals: Mixture = {"current": 0.2, "geometric": 0.5, "random": 0.3}
    actor_goals: Mixture = {"future": 1.0}
    distils: ClassVar[bool] = True

    @property
    def has_batch_statistics(self) -> bool:
        """The mean of |Q|."""
        return self.actor_loss == "ddpg+bc"

    @property
    def sampling(self) -> Sampling:
        """Reward -1 until the goal is reached."""
        return Sampling(
            fields=FIELDS,
            actor_goals=self.actor_goals,
            value_goals=self.value_goals,
            discount=self.discount,
            n_step=self.n_step,
        )

    @property
    def has_ensemble(self) -> bool:
        """Two critics."""
        return True

    @property
    def has_positive_loss(self) -> bool:
        """With AWR all three losses are weighted squares."""
        return self.actor_loss == "awr"

    @property
    def suits_bfloat16(self) -> bool:
        """With AWR the weights are differences of values."""
        return self.actor_loss == "ddpg+bc"

    @property
    def value_meaning(self) -> ValueMeaning:
        """V of rewards of -1."""
        return "discounted_cost"


class Agent(nn.Module):
    """V(s, g), two critics Q(s, a, g) with targets, and a policy pi(a | s, g)."""

    def __init__(self, settings: Settings, dimensions: Dimensions) -> None:
        super().__init__()
        self.settings = settings
        state, goal, action = dimensions.observation, dimensions.goal, dimensions.action
        shared = {"conditioning": Conditioning.of(settings, dimensions)}
        shape = (settings.hidden, settings.activation)
        norm = {"layer_norm": settings.layer_norm, **shared}
        self.value = Value(state, goal, 1, *shape, **norm)  # type: ignore[arg-type]
        self.critic = Ensemble([Value(state + action, goal, 1, *shape, **norm) for _ in range(2)])  # type: ignore[arg-type]
        self.target_critic = copy_as_target(self.critic)
        network = GoalConditioned(state, goal, action, *shape, last_gain=LAST_GAIN, **shared)  # type: ignore[arg-type]
        self.actor = Actor(network, squash=False)

    def loss(self, batch: Batch) -> Losses:
        """Value, critic and actor losses; each sends gradients to its own network only."""
        value_loss, value_info = self.value_loss(batch)
        critic_loss, critic_info = self.critic_loss(batch)
        actor_loss, actor_info = (
            self.awr_loss(batch) if self.settings.actor_loss == "awr" else self.ddpg_loss(batch)
        )
        losses = value_loss + critic_loss + actor_loss, {**value_info, **critic_info, **actor_info}
        return with_distillation(self, batch, losses)

    def value_loss(self, batch: Batch) -> Losses:
        """Expectile regression of V on min Q_target (IQL, equation 5)."""
        observations, goals, tasks = batch["observations"], batch["value_goals"], batch["tasks"]
        with torch.no_grad():
            q = self.target_critic(observations, goals, batch["actions"], tasks).amin(0)
        v = self.value(observations, goals, task=tasks)
        loss = batch_mean(expectile_losses(q - v, self.settings.expectile), batch)
        return loss, {"value/loss": loss.detach(), "value/mean": v.mean().detach()}

    def critic_loss(self, batch: Batch) -> Losses:
        """(r + gamma^n m V(s', g) - Q_i(s, a, g))^2 for both critics (IQL, equation 6)."""
        goals, tasks = batch["value_goals"], batch["tasks"]
        with torch.no_grad():
            next_v = self.value(batch["next_observations"], goals, task=tasks)
            target = batch["rewards"] + batch["discounts"] * batch["masks"] * next_v
        q = self.critic(batch["observations"], goals, batch["actions"], tasks)
        loss = batch_mean((q - target).square(), batch).sum()
        return loss, {"critic/loss": loss.detach(), "critic/mean": q.mean().detach()}

    def awr_loss(self, batch: Batch) -> Losses:
        """Advantage-weighted regression with A = min Q(s, a, g) - V(s, g) (IQL, equation 7)."""
        observations, goals, tasks = batch["observations"], batch["actor_goals"], batch["tasks"]
        with torch.no_grad():
            q = self.critic(observations, goals, batch["actions"], tasks).amin(0)
            advantage = q - self.value(observations, goals, task=tasks)
        actions, settings = self.actor(observations, goals, tasks), self.settings
        return awr_loss(
            actions,
            batch["actions"],
            advantage,
            settings.alpha,
            batch,
            max_weight=settings.max_weight,
        )

    def ddpg_loss(self, batch: Batch) -> Losses:
        """DDPG with behaviour cloning on min Q, which receives no gradient."""
        observations, goals, tasks = batch["observations"], batch["actor_goals"], batch["tasks"]
        critic = frozen(self.critic)
        return ddpg_bc_loss(
            self.actor(observations, goals, tasks),
            lambda actions: critic(observations, goals, actions, tasks).amin(0),
            self.settings.alpha,
            batch,
        )

    def state_value(self, observations: Tensor, goals: Tensor, tasks: Tensor) -> Tensor:
        """V(s, g), (batch,): with rewards of -1, minus the discounted number of steps to the goal."""
        values: Tensor = self.value(observations, goals, task=tasks)
        return values.detach()

    def disagreement(self, batch: Batch) -> Tensor:
        """|Q_1 - Q_2| of the data's actions, (batch,): how uncertain the critics are of them."""
        q = self.critic(
            batch["observations"], batch["value_goals"], batch["actions"], batch["tasks"]
        )
        difference: Tensor = q[0] - q[1]
        return difference.abs()

    def parameter_groups(self) -> list[dict[str, Any]]:
        """One learning rate for all."""
        networks = (self.value, self.critic, self.actor)
        parameters = [parameter for network in networks for parameter in network.parameters()]
        return [{"params": parameters, "lr": self.settings.learning_rate}]

    def target_pairs(self) -> list[TargetPair]:
        """The target critic follows the critic."""
        return [target_pair(self.target_critic, self.critic, self.settings.tau)]
