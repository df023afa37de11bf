"""How a network is conditioned on a goal and a task: identifiers, FiLM, output layers per task."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from offline_gcrl.config import AgentSettings, Modular, Vision
from offline_gcrl.networks.encoders import ImageEncoding
from offline_gcrl.networks.mlp import MLP

UNSEEN = -1
"""Number of a task without an output layer, for which networks with two columns have the shared output."""


@dataclass(frozen=True)
class Dimensions:
    """Sizes that the networks of an agent need."""

    observation: int
    goal: int
    action: int
    tasks: int = 1
    language: int = 0
    """Size of the embeddings of sentences, for policies that take instructions."""
    image: tuple[int, int, int] | None = None
    """Height, width and channels of images, for policies that see. The vectors of observations, of goals, or of both
    then start with the pixels of an image."""

    def read_by(self, settings: AgentSettings) -> "Dimensions":
        """The sizes that the networks of an agent read: an embedding is a part of the vector of goals, or all of it."""
        if not settings.takes_instructions:
            return self
        goal = 0 if settings.conditioning == "language" else self.goal
        return replace(self, goal=goal + self.language)


def saved_dimensions(dimensions: Dimensions) -> dict[str, Any]:
    """Sizes as plain values for a file; images are left out where there are none."""
    return {name: value for name, value in asdict(dimensions).items() if value is not None}


def loaded_dimensions(saved: Mapping[str, Any]) -> Dimensions:
    """Sizes from what ``saved_dimensions`` returned."""
    image = saved.get("image")
    return Dimensions(**{**saved, "image": None if image is None else tuple(image)})


@dataclass(frozen=True)
class Conditioning:
    """The inputs z that a network is conditioned on besides the state, and how it is conditioned."""

    on: str = "goal"
    """``goal``, ``one_hot``, ``embedding``, a goal and one of these joined by ``+``, or ``none``."""
    network: str = "concatenate"
    """``concatenate``, ``film``, ``heads``, ``modular`` or ``distral``."""
    goal_encoder: str = "concatenate"
    """``separate``: the state and z are first encoded by one layer each. ``concatenate`` and ``dual``: they are not;
    with ``dual`` the goal is a representation already."""
    embedding: int = 16
    tasks: int = 1
    modular: Modular = field(default_factory=Modular)
    """The size of modular networks."""
    images: ImageEncoding | None = None
    """How images are encoded; None for networks of vectors."""

    @classmethod
    def of(cls, settings: AgentSettings, dimensions: Dimensions) -> "Conditioning":
        """The same for all networks of an agent."""
        return cls(
            # Vectors of goals contain the embeddings of sentences already.
            on="goal" if settings.takes_instructions else settings.conditioning,
            network=settings.task_network,
            goal_encoder=settings.goal_encoder,
            embedding=settings.embedding_size,
            tasks=dimensions.tasks,
            modular=settings.modular or Modular(),
            images=_encoding(settings.images or Vision(), dimensions.image),
        )

    @property
    def parts(self) -> tuple[str, ...]:
        """The parts of z in order."""
        return () if self.on == "none" else tuple(self.on.split("+"))

    @property
    def inputs(self) -> "Conditioning":
        """The parts of z that the layers of the network read: modules do not read the identifier."""
        if self.network != "modular":
            return self
        return replace(self, on="goal" if "goal" in self.parts else "none")

    @property
    def identifier(self) -> "Conditioning":
        """The identifier that weights modules: that of z, or a one-hot vector if z has none."""
        found = [part for part in self.parts if part != "goal"]
        return replace(self, on=found[0] if found else "one_hot")

    @property
    def of_the_task(self) -> "Conditioning":
        """The same without the goal, for networks that read the goal as their input or not at all.

        If z is then empty, it cannot scale hidden layers, and FiLM becomes concatenation.
        """
        identifier = "+".join(part for part in self.parts if part != "goal") or "none"
        film_of_nothing = self.network == "film" and identifier == "none"
        return replace(
            self,
            on=identifier,
            network="concatenate" if film_of_nothing else self.network,
            goal_encoder="concatenate",
        )

    def size(self, goal: int) -> int:
        """Size of z for goals of size ``goal``."""
        sizes = {"goal": goal, "one_hot": self.tasks, "embedding": self.embedding}
        return sum(sizes[part] for part in self.parts)


def _encoding(vision: Vision, shape: tuple[int, int, int] | None) -> ImageEncoding | None:
    """How networks encode images of a shape; None without images."""
    if shape is None:
        return None
    return ImageEncoding(shape, vision.encoder, vision.features, vision.fusion)


class FiLM(nn.Module):
    """An MLP whose hidden layers are scaled and shifted by linear functions of z (FiLM; Perez et al., AAAI 2018).

    Hidden layer l computes activation((1 + scale_l(z)) * (W_l h + b_l) + shift_l(z)), with scale and shift
    linear in z.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        activation: str,
        *,
        condition: int,
        layer_norm: bool = False,
        last_gain: float = 1.0,
    ) -> None:
        super().__init__()
        self.layers = MLP(sizes, activation, layer_norm=layer_norm, last_gain=last_gain)
        self.modulations = nn.ModuleList(
            MLP([condition, 2 * units], activation) for units in sizes[1:-1]
        )

    def forward(self, inputs: Tensor, condition: Tensor) -> Tensor:
        """(batch, inputs) and z, (batch, condition), to (batch, outputs)."""
        modulations = iter(self.modulations)
        for number, layer in enumerate(self.layers):
            inputs = layer(inputs)
            if isinstance(layer, nn.Linear) and number + 1 < len(self.layers):
                scale, shift = next(modulations)(condition).chunk(2, -1)
                inputs = (1.0 + scale) * inputs + shift
        return inputs


class Heads(nn.Module):
    """One output layer per task, on the features of a shared trunk."""

    def __init__(
        self, inputs: int, outputs: int, activation: str, *, tasks: int, last_gain: float
    ) -> None:
        super().__init__()
        self.heads = nn.ModuleList(
            MLP([inputs, outputs], activation, last_gain=last_gain) for _ in range(tasks)
        )

    def forward(self, inputs: Tensor, task: Tensor) -> Tensor:
        """(batch, inputs) and task numbers (batch,) to (batch, outputs)."""
        outputs = torch.stack([head(inputs) for head in self.heads], -2)
        # Not take_along_dim, which torch.export cannot trace for any size of the batch.
        index = task[..., None, None].expand(*outputs.shape[:-2], 1, outputs.shape[-1])
        return outputs.gather(-2, index).squeeze(-2)


class TwoColumns(nn.Module):
    """The sum of a shared output layer and of one per task, on the features of a shared trunk (Distral).

    Output layers of tasks start at zero: a task without data has the output of the shared layer.
    """

    def __init__(
        self, inputs: int, outputs: int, activation: str, *, tasks: int, last_gain: float
    ) -> None:
        super().__init__()
        self.shared = MLP([inputs, outputs], activation, last_gain=last_gain)
        self.tasks = Heads(inputs, outputs, activation, tasks=tasks, last_gain=0.0)

    def columns(self, inputs: Tensor, task: Tensor) -> tuple[Tensor, Tensor]:
        """The outputs of the shared layer, and of the layer of the task, which are zero for ``UNSEEN``; both (batch, outputs)."""
        own = self.tasks(inputs, task.clamp(min=0))
        return self.shared(inputs), torch.where((task == UNSEEN)[..., None], 0.0, own)

    def forward(self, inputs: Tensor, task: Tensor) -> Tensor:
        """(batch, inputs) and task numbers (batch,) to (batch, outputs)."""
        shared, own = self.columns(inputs, task)
        return shared + own


class TaskEncoder(nn.Module):
    """The condition z of a network as one vector: the goal, a task identifier, both, or nothing."""

    def __init__(self, conditioning: Conditioning) -> None:
        super().__init__()
        self.parts, self.tasks = conditioning.parts, conditioning.tasks
        if "embedding" in self.parts:
            self.embedding = nn.Embedding(conditioning.tasks, conditioning.embedding)

    def forward(self, goal: Tensor, task: Tensor | None) -> Tensor:
        """(batch, goal) and task numbers (batch,) to (batch, size)."""
        condition = [
            goal if part == "goal" else self._identifier(part, goal, task) for part in self.parts
        ]
        return torch.cat(condition, -1) if condition else goal[..., :0]

    def _identifier(self, part: str, goal: Tensor, task: Tensor | None) -> Tensor:
        assert task is not None, "a network conditioned on the task needs its number"
        if part == "one_hot":
            numbers = torch.arange(self.tasks, device=task.device)
            return (task[..., None] == numbers).to(goal.dtype)
        identifier: Tensor = self.embedding(task)
        return identifier
