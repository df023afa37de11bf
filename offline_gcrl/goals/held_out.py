"""Goals held out from training: a region of goal space that a recipe names, for judging zero-shot.

The sampler leaves them out of all batches, of training and of validation. States within the region stay in
the data: what is held out is being asked to go there, not having been there.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from offline_gcrl.config import Region
from offline_gcrl.support.errors import DataError


def in_region(goals: NDArray[Any], region: Region) -> NDArray[np.bool_]:
    """Whether goals, (..., goal), lie in a region; numbers beyond the region's are padding."""
    own = goals[..., : len(region.low)].astype(np.float32)
    low, high = (np.array(bound, dtype=np.float32) for bound in (region.low, region.high))
    return np.asarray(((own >= low) & (own <= high)).all(-1))


def held_out_goals(
    goals: NDArray[np.float32], tasks: NDArray[Any], regions: Mapping[str, Region]
) -> NDArray[np.bool_]:
    """Which goals, (goals, goal), lie in the region of their own task, given as (goals,) names."""
    found = np.zeros(len(goals), dtype=np.bool_)
    for task, region in regions.items():
        of_task = tasks == task
        found[of_task] = in_region(goals[of_task], region)
    return found


def without_held_out(columns: Tensor, held_out: Tensor) -> tuple[Tensor, Tensor]:
    """Which of a transition's goals to draw in place of each of them, and which transitions have any.

    A goal that is held out gives its place to the transition's next one that is not, in the order of the
    columns, the first following the last; so the shares of strategies move a little.

    Args:
        columns: (transitions, columns), rows of goals.
        held_out: (goals,), by row.

    Returns:
        Numbers of columns, (transitions, columns), and which transitions are usable, (transitions,).

    Raises:
        DataError: none is.
    """
    allowed, count = ~held_out[columns.long()], columns.shape[1]
    own = torch.arange(count, device=columns.device)
    chosen = own.expand(len(columns), count)
    for step in range(1, count):
        lacking = ~allowed.gather(1, chosen)
        chosen = torch.where(lacking, (own + step) % count, chosen)
    usable = allowed.any(1)
    if not usable.any():
        raise DataError(
            "no transition has a goal outside of the region that is held out; name a smaller one in "
            "held_out of the recipe, or more strategies in the agent's mixture of goals"
        )
    return chosen, usable
