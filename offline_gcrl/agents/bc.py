"""Behaviour cloning, with or without hindsight, conditioned on the goal, the task, or both.

With the goals that the behaviour pursued (``actor_goals: {original: 1.0}``) it is BC; with hindsight
goals it is goal-conditioned BC; with uniform future ones GCSL (Ghosh et al., ICLR 2021). Conditioned on
a task identifier it is the baseline of multi-task learning.
"""

from typing import Any, ClassVar

from pydantic import PositiveFloat
from torch import nn

from offline_gcrl.agents import Batch, Losses, batch_mean
from offline_gcrl.agents.shared.distral import with_distillation
from offline_gcrl.config import Activation, AgentSettings, Mixture, Sampling, Units
from offline_gcrl.networks.actors import LAST_GAIN, Actor
from offline_gcrl.networks.conditioning import Conditioning, Dimensions
from offline_gcrl.networks.goal_conditioned import GoalConditioned
from offline_gcrl.networks.targets import TargetPair

FIELDS = ("observations", "actions", "tasks", "actor_goals")


class Settings(AgentSettings):
    """Settings of behaviour cloning."""

    learning_rate: PositiveFloat = 3.0e-4
    hidden: Units = (512, 512, 512)
    activation: Activation = "gelu"
    actor_goals: Mixture = {"original": 1.0}  # goals to imitate for
    distils: ClassVar[bool] = True

    @property
    def sampling(self) -> Sampling:
        """BC learns no values and needs only the actor's goals."""
        return Sampling(fields=FIELDS, actor_goals=self.actor_goals)

    @property
    def suits_bfloat16(self) -> bool:
        """No values."""
        return True

    @property
    def has_positive_loss(self) -> bool:
        """A squared error."""
        return True


class Agent(nn.Module):
    """A policy pi(a | s, g) or pi(a | s, z)."""

    def __init__(self, settings: Settings, dimensions: Dimensions) -> None:
        super().__init__()
        self.settings = settings
        network = GoalConditioned(
            dimensions.observation,
            dimensions.goal,
            dimensions.action,
            settings.hidden,
            settings.activation,
            conditioning=Conditioning.of(settings, dimensions),
            last_gain=LAST_GAIN,
        )
        self.actor = Actor(network, squash=False)

    def loss(self, batch: Batch) -> Losses:
        """-log pi(a | s, g) of a Gaussian with unit deviation, up to a constant."""
        actions = self.actor(batch["observations"], batch["actor_goals"], batch["tasks"])
        mse = batch_mean((actions - batch["actions"]).square().sum(-1), batch)
        loss = 0.5 * mse
        losses = loss, {"actor/loss": loss.detach(), "actor/mse": mse.detach()}
        return with_distillation(self, batch, losses)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """One group."""
        return [{"params": list(self.actor.parameters()), "lr": self.settings.learning_rate}]

    def target_pairs(self) -> list[TargetPair]:
        """BC has no targets."""
        return []
