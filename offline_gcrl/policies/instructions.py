"""Instructions of a policy: the sentences that it was trained with, and the embedding of any sentence."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from offline_gcrl.config import TextEncoder, nearest
from offline_gcrl.goals.instructions import Sentences
from offline_gcrl.goals.text import encode
from offline_gcrl.policies.inputs import common_batch
from offline_gcrl.support.errors import PolicyError


@dataclass(frozen=True)
class Vocabulary:
    """The sentences of the dataset of a policy with their embeddings; other sentences are embedded by the encoder."""

    sentences: Sentences
    embeddings: NDArray[np.float32]
    """(sentences, size)"""
    encoder: TextEncoder

    @classmethod
    def from_saved(cls, saved: Mapping[str, Any] | None) -> "Vocabulary | None":
        """From what ``saved`` returned; None from None."""
        if saved is None:
            return None
        embeddings = np.asarray(saved["embeddings"].numpy(), dtype=np.float32)
        return cls(Sentences.from_json(saved["sentences"]), embeddings, saved["encoder"])

    def saved(self) -> dict[str, Any]:
        """Tensors and plain values for the file of the policy."""
        return {
            "sentences": self.sentences.as_json(),
            "embeddings": torch.from_numpy(self.embeddings),
            "encoder": self.encoder,
        }

    @property
    def has_captions(self) -> bool:
        """Whether sentences are about goals, and not names of tasks."""
        return self.sentences.captions is not None

    def embedding(self, text: str | Sequence[str]) -> NDArray[np.float32]:
        """The embedding of a sentence, (size,), or of several, (batch, size); zero for an empty sentence.

        Raises:
            PolicyError: the sentence is not one of the dataset's, and the encoder is not installed or reads no text.
        """
        if isinstance(text, str):
            return self._one(text)
        # An array of sentences is as good as a list.
        items = np.asarray(text, dtype=object).tolist()
        if not (isinstance(items, list) and items and all(isinstance(item, str) for item in items)):
            raise PolicyError(
                f"the instruction is {text!r}; pass a sentence, or a list of sentences"
            )
        return np.stack([self._one(item) for item in items])

    def said(
        self, instruction: str | Sequence[str] | None, task: str
    ) -> NDArray[np.float32] | None:
        """The embedding of an instruction, or else that of the task's own; None if there is neither.

        Args:
            instruction: a sentence, several, or None.
            task: name of the task, for sentences that name tasks.
        """
        if instruction is not None:
            return self.embedding(instruction)
        return None if self.has_captions else self.of_task(task)

    def alone(self, said: NDArray[np.float32] | None) -> NDArray[np.float32]:
        """The vector of goals of a policy that takes sentences alone.

        Raises:
            PolicyError: there is no sentence.
        """
        if said is None:
            raise PolicyError("the policy takes instructions and no goals; pass 'instruction'")
        return said

    def with_goals(
        self, goals: NDArray[np.float32] | None, said: NDArray[np.float32] | None, size: int
    ) -> NDArray[np.float32]:
        """The vectors of goals of a policy that takes goals and sentences; what is not given is zero.

        Args:
            goals: (goal,) or (batch, goal), normalised.
            said: (size,) or (batch, size).
            size: size of a goal.

        Raises:
            PolicyError: sentences are about goals, and both or neither are given.
        """
        if self.has_captions and (goals is None) == (said is None):
            raise PolicyError("the policy takes either a goal or an instruction; pass one of them")
        if goals is None:
            goals = np.zeros(size, np.float32)
        if said is None:
            said = np.zeros(self.embeddings.shape[1], np.float32)
        batch = common_batch(goals, said, "goals", "instructions")
        parts = [np.broadcast_to(part, (*batch, part.shape[-1])) for part in (goals, said)]
        return np.concatenate(parts, -1)

    def of_task(self, task: str) -> NDArray[np.float32]:
        """The embedding of the instruction of a task, (size,)."""
        found: NDArray[np.float32] = self.embeddings[self.sentences.numbers("seen", task)[0]]
        return found

    def _one(self, text: str) -> NDArray[np.float32]:
        if not text.strip():
            return np.zeros(self.embeddings.shape[1], np.float32)
        number = self._numbers.get(_plain(text))
        if number is not None:
            known: NDArray[np.float32] = self.embeddings[number]
            return known
        if self.encoder == "attributes":
            raise PolicyError(
                f"this policy reads only the sentences of its dataset (text_encoder: attributes), not '{text}'; "
                f"{nearest(text, [item.text for item in self.sentences.instructions])}"
            )
        vector: NDArray[np.float32] = encode([text], self.encoder)[0]
        return vector

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {_plain(item.text): place for place, item in enumerate(self.sentences.instructions)}


def _plain(text: str) -> str:
    """A sentence without the capitals and full stop that make no difference."""
    return " ".join(text.lower().rstrip(" .!").split())
