"""Values V(s, g) and critics Q(s, a, g)."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.func import functional_call

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
        if state.device.type != "cpu":
            return self.batched(state, goal, action, task)
        return torch.stack([member(state, goal, action, task) for member in self.members])

    def batched(
        self, state: Tensor, goal: Tensor, action: Tensor | None = None, task: Tensor | None = None
    ) -> Tensor:
        """The same as ``forward``, with the weights of all members stacked: a GPU multiplies larger matrices faster."""
        inputs = state, goal, action, task
        weights = [dict(member.named_parameters()) for member in self.members]
        stack = {name: torch.stack([own[name] for own in weights]) for name in weights[0]}
        outputs: Tensor = torch.vmap(lambda own: functional_call(self.members[0], own, inputs))(
            stack
        )
        return outputs
