"""Checks of the observations and goals that a policy is given: numbers of any type, finite, and of the right sizes."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from offline_gcrl.support.errors import PolicyError


def checked_input(given: Any, name: str, size: int) -> NDArray[np.float32]:
    """An observation or a goal, or a batch of them, as float32.

    Args:
        given: an array, a list or a tensor of numbers of any type, (size,) or (batch, size).
        name: ``observation`` or ``goal``, for errors.
        size: the size that the policy was trained with.

    Raises:
        PolicyError: these are not numbers, they are not finite, or the size is another one.
    """
    array = _as_array(given, name)
    if array.ndim not in (1, 2) or array.shape[-1] != size:
        raise PolicyError(
            f"the policy takes {name}s of shape ({size},) or (batch, {size}), not {array.shape}"
        )
    with np.errstate(over="ignore"):  # Infinite where too large for float32, which is refused.
        values = array.astype(np.float32, copy=False)
    finite = np.isfinite(values)
    if not finite.all():
        place = tuple(int(axis) for axis in np.argwhere(~finite)[0])
        where = ", ".join(map(str, place))
        raise PolicyError(
            f"the {name} is not finite at [{where}]: {array[place]}; check where it comes from"
        )
    return values


def _as_array(given: Any, name: str) -> NDArray[Any]:
    if isinstance(given, Mapping):
        raise PolicyError(
            f"the {name} is a dict with the keys {', '.join(map(str, given))}; pass the array of one of them, such as "
            f"observation['{'observation' if name == 'observation' else 'desired_goal'}']"
        )
    try:
        array = np.asarray(given)
    except (TypeError, ValueError, RuntimeError) as error:
        # Rows of different lengths, or a tensor on a GPU or with gradients.
        raise PolicyError(f"the {name} is not an array of numbers: {error}") from None
    if array.dtype.kind not in "biuf":
        raise PolicyError(f"the {name} has values of type {array.dtype}, expected numbers")
    return array


def common_batch(
    first: NDArray[np.float32], second: NDArray[np.float32], *names: str
) -> tuple[int, ...]:
    """The shape of the batches of two arrays together: () or (batch,).

    Args:
        first: (size,) or (batch, size).
        second: the same for another size.
        names: of both, for errors.

    Raises:
        PolicyError: the sizes of the batches differ, and neither is one.
    """
    try:
        return np.broadcast_shapes(first.shape[:-1], second.shape[:-1])
    except ValueError:
        raise PolicyError(
            f"{len(first)} {names[0]} do not go with {len(second)} {names[1]}"
        ) from None
