"""One file per algorithm, written like the pseudocode of its paper; a new file here is a new algorithm.

Each file contains ``Settings`` (frozen, one line per field) and ``Agent`` (its networks and pure losses).
An agent never logs, steps an optimizer, draws random numbers or moves tensors between devices: ``training`` does.
"""

import re
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor, nn

from offline_gcrl.config import AgentSettings, algorithm_names
from offline_gcrl.networks.conditioning import Dimensions
from offline_gcrl.networks.targets import TargetPair

Batch = Mapping[str, Tensor]
"""The fields that the agent's ``Sampling`` names, tensors with a leading batch axis: see
``offline_gcrl/training/batches/fields.py``.

Where tasks are weighted (``offline_gcrl.training.multitask``) there are ``weights`` too: the loss is then the sum
of weights times the loss of each transition instead of their mean.
"""
Losses = tuple[Tensor, dict[str, Tensor]]
"""The loss to descend, and detached diagnostics by ``component/name``, with the next running state, if any."""
STATE = "state/"
"""Prefix of running state among the diagnostics."""
INNER = "inner."
"""Prefix of the weights and the running state of an agent within a goal encoder."""
EVERY = "every"
"""Key of a parameter group that steps at every n-th update only; other groups step at every update."""


class Agent(Protocol):
    """What training asks of an algorithm, a ``torch.nn.Module``.

    Running state beyond weights (a queue of advantages, an annealed percentile) is a buffer of the agent. The
    loss reads it under ``torch.no_grad()`` and returns its next value as ``state/<name of the buffer>`` among the
    diagnostics; after the gradient step the buffer takes that value. Checkpoints contain it.
    """

    actor: nn.Module
    """Maps (batch, observation), (batch, goal) and task numbers (batch,) to scaled actions (batch, action), in as many
    passes as it needs; its parameters are the trained policy."""

    def __init__(self, settings: Any, dimensions: Dimensions) -> None:
        """Make the networks."""

    def loss(self, batch: Batch) -> Losses:
        """The sum of all losses of one update."""

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Parameter groups of the one Adam, each with its learning rate.

        A group with ``EVERY: n`` steps at updates n, 2n, ... only, as in delayed policy updates (TD3).
        """

    def target_pairs(self) -> list[TargetPair]:
        """Targets, their sources and the rate of the lerp by which they move at each update, towards the weights before it."""


def batch_mean(values: Tensor, batch: Batch) -> Tensor:
    """Mean of (..., batch) over the last axis, or the sum by the batch's ``weights`` where it has them."""
    if "weights" not in batch:
        return values.mean(-1)
    return (values * batch["weights"]).sum(-1)


def settings_type(algorithm: str) -> type[AgentSettings]:
    """The ``Settings`` of an algorithm by the name of its file."""
    found: type[AgentSettings] = _module(algorithm).Settings
    return found


def agent_type(algorithm: str) -> Any:
    """The ``Agent`` of an algorithm by the name of its file."""
    return _module(algorithm).Agent


def make_agent(settings: AgentSettings, dimensions: Dimensions) -> Any:
    """The agent that its settings describe, within a goal encoder of its own if they say so."""
    kind, dimensions = agent_type(settings.algorithm), dimensions.read_by(settings)
    if settings.goal_encoder != "dual":
        return kind(settings, dimensions)
    return import_module(f"{__name__}.shared.dual").DualAgent(kind, settings, dimensions)


def _module(algorithm: str) -> Any:
    assert algorithm in algorithm_names(), algorithm
    return import_module(f"{__name__}.{algorithm}")


def agent_files(algorithm: str) -> set[str]:
    """Names of the files of this folder that an algorithm is made of: its own, and those that it imports."""
    found: set[str] = set()
    waiting = [algorithm]
    while waiting:
        name = waiting.pop()
        if f"{name}.py" not in found:
            found.add(f"{name}.py")
            text = (Path(__file__).parent / f"{name}.py").read_text()
            waiting += re.findall(rf"^from {re.escape(__name__)}\.(\w+) import", text, re.MULTILINE)
    return found
