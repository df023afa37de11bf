"""Selection of parts of an observation, for recorded episodes and live steps alike.

An observation and its infos form a tree. A dict observation contributes its own keys; any other observation has the key
``observation``. Infos have the key ``infos``.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from offline_gcrl.config import Goal, Part, Recipe, Selection, nearest
from offline_gcrl.support.errors import DataError

OBSERVATION, INFOS = "observation", "infos"


def as_tree(observation: Any, infos: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """An observation and its infos as one tree of arrays.

    Raises:
        DataError: the observation has a key ``infos`` itself, which the infos would replace.
    """
    keys = dict(observation) if isinstance(observation, Mapping) else {OBSERVATION: observation}
    if INFOS in keys:
        raise DataError(
            f"the observation has a key '{INFOS}', under which recipes find the infos of the environment; rename the key"
        )
    return {**keys, INFOS: dict(infos or {})}


def select(tree: Mapping[str, Any], selection: Selection, rows: int | None = None) -> NDArray[Any]:
    """The selected numbers, concatenated.

    Args:
        tree: result of ``as_tree``; its arrays contain one step, or ``rows`` steps.
        selection: parts to select.
        rows: number of steps; None for a single step.

    Returns:
        (size,) for a single step, otherwise (rows, size).

    Raises:
        DataError: the tree has no such key or column; the message names the nearest key.
    """
    if rows is None and len(selection) == 1 and selection[0].columns is None:
        array = tree.get(selection[0].key or "")
        if isinstance(array, np.ndarray) and array.ndim == 1:
            return array  # A fast path, as most environments select one complete array per step.
    parts = [array for part in selection for array in _arrays(tree, part, rows)]
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=-1)


def select_live(tree: Mapping[str, Any], selection: Selection) -> NDArray[Any]:
    """A copy of the selected numbers of a live step, (size,), because an environment may change its arrays in later steps.

    Whole numbers become float32, as in ingested data: differences of small types such as uint8 would wrap around.
    """
    values = select(tree, selection)
    return values.astype(np.float32) if values.dtype.kind in "biu" else values.copy()


def batch_size(tree: Mapping[str, Any], selection: Selection) -> int | None:
    """The number of steps of a batch: the common length of the selected arrays, one of which has two axes or more.

    Returns:
        None for a single step. Arrays of a single step can have two axes, too, and then the number says nothing.
    """
    shapes = [
        np.shape(values)
        for part in selection
        if part.key
        for _, values in _leaves(content_at(tree, part.key), part.key)
    ]
    lengths = {shape[0] if shape else 0 for shape in shapes}
    has_rows = any(len(shape) > 1 for shape in shapes)
    return lengths.pop() if has_rows and len(lengths) == 1 else None


def _arrays(tree: Mapping[str, Any], part: Part, rows: int | None) -> list[NDArray[Any]]:
    if part.constant is not None:
        constant = np.array(part.constant, dtype=np.float32)
        return [constant if rows is None else np.tile(constant, (rows, 1))]
    assert part.key is not None
    leaves = _leaves(content_at(tree, part.key), part.key)
    arrays = [_flat(values, key, rows) for key, values in leaves]
    if part.columns is None:
        return arrays
    values = np.concatenate(arrays, axis=-1)
    if max(part.columns) >= values.shape[-1]:
        raise DataError(
            f"no column {max(part.columns)} in '{part.key}', which has {values.shape[-1]} columns"
        )
    return [values[..., list(part.columns)]]


def content_at(tree: Mapping[str, Any], key: str) -> Any:
    """The content of a tree at a dotted key; a key of the data may contain dots itself.

    Raises:
        DataError: the tree has no such key, or several; the message names the nearest key.
    """
    found = list(_all_at(tree, key))
    if not found:
        raise DataError(f"no observation key '{key}'; {nearest(key, _keys(tree))}")
    if len(found) > 1:
        raise DataError(
            f"'{key}' is the name of {len(found)} observation keys, one of which contains a dot; rename that one"
        )
    return found[0]


def has_key(tree: Mapping[str, Any], key: str) -> bool:
    """Whether a tree has content at a dotted key."""
    return any(True for _ in _all_at(tree, key))


def _all_at(place: Any, key: str) -> Iterator[Any]:
    """All parts of a tree whose dotted key is ``key``."""
    for name, value in place.items() if isinstance(place, Mapping) else ():
        if name == key:
            yield value
        elif key.startswith(f"{name}."):
            yield from _all_at(value, key[len(name) + 1 :])


def _keys(tree: Mapping[str, Any], prefix: str = "") -> list[str]:
    """All dotted keys of the arrays of a tree."""
    keys = []
    for name, value in tree.items():
        if isinstance(value, Mapping):
            keys += _keys(value, f"{prefix}{name}.")
        else:
            keys.append(f"{prefix}{name}")
    return keys


def _leaves(place: Any, key: str) -> list[tuple[str, Any]]:
    """Arrays at and below a key, sorted by name, so that the order does not depend on the writer of the data."""
    if isinstance(place, Mapping):
        return [leaf for name in sorted(place) for leaf in _leaves(place[name], f"{key}.{name}")]
    return [(key, place)]


def _flat(values: Any, key: str, rows: int | None) -> NDArray[Any]:
    try:
        array = np.asarray(values)
    except ValueError:  # Several arrays of different lengths.
        raise DataError(f"'{key}' is not an array of numbers") from None
    if rows is None:
        return array.reshape(-1)
    if array.ndim == 0 or len(array) != rows:
        found = f"{len(array)} rows" if array.ndim else "no rows"
        raise DataError(f"'{key}' has {found}, expected {rows}, one more than there are actions")
    if array.dtype.kind not in "biuf":
        raise DataError(f"'{key}' has values of type {array.dtype}, expected numbers")
    return array.reshape(rows, math.prod(array.shape[1:]))


def evaluated_goal(recipe: Recipe) -> Goal:
    """The goal spec for the evaluation environment."""
    desired = recipe.evaluation.desired if recipe.evaluation else None
    return recipe.goal.model_copy(update={"desired": desired}) if desired else recipe.goal
