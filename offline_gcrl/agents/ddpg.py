"""DDPG with hindsight goals (Andrychowicz et al., NeurIPS 2017, as in GoFAR's code), and TD3+BC by its settings.

A critic learns the value of the policy's actions by bootstrapping, and the policy ascends the critic. TD3
(Fujimoto et al., ICML 2018) adds a second critic, noise on the actions of the target and a delay of the
policy; TD3+BC (Fujimoto and Gu, NeurIPS 2021) adds behaviour cloning, which keeps the policy near the data.
"""

from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor, nn

from offline_gcrl.agents import EVERY, Batch, Losses, batch_mean
from offline_gcrl.agents.shared.deterministic import critic_of, policy_value, tanh_actor
from offline_gcrl.agents.shared.distral import with_distillation
from offline_gcrl.config import AgentSettings, Discount, Mixture, Sampling, Units, ValueMeaning
from offline_gcrl.networks.conditioning import Dimensions
from offline_gcrl.networks.frozen import frozen
from offline_gcrl.networks.targets import TargetPair, copy_as_target, target_pair
from offline_gcrl.networks.values import Ensemble

FIELDS = (
    "observations", "actions", "tasks", "next_observations", "value_goals", "rewards", "discounts",
    "noise", "actor_goals",
)  # fmt: skip


class Settings(AgentSettings):
    """Settings of DDPG; the defaults are those of GoFAR's code. TD3+BC differs in those marked with its name."""

    learning_rate: PositiveFloat = 1.0e-3  # TD3+BC: 3e-4
    hidden: Units = (256, 256, 256)  # TD3+BC: 2 layers
    discount: Discount = 0.98  # TD3+BC: 0.99
    # GoFAR's code moves targets by 0.05 per cycle of 20 updates; per update that is 0.0026. TD3+BC: 0.0025
    tau: Annotated[float, Field(gt=0.0, le=1.0)] = 0.0026
    critics: Annotated[int, Field(ge=1, le=2)] = (
        1  # the smaller one is bootstrapped from; TD3+BC: 2
    )
    n_step: PositiveInt = 1  # steps until the target bootstraps
    policy_delay: PositiveInt = 1  # updates per step of the policy; TD3+BC: 2
    target_noise: NonNegativeFloat = 0.0  # deviation of the noise on target actions; TD3+BC: 0.2
    noise_clip: PositiveFloat = 0.5  # largest noise
    action_penalty: NonNegativeFloat = 1.0  # weight of mean pi^2; TD3+BC: 0
    bc_alpha: PositiveFloat | None = (
        None  # weight of Q / mean|Q| next to behaviour cloning; TD3+BC: 2.5
    )
    goals: Mixture = {"future": 0.5, "original": 0.5}  # of critics and actor
    distils: ClassVar[bool] = True

    @property
    def has_batch_statistics(self) -> bool:
        """The mean of |Q|."""
        return self.bc_alpha is not None

    @property
    def sampling(self) -> Sampling:
        """One goal for the complete update; reward -1 until it is reached."""
        return Sampling(
            fields=FIELDS,
            actor_goals=self.goals,
            value_goals=self.goals,
            discount=self.discount,
            n_step=self.n_step,
        )

    @property
    def has_ensemble(self) -> bool:
        """Whether there are two critics."""
        return self.critics == 2

    @property
    def suits_bfloat16(self) -> bool:
        """No differences of values."""
        return True

    @property
    def value_meaning(self) -> ValueMeaning:
        """Q of rewards of -1."""
        return "discounted_cost"


class Agent(nn.Module):
    """A deterministic policy pi(s, g) and one or two critics Q(s, a, g), all with targets."""

    def __init__(self, settings: Settings, dimensions: Dimensions) -> None:
        super().__init__()
        self.settings = settings
        self.actor = tanh_actor(settings, dimensions)
        self.critic = Ensemble([critic_of(settings, dimensions) for _ in range(settings.critics)])
        self.target_actor = copy_as_target(self.actor)
        self.target_critic = copy_as_target(self.critic)

    def loss(self, batch: Batch) -> Losses:
        """Critic and actor losses; each sends gradients to its own networks only."""
        critic_loss, critic_info = self.critic_loss(batch)
        actor_loss, actor_info = self.actor_loss(batch)
        losses = critic_loss + actor_loss, {**critic_info, **actor_info}
        return with_distillation(self, batch, losses)

    def critic_loss(self, batch: Batch) -> Losses:
        """(y - Q_i(s, a, g))^2 for each critic."""
        goals, tasks = batch["value_goals"], batch["tasks"]
        with torch.no_grad():
            target = self.target(batch)
        q = self.critic(batch["observations"], goals, batch["actions"], tasks)
        loss = batch_mean((target - q).square(), batch).sum()
        return loss, {"critic/loss": loss.detach(), "critic/mean": q.mean().detach()}

    def target(self, batch: Batch) -> Tensor:
        """The target r + gamma^n min Q(s', pi(s', g) + noise, g), within the bounds of a return; (batch,)."""
        settings, following = self.settings, batch["next_observations"]
        goals, tasks = batch["value_goals"], batch["tasks"]
        actions = self.target_actor(following, goals, tasks)
        if settings.target_noise > 0.0:
            largest = settings.noise_clip
            noise = (settings.target_noise * batch["noise"]).clamp(-largest, largest)
            actions = (actions + noise).clamp(-1.0, 1.0)
        next_q: Tensor = self.target_critic(following, goals, actions, tasks).amin(0)
        target = batch["rewards"] + batch["discounts"] * next_q
        return target.clamp(-1.0 / (1.0 - settings.discount), 0.0)

    def actor_loss(self, batch: Batch) -> Losses:
        """-Q_1(s, pi(s, g), g), which ascends the first critic, with a penalty of large actions or with BC."""
        settings, tasks = self.settings, batch["tasks"]
        actions = self.actor(batch["observations"], batch["value_goals"], tasks)
        critic = frozen(self.critic.members[0])
        q = critic(batch["observations"], batch["value_goals"], actions, tasks)
        squares = (actions - batch["actions"]).square()
        loss = -batch_mean(q, batch)
        if settings.bc_alpha is not None:
            # One scale for the batch, whatever its weights: the loss is then a sum over transitions.
            scale = settings.bc_alpha / (q.abs().mean().detach() + 1e-6)
            loss = scale * loss + batch_mean(squares.mean(-1), batch)
        if settings.action_penalty > 0.0:
            loss = loss + settings.action_penalty * batch_mean(actions.square().mean(-1), batch)
        mse = batch_mean(squares.sum(-1), batch)
        return loss, {"actor/loss": loss.detach(), "actor/mse": mse.detach()}

    def disagreement(self, batch: Batch) -> Tensor:
        """|Q_1 - Q_2| of the data's actions, (batch,): the uncertainty of the critics."""
        q = self.critic(
            batch["observations"], batch["value_goals"], batch["actions"], batch["tasks"]
        )
        difference: Tensor = q[0] - q[1]
        return difference.abs()

    def state_value(self, observations: Tensor, goals: Tensor, tasks: Tensor) -> Tensor:
        """The smaller Q(s, pi(s, g), g), (batch,), of normalised states and goals."""
        with torch.no_grad():
            return policy_value(self.critic, self.actor, observations, goals, tasks).amin(0)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """One learning rate for all; the actor steps once in ``policy_delay`` updates."""
        rate, delay = self.settings.learning_rate, self.settings.policy_delay
        return [
            {"params": list(self.critic.parameters()), "lr": rate},
            {"params": list(self.actor.parameters()), "lr": rate, EVERY: delay},
        ]

    def target_pairs(self) -> list[TargetPair]:
        """All targets follow."""
        pairs = ((self.target_critic, self.critic), (self.target_actor, self.actor))
        return [target_pair(target, source, self.settings.tau) for target, source in pairs]
