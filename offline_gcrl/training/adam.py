"""Adam on a CPU, without the work in Python that torch does for each parameter at every step."""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor


class Lists(NamedTuple):
    """The tensors of one parameter group, as torch's fused kernel takes them."""

    options: dict[str, Any]
    """The parameter group, with its learning rate."""
    parameters: list[Tensor]
    means: list[Tensor]
    squares: list[Tensor]
    counts: list[Tensor]
    """The number of steps of each parameter: views of the elements of ``all_counts``."""
    all_counts: Tensor


class FusedAdam(torch.optim.Adam):
    """torch's fused Adam with the same results, bit for bit.

    torch collects the tensors of its kernel again at every step. With small networks that takes about as long as the
    kernel. Here they are collected once, after the first step.
    """

    _lists: tuple[Lists, ...] = ()

    def __init__(self, groups: Iterable[dict[str, Any]]) -> None:
        super().__init__(groups, fused=True)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drop the gradients of all parameters, or set them to zero."""
        if not set_to_none:
            super().zero_grad(set_to_none)
            return
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.grad = None

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One step of the parameters that have gradients."""
        gradients = [[p.grad for p in lists.parameters] for lists in self._collected()]
        if closure or not gradients or any(map(_is_mixed, gradients)):
            loss: float | None = super().step(closure)
            return loss
        for lists, own in zip(self._lists, gradients, strict=True):
            if own[0] is not None:
                _step(lists, own)
        return None

    def _collected(self) -> tuple[Lists, ...]:
        """The lists of all groups; none before each parameter has its state, which torch creates at its first step."""
        if not self._are_current():
            parameters = [p for group in self.param_groups for p in group["params"]]
            complete = all(self.state.get(parameter) for parameter in parameters)
            self._lists = tuple(map(self._of_group, self.param_groups)) if complete else ()
        return self._lists

    def _are_current(self) -> bool:
        """Whether the lists have the tensors of the state, which loading and stacked training replace."""
        return len(self._lists) == len(self.param_groups) and all(
            lists.options is group
            and lists.means[0] is self.state[lists.parameters[0]].get("exp_avg")
            for lists, group in zip(self._lists, self.param_groups, strict=True)
        )

    def _of_group(self, group: dict[str, Any]) -> Lists:
        states = [self.state[parameter] for parameter in group["params"]]
        all_counts = torch.stack([state["step"] for state in states])
        for state, count in zip(states, all_counts.unbind(), strict=True):
            state["step"] = count
        means, squares, counts = (
            [state[name] for state in states] for name in ("exp_avg", "exp_avg_sq", "step")
        )
        return Lists(group, group["params"], means, squares, counts, all_counts)


def _is_mixed(gradients: list[Tensor | None]) -> bool:
    """Whether some parameters of a group have gradients, and others have none."""
    return len({gradient is None for gradient in gradients}) > 1


def _step(lists: Lists, gradients: list[Any]) -> None:
    options = lists.options
    lists.all_counts.add_(1)
    torch._fused_adam_(
        lists.parameters,
        gradients,
        lists.means,
        lists.squares,
        [],
        lists.counts,
        lr=options["lr"],
        beta1=options["betas"][0],
        beta2=options["betas"][1],
        weight_decay=options["weight_decay"],
        eps=options["eps"],
        amsgrad=False,
        maximize=False,
    )
