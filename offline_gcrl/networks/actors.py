"""Policies: the mean of a Gaussian, or a deterministic action."""

from torch import Tensor, nn

from offline_gcrl.networks.goal_conditioned import GoalConditioned
from offline_gcrl.networks.representations import GoalRepresentation, on_sphere

LAST_GAIN = 0.1
"""Gain of the initial weights of an actor's last layer: OGBench's 1e-2 is a factor on their variance."""


class Actor(nn.Module):
    """The mean of a Gaussian policy with unit standard deviation, or a deterministic policy.

    ``squash`` ends in tanh (GoFAR, WGCSL); without it actions are clipped when acting (OGBench).
    """

    def __init__(self, network: GoalConditioned, *, squash: bool) -> None:
        super().__init__()
        self.network, self.squash = network, squash

    def forward(self, state: Tensor, goal: Tensor, task: Tensor | None = None) -> Tensor:
        """(batch, state), (batch, goal) and task numbers (batch,) to the mean action (batch, action)."""
        mean: Tensor = self.network(state, goal, task=task)
        return self._bounded(mean)

    def task_and_shared(self, state: Tensor, goal: Tensor, task: Tensor) -> tuple[Tensor, Tensor]:
        """The actions of the policy of a task and of the shared policy (Distral), both (batch, action).

        The gradient of the first reaches the column of the task and the trunk, and not the shared column.
        """
        shared, own = self.network.columns(state, goal, task)
        return self._bounded(shared.detach() + own), self._bounded(shared)

    def _bounded(self, mean: Tensor) -> Tensor:
        return mean.tanh() if self.squash else mean


class HierarchicalActor(nn.Module):
    """A high-level policy that proposes the representation of a subgoal, and a low-level policy towards it (HIQL).

    Both act at every step: there is no commitment to a subgoal.
    """

    def __init__(self, high: GoalConditioned, low: GoalConditioned) -> None:
        super().__init__()
        self.high, self.low = high, low

    def forward(self, state: Tensor, goal: Tensor, task: Tensor | None = None) -> Tensor:
        """(batch, state), (batch, goal) and task numbers (batch,) to the mean action (batch, action)."""
        subgoal = on_sphere(self.high(state, goal, task=task))
        action: Tensor = self.low(state, subgoal, task=task)
        return action


class EncodedGoalActor(nn.Module):
    """A policy on a representation of the goal that does not depend on the state (dual goal representations)."""

    def __init__(self, representation: nn.Module, policy: nn.Module) -> None:
        super().__init__()
        self.representation, self.policy = representation, policy

    def forward(self, state: Tensor, goal: Tensor, task: Tensor | None = None) -> Tensor:
        """(batch, state), (batch, goal) and task numbers (batch,) to the mean action (batch, action)."""
        action: Tensor = self.policy(state, self.representation(goal, task), task)
        return action


class RepresentationActor(nn.Module):
    """A policy on the state and a representation of the goal that is its own (SAW)."""

    def __init__(self, representation: GoalRepresentation, policy: GoalConditioned) -> None:
        super().__init__()
        self.representation, self.policy = representation, policy

    def forward(self, state: Tensor, goal: Tensor, task: Tensor | None = None) -> Tensor:
        """(batch, state), (batch, goal) and task numbers (batch,) to the mean action (batch, action)."""
        action: Tensor = self.policy(state, self.representation(state, goal, task=task), task=task)
        return action
