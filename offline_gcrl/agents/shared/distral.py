"""Distral's offline form (Teh et al., NeurIPS 2017): a policy per task near a shared policy, which is distilled from them.

With ``task_network: distral`` the mean action of task i is mu_0 + delta_i, with a shared column mu_0 and one column
per task. For Gaussians with unit deviation KL(pi_i || pi_0) = |mu_i - mu_0|^2 / 2.
"""

from typing import Any

from torch import Tensor

from offline_gcrl.agents import Batch, Losses, batch_mean


def with_distillation(agent: Any, batch: Batch, losses: Losses) -> Losses:
    """Add c_KL KL(pi_i || pi_0), which changes task columns, and KL(pi_i || pi_0), which changes the shared column.

    Without the second term, what all tasks have in common could be in their columns and not in the shared policy.

    Args:
        agent: with ``settings``, and an ``Actor``.
        batch: of the update.
        losses: of the agent, without these terms; the result if its networks have no columns.
    """
    if agent.settings.task_network != "distral":
        return losses
    own, shared = agent.actor.task_and_shared(
        batch["observations"], batch["actor_goals"], batch["tasks"]
    )

    def divergence(first: Tensor, second: Tensor) -> Tensor:
        return 0.5 * batch_mean((first - second).square().sum(-1), batch)

    loss, info = losses
    near = divergence(own, shared.detach())
    distillation = divergence(shared, own.detach())
    loss = loss + agent.settings.distral_weight * near + distillation
    return loss, info | {"actor/shared_divergence": near.detach()}
