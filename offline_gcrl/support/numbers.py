"""Numbers as text."""

from collections.abc import Mapping
from typing import Any


def with_interval(rate: Mapping[str, Any]) -> str:
    """A number between 0 and 1 with its interval, from ``mean``, ``low`` and ``high``: ``0.92 [0.87, 0.96]``."""
    return f"{rate['mean']:.2f} [{rate['low']:.2f}, {rate['high']:.2f}]"
