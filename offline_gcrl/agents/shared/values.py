"""Losses of values: expectile regression."""

import torch
from torch import Tensor

from offline_gcrl.agents import Batch, Losses, batch_mean
from offline_gcrl.networks.representations import RepresentationValue


def expectile_losses(difference: Tensor, expectile: float) -> Tensor:
    """|expectile - 1(difference < 0)| difference^2, of each (IQL, equation 4)."""
    return expectile_weight(difference, expectile) * difference.square()


def expectile_weight(difference: Tensor, expectile: float) -> Tensor:
    """|expectile - 1(difference < 0)|: the expectile at or above zero, one minus it below."""
    return torch.where(difference < 0.0, 1.0 - expectile, expectile)


def implicit_value_loss(
    v: Tensor, target_v: Tensor, next_target_v: Tensor, batch: Batch, expectile: float
) -> Losses:
    """Implicit V-learning of two values, without critics (HIQL, Park et al., NeurIPS 2023, as OGBench).

    Each value is regressed on r + gamma^n m V_target(s', g) of its own target network. Whether a transition
    has the weight of the expectile depends on the target networks alone: on the smaller of the two targets
    minus their mean at s.

    Args:
        v: (2, batch), the values at s.
        target_v: (2, batch), the target networks at s, detached.
        next_target_v: (2, batch), the target networks at s', detached.
        batch: with ``rewards``, ``discounts`` and ``masks``.
        expectile: of the targets that the values estimate.
    """
    target = batch["rewards"] + batch["discounts"] * batch["masks"] * next_target_v
    weight = expectile_weight(target.amin(0) - target_v.mean(0), expectile)
    loss = batch_mean(weight * (target - v).square(), batch).sum()
    return loss, {"value/loss": loss.detach(), "value/mean": v.mean().detach()}


def representation_value_loss(value: RepresentationValue, batch: Batch, expectile: float) -> Losses:
    """``implicit_value_loss`` of values on a goal representation; its gradient trains heads and representation.

    Args:
        value: the values, with their targets.
        batch: with ``observations``, ``next_observations``, ``value_goals`` and ``tasks`` too.
        expectile: of the targets that the values estimate.
    """
    observations, goals, tasks = batch["observations"], batch["value_goals"], batch["tasks"]
    representation = value.representation(observations, goals, task=tasks)
    v = value.heads(observations, representation, task=tasks)
    with torch.no_grad():
        target_v = value.target_heads(observations, representation, task=tasks)
    next_target_v = value.target(batch["next_observations"], goals, tasks)
    return implicit_value_loss(v, target_v, next_target_v, batch, expectile)
