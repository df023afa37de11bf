"""A dataset as contiguous tensors on the device."""

from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from offline_gcrl.episodes.dataset import Episodes
from offline_gcrl.goals.held_out import held_out_goals
from offline_gcrl.networks.conditioning import Dimensions
from offline_gcrl.policies.scaling import Scaling


class DeviceData:
    """A dataset of R rows on the device, shared by the samplers of its splits.

    ``observations`` (R, observation) and ``goals`` are normalised, unless the agent reads them as they are;
    ``actions`` (R, action) are scaled to [-1, 1].
    ``goals`` are the R achieved goals, followed by the R desired ones where the data contains any: a row of
    all goals below R is therefore also a row of the dataset.
    """

    def __init__(
        self, episodes: Episodes, device: torch.device | str = "cpu", *, normalise: bool = True
    ) -> None:
        # The index and not the arrays: training needs only the tensors.
        self.episodes, self.device = episodes.index, torch.device(device)
        self.scaling = Scaling.of(episodes.schema, normalise=normalise)
        self.observations = self.scaling.observations(self.tensor(episodes.observation))
        self.actions = self.scaling.scaled_actions(self.tensor(episodes.action))
        goals = [episodes.achieved_goal, episodes.desired_goal]
        self.raw_goals = self.tensor(np.concatenate([part for part in goals if part is not None]))
        self.goals = self.scaling.goals(self.raw_goals)

    def __len__(self) -> int:
        """Number of rows, R."""
        return len(self.observations)

    def tensor(self, array: NDArray[Any]) -> Tensor:
        """The array on the device."""
        return torch.from_numpy(np.require(array, requirements=["C", "W"])).to(self.device)

    @cached_property
    def held_out(self) -> Tensor:
        """(goals,), which of all goals are in the region that is held out from training."""
        tasks = self.episodes.per_row("task")
        every = np.tile(tasks, len(self.raw_goals) // len(tasks))
        goals = self.raw_goals.cpu().numpy()
        return self.tensor(held_out_goals(goals, every, self.episodes.held_out))

    @property
    def dimensions(self) -> Dimensions:
        """Sizes for the networks."""
        return Dimensions(
            observation=self.observations.shape[1],
            goal=self.goals.shape[1],
            action=self.actions.shape[1],
            tasks=len(self.episodes.schema["tasks"]),
        )
