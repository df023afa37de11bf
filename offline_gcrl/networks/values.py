"""Values V(s, g) and critics Q(s, a, g)."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from offline_gcrl.networks.goal_conditioned import GoalConditioned


class Value(GoalConditioned):
    """V(s, g), or Q(s, a, g) with an action: shape (batch,)."""

    def forward(
        self, state: Tensor, goal: Tensor, action: Tensor | None = None, task: Tensor | None = None
    ) -> Tensor:
        """(batch, state), (batch, goal), (batch, action), task numbers (batch,) to (batch,)."""
        return super().forward(state, goal, action, task).squeeze(-1)


class Probability(Value):
    """A value between 0 and 1, by a sigmoid: shape (batch,)."""

    def forward(
        self, state: Tensor, goal: Tensor, action: Tensor | None = None, task: Tensor | None = None
    ) -> Tensor:
        """(batch, state), (batch, goal), (batch, action), task numbers (batch,) to (batch,)."""
        return super().forward(state, goal, action, task).sigmoid()


class Ensemble(nn.Module):
    """Several values or critics of the same shape with weights of their own."""

    def __init__(self, members: Iterable[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(
        self, state: Tensor, goal: Tensor, action: Tensor | None = None, task: Tensor | None = None
    ) -> Tensor:
        """(batch, state), (batch, goal), (batch, action), task numbers (batch,) to (members, batch)."""
        return torch.stack([member(state, goal, action, task) for member in self.members])
