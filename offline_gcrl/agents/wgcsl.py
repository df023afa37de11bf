"""WGCSL: weighted goal-conditioned supervised learning (Yang et al., ICLR 2022, arXiv 2202.04478).

Imitation for hindsight goals, where an action weighs more the sooner it reached its goal and the more it
raised the value of a critic: the product of three weights, each of which is a setting.
"""

from typing import Annotated, Any, ClassVar, Literal, Self

import torch
from pydantic import Field, PositiveFloat, PositiveInt, model_validator
from pydantic_core import PydanticCustomError
from torch import Tensor, nn

from offline_gcrl.agents import STATE, Batch, Losses, batch_mean
from offline_gcrl.agents.shared.deterministic import critic_of, policy_value, tanh_actor
from offline_gcrl.agents.shared.distral import with_distillation
from offline_gcrl.agents.shared.queues import EMPTY, percentile, pushed
from offline_gcrl.config import AgentSettings, Discount, Mixture, Sampling, Units, ValueMeaning
from offline_gcrl.networks.conditioning import Dimensions
from offline_gcrl.networks.targets import TargetPair, copy_as_target, target_pair

FIELDS = (
    "observations", "actions", "tasks", "next_observations", "value_goals", "rewards",
    "actor_goals", "actor_rewards", "actor_goal_steps", "update",
)  # fmt: skip
AHEAD = {"final", "future", "geometric"}
"""Strategies whose goals are later states of the episode, so that the steps to them are known."""


class Settings(AgentSettings):
    """Settings of WGCSL; the defaults are those of the released code for its harder tasks."""

    learning_rate: PositiveFloat = 5.0e-4
    hidden: Units = (256, 256, 256)
    discount: Discount = 0.98  # the released code: 1 - 1 / T, with T the horizon of 50 steps
    # The released code moves targets by 0.1 per cycle of 20 updates; per update that is 0.0053.
    tau: Annotated[float, Field(gt=0.0, le=1.0)] = 0.0053
    reward: Literal["binary", "negative"] = "binary"  # 0 and 1, or -1 and 0 as in GoFAR's code
    discount_weight: bool = True  # weight gamma^(i - t - 1) of a goal that was achieved at step i
    exponential_weight: bool = True  # weight exp A
    max_weight: PositiveFloat = 10.0  # largest weight exp A
    best_advantage_weight: bool = True  # a smaller weight below a percentile of the latest A
    low_weight: Annotated[float, Field(ge=0.0, le=1.0)] = 0.05  # the weight below that percentile
    percentile: Annotated[float, Field(ge=0.0, lt=100.0)] = 80.0  # largest percentile
    percentile_step: PositiveFloat = 0.01  # by which the percentile rises at every update, from 0
    queue: PositiveInt = 50_000  # number of advantages whose percentile is taken
    advantage: Literal["policy", "data"] = (
        "policy"  # A relative to Q(s, pi) or, as in GoFAR's code, Q(s, a)
    )
    actor_goals: Mixture = {"future": 1.0}
    value_goals: Mixture = {"future": 0.8, "original": 0.2}
    distils: ClassVar[bool] = True

    @model_validator(mode="after")
    def _knows_the_steps_to_goals(self) -> Self:
        unknown = sorted(set(self.actor_goals) - AHEAD)
        if self.discount_weight and unknown:
            raise PydanticCustomError(
                "discount_weight",
                "'discount_weight' needs the number of steps to the goal, which 'actor_goals: {unknown}' does not "
                "have; use final, future or geometric goals, or 'discount_weight: false'",
                {"unknown": ", ".join(unknown)},
            )
        return self

    @property
    def has_batch_statistics(self) -> bool:
        """A percentile of advantages."""
        return self.best_advantage_weight

    @property
    def sampling(self) -> Sampling:
        """Relabelled goals for the policy; for the critic some original goals too."""
        return Sampling(
            fields=FIELDS,
            actor_goals=self.actor_goals,
            value_goals=self.value_goals,
            discount=self.discount,
            reward=self.reward,
        )

    @property
    def has_positive_loss(self) -> bool:
        """Weighted squares."""
        return True

    @property
    def value_meaning(self) -> ValueMeaning:
        """Q of the rewards."""
        return "discounted_success" if self.reward == "binary" else "discounted_cost"


class Agent(nn.Module):
    """A deterministic policy pi(s, g) and a critic Q(s, a, g), both with targets."""

    advantages: Tensor
    """(queue,), the latest advantages."""

    def __init__(self, settings: Settings, dimensions: Dimensions) -> None:
        super().__init__()
        self.settings = settings
        self.actor = tanh_actor(settings, dimensions)
        self.critic = critic_of(settings, dimensions)
        self.target_actor = copy_as_target(self.actor)
        self.target_critic = copy_as_target(self.critic)
        if settings.best_advantage_weight:
            self.register_buffer("advantages", torch.full((settings.queue,), EMPTY))

    def loss(self, batch: Batch) -> Losses:
        """Actor and critic losses; each sends gradients to its own network only."""
        actor_loss, actor_info = self.actor_loss(batch)
        critic_loss, critic_info = self.critic_loss(batch)
        losses = actor_loss + critic_loss, {**actor_info, **critic_info}
        return with_distillation(self, batch, losses)

    def actor_loss(self, batch: Batch) -> Losses:
        """Weighted regression on the data's actions, the mean over the action's dimensions."""
        with torch.no_grad():
            advantage = self.advantage(batch)
            weight, state = self.weight(batch, advantage)
        actions = self.actor(batch["observations"], batch["actor_goals"], batch["tasks"])
        squares = (actions - batch["actions"]).square()
        loss = batch_mean(weight * squares.mean(-1), batch)
        return loss, state | {
            "actor/loss": loss.detach(),
            "actor/advantage": advantage.mean(),
            "actor/weight_mean": weight.mean(),
            "actor/mse": batch_mean(squares.sum(-1), batch).detach(),
        }

    def advantage(self, batch: Batch) -> Tensor:
        """A = r + gamma V(s', g) - V(s, g) with V(s, g) = Q(s, pi(s, g), g), (batch,)."""
        goals, tasks, rewards = batch["actor_goals"], batch["tasks"], batch["actor_rewards"]
        state = (batch["observations"], goals)
        following = (batch["next_observations"], goals, tasks)
        if self.settings.advantage == "data":
            q: Tensor = self.critic(*state, batch["actions"], tasks)
            return self.target(rewards, *following) - q
        next_v = policy_value(self.critic, self.actor, *following)
        v = policy_value(self.critic, self.actor, *state, tasks)
        return rewards + self.settings.discount * next_v - v

    def weight(self, batch: Batch, advantage: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """gamma^(i - t - 1) min(exp A, 10) epsilon(A), (batch,), and the next queue."""
        settings, weight = self.settings, torch.ones_like(advantage)
        if settings.discount_weight:
            weight = settings.discount ** (batch["actor_goal_steps"] - 1)
        if settings.exponential_weight:
            weight = weight * advantage.exp().clamp(max=settings.max_weight)
        if not settings.best_advantage_weight:
            return weight, {}
        queue = pushed(self.advantages, advantage)
        percent = (settings.percentile_step * (batch["update"][0] + 1)).clamp(
            max=settings.percentile
        )
        best = advantage >= percentile(queue, percent)
        return weight * torch.where(best, 1.0, settings.low_weight), {f"{STATE}advantages": queue}

    def critic_loss(self, batch: Batch) -> Losses:
        """(y - Q(s, a, g))^2 with y of the target networks."""
        goals, tasks = batch["value_goals"], batch["tasks"]
        with torch.no_grad():
            target = self.target(batch["rewards"], batch["next_observations"], goals, tasks)
        q = self.critic(batch["observations"], goals, batch["actions"], tasks)
        loss = batch_mean((target - q).square(), batch)
        return loss, {"critic/loss": loss.detach(), "critic/mean": q.mean().detach()}

    def target(self, rewards: Tensor, *following: Tensor) -> Tensor:
        """The target r + gamma Q(s', pi(s', g), g) of the target networks, within the bounds of a return; (batch,)."""
        discount = self.settings.discount
        next_q = policy_value(self.target_critic, self.target_actor, *following)
        largest = 1.0 / (1.0 - discount) if self.settings.reward == "binary" else 0.0
        return (rewards + discount * next_q).clamp(-1.0 / (1.0 - discount), largest)

    def state_value(self, observations: Tensor, goals: Tensor, tasks: Tensor) -> Tensor:
        """Q(s, pi(s, g), g), (batch,), of normalised states and goals."""
        with torch.no_grad():
            return policy_value(self.critic, self.actor, observations, goals, tasks)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """One learning rate for both networks."""
        parameters = [*self.actor.parameters(), *self.critic.parameters()]
        return [{"params": parameters, "lr": self.settings.learning_rate}]

    def target_pairs(self) -> list[TargetPair]:
        """Both targets follow."""
        pairs = ((self.target_actor, self.actor), (self.target_critic, self.critic))
        return [target_pair(target, source, self.settings.tau) for target, source in pairs]
