"""The value of an agent as a number of steps to the goal, where its definition allows that."""

import numpy as np
from numpy.typing import NDArray

from offline_gcrl.config import ValueMeaning

UNITS: dict[ValueMeaning, str] = {
    "steps": "minus the number of steps",
    "discounted_cost": "discounted sum of rewards",
    "discounted_success": "discounted sum of rewards",
    "discounted_probability": "discounted probability of success",
    "log_ratio": "log ratio of likelihoods",
    "other": "unit of the agent",
}
"""What a value is measured in, for the labels of figures."""
WITHOUT_STEPS: dict[ValueMeaning, str] = {
    "log_ratio": "its value is the logarithm of a ratio of likelihoods, which orders the states by how near a goal is "
    "and does not say how many steps away it is",
    "other": "its value has no known relation to a number of steps",
}
"""Why a value is no number of steps."""
MARGIN = 1e-3
"""Distance of values to their bounds, so that the number of steps is finite."""


def as_steps(
    values: NDArray[np.float32], meaning: ValueMeaning, discount: float
) -> NDArray[np.float32]:
    """The number of steps to the goal that values mean, of any shape; not negative.

    A discounted sum is (1 - gamma^d) / (gamma - 1) for rewards of -1 until the goal, which is d steps away, and
    gamma^d / (1 - gamma) for rewards of 1 from then on. A discounted probability is gamma^d. Each is solved for d, as in
    test-time graph search (arXiv 2510.07257), after values were clipped ``MARGIN`` within their bounds.

    Args:
        values: what ``state_value`` of the agent returns.
        meaning: one that is not in ``WITHOUT_STEPS``.
        discount: gamma of the agent.
    """
    if meaning == "steps":
        return np.maximum(-values, np.float32(0.0))
    scale = 1.0 if meaning == "discounted_probability" else 1.0 - discount
    scaled = scale * values.astype(np.float64)
    reached = 1.0 + scaled if meaning == "discounted_cost" else scaled
    margin = scale * MARGIN
    reached = reached.clip(margin, 1.0 - margin)
    steps: NDArray[np.float32] = (np.log(reached) / np.log(discount)).astype(np.float32)
    return steps
