"""Quasimetric RL (Wang et al., ICML 2023; QRL of OGBench, Park et al. 2025).

A quasimetric d(s, g) estimates the number of steps from a state to a goal. It is made as large as possible, while one
step of the data never has a distance above 1. By the triangle inequality it then is the length of the shortest path
of the data. Goals are compared with goals: the distance from a state is the distance from the goal that it achieves.
"""

from typing import Annotated, Any, ClassVar, Literal, Self

import torch
from pydantic import Field, PositiveFloat, PositiveInt, model_validator
from pydantic_core import PydanticCustomError
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
from offline_gcrl.networks.bilinear import Encoder
from offline_gcrl.networks.conditioning import Conditioning, Dimensions
from offline_gcrl.networks.frozen import frozen
from offline_gcrl.networks.goal_conditioned import GoalConditioned
from offline_gcrl.networks.metrics import INTERVALS, Quasimetric
from offline_gcrl.networks.targets import TargetPair

FIELDS = (
    "observations", "actions", "tasks", "achieved_goals", "next_achieved_goals", "value_goals", "actor_goals",
)  # fmt: skip


class Settings(AgentSettings):
    """Settings of QRL; the defaults are OGBench's."""

    learning_rate: PositiveFloat = 3.0e-4
    multiplier_learning_rate: PositiveFloat = 3.0e-4  # of the logarithm of the Lagrange multiplier
    hidden: Units = (512, 512, 512)
    activation: Activation = "gelu"
    layer_norm: bool = True  # in the encoder and the dynamics; never in the actor
    latent: PositiveInt = 512  # size of the encodings: a multiple of 8 for IQE, even for MRN
    quasimetric: Literal["iqe", "mrn"] = "iqe"
    push_offset: PositiveFloat = 500.0  # distance in steps from which goals are pushed away less
    push_scale: PositiveFloat = 100.0  # steps over which the push vanishes around the offset
    slack: PositiveFloat = 0.05  # allowed mean of the squared excess of a step's distance over 1
    actor_loss: Literal["awr", "ddpg+bc"] = "ddpg+bc"
    alpha: Annotated[float, Field(gt=0.0)] = (
        0.003  # AWR: inverse temperature; DDPG+BC: weight of BC
    )
    value_goals: Mixture = {"random": 1.0}
    actor_goals: Mixture = {"future": 1.0}
    distils: ClassVar[bool] = True

    @model_validator(mode="after")
    def _measures_distances_to_goals(self) -> Self:
        require_goal(self, "QRL learns distances to goals")
        multiple = INTERVALS if self.quasimetric == "iqe" else 2
        if self.latent % multiple:
            raise PydanticCustomError(
                "latent",
                "'latent' ({latent}) must be a multiple of {multiple} for 'quasimetric: {metric}'",
                {"latent": self.latent, "multiple": multiple, "metric": self.quasimetric},
            )
        return self

    @property
    def has_batch_statistics(self) -> bool:
        """The mean of |Q|."""
        return self.actor_loss == "ddpg+bc"

    @property
    def sampling(self) -> Sampling:
        """Goals, and no rewards."""
        return Sampling(fields=FIELDS, actor_goals=self.actor_goals, value_goals=self.value_goals)

    @property
    def value_meaning(self) -> ValueMeaning:
        """Minus the distance."""
        return "steps"


class Agent(nn.Module):
    """A distance d with an encoder phi, for DDPG+BC dynamics T of the encodings, and a policy pi(a | s, g)."""

    values_achieved_goals = True
    """``state_value`` reads the goal that a state achieves instead of the state."""

    def __init__(self, settings: Settings, dimensions: Dimensions) -> None:
        super().__init__()
        self.settings = settings
        state, goal, action = dimensions.observation, dimensions.goal, dimensions.action
        conditioning = Conditioning.of(settings, dimensions)
        shape = (settings.hidden, settings.activation)
        encoded = {"conditioning": conditioning, "layer_norm": settings.layer_norm}
        self.distance = Quasimetric(
            goal,
            settings.latent,
            *shape,
            metric=settings.quasimetric,
            **encoded,  # type: ignore[arg-type]
        )
        self.log_multiplier = nn.Parameter(torch.zeros(()))
        self.has_dynamics = settings.actor_loss == "ddpg+bc"
        if self.has_dynamics:
            self.dynamics = Encoder(settings.latent + action, settings.latent, *shape, **encoded)  # type: ignore[arg-type]
        network = GoalConditioned(
            state, goal, action, *shape, conditioning=conditioning, last_gain=LAST_GAIN
        )
        self.actor = Actor(network, squash=False)

    def loss(self, batch: Batch) -> Losses:
        """Losses of the distance, of the dynamics, and of the actor, which sends gradients to itself only."""
        now, then = (self.encode(batch, name) for name in ("achieved_goals", "next_achieved_goals"))
        loss, info = self.distance_loss(batch, now, then)
        if self.has_dynamics:
            dynamics_loss, dynamics_info = self.dynamics_loss(batch, now, then)
            loss, info = loss + dynamics_loss, info | dynamics_info
        actor_loss = self.ddpg_loss if self.has_dynamics else self.awr_loss
        own_loss, own_info = actor_loss(batch, now.detach(), then.detach())
        return with_distillation(self, batch, (loss + own_loss, info | own_info))

    def encode(self, batch: Batch, name: str) -> Tensor:
        """The encodings phi of a field of goals, (batch, latent)."""
        encoded: Tensor = self.distance.encoder(batch[name], batch["tasks"])
        return encoded

    def distance_loss(self, batch: Batch, now: Tensor, then: Tensor) -> Losses:
        """Distances to goals are pushed up; the multiplier holds the distance of one step at 1 (QRL, equation 6)."""
        settings, metric = self.settings, self.distance.metric
        to_goal = metric(now, self.encode(batch, "value_goals"))
        pushes = softplus((settings.push_offset - to_goal) / settings.push_scale)
        excess = (metric(now, then) - 1.0).relu().square()
        multiplier = self.log_multiplier.exp()
        # The distance descends on the Lagrangian, on which the multiplier ascends.
        lagrangian = settings.push_scale * pushes + multiplier.detach() * excess
        multiplier_loss = multiplier * batch_mean(settings.slack - excess.detach(), batch)
        loss = batch_mean(lagrangian, batch) + multiplier_loss
        return loss, {
            "value/loss": batch_mean(lagrangian, batch).detach(),
            "value/distance": to_goal.mean().detach(),
            "value/excess": batch_mean(excess, batch).detach(),
            "value/multiplier": multiplier.detach(),
        }

    def dynamics_loss(self, batch: Batch, now: Tensor, then: Tensor) -> Losses:
        """Distances in both directions between phi(s') and its prediction from phi(s) and the action."""
        predicted = now + self.dynamics(torch.cat([now, batch["actions"]], -1), batch["tasks"])
        metric = self.distance.metric
        loss = batch_mean((metric(then, predicted) + metric(predicted, then)) / 2.0, batch)
        return loss, {"dynamics/loss": loss.detach()}

    def awr_loss(self, batch: Batch, now: Tensor, then: Tensor) -> Losses:
        """Advantage-weighted regression; the advantage is by how much a step shortens the distance."""
        with torch.no_grad():
            goals, metric = self.encode(batch, "actor_goals"), self.distance.metric
            advantage = metric(now, goals) - metric(then, goals)
        actions = self.actor(batch["observations"], batch["actor_goals"], batch["tasks"])
        return awr_loss(actions, batch["actions"], advantage, self.settings.alpha, batch)

    def ddpg_loss(self, batch: Batch, now: Tensor, then: Tensor) -> Losses:
        """DDPG with behaviour cloning; Q is minus the distance from the predicted encoding, which gets no gradient."""
        with torch.no_grad():
            goals = self.encode(batch, "actor_goals")
        dynamics, metric = frozen(self.dynamics), frozen(self.distance.metric)

        def q_of(actions: Tensor) -> Tensor:
            return -metric(now + dynamics(torch.cat([now, actions], -1), batch["tasks"]), goals)

        actions = self.actor(batch["observations"], batch["actor_goals"], batch["tasks"])
        return ddpg_bc_loss(actions, q_of, self.settings.alpha, batch)

    def state_value(self, achieved_goals: Tensor, goals: Tensor, tasks: Tensor) -> Tensor:
        """-d, (batch,): minus the number of steps from one goal to another."""
        with torch.no_grad():
            distances: Tensor = self.distance(achieved_goals, goals, tasks)
        return -distances

    def parameter_groups(self) -> list[dict[str, Any]]:
        """The multiplier learns at a rate of its own."""
        parameters = [p for p in self.parameters() if p is not self.log_multiplier]
        return [
            {"params": parameters, "lr": self.settings.learning_rate},
            {"params": [self.log_multiplier], "lr": self.settings.multiplier_learning_rate},
        ]

    def target_pairs(self) -> list[TargetPair]:
        """QRL has no targets."""
        return []
