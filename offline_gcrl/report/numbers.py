"""Numbers of the report as text, with the same digits in the page, in tables and in sentences."""

from collections.abc import Mapping
from typing import Any

from offline_gcrl.statistics.intervals import Estimate


def estimate(values: Mapping[str, Any]) -> Estimate | None:
    """A metric as an estimate, with the value as its bounds if it is of one episode; None if no episode has a value."""
    mean, low, high = (values[part] for part in ("mean", "low", "high"))
    if mean is None:
        return None
    return Estimate(mean, mean, mean) if low is None else Estimate(mean, low, high)


def complete_estimate(values: Mapping[str, Any]) -> Estimate:
    """A metric that every episode has, such as success, as an estimate."""
    found = estimate(values)
    assert found is not None
    return found


def shown(values: Mapping[str, Any]) -> Estimate | str | None:
    """A metric with its interval, without one if only one episode has a value; None if no episode has one."""
    found = estimate(values)
    return found if found is None or values["low"] is not None else number(found.mean)


def interval(found: Estimate) -> str:
    """An estimate with its interval, such as ``0.92 [0.87, 0.96]``; one decimal digit if it is 10 or more."""
    digits = _digits(found.mean)
    parts = (found.mean, found.low, found.high)
    mean, low, high = (_rounded(part, digits) for part in parts)
    return f"{mean} [{low}, {high}]"


def number(mean: float) -> str:
    """A number without an interval, with the digits that it has in front of one."""
    return _rounded(mean, _digits(mean))


def _digits(mean: float) -> int:
    return 1 if abs(mean) >= 10 else 2


def _rounded(value: float, digits: int) -> str:
    # Adding 0.0 turns -0.0 into 0.0, so that no text reads -0.00.
    return f"{round(value, digits) + 0.0:.{digits}f}".replace("-", "\N{MINUS SIGN}")


def rank_text(rank: int, low: int, high: int) -> str:
    """A rank, with its interval if that contains other ranks: ``2`` or ``2 (1 to 3)``."""
    return str(rank) if low == high else f"{rank} ({low} to {high})"
