"""Survival values (Tiofack et al., ICML 2026, arXiv 2604.17551): values from a distribution of the time to a goal.

With a reward of -1 until the goal is reached, V(s, g) = -sum_t gamma^t P(T > t), where T is the number of steps to g.
The distribution of T is a hazard model: a network gives, for every interval of time, the probability that T is in it
if T is not earlier. It is learned by maximum likelihood, without targets.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from offline_gcrl.networks.conditioning import Conditioning
from offline_gcrl.networks.goal_conditioned import ON_THE_GOAL, GoalConditioned
from offline_gcrl.networks.representations import GoalRepresentation
from offline_gcrl.networks.values import Ensemble


def interval_ends(intervals: int, horizon: int) -> NDArray[np.int64]:
    """The last step of each interval: 0, and then steps up to the horizon with logarithmic spacing.

    The first intervals are single steps. Steps that would be twice in the list are in it once, so that there are
    fewer intervals than asked for.
    """
    steps = np.geomspace(1, horizon, intervals).round().astype(np.int64)
    return np.unique([0, *steps])


class SurvivalValue(nn.Module):
    """Two values V(s, phi([s; g])) from hazards, which share a representation phi of the goal.

    Interval k has the steps after ``starts[k]`` up to ``ends[k]``; the first is step 0, where s is the goal itself.
    """

    starts: Tensor
    """(intervals,), the last step before each interval."""
    ends: Tensor
    """(intervals,), the last step of each interval."""
    weights: Tensor
    """(intervals,), the sum of gamma^t from the end of an interval to that of the next one, or to infinity."""

    def __init__(
        self,
        state: int,
        goal: int,
        size: int,
        ends: NDArray[np.int64],
        discount: float,
        hidden: Sequence[int],
        activation: str,
        *,
        conditioning: Conditioning = ON_THE_GOAL,
        layer_norm: bool = False,
    ) -> None:
        super().__init__()
        powers = np.append(discount ** ends.astype(np.float64), 0.0)
        constants = {
            "starts": torch.from_numpy(np.append(-1, ends[:-1])),
            "ends": torch.from_numpy(ends),
            "weights": torch.from_numpy(-np.diff(powers) / (1.0 - discount)).float(),
        }
        for name, values in constants.items():
            self.register_buffer(name, values)
        self.representation = GoalRepresentation(
            state, goal, size, hidden, activation, conditioning=conditioning, layer_norm=layer_norm
        )
        self.heads = Ensemble(
            GoalConditioned(
                state,
                size,
                len(ends),
                hidden,
                activation,
                conditioning=conditioning,
                layer_norm=layer_norm,
            )
            for _ in range(2)
        )

    def forward(self, state: Tensor, goal: Tensor, task: Tensor | None = None) -> Tensor:
        """(batch, state), (batch, goal) and task numbers (batch,) to logits of hazards, (2, batch, intervals)."""
        return self._hazards(state, self.representation(state, goal, task=task), task)

    def log_likelihood(self, logits: Tensor, steps: Tensor, steps_left: Tensor) -> Tensor:
        """Log-likelihood of the times to goals, which are censored where the episode does not reach the goal.

        Args:
            logits: (2, batch, intervals), of hazards.
            steps: (batch,), steps to the goal; -1 where it is only known that there are more than ``steps_left``.
            steps_left: (batch,), steps to the end of the episode.

        Returns:
            (2, batch).
        """
        steps, steps_left = steps[:, None], steps_left[:, None]
        survived = self.ends <= torch.where(steps < 0, steps_left, steps - 1)
        reached = (self.starts < steps) & (steps <= self.ends)
        likelihoods = logsigmoid(torch.where(reached, logits, -logits))
        return torch.where(survived | reached, likelihoods, 0.0).sum(-1)

    def values(self, logits: Tensor) -> Tensor:
        """-sum_t gamma^t P(T > t), where P is constant until the end of an interval; (2, batch, intervals) to (2, batch)."""
        survival = logsigmoid(-logits).cumsum(-1).exp()
        return -(survival * self.weights).sum(-1)

    def estimate(self, state: Tensor, goal: Tensor, task: Tensor | None = None) -> Tensor:
        """The smaller of the two values, (batch,), without a gradient."""
        with torch.no_grad():
            return self.estimate_of(state, self.representation(state, goal, task=task), task)

    def estimate_of(self, state: Tensor, representation: Tensor, task: Tensor | None) -> Tensor:
        """The same of a representation, (batch, size)."""
        with torch.no_grad():
            return self.values(self._hazards(state, representation, task)).amin(0)

    def _hazards(self, state: Tensor, representation: Tensor, task: Tensor | None) -> Tensor:
        logits: Tensor = self.heads(state, representation, task=task)
        return logits.to(self.weights.dtype)  # Sums over intervals need more digits than bfloat16.
