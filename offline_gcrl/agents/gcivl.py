"""Goal-conditioned implicit V-learning (GCIVL of OGBench, Park et al., ICLR 2025): values, and no critics.

V is an upper expectile over the transitions of the data. The actor imitates the actions after which V rose.
"""

from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor, nn

from offline_gcrl.agents import Batch, Losses
from offline_gcrl.agents.shared.actors import awr_loss
from offline_gcrl.agents.shared.distral import with_distillation
from offline_gcrl.agents.shared.values import implicit_value_loss
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
from offline_gcrl.networks.goal_conditioned import GoalConditioned
from offline_gcrl.networks.targets import TargetPair, copy_as_target, target_pair
from offline_gcrl.networks.values import Ensemble, Value

FIELDS = (
    "observations", "actions", "tasks", "next_observations", "value_goals", "rewards", "masks", "discounts",
    "following_observations", "actor_goals",
)  # fmt: skip


class Settings(AgentSettings):
    """Settings of GCIVL; the defaults are OGBench's."""

    learning_rate: PositiveFloat = 3.0e-4
    hidden: Units = (512, 512, 512)
    activation: Activation = "gelu"
    layer_norm: bool = True  # in the values; never in the actor
    discount: Discount = 0.99
    expectile: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.9  # of the targets that V estimates
    tau: Annotated[float, Field(gt=0.0, le=1.0)] = 0.005  # rate at which the target values follow
    n_step: PositiveInt = 1  # steps until the target bootstraps
    alpha: NonNegativeFloat = 10.0  # inverse temperature of the weights of actions
    max_weight: PositiveFloat = 100.0  # of an action
    value_goals: Mixture = {"current": 0.2, "geometric": 0.5, "random": 0.3}
    actor_goals: Mixture = {"future": 1.0}
    distils: ClassVar[bool] = True

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
        """Two values."""
        return True

    @property
    def has_positive_loss(self) -> bool:
        """Both losses are weighted squares."""
        return True

    @property
    def value_meaning(self) -> ValueMeaning:
        """V of rewards of -1."""
        return "discounted_cost"


class Agent(nn.Module):
    """Two values V(s, g) with targets, and a policy pi(a | s, g)."""

    def __init__(self, settings: Settings, dimensions: Dimensions) -> None:
        super().__init__()
        self.settings = settings
        state, goal, action = dimensions.observation, dimensions.goal, dimensions.action
        shape = (settings.hidden, settings.activation)
        conditioning, norm = Conditioning.of(settings, dimensions), settings.layer_norm
        self.value = Ensemble(
            Value(state, goal, 1, *shape, conditioning=conditioning, layer_norm=norm)
            for _ in range(2)
        )
        self.target_value = copy_as_target(self.value)
        network = GoalConditioned(
            state, goal, action, *shape, conditioning=conditioning, last_gain=LAST_GAIN
        )
        self.actor = Actor(network, squash=False)

    def loss(self, batch: Batch) -> Losses:
        """Value and actor losses; each sends gradients to its own network only."""
        value_loss, value_info = self.value_loss(batch)
        actor_loss, actor_info = self.actor_loss(batch)
        losses = value_loss + actor_loss, {**value_info, **actor_info}
        return with_distillation(self, batch, losses)

    def value_loss(self, batch: Batch) -> Losses:
        """Expectile regression of each V on the target of its own target network."""
        observations, goals, tasks = batch["observations"], batch["value_goals"], batch["tasks"]
        with torch.no_grad():
            next_target_v = self.target_value(batch["next_observations"], goals, task=tasks)
            target_v = self.target_value(observations, goals, task=tasks)
        v = self.value(observations, goals, task=tasks)
        return implicit_value_loss(v, target_v, next_target_v, batch, self.settings.expectile)

    def actor_loss(self, batch: Batch) -> Losses:
        """Advantage-weighted regression with A = V(s', g) - V(s, g), where s' is one step after s."""
        observations, goals, tasks = batch["observations"], batch["actor_goals"], batch["tasks"]
        advantage = self.state_value(batch["following_observations"], goals, tasks)
        advantage = advantage - self.state_value(observations, goals, tasks)
        return awr_loss(
            self.actor(observations, goals, tasks),
            batch["actions"],
            advantage,
            self.settings.alpha,
            batch,
            max_weight=self.settings.max_weight,
        )

    def state_value(self, observations: Tensor, goals: Tensor, tasks: Tensor) -> Tensor:
        """Mean of the two values, (batch,), without a gradient; observations and goals are normalised."""
        with torch.no_grad():
            v: Tensor = self.value(observations, goals, task=tasks)
        return v.mean(0)

    def disagreement(self, batch: Batch) -> Tensor:
        """|V_1 - V_2| of the states, (batch,): how uncertain the values are of them."""
        v = self.value(batch["observations"], batch["value_goals"], task=batch["tasks"])
        difference: Tensor = v[0] - v[1]
        return difference.abs()

    def parameter_groups(self) -> list[dict[str, Any]]:
        """One learning rate for all."""
        parameters = [*self.value.parameters(), *self.actor.parameters()]
        return [{"params": parameters, "lr": self.settings.learning_rate}]

    def target_pairs(self) -> list[TargetPair]:
        """The target values follow the values."""
        return [target_pair(self.target_value, self.value, self.settings.tau)]
