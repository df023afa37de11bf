"""Actionable Models (Chebotar et al., ICML 2021, arXiv 2104.07749), and the form in GoFAR's code by a setting.

A critic learns the discounted probability that the policy reaches a goal, between 0 and 1. Hindsight goals show what
was reached. Random goals are chained: a sub-trajectory passes back the value of its last action. The critic of actions
that the data does not have is pushed down, and the policy ascends the critic.
"""

from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor, nn

from offline_gcrl.agents import Batch, Losses, batch_mean
from offline_gcrl.agents.shared.deterministic import critic_of, policy_value, tanh_actor
from offline_gcrl.agents.shared.distral import with_distillation
from offline_gcrl.config import AgentSettings, Discount, Mixture, Sampling, Units, ValueMeaning
from offline_gcrl.networks.conditioning import Dimensions
from offline_gcrl.networks.frozen import frozen
from offline_gcrl.networks.targets import TargetPair, copy_as_target, target_pair
from offline_gcrl.networks.values import Probability, Value

FIELDS = (
    "observations", "actions", "tasks", "next_observations", "value_goals", "rewards", "masks", "discounts",
    "value_goal_steps", "sub_trajectory_ends", "uniform_actions", "mixing", "actor_goals",
)  # fmt: skip


class Settings(AgentSettings):
    """Settings of Actionable Models; networks and rates are those of GoFAR's code, the rest is the paper's."""

    learning_rate: PositiveFloat = 1.0e-3
    hidden: Units = (256, 256, 256)
    discount: Discount = 0.98
    # Rate at which the targets follow; GoFAR's code: 0.05 per cycle of 20 updates, which is 0.0026 per update.
    tau: Annotated[float, Field(gt=0.0, le=1.0)] = 0.0026
    n_step: PositiveInt = 1  # steps until the target bootstraps
    form: Literal["paper", "released"] = (
        "paper"  # form of the critic's loss; released: that of GoFAR's code
    )
    conservative_weight: NonNegativeFloat = (
        1.0  # weight of the values of negative actions in the loss
    )
    negatives: PositiveInt = 10  # uniform actions, of which one is drawn by its value
    goals: Mixture = {"future": 0.5, "random": 0.5}  # goals of critic and actor
    distils: ClassVar[bool] = True

    @property
    def sampling(self) -> Sampling:
        """One goal for the complete update."""
        return Sampling(
            fields=FIELDS,
            actor_goals=self.goals,
            value_goals=self.goals,
            discount=self.discount,
            n_step=self.n_step,
            reward="binary" if self.form == "paper" else "negative",
            uniform_actions=self.negatives,
        )

    @property
    def suits_bfloat16(self) -> bool:
        """No differences of values."""
        return True

    @property
    def value_meaning(self) -> ValueMeaning:
        """Q of a reward of 1 that ends the sum; in the released form, sums of two values have no such meaning."""
        return "discounted_probability" if self.form == "paper" else "other"


class Agent(nn.Module):
    """A deterministic policy pi(s, g) and a critic Q(s, a, g), both with targets."""

    def __init__(self, settings: Settings, dimensions: Dimensions) -> None:
        super().__init__()
        self.settings = settings
        kind = Probability if settings.form == "paper" else Value
        self.actor = tanh_actor(settings, dimensions)
        self.critic = critic_of(settings, dimensions, kind)
        self.target_actor = copy_as_target(self.actor)
        self.target_critic = copy_as_target(self.critic)

    def loss(self, batch: Batch) -> Losses:
        """Critic and actor losses; each sends gradients to its own network only."""
        critic_loss, critic_info = self.critic_loss(batch)
        actor_loss, actor_info = self.actor_loss(batch)
        losses = critic_loss + actor_loss, {**critic_info, **actor_info}
        return with_distillation(self, batch, losses)

    def critic_loss(self, batch: Batch) -> Losses:
        """(y - Q(s, a, g))^2 + Q(s, b, g)^2 with a negative action b, which is not in the data."""
        state, tasks = (batch["observations"], batch["value_goals"]), batch["tasks"]
        with torch.no_grad():
            target, negatives = self.target(batch), self.negative_actions(batch)
        q = self.critic(*state, batch["actions"], tasks)
        negative_q = self.critic(*state, negatives, tasks)
        penalty = negative_q.square() if self.settings.form == "paper" else negative_q
        loss = (target - q).square() + self.settings.conservative_weight * penalty
        loss = batch_mean(loss, batch)
        return loss, {
            "critic/loss": loss.detach(),
            "critic/mean": q.mean().detach(),
            "critic/negative": negative_q.mean().detach(),
        }

    def target(self, batch: Batch) -> Tensor:
        """What Q(s, a, g) is fitted to, (batch,): r + gamma^n m Q(s', pi(s', g), g), or Q(s, a, g) where a chain ends."""
        goals, tasks = batch["value_goals"], batch["tasks"]
        state = (batch["observations"], goals, batch["actions"], tasks)
        following = (batch["next_observations"], goals, tasks)
        next_q = batch["discounts"] * policy_value(
            self.target_critic, self.target_actor, *following
        )
        chained = batch["value_goal_steps"] < 0
        if self.settings.form == "released":
            rewards = torch.where(chained, self.critic(*state), batch["rewards"])
            return (rewards + next_q).clamp(-1.0 / (1.0 - self.settings.discount), 0.0)
        # The value of the last action is the reward of a sub-trajectory that does not reach its random goal.
        ends = chained & (batch["sub_trajectory_ends"] * batch["masks"] > 0.0)
        target = batch["rewards"] + batch["masks"] * next_q
        return torch.where(ends, self.target_critic(*state), target)

    def negative_actions(self, batch: Batch) -> Tensor:
        """One uniform action b for each transition, drawn with probability softmax(Q(s, b, g)); (batch, action)."""
        actions = batch["uniform_actions"]
        count = actions.shape[-2]
        observations, goals, tasks = (
            batch[name].unsqueeze(1).expand(-1, count, *batch[name].shape[1:])
            for name in ("observations", "value_goals", "tasks")
        )
        q = self.critic(observations, goals, actions, tasks)
        below = q.softmax(-1).cumsum(-1) <= batch["mixing"][:, None]
        drawn = below.sum(-1).clamp(max=count - 1)  # The sum of all is 1 up to rounding.
        return torch.take_along_dim(actions, drawn[:, None, None], 1).squeeze(1)

    def actor_loss(self, batch: Batch) -> Losses:
        """-Q(s, pi(s, g), g), which ascends the critic."""
        observations, goals, tasks = batch["observations"], batch["value_goals"], batch["tasks"]
        actions = self.actor(observations, goals, tasks)
        loss = -batch_mean(frozen(self.critic)(observations, goals, actions, tasks), batch)
        mse = batch_mean((actions - batch["actions"]).square().sum(-1), batch)
        return loss, {"actor/loss": loss.detach(), "actor/mse": mse.detach()}

    def state_value(self, observations: Tensor, goals: Tensor, tasks: Tensor) -> Tensor:
        """Q(s, pi(s, g), g), (batch,): in the paper's form, the discounted probability to reach the goal."""
        with torch.no_grad():
            return policy_value(self.critic, self.actor, observations, goals, tasks)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """One learning rate for both networks."""
        parameters = [*self.critic.parameters(), *self.actor.parameters()]
        return [{"params": parameters, "lr": self.settings.learning_rate}]

    def target_pairs(self) -> list[TargetPair]:
        """Both targets follow."""
        pairs = ((self.target_critic, self.critic), (self.target_actor, self.actor))
        return [target_pair(target, source, self.settings.tau) for target, source in pairs]
