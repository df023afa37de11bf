"""Numbers as text."""

from collections.abc import Mapping
from typing import Any


def with_interval(rate: Mapping[str, Any]) -> str:
    """A number between 0 and 1 with its interval, from ``mean``, ``low`` and ``high``: ``0.92 [0.87, 0.96]``."""
    return f"{rate['mean']:.2f} [{rate['low']:.2f}, {rate['high']:.2f}]"


def duration(seconds: float) -> str:
    """A duration as text, such as 48 s, 12 min or 2 h 5 min."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"
