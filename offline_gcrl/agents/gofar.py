"""GoFAR: goal-conditioned f-advantage regression (Ma et al., NeurIPS 2022, arXiv 2206.03023).

State-occupancy matching in its dual: a value V(s, g) whose optimal advantages weight the data's actions,
with a reward that a discriminator learns between achieved goals and goals, and no hindsight needed. In
long episodes of random exploration hindsight goals are what makes it learn fast; ``goals`` chooses.
"""

import math
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat
from torch import Tensor, nn
from torch.nn.functional import softplus

from offline_gcrl.agents import Batch, Losses, batch_mean
from offline_gcrl.agents.shared.distral import with_distillation
from offline_gcrl.config import AgentSettings, Discount, Mixture, Sampling, Units
from offline_gcrl.networks.actors import Actor
from offline_gcrl.networks.conditioning import Conditioning, Dimensions
from offline_gcrl.networks.goal_conditioned import GoalConditioned, pair_network
from offline_gcrl.networks.targets import TargetPair, copy_as_target, target_pair
from offline_gcrl.networks.values import Value

FIELDS = (
    "observations", "actions", "tasks", "next_observations", "initial_observations", "achieved_goals", "value_goals",
    "mixing", "actor_goals",
)  # fmt: skip


class Settings(AgentSettings):
    """Settings of GoFAR; the defaults are those of the released code."""

    learning_rate: PositiveFloat = 1.0e-3
    hidden: Units = (256, 256, 256)
    discount: Discount = 0.98
    # The released code moves targets by 0.05 once a cycle of 20 updates; per update that is 0.0026.
    tau: Annotated[float, Field(gt=0.0, le=1.0)] = 0.0026
    divergence: Literal["chi2", "kl"] = "chi2"
    reward: Literal["discriminator", "sparse"] = "discriminator"
    discriminator_learning_rate: PositiveFloat = 5.0e-4
    gradient_penalty: NonNegativeFloat = 0.01  # weight of (gradient norm - 1)^2
    goals: Mixture = {"original": 1.0}  # for value, discriminator and actor alike
    initial_states: Literal["episode", "any"] = "episode"  # where (1 - gamma) V(s0, g) is taken
    distils: ClassVar[bool] = True

    @property
    def has_batch_statistics(self) -> bool:
        """The log of a mean of KL's dual."""
        return self.divergence == "kl"

    @property
    def suits_bfloat16(self) -> bool:
        """Its weights are of differences, but success was the same as in float32 on four datasets."""
        return True

    @property
    def sampling(self) -> Sampling:
        """One goal for the whole update; reward 1 where it is reached."""
        return Sampling(
            fields=(*FIELDS, "rewards") if self.reward == "sparse" else FIELDS,
            actor_goals=self.goals,
            value_goals=self.goals,
            discount=self.discount,
            reward="binary",
            initial_states=self.initial_states,
        )


class Agent(nn.Module):
    """V(s, g) with a target, a discriminator c(ag, g), and a deterministic policy pi(s, g)."""

    def __init__(self, settings: Settings, dimensions: Dimensions) -> None:
        super().__init__()
        self.settings = settings
        state, goal = dimensions.observation, dimensions.goal
        shape = (settings.hidden, settings.activation)
        conditioning = Conditioning.of(settings, dimensions)
        self.value = Value(state, goal, 1, *shape, conditioning=conditioning)
        self.target_value = copy_as_target(self.value)
        self.discriminator = pair_network(goal, settings.hidden, "tanh", conditioning.images)
        network = GoalConditioned(state, goal, dimensions.action, *shape, conditioning=conditioning)
        self.actor = Actor(network, squash=True)

    def loss(self, batch: Batch) -> Losses:
        """Discriminator, value and actor losses; each sends gradients to its own network only."""
        discriminator_loss, rewards, discriminator_info = self.discriminator_loss(batch)
        value_loss, advantage, value_info = self.value_loss(batch, rewards)
        actor_loss, actor_info = self.actor_loss(batch, advantage.detach())
        loss = discriminator_loss + value_loss + actor_loss
        info = {**discriminator_info, **value_info, **actor_info}
        return with_distillation(self, batch, (loss, info))

    def discriminator_loss(self, batch: Batch) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Binary cross-entropy, positives (g, g), negatives (ag, g), and a gradient penalty.

        Also the rewards: log c - log(1 - c) of (ag, g), which is the logit of c; or, in place of a
        discriminator, 1 where the goal is reached next.
        """
        if self.settings.reward == "sparse":
            return batch["rewards"].new_zeros(()), batch["rewards"], {}
        goals = batch["value_goals"]
        positive = torch.cat([goals, goals], -1)
        negative = torch.cat([batch["achieved_goals"], goals], -1)
        positive_logit, logit = self.discriminator(torch.cat([positive, negative])).chunk(2)
        entropies = (softplus(-positive_logit) + softplus(logit)).squeeze(-1)
        mixing = batch["mixing"][:, None]
        slope = torch.func.grad(lambda inputs: self.discriminator(inputs).sum())(
            mixing * positive + (1.0 - mixing) * negative
        )
        # The small constant keeps the gradient of the norm finite at zero.
        penalties = ((slope.square().sum(-1) + 1e-12).sqrt() - 1.0).square()
        penalty = batch_mean(penalties, batch)
        loss = batch_mean(entropies, batch) + self.settings.gradient_penalty * penalty
        info = {"discriminator/loss": loss.detach(), "discriminator/penalty": penalty.detach()}
        return loss, logit.detach().squeeze(-1), info

    def value_loss(self, batch: Batch, rewards: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """The dual objective with f* of the divergence (equations 9 and 13); also the advantage."""
        goals, tasks, discount = batch["value_goals"], batch["tasks"], self.settings.discount
        with torch.no_grad():
            next_v = self.target_value(batch["next_observations"], goals, task=tasks)
        v = self.value(batch["observations"], goals, task=tasks)
        advantage = rewards + discount * next_v - v
        initial_v = self.value(batch["initial_observations"], goals, task=tasks)
        loss = (1.0 - discount) * batch_mean(initial_v, batch)
        if self.settings.divergence == "chi2":
            loss = loss + batch_mean((advantage + 1.0).square(), batch)
        else:
            loss = loss + log_mean_exp(advantage, batch)
        info = {
            "value/loss": loss.detach(),
            "value/mean": v.mean().detach(),
            "value/reward": rewards.mean(),
        }
        return loss, advantage, info

    def actor_loss(self, batch: Batch, advantage: Tensor) -> Losses:
        """Regression on the data's actions, weighted by f*'(A) (equation 14)."""
        if self.settings.divergence == "chi2":
            weight = (advantage + 1.0).relu()
        else:
            weight = advantage.exp().clamp(max=10.0)
        actions = self.actor(batch["observations"], batch["value_goals"], batch["tasks"])
        squared_error = (actions - batch["actions"]).square().sum(-1)
        loss = batch_mean(weight * squared_error, batch)
        return loss, {
            "actor/loss": loss.detach(),
            "actor/advantage": advantage.mean(),
            "actor/weight_mean": weight.mean(),
            "actor/mse": batch_mean(squared_error, batch).detach(),
        }

    def state_value(self, observations: Tensor, goals: Tensor, tasks: Tensor) -> Tensor:
        """V(s, g) of the dual objective, (batch,)."""
        values: Tensor = self.value(observations, goals, task=tasks)
        return values.detach()

    def parameter_groups(self) -> list[dict[str, Any]]:
        """The discriminator learns at a rate of its own."""
        parameters = [*self.value.parameters(), *self.actor.parameters()]
        groups = [{"params": parameters, "lr": self.settings.learning_rate}]
        if self.settings.reward == "discriminator":
            rate = self.settings.discriminator_learning_rate
            groups.append({"params": list(self.discriminator.parameters()), "lr": rate})
        return groups

    def target_pairs(self) -> list[TargetPair]:
        """The target value follows the value."""
        return [target_pair(self.target_value, self.value, self.settings.tau)]


def log_mean_exp(values: Tensor, batch: Batch) -> Tensor:
    """Log E[exp x] over a batch, without overflow; with ``weights``, log of the sum of w exp x."""
    if "weights" not in batch:
        return torch.logsumexp(values, 0) - math.log(len(values))
    largest = values.detach().amax(0)
    return batch_mean((values - largest).exp(), batch).log() + largest
