"""Plain values from those of NumPy, which settings are checked as."""

from collections.abc import Mapping
from typing import Any

import numpy as np


def plain(value: Any) -> Any:
    """A value with numbers of NumPy as numbers, and arrays, ranges and tuples as lists, also within mappings and lists."""
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, list | tuple | range):
        return [plain(item) for item in value]
    return value.item() if isinstance(value, np.generic) else value
