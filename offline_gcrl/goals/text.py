"""Encoders of sentences: a text to a vector that networks read.

``words`` needs no package: a bag of words, hashed to a fixed size. ``wordllama`` has pretrained static embeddings inside
its package, which know synonyms. ``attributes`` is no encoder of texts but the ceiling: it gives the network the
statement itself, as one-hot values of its attributes. Similarity of embeddings never decides whether a sentence is true:
for every encoder, sentences that differ in one decisive word are nearer than paraphrases.
"""

import functools
import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from offline_gcrl.config import TextEncoder
from offline_gcrl.goals.instructions import Captions, Instruction
from offline_gcrl.support.errors import PolicyError

SIZE = 256
"""Numbers of an embedding of ``words`` and ``wordllama``."""
LENGTH = 4.0
"""Euclidean length of embeddings, so that they are neither much larger nor much smaller than normalised observations."""


def embeddings(
    instructions: Sequence[Instruction], encoder: TextEncoder, captions: Captions | None
) -> NDArray[np.float32]:
    """The embedding of each sentence, (instructions, size).

    Args:
        instructions: sentences.
        encoder: name of the encoder.
        captions: the attributes, for ``attributes``; without them, its embedding is a one-hot vector of the task.
    """
    if encoder != "attributes":
        return encode([item.text for item in instructions], encoder)
    if captions is None:
        tasks = list(dict.fromkeys(item.task for item in instructions))
        places = [tasks.index(item.task) for item in instructions]
        return LENGTH * np.eye(len(tasks), dtype=np.float32)[places]
    needed = np.stack([captions.needed(item.statement) for item in instructions])
    counts = [len(attribute.values) for attribute in captions.language.attributes.values()]
    # The first column of each attribute is its absence from the statement.
    parts = [
        np.eye(count + 1, dtype=np.float32)[needed[:, place]] for place, count in enumerate(counts)
    ]
    return _of_length(np.concatenate(parts, 1))


def encode(texts: Sequence[str], encoder: TextEncoder) -> NDArray[np.float32]:
    """The embedding of each text, (texts, size), with ``words`` or ``wordllama``.

    Raises:
        PolicyError: the encoder needs a package that is not installed, or knows no text.
    """
    if encoder == "attributes":
        raise PolicyError(
            "a policy with text_encoder 'attributes' reads no text, only the sentences that it was trained with"
        )
    found = _hashed(texts) if encoder == "words" else _pretrained(texts)
    return _of_length(found)


def _hashed(texts: Sequence[str]) -> NDArray[np.float32]:
    """Signed counts of the words of each text, hashed into ``SIZE`` numbers (Weinberger et al. 2009)."""
    found = np.zeros((len(texts), SIZE), np.float32)
    for place, text in enumerate(texts):
        for word in re.findall(r"[^\W_]+", text.lower()):
            number = int.from_bytes(hashlib.sha256(word.encode()).digest()[:8], "little")
            found[place, number % SIZE] += 1.0 if number >> 63 else -1.0
    return found


def _pretrained(texts: Sequence[str]) -> NDArray[np.float32]:
    try:
        found: NDArray[Any] = _wordllama().embed(list(texts))
    except ImportError:
        raise PolicyError(
            "the text encoder 'wordllama' is not installed; install it with pip install 'offline-gcrl[language]', or "
            "use a sentence that the policy was trained with"
        ) from None
    return found.astype(np.float32)


@functools.cache
def _wordllama() -> Any:
    """The pretrained model, from the files in its package; it would look for its tokenizer in the network otherwise."""
    import wordllama

    folder = Path(wordllama.__file__).parent
    return wordllama.WordLlama.load(cache_dir=folder, disable_download=True)


def _of_length(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """The vectors, scaled to ``LENGTH``; zero remains zero."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return (LENGTH * vectors / np.where(lengths == 0.0, 1.0, lengths)).astype(np.float32)
