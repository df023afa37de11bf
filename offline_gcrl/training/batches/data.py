"""A dataset as contiguous tensors."""

from collections.abc import Iterator
from functools import cached_property, partial
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from offline_gcrl.config import Images, Vision
from offline_gcrl.episodes.dataset import Episodes, StoredEpisodes
from offline_gcrl.episodes.stored_frames import iterate_frames
from offline_gcrl.goals.held_out import held_out_goals
from offline_gcrl.networks.conditioning import Dimensions
from offline_gcrl.policies.scaling import Scaling
from offline_gcrl.training.batches.seen import Seen
from offline_gcrl.training.batches.storage import InMemory, Storage, Tensors


class Arrays(Protocol):
    """R rows of states and the goals of a sampler: those of a dataset, or those that are resident."""

    @property
    def observations(self) -> Tensor | Seen:
        """(R, observation), as networks read them."""

    @property
    def actions(self) -> Tensor:
        """(R, action), scaled to [-1, 1]."""

    @property
    def raw_goals(self) -> Tensor:
        """(goals, goal): the R achieved goals, the R desired ones if there are any, and further ones."""

    @property
    def goals(self) -> Tensor | Seen:
        """The same, as networks read them."""

    @property
    def device(self) -> torch.device:
        """The device of the tensors."""

    def __len__(self) -> int:
        """Number of rows, R."""


class DeviceData:
    """A dataset of R rows, shared by the samplers of its splits.

    ``observations`` (R, observation) and ``goals`` are normalised, unless the agent reads them as they are;
    ``actions`` (R, action) are scaled to [-1, 1].
    ``goals`` are the R achieved goals, followed by the R desired ones where the data contains any: a row of
    all goals below R is therefore also a row of the dataset.

    Args:
        episodes: the dataset, in memory or on disk.
        device: the device of batches.
        normalise: whether observations and goals are normalised.
        storage: where the tensors are stored; if left out, on the device.
        vision: what networks see, in a dataset with images; None for the default.
    """

    observations: Tensor | Seen
    goals: Tensor | Seen

    def __init__(
        self,
        episodes: Episodes | StoredEpisodes,
        device: torch.device | str = "cpu",
        *,
        normalise: bool = True,
        storage: Storage | None = None,
        vision: Vision | None = None,
    ) -> None:
        # The index and not the arrays: training needs only the tensors.
        self.episodes, self.target = episodes.index, torch.device(device)
        self.scaling = Scaling.of(episodes.schema, normalise=normalise)
        self.storage = storage or InMemory(device)
        self.device = self.storage.device
        """The device of the tensors, which is not that of batches if a GPU trains on mapped files."""
        rows, normal = episodes.rows, "normal" if normalise else "plain"
        self.names = f"states-{normal}", f"goals-{normal}"
        """The names under which states and goals are stored."""
        states = self.storage.tensors(self.names[0], rows, partial(self._states, episodes))
        goals = self.storage.tensors(self.names[1], 2 * rows, partial(self._goals, episodes))
        self.observations, self.actions = states["observations"], states["actions"]
        self.raw_goals = goals["raw"]
        self.goals = goals.get("normalised", self.raw_goals)
        self.image_shape = None
        images, vision = self.episodes.images, vision or Vision()
        if images is not None and vision.sees:
            self.image_shape = images.shape
            self._see(episodes, images, vision)

    def __len__(self) -> int:
        """Number of rows, R."""
        return len(self.observations)

    def _see(self, episodes: Episodes | StoredEpisodes, images: Images, vision: Vision) -> None:
        """Put images in the place of observations and goals, or in front of observations."""
        path = episodes.frames
        assert path is not None
        stored = self.storage.tensors(
            "frames",
            episodes.rows,
            lambda: ({"frames": torch.tensor(part)} for part in iterate_frames(path, images)),
        )
        seen = partial(Seen, stored["frames"], images.shape, self.target)
        if vision.sees_states:
            assert isinstance(self.observations, Tensor)
            self.observations = seen(None if vision.observation == "image" else self.observations)
        if vision.sees_goals:
            self.goals = seen(is_black=vision.goal == "black")

    def _states(self, episodes: Episodes | StoredEpisodes) -> Iterator[Tensors]:
        """Observations and actions as networks read them."""
        for part in episodes.parts("observation", "action"):
            observation, action = map(torch.from_numpy, part)
            yield {
                "observations": self.scaling.observations(observation),
                "actions": self.scaling.scaled_actions(action),
            }

    def _goals(self, episodes: Episodes | StoredEpisodes) -> Iterator[Tensors]:
        """Goals as they are and as networks read them, if these differ: achieved ones, then desired ones."""
        for column in ("achieved_goal", "desired_goal"):
            for (part,) in episodes.parts(column):
                goals = torch.from_numpy(part)
                if self.scaling.normalise:
                    yield {"raw": goals, "normalised": self.scaling.goals(goals)}
                else:
                    yield {"raw": goals}

    @cached_property
    def held_out(self) -> Tensor:
        """(goals,), which of all goals are in the region that is held out from training."""
        tasks = self.episodes.per_row("task")
        every = np.tile(tasks, len(self.raw_goals) // len(tasks))
        goals = self.raw_goals.cpu().numpy()
        return torch.from_numpy(held_out_goals(goals, every, self.episodes.held_out))

    @property
    def dimensions(self) -> Dimensions:
        """Sizes for the networks."""
        return Dimensions(
            observation=self.observations.shape[1],
            goal=self.goals.shape[1],
            action=self.actions.shape[1],
            tasks=len(self.episodes.schema["tasks"]),
            image=self.image_shape,
        )
