"""Hierarchical implicit Q-learning (HIQL; Park et al., NeurIPS 2023, as in OGBench).

One value trains two policies: the high-level policy proposes a subgoal some steps ahead, as a representation of it,
and the low-level policy acts towards the subgoal. The values are learned as in GCIVL, without critics.
"""

from typing import Annotated, Any, Self

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator
from torch import Tensor, nn

from offline_gcrl.agents import Batch, Losses
from offline_gcrl.agents.shared.hierarchical import (
    hierarchical_actor,
    high_level_loss,
    low_level_loss,
)
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
from offline_gcrl.networks.conditioning import Conditioning, Dimensions
from offline_gcrl.networks.representations import RepresentationValue
from offline_gcrl.networks.targets import TargetPair, target_pair

FIELDS = (
    "observations", "actions", "tasks", "next_observations", "value_goals", "rewards", "masks", "discounts",
    "following_observations", "low_goals", "actor_goals", "subgoals", "subgoal_observations",
)  # fmt: skip


class Settings(AgentSettings):
    """Settings of HIQL; the defaults are OGBench's."""

    learning_rate: PositiveFloat = 3.0e-4
    hidden: Units = (512, 512, 512)
    activation: Activation = "gelu"
    layer_norm: bool = True  # in the values and the representation; never in the policies
    representation_size: PositiveInt = 10  # numbers that represent a goal
    low_actor_rep_grad: bool = False  # whether the low-level loss trains the representation too
    discount: Discount = 0.99
    expectile: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.7  # of the targets that V estimates
    tau: Annotated[float, Field(gt=0.0, le=1.0)] = 0.005  # rate at which the target values follow
    n_step: PositiveInt = 1  # steps until the target bootstraps
    subgoal_steps: PositiveInt = 25  # steps from a state to its subgoal
    low_alpha: NonNegativeFloat = 3.0  # inverse temperature of the low-level policy
    high_alpha: NonNegativeFloat = 3.0  # inverse temperature of the high-level policy
    max_weight: PositiveFloat = 100.0  # of an action or a subgoal
    value_goals: Mixture = {"current": 0.2, "geometric": 0.5, "random": 0.3}
    actor_goals: Mixture = {"future": 1.0}

    @model_validator(mode="after")
    def _has_subgoals(self) -> Self:
        require_goal(self, "HIQL learns subgoals on the way to a goal")
        return self

    @property
    def sampling(self) -> Sampling:
        """Reward -1 until the goal is reached."""
        return Sampling(
            fields=FIELDS,
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
    """Values V(s, phi([s; g])), a high-level policy pi(z | s, g), and a low-level policy pi(a | s, z)."""

    def __init__(self, settings: Settings, dimensions: Dimensions) -> None:
        super().__init__()
        self.settings = settings
        state, goal, size = dimensions.observation, dimensions.goal, settings.representation_size
        shape = (settings.hidden, settings.activation)
        conditioning, norm = Conditioning.of(settings, dimensions), settings.layer_norm
        self.value = RepresentationValue(
            state, goal, size, *shape, conditioning=conditioning, layer_norm=norm
        )
        self.actor = hierarchical_actor(settings, dimensions, size)

    def loss(self, batch: Batch) -> Losses:
        """Value loss and the losses of both policies; only the value loss trains phi, unless set otherwise."""
        value_loss, value_info = representation_value_loss(
            self.value, batch, self.settings.expectile
        )
        low_loss, low_info = self.low_loss(batch)
        high_loss, high_info = self.high_loss(batch)
        return value_loss + low_loss + high_loss, {**value_info, **low_info, **high_info}

    def low_loss(self, batch: Batch) -> Losses:
        """AWR of actions towards the subgoal w of the same episode, with A = V(s', w) - V(s, w)."""
        settings = self.settings
        return low_level_loss(
            self.value,
            self.actor,
            batch,
            settings.low_alpha,
            max_weight=settings.max_weight,
            trains_representation=settings.low_actor_rep_grad,
        )

    def high_loss(self, batch: Batch) -> Losses:
        """AWR of representations phi([s; w]) of subgoals, with A = V(w, g) - V(s, g)."""
        alpha, limit = self.settings.high_alpha, self.settings.max_weight
        return high_level_loss(self.value, self.actor, batch, alpha, max_weight=limit)

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
        parameters = [*self.value.learning(), *self.actor.parameters()]
        return [{"params": parameters, "lr": self.settings.learning_rate}]

    def target_pairs(self) -> list[TargetPair]:
        """The target heads follow the heads."""
        return [target_pair(self.value.target_heads, self.value.heads, self.settings.tau)]
