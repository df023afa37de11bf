"""Instructions in batches: the embeddings of sentences as vectors of goals, and whether they are true of states."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from offline_gcrl.config import Speech
from offline_gcrl.config.outputs import INSTRUCTIONS
from offline_gcrl.goals.instructions import Captions, Sentences, is_true
from offline_gcrl.goals.text import embeddings
from offline_gcrl.support.digests import read_json
from offline_gcrl.support.errors import DataError
from offline_gcrl.training.batches.data import DeviceData
from offline_gcrl.training.batches.storage import ROWS_PER_PART, Tensors
from offline_gcrl.training.batches.tables import Instructions


@dataclass(frozen=True)
class Spoken:
    """The sentences of a dataset on the device."""

    speech: Speech
    sentences: Sentences
    embeddings: Tensor
    """(sentences + 1, size); the last is of no sentence, zero."""
    needed: Tensor | None
    """(sentences, attributes): the values that each needs; None for sentences that name tasks."""
    values_of_rows: Tensor | None
    """(R, attributes): the values of the achieved goal of each row."""
    of_task: tuple[Tensor, Tensor]
    """(tasks,): number of the first training sentence of each task, and how many it has."""

    @property
    def has_captions(self) -> bool:
        """Whether sentences are true of goals; otherwise they name tasks."""
        return self.needed is not None

    @property
    def kept(self) -> Instructions:
        """Which instructions of the hindsight table are read."""
        if not self.has_captions:
            return "none"
        return "with_goals" if self.speech.with_goal else "only"

    @property
    def dropout(self) -> float:
        """Share of transitions with an instruction that have no goal."""
        if not self.speech.with_goal:
            return 1.0
        if self.speech.goal_dropout is not None:
            return self.speech.goal_dropout
        return 0.5 if self.has_captions else 0.0

    def are_true(self, instructions: Tensor, rows: Tensor) -> Tensor:
        """Whether sentences are true of the goals achieved at rows, of the same shape; false for no sentence."""
        assert self.needed is not None
        assert self.values_of_rows is not None
        known = instructions.clamp(min=0)
        found: Tensor = is_true(self.values_of_rows[rows], self.needed[known]) & (instructions >= 0)
        return found

    def vectors(self, goals: Tensor, instructions: Tensor, drops_goal: Tensor) -> Tensor:
        """Vectors of goals that embeddings follow, (..., size).

        Args:
            goals: (..., goal), normalised.
            instructions: numbers of sentences, (...); -1 for none.
            drops_goal: whether the goal is left out, (...).
        """
        said = self.embeddings[instructions]
        return torch.cat([torch.where(drops_goal[..., None], 0.0, goals), said], -1)


def read_spoken(hindsight: Path, data: DeviceData, speech: Speech) -> Spoken:
    """Read the sentences of a dataset, and embed them.

    Raises:
        DataError: the hindsight table has no sentences.
        PolicyError: the encoder is not installed.
    """
    path = hindsight / INSTRUCTIONS
    if not path.exists():
        raise DataError(
            f"{path}: no such file, because the recipe has no 'language' with attributes; add it, or leave out "
            "conditioning: language"
        )
    sentences = Sentences.from_json(read_json(path))
    captions = sentences.captions
    found = embeddings(sentences.instructions, speech.encoder, captions)
    tasks = data.episodes.schema["tasks"]
    numbers = [sentences.numbers("seen", task) for task in tasks]
    return Spoken(
        speech=speech,
        sentences=sentences,
        embeddings=_on(data, np.concatenate([found, np.zeros_like(found[:1])])),
        needed=_on(data, sentences.needed) if captions else None,
        values_of_rows=_values(captions, data) if captions else None,
        of_task=(
            _on(data, np.array([own[0] for own in numbers])),
            _on(data, np.array([len(own) for own in numbers])),
        ),
    )


def _values(captions: Captions, data: DeviceData) -> Tensor:
    """The values of attributes of all achieved goals, (R, attributes)."""

    def parts() -> Iterator[Tensors]:
        for first in range(0, len(data), ROWS_PER_PART):
            part = data.raw_goals[first : min(first + ROWS_PER_PART, len(data))]
            yield {"values": torch.from_numpy(captions.values(part.cpu().numpy()))}

    words = hashlib.sha256(repr(captions.language).encode()).hexdigest()[:16]
    return data.storage.tensors(f"attributes-{words}", len(data), parts)["values"]


def _on(data: DeviceData, values: NDArray[Any]) -> Tensor:
    return torch.from_numpy(values).to(data.device)
