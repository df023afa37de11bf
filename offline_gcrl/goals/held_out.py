"""Unseen goals: a region of goal space that a recipe holds out from training, for zero-shot evaluation.

No batch of training or validation contains a goal in the region. States in the region remain in the data; only goals
are held out.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from offline_gcrl.config import Region
from offline_gcrl.support.errors import SettingsError

NONE_LEFT = (
    "no transition has a goal outside the held-out region, or with an instruction; set a smaller region in held_out of "
    "the recipe, or add strategies to the agent's mixture of goals"
)
"""The error if no goal of any transition may be used."""


def in_region(goals: NDArray[Any], region: Region) -> NDArray[np.bool_]:
    """Whether goals, (..., goal), are in a region: (...); dimensions that the region lacks are padding."""
    own = goals[..., : len(region.low)].astype(np.float32)
    low, high = (np.array(bound, dtype=np.float32) for bound in (region.low, region.high))
    return np.asarray(((own >= low) & (own <= high)).all(-1))


def check_size(region: Region, size: int, where: str) -> None:
    """Check that a region has one interval per dimension of the goals.

    Args:
        region: the region.
        size: number of dimensions of a goal.
        where: name of the recipe, for the error.

    Raises:
        SettingsError: it has another number.
    """
    if len(region.low) != size:
        raise SettingsError(
            f"{where}: held_out: a goal has {size} dimensions, and 'low' has {len(region.low)}; "
            "give one number per dimension"
        )


def held_out_goals(
    goals: NDArray[np.float32], tasks: NDArray[Any], regions: Mapping[str, Region]
) -> NDArray[np.bool_]:
    """Whether goals, (goals, goal), are in the region of their task: (goals,).

    Args:
        goals: goals of any tasks.
        tasks: names of their tasks, (goals,).
        regions: held-out region by task; tasks without a region have no held-out goals.
    """
    found = np.zeros(len(goals), dtype=np.bool_)
    for task, region in regions.items():
        of_task = tasks == task
        found[of_task] = in_region(goals[of_task], region)
    return found


def usable_columns(allowed: Tensor) -> tuple[Tensor, Tensor]:
    """Replace goals of a transition that must not be used by other goals of the same transition.

    Such a goal is replaced by the goal in the next column that may be used; the last column is followed by the first.
    This changes the shares of the strategies slightly.

    Args:
        allowed: whether the goal in each column may be used, (transitions, columns).

    Returns:
        The index of the column to use instead of each column, (transitions, columns), and whether a transition has
        any goal that may be used, (transitions,).
    """
    count = allowed.shape[1]
    own = torch.arange(count, device=allowed.device)
    chosen = own.expand(len(allowed), count)
    for step in range(1, count):
        lacking = ~allowed.gather(1, chosen)
        chosen = torch.where(lacking, (own + step) % count, chosen)
    return chosen, allowed.any(1)
