"""Survival values (SVL and HSVL; Tiofack et al., ICML 2026, arXiv 2604.17551).

The value of a goal follows from a distribution of the time to reach it, which is learned by maximum likelihood:
nothing bootstraps, and there are no targets. Policies are extracted as in HIQL, on two levels, or on one.
"""

from typing import Any, Self

from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt, model_validator
from pydantic_core import PydanticCustomError
from torch import Tensor, nn

from offline_gcrl.agents import Batch, Losses, batch_mean
from offline_gcrl.agents.shared.actors import awr_loss
from offline_gcrl.agents.shared.hierarchical import (
    hierarchical_actor,
    high_level_loss,
    low_level_loss,
)
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
from offline_gcrl.networks.actors import LAST_GAIN, Actor, HierarchicalActor
from offline_gcrl.networks.conditioning import Conditioning, Dimensions
from offline_gcrl.networks.goal_conditioned import GoalConditioned
from offline_gcrl.networks.survival import SurvivalValue, interval_ends
from offline_gcrl.networks.targets import TargetPair

FIELDS = (
    "observations", "actions", "tasks", "value_goals", "value_goal_steps", "steps_left", "actor_goals",
    "following_observations",
)  # fmt: skip
OF_TWO_LEVELS = ("low_goals", "subgoals", "subgoal_observations")


class Settings(AgentSettings):
    """Settings of survival values; the defaults are those of the released code, except for the intervals."""

    learning_rate: PositiveFloat = 3.0e-4
    hidden: Units = (512, 512, 512)
    activation: Activation = "gelu"
    layer_norm: bool = True  # in the values and the representation; never in the policies
    representation_size: PositiveInt = 256  # numbers that represent a goal
    discount: Discount = 0.995
    horizon: PositiveInt = 10_000  # end of the last interval of time, in steps
    intervals: PositiveInt = 100  # largest number of intervals of time; released code: about 800
    hierarchical: bool = True  # two levels of policies, or one
    subgoal_steps: PositiveInt = 25  # steps from a state to its subgoal
    low_alpha: NonNegativeFloat = (
        3.0  # inverse temperature of the low-level policy, or of the only one
    )
    high_alpha: NonNegativeFloat = 3.0  # inverse temperature of the high-level policy
    max_weight: PositiveFloat = 100.0  # of an action or a subgoal
    value_goals: Mixture = {"current": 0.08, "geometric": 0.6, "random": 0.32}
    actor_goals: Mixture = {"future": 1.0}

    @model_validator(mode="after")
    def _has_goals(self) -> Self:
        require_goal(self, "survival values are of the time to reach a goal")
        if "original" in self.value_goals:
            raise PydanticCustomError(
                "original",
                "'value_goals' cannot contain original goals, because the step at which one is reached is not known; use "
                "hindsight goals",
            )
        return self

    @property
    def sampling(self) -> Sampling:
        """No rewards: only the steps to goals, and to the end of the episode."""
        return Sampling(
            fields=(*FIELDS, *OF_TWO_LEVELS) if self.hierarchical else FIELDS,
            actor_goals=self.actor_goals,
            value_goals=self.value_goals,
            discount=self.discount,
            subgoal_steps=self.subgoal_steps,
        )

    @property
    def has_ensemble(self) -> bool:
        """Two values."""
        return True

    @property
    def has_positive_loss(self) -> bool:
        """Minus a logarithm of probabilities, and weighted squares."""
        return True

    @property
    def value_meaning(self) -> ValueMeaning:
        """V of rewards of -1 until the goal."""
        return "discounted_cost"


class Agent(nn.Module):
    """Values V(s, phi([s; g])) from hazards, and a policy on one level or on two."""

    def __init__(self, settings: Settings, dimensions: Dimensions) -> None:
        super().__init__()
        self.settings = settings
        state, goal, size = dimensions.observation, dimensions.goal, settings.representation_size
        shape, conditioning = (
            (settings.hidden, settings.activation),
            Conditioning.of(settings, dimensions),
        )
        self.value = SurvivalValue(
            state,
            goal,
            size,
            interval_ends(settings.intervals, settings.horizon),
            settings.discount,
            *shape,
            conditioning=conditioning,
            layer_norm=settings.layer_norm,
        )
        if settings.hierarchical:
            self.actor: HierarchicalActor | Actor = hierarchical_actor(settings, dimensions, size)
            return
        flat = GoalConditioned(
            state, goal, dimensions.action, *shape, conditioning=conditioning, last_gain=LAST_GAIN
        )
        self.actor = Actor(flat, squash=False)

    def loss(self, batch: Batch) -> Losses:
        """Value and policy losses; each sends gradients to its own network only."""
        value_loss, value_info = self.value_loss(batch)
        if not self.settings.hierarchical:
            actor_loss, actor_info = self.flat_loss(batch)
            return value_loss + actor_loss, {**value_info, **actor_info}
        low_loss, low_info = self.low_loss(batch)
        high_loss, high_info = self.high_loss(batch)
        return value_loss + low_loss + high_loss, {**value_info, **low_info, **high_info}

    def value_loss(self, batch: Batch) -> Losses:
        """Minus the log-likelihood of the times to goals, the sum of the two values."""
        logits = self.value(batch["observations"], batch["value_goals"], batch["tasks"])
        likelihood = self.value.log_likelihood(
            logits, batch["value_goal_steps"], batch["steps_left"]
        )
        loss = -batch_mean(likelihood, batch).sum()
        mean = self.value.values(logits.detach()).mean()
        return loss, {"value/loss": loss.detach(), "value/mean": mean}

    def flat_loss(self, batch: Batch) -> Losses:
        """AWR of actions with A = V(s', g) - V(s, g)."""
        observations, goals, tasks = batch["observations"], batch["actor_goals"], batch["tasks"]
        advantage = self.value.estimate(batch["following_observations"], goals, tasks)
        advantage = advantage - self.value.estimate(observations, goals, tasks)
        actions = self.actor(observations, goals, tasks)
        alpha, limit = self.settings.low_alpha, self.settings.max_weight
        return awr_loss(actions, batch["actions"], advantage, alpha, batch, max_weight=limit)

    def low_loss(self, batch: Batch) -> Losses:
        """AWR of actions towards the subgoal w of the same episode, with A = V(s', w) - V(s, w)."""
        assert isinstance(self.actor, HierarchicalActor)
        alpha, limit = self.settings.low_alpha, self.settings.max_weight
        return low_level_loss(self.value, self.actor, batch, alpha, max_weight=limit)

    def high_loss(self, batch: Batch) -> Losses:
        """AWR of representations phi([s; w]) of subgoals, with A = V(w, g) - V(s, g)."""
        assert isinstance(self.actor, HierarchicalActor)
        alpha, limit = self.settings.high_alpha, self.settings.max_weight
        return high_level_loss(self.value, self.actor, batch, alpha, max_weight=limit)

    def state_value(self, observations: Tensor, goals: Tensor, tasks: Tensor) -> Tensor:
        """The smaller V(s, g), (batch,): minus the expected discounted number of steps to the goal."""
        return self.value.estimate(observations, goals, tasks)

    def disagreement(self, batch: Batch) -> Tensor:
        """|V_1 - V_2| of the states, (batch,): how uncertain the values are of them."""
        v = self.value.values(
            self.value(batch["observations"], batch["value_goals"], batch["tasks"])
        )
        difference: Tensor = v[0] - v[1]
        return difference.abs()

    def parameter_groups(self) -> list[dict[str, Any]]:
        """One learning rate for all."""
        parameters = [*self.value.parameters(), *self.actor.parameters()]
        return [{"params": parameters, "lr": self.settings.learning_rate}]

    def target_pairs(self) -> list[TargetPair]:
        """There are no targets."""
        return []
