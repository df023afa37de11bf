"""Losses of actors: advantage-weighted regression, and DDPG with behaviour cloning."""

from collections.abc import Callable

from torch import Tensor

from offline_gcrl.agents import Batch, Losses, batch_mean

LARGEST_WEIGHT = 100.0
"""Largest weight of an action in advantage-weighted regression (IQL, OGBench)."""


def awr_loss(
    actions: Tensor,
    target: Tensor,
    advantage: Tensor,
    alpha: float,
    batch: Batch,
    *,
    max_weight: float = LARGEST_WEIGHT,
    name: str = "actor",
) -> Losses:
    """Advantage-weighted regression: min(exp(alpha A), max) on the log-likelihood (IQL, equation 7).

    The policy is a Gaussian with unit standard deviation; its normalising constant is left out.

    Args:
        actions: (batch, n), the means of the policy.
        target: (batch, n), what it is regressed on.
        advantage: (batch,), detached.
        alpha: inverse temperature.
        batch: for the weights of its transitions.
        max_weight: largest weight.
        name: component of the diagnostics.
    """
    weight = (alpha * advantage).exp().clamp(max=max_weight)
    squared_error = (actions - target).square().sum(-1)
    loss = batch_mean(weight * 0.5 * squared_error, batch)
    return loss, {
        f"{name}/loss": loss.detach(),
        f"{name}/advantage": advantage.mean(),
        f"{name}/weight_mean": weight.mean(),
        f"{name}/mse": batch_mean(squared_error, batch).detach(),
    }


def ddpg_bc_loss(
    actions: Tensor, q_of: Callable[[Tensor], Tensor], alpha: float, batch: Batch
) -> Losses:
    """-Q(s, pi(s, g), g) / mean|Q| and alpha times the BC loss (Fujimoto and Gu 2021, as OGBench).

    Args:
        actions: (batch, action), the means of the policy; Q reads them clipped to [-1, 1].
        q_of: the critic with frozen weights at the batch's states and goals, (batch, action) to (batch,).
        alpha: weight of the negative log-likelihood of the data's actions.
        batch: with ``actions``.
    """
    q = q_of(actions.clamp(-1.0, 1.0))
    squared_error = (actions - batch["actions"]).square().sum(-1)
    # One scale for the batch, whatever its weights: the loss is then a sum over transitions.
    q_loss = -batch_mean(q, batch) / (q.abs().mean().detach() + 1e-6)
    loss = q_loss + alpha * 0.5 * batch_mean(squared_error, batch)
    return loss, {
        "actor/loss": loss.detach(),
        "actor/q_mean": q.detach().mean(),
        "actor/mse": batch_mean(squared_error, batch).detach(),
    }
