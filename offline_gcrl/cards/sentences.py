"""Numbers of the sentences of a dataset: how many there are, and how often each statement is true or becomes true."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from offline_gcrl.cards.measure import IngestedDataset
from offline_gcrl.goals.instructions import SETS, Sentences, as_text, is_true

TITLE = "## Sentences"
NOTE = (
    "*true*: states of which the statement is true. *becomes true*: transitions from a state of which it is not true, in an "
    "episode in which it is true later; sentences are drawn for these only. Statements that are held out have no training "
    "sentences."
)


def measure_sentences(data: IngestedDataset) -> dict[str, Any] | None:
    """The numbers of sentences and statements; None for a dataset whose recipe has no captions."""
    sentences = Sentences.of(data.dataset)
    if sentences is None or sentences.captions is None:
        return None
    captions = sentences.captions
    values = np.concatenate([captions.values(chunk.achieved) for chunk in data.chunks()])
    first = data.episodes["first_row"].to_numpy().astype(np.int64)
    rows = data.episodes["length"].to_numpy().astype(np.int64) + 1
    seen = [sentences.instructions[number].statement for number in sentences.numbers("seen")]
    statements, anything = [], np.zeros(len(values), dtype=np.bool_)
    for statement in captions.statements:
        true = np.asarray(is_true(values, captions.needed(statement)))
        becomes = becomes_true(true, first, rows)
        anything |= becomes & (statement not in captions.held_out)
        statements.append(
            {
                "statement": as_text(statement),
                "held_out": statement in captions.held_out,
                "sentences": seen.count(statement),
                "true_share": float(true.mean()),
                "becomes_true_share": float(becomes.sum() / (rows - 1).sum()),
            }
        )
    return {
        "sentences": {kind: len(sentences.numbers(kind)) for kind in SETS},
        "without_sentence_share": 1.0 - float(anything.sum() / (rows - 1).sum()),
        "statements": statements,
    }


def becomes_true(
    true: NDArray[np.bool_], first: NDArray[np.int64], rows: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Whether a statement that is not true of a state is true of a later state of its episode, (R,).

    Args:
        true: whether it is true of each state, (R,).
        first: first row of each episode.
        rows: number of rows of each episode.
    """
    place = np.arange(len(true))
    last = np.maximum.reduceat(np.where(true, place, -1), first)
    return ~true & (place < np.repeat(last, rows))


def sentences_section(card: Mapping[str, Any]) -> list[str]:
    """The parts of the page about sentences; none for a dataset without captions."""
    found = card.get("language")
    if not found:
        return []
    counts = ", ".join(f"{count:,} {kind}" for kind, count in found["sentences"].items())
    lines = ["| statement | training sentences | true | becomes true |", "|---|---:|---:|---:|"]
    for row in found["statements"]:
        number = "held out" if row["held_out"] else f"{row['sentences']:,}"
        lines.append(
            f"| {row['statement']} | {number} | {row['true_share']:.1%} | {row['becomes_true_share']:.1%} |"
        )
    introduction = (
        f"Sentences by set: {counts}. Of {found['without_sentence_share']:.1%} of the transitions no statement with training "
        "sentences becomes true."
    )
    return [TITLE, introduction, "\n".join(lines), NOTE]
