"""Subgoal advantage-weighted policy bootstrapping (SAW; Zhou and Kao, NeurIPS 2025, arXiv 2505.14975).

A subpolicy that is trained on near goals only is reliable. A flat policy for far goals is regressed on it at subgoals
from the data, with the weight of how much the subgoal advances to the goal. The values are HIQL's, and no subgoals are
generated. With ``sobolev`` the slopes of the two policies are matched too (S2AW).
"""

from typing import Annotated, Any, Self

import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator
from torch import Tensor, nn

from offline_gcrl.agents import Batch, Losses, batch_mean
from offline_gcrl.agents.shared.actors import awr_loss
from offline_gcrl.agents.shared.values import representation_value_loss
from offline_gcrl.config import (
    Activation,
    AgentSettings,
    Discount,
    Mixture,
    Sampling,
    Units,
    ValueMeaning,
    require_goal,
)
from offline_gcrl.networks.actors import LAST_GAIN, Actor, RepresentationActor
from offline_gcrl.networks.conditioning import Conditioning, Dimensions
from offline_gcrl.networks.goal_conditioned import GoalConditioned
from offline_gcrl.networks.representations import GoalRepresentation, RepresentationValue
from offline_gcrl.networks.targets import TargetPair, target_pair

FIELDS = (
    "observations", "actions", "tasks", "next_observations", "value_goals", "rewards", "masks", "discounts",
    "following_observations", "low_goals", "actor_goals", "subgoals", "subgoal_observations",
)  # fmt: skip


class Settings(AgentSettings):
    """Settings of SAW; the defaults are those of the released code for mazes."""

    learning_rate: PositiveFloat = 3.0e-4
    hidden: Units = (512, 512, 512)
    activation: Activation = "gelu"
    layer_norm: bool = True  # in the values and the representations; never in the policies
    representation_size: PositiveInt = 10  # numbers that represent a goal
    discount: Discount = 0.99
    expectile: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.7  # of the targets that V estimates
    tau: Annotated[float, Field(gt=0.0, le=1.0)] = 0.005  # rate at which the target values follow
    n_step: PositiveInt = 1  # steps until the target bootstraps
    subgoal_steps: PositiveInt = 25  # steps from a state to its subgoal
    low_alpha: NonNegativeFloat = 3.0  # inverse temperature of the subpolicy
    alpha: NonNegativeFloat = 3.0  # inverse temperature of the policy
    beta: NonNegativeFloat = 3.0  # inverse temperature of the regression on the subpolicy
    sobolev: NonNegativeFloat = (
        0.0  # weight of the squared difference of the policies' slopes (S2AW)
    )
    max_weight: PositiveFloat = 100.0  # of a transition in each loss of a policy
    value_goals: Mixture = {"current": 0.2, "geometric": 0.5, "random": 0.3}
    actor_goals: Mixture = {"future": 1.0}

    @model_validator(mode="after")
    def _has_subgoals(self) -> Self:
        require_goal(self, "SAW learns from subgoals on the way to a goal")
        return self

    @property
    def sampling(self) -> Sampling:
        """Reward -1 until the goal is reached."""
        return Sampling(
            fields=(*FIELDS, "noise") if self.sobolev else FIELDS,
            actor_goals=self.actor_goals,
            value_goals=self.value_goals,
            discount=self.discount,
            n_step=self.n_step,
            subgoal_steps=self.subgoal_steps,
        )

    @property
    def has_ensemble(self) -> bool:
        """Two values."""
        return True

    @property
    def has_positive_loss(self) -> bool:
        """All losses are weighted squares."""
        return True

    @property
    def value_meaning(self) -> ValueMeaning:
        """V of rewards of -1."""
        return "discounted_cost"


class Agent(nn.Module):
    """Values V(s, phi([s; g])), a subpolicy pi(a | s, w), and a policy pi(a | s, psi([s; g]))."""

    def __init__(self, settings: Settings, dimensions: Dimensions) -> None:
        super().__init__()
        self.settings = settings
        state, goal, action = dimensions.observation, dimensions.goal, dimensions.action
        size, shape = settings.representation_size, (settings.hidden, settings.activation)
        conditioning, norm = Conditioning.of(settings, dimensions), settings.layer_norm

        def policy(goals: int) -> GoalConditioned:
            return GoalConditioned(
                state, goals, action, *shape, conditioning=conditioning, last_gain=LAST_GAIN
            )

        self.value = RepresentationValue(
            state, goal, size, *shape, conditioning=conditioning, layer_norm=norm
        )
        self.subpolicy = Actor(policy(goal), squash=False)
        representation = GoalRepresentation(
            state, goal, size, *shape, conditioning=conditioning, layer_norm=norm
        )
        self.actor = RepresentationActor(representation, policy(size))

    def loss(self, batch: Batch) -> Losses:
        """Losses of values, subpolicy and policy; each sends gradients to its own network only."""
        value_loss, value_info = representation_value_loss(
            self.value, batch, self.settings.expectile
        )
        subpolicy_loss, subpolicy_info = self.subpolicy_loss(batch)
        actor_loss, actor_info = self.actor_loss(batch)
        loss = value_loss + subpolicy_loss + actor_loss
        return loss, {**value_info, **subpolicy_info, **actor_info}

    def subpolicy_loss(self, batch: Batch) -> Losses:
        """AWR of actions towards the subgoal w of the same episode, with A = V(s', w) - V(s, w)."""
        observations, goals, tasks = batch["observations"], batch["low_goals"], batch["tasks"]
        return awr_loss(
            self.subpolicy(observations, goals, tasks),
            batch["actions"],
            self.rise(batch, "following_observations", goals),
            self.settings.low_alpha,
            batch,
            max_weight=self.settings.max_weight,
            name="subpolicy",
        )

    def actor_loss(self, batch: Batch) -> Losses:
        """AWR with A = V(s', g) - V(s, g), and regression on the subpolicy with A = V(w, g) - V(s, g)."""
        goals, settings = batch["actor_goals"], self.settings
        actions, slope = self.action_and_slope(self.actor, batch, goals)
        with torch.no_grad():
            taught, taught_slope = self.action_and_slope(self.subpolicy, batch, batch["subgoals"])
        advantage = self.rise(batch, "following_observations", goals)
        alpha, limit = settings.alpha, settings.max_weight
        loss, info = awr_loss(actions, batch["actions"], advantage, alpha, batch, max_weight=limit)
        rise = self.rise(batch, "subgoal_observations", goals)
        weight = (settings.beta * rise).exp().clamp(max=limit)
        errors = (actions - taught).square().sum(-1)
        if settings.sobolev:
            errors = errors + settings.sobolev * (slope - taught_slope).square().sum(-1)
        bootstrap = batch_mean(weight * errors, batch)
        loss = loss + bootstrap
        return loss, {**info, "actor/loss": loss.detach(), "actor/bootstrap": bootstrap.detach()}

    def action_and_slope(
        self, policy: nn.Module, batch: Batch, goals: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Mean actions, and v^T J of their Jacobian J by the state; no slope, (batch, 0), without ``sobolev``.

        For standard normal v, the mean of |v^T J|^2 is the squared Frobenius norm of J, at the cost of one
        vector-Jacobian product instead of one for each number of the action.
        """
        observations, tasks = batch["observations"], batch["tasks"]
        if not self.settings.sobolev:
            return policy(observations, goals, tasks), observations[:, :0]
        found: Any = torch.func.vjp(lambda states: policy(states, goals, tasks), observations)
        actions, product = found
        return actions, product(batch["noise"])[0]

    def rise(self, batch: Batch, later: str, goals: Tensor) -> Tensor:
        """V of the states of a field minus V of the observations, (batch,), without a gradient."""
        v = self.value.estimate(batch["observations"], goals, batch["tasks"])
        return self.value.estimate(batch[later], goals, batch["tasks"]) - v

    def state_value(self, observations: Tensor, goals: Tensor, tasks: Tensor) -> Tensor:
        """Mean of the two values, (batch,), without a gradient; observations and goals are normalised."""
        return self.value.estimate(observations, goals, tasks)

    def disagreement(self, batch: Batch) -> Tensor:
        """|V_1 - V_2| of the states, (batch,): how uncertain the values are of them."""
        v = self.value(batch["observations"], batch["value_goals"], batch["tasks"])
        difference: Tensor = v[0] - v[1]
        return difference.abs()

    def parameter_groups(self) -> list[dict[str, Any]]:
        """One learning rate for all."""
        networks = (self.subpolicy, self.actor)
        parameters = [p for network in networks for p in network.parameters()]
        rate = self.settings.learning_rate
        return [{"params": [*self.value.learning(), *parameters], "lr": rate}]

    def target_pairs(self) -> list[TargetPair]:
        """The target heads follow the heads."""
        return [target_pair(self.value.target_heads, self.value.heads, self.settings.tau)]
