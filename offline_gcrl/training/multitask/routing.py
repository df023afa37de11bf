"""The routing weights of a modular policy for each task, measured after training."""

from functools import partial

import polars as pl
import torch
from torch import Tensor, nn

from offline_gcrl.config.outputs import ROUTING_COLUMNS
from offline_gcrl.networks.modules import SoftModules
from offline_gcrl.training.batches.sampler import BatchSampler

BATCHES = 4
"""Batches, with as many states of each task, whose mean weights are recorded."""


def routing_table(
    actor: nn.Module, sampler: BatchSampler, names: tuple[str, ...], step: int
) -> pl.DataFrame | None:
    """Mean routing weights of a policy over the states and goals of each task; None if it has no modules.

    Args:
        actor: the policy.
        sampler: of training batches.
        names: names of the tasks, in the order of their numbers.
        step: number of a batch that training does not use.

    Returns:
        One row per weight, with the columns ``ROUTING_COLUMNS``. Layers and modules are counted from 1. The destination of
        the last layer is the output.
    """
    if not any(isinstance(module, SoftModules) for module in actor.modules()):
        return None
    shares = torch.full((len(names),), 1.0 / len(names), device=sampler.data.target)
    batches = sampler.probes(step, BATCHES, shares)
    state, goal, task = (
        batches[name].flatten(0, 1) for name in ("observations", "actor_goals", "tasks")
    )
    rows = [
        {"network": network, "task": name, "layer": layer + 1, "destination": j + 1, "source": i + 1, "weight": weight}
        for network, layers in _weights(actor, state, goal, task).items()
        for number, name in enumerate(names)
        if (task == number).any()
        for layer, weights in enumerate(layers)
        for j, row in enumerate(weights[task == number].double().mean(0).tolist())
        for i, weight in enumerate(row)
    ]  # fmt: skip
    return pl.DataFrame(rows, ROUTING_COLUMNS)


def _weights(
    actor: nn.Module, state: Tensor, goal: Tensor, task: Tensor
) -> dict[str, list[Tensor]]:
    """The routing weights of each modular network in a forward pass, by layer: (batch, destinations, sources)."""
    found: dict[str, list[Tensor]] = {}

    def record(name: str, module: nn.Module, inputs: tuple[Tensor, ...], _: Tensor) -> None:
        assert isinstance(module, SoftModules)
        found[name] = module.routing(*inputs)

    modular = {name: part for name, part in actor.named_modules() if isinstance(part, SoftModules)}
    hooks = [
        module.register_forward_hook(partial(record, network_name(path)))
        for path, module in modular.items()
    ]
    with torch.no_grad():
        actor(state, goal, task)
    for hook in hooks:
        hook.remove()
    return found


def network_name(path: str) -> str:
    """Name of a network by its path in the policy: ``actor`` if it is the only one, else for example ``high``."""
    first = path.split(".")[0]
    return "actor" if first == "network" else first
