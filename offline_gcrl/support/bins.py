"""Bins of histograms of whole numbers."""

import numpy as np
from numpy.typing import NDArray


def whole_number_edges(low: int, high: int, most: int) -> NDArray[np.float64]:
    """Edges of at most ``most`` bins that all contain equally many whole numbers from ``low`` to ``high``.

    Edges are halfway between whole numbers. Bins of any other width would contain different numbers of them, which
    makes a flat distribution look like a comb. The last bin may end after ``high``.
    """
    width = -(-(high - low + 1) // most)
    bins = -(-(high - low + 1) // width)
    return low - 0.5 + width * np.arange(bins + 1, dtype=np.float64)
