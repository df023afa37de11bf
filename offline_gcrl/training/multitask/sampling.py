"""Sampling probabilities of tasks, constant within a round, so that a batch is a function of (seed, step)."""

import torch
from torch import Tensor

from offline_gcrl.config import Tasks, TaskSequence


def adapted_shares(scores: Tensor, known: Tensor, uniform_share: float) -> Tensor:
    """Probabilities proportional to scores, mixed with a uniform share.

    Args:
        scores: (tasks,), not negative; higher for tasks with more to gain.
        known: (tasks,), whether a task has a score; a task without one gets the mean of the others.
        uniform_share: u of p_i = u / K + (1 - u) score_i / sum(score).

    Returns:
        (tasks,), which sum to 1.
    """
    uniform = torch.full_like(scores, 1.0 / len(scores))
    if not known.any() or scores[known].sum() <= 0.0:
        return uniform
    filled = torch.where(known, scores, scores[known].mean())
    return uniform_share * uniform + (1.0 - uniform_share) * filled / filled.sum()


def initial_shares(tasks: Tasks, number: int) -> Tensor | None:
    """Probabilities of the first round; None for the shares of the transitions."""
    return None if tasks.sampling == "data" else torch.full((number,), 1.0 / number)


def order_of(sequence: TaskSequence, names: tuple[str, ...]) -> list[int]:
    """Numbers of the tasks in the order of their phases."""
    return [names.index(name) for name in sequence.tasks or names]


def phase_shares(sequence: TaskSequence, order: list[int], phase: int, number: int) -> Tensor:
    """Probabilities of the tasks in one phase of a sequence: its own task, and with replay also earlier ones."""
    shares = torch.zeros(number)
    earlier = order[:phase] if sequence.method == "replay" else []
    shares[order[phase]] = 1.0 - sequence.replay_share if earlier else 1.0
    for task in earlier:
        shares[task] = sequence.replay_share / len(earlier)
    return shares
