"""Every agent on a CPU: the cost of an update compared with that of its network passes at GC-IQL's rate.

The unit of network passes is one forward pass of a batch through the value network of GC-IQL. The passes of an update
are counted: they are the floating-point operations of all matrix products in its forward and backward passes, divided by
those of the unit. If an agent computes little else than such products, its update takes as long as as many passes take
in an update of GC-IQL, and the ratio of the two times is about 1. Settings are the defaults of each agent.
"""

import json
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from benchmarks.gpu import make_data
from benchmarks.harness import Measurement, compare, main
from benchmarks.training import DIMENSIONS, LARGE, SMALL, Size, plan, repeated
from offline_gcrl.agents import agent_type, settings_type
from offline_gcrl.config import AgentSettings, algorithm_names
from offline_gcrl.episodes.dataset import open_episodes
from offline_gcrl.training.batches.data import DeviceData
from offline_gcrl.training.batches.sampler import BatchSampler
from offline_gcrl.training.speed import Plan
from offline_gcrl.training.updates import PlainUpdater

SIZES = (replace(SMALL, updates=16), replace(LARGE, updates=2))
"""Fewer updates in a round than for one agent, since there are many."""
REFERENCE = "gciql"
MOST = 1.3
"""Target for the time of an update, compared with its passes at GC-IQL's rate."""


def measurements(*, compile: bool = False) -> Iterator[Measurement]:
    """Every agent at both sizes, in turn with GC-IQL."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        make_data(Path(name), episodes=20, length=200)
        for size in SIZES:
            for algorithm in [REFERENCE, *(a for a in algorithm_names() if a != REFERENCE)]:
                yield cost(algorithm, size, Path(name), plan(compile=compile))


def cost(algorithm: str, size: Size, data: Path, fast: Plan, rounds: int = 3) -> Measurement:
    """The time of an update, divided by that of its passes at GC-IQL's rate in the same round."""
    names = (REFERENCE, algorithm)
    settings = [of_size(one, size) for one in names]
    batches = [make_batch(data, one, size.batch) for one in settings]
    passes = [count(*pair, size) for pair in zip(settings, batches, strict=True)]
    updaters = [make_updater(one, fast) for one in settings]
    reference, ours = (
        repeated(lambda u=updater, b=batch: u.update(b), size.updates, fast.in_force)  # type: ignore[misc]
        for updater, batch in zip(updaters, batches, strict=True)
    )
    found = compare(algorithm, reference, ours, unit="updates", names=names, rounds=rounds)
    return Measurement(
        f"{algorithm}, {size.name}: {passes[1]:.1f} passes",
        [passes[0] / passes[1] / ratio for ratio in found.values],
        at_most=None if algorithm == REFERENCE else MOST,
        detail=found.detail,
    )


def of_size(algorithm: str, size: Size) -> AgentSettings:
    """The default settings of an algorithm with hidden layers of a size."""
    content = {"algorithm": algorithm, "hidden": size.hidden}
    return settings_type(algorithm).model_validate_json(json.dumps(content))


def make_batch(data: Path, settings: AgentSettings, batch: int) -> dict[str, Tensor]:
    """The first batch of an agent."""
    sampler = BatchSampler(
        DeviceData(open_episodes(data / "parquet")),
        data / "hindsight",
        settings.batch_sampling,
        split="train",
        batch_size=batch,
        seed=0,
    )
    return {name: values[0] for name, values in sampler.batches(0, 1).items()}


def make_updater(settings: AgentSettings, fast: Plan) -> PlainUpdater:
    """An untrained agent with its optimizer."""
    torch.manual_seed(0)
    agent = agent_type(settings.algorithm)(settings, DIMENSIONS)
    optimizer = fast.adam(agent.parameter_groups())
    return PlainUpdater(agent, fast.prepared(agent.loss), optimizer)


def count(settings: AgentSettings, batch: dict[str, Tensor], size: Size) -> float:
    """The network passes of one update: products of its forward and backward passes, in units of one pass."""
    agent = make_updater(settings, plan()).agent
    with Products() as products:
        agent.loss(batch)[0].backward()  # type: ignore[no-untyped-call]
    units = [DIMENSIONS.observation + DIMENSIONS.goal, *size.hidden, 1]
    return products.operations / (2.0 * size.batch * sum(a * b for a, b in pairwise(units)))


class Products(TorchDispatchMode):
    """Counts the floating-point operations of matrix products.

    torch's ``FlopCounterMode`` does the same, but fails within ``torch.func.grad``.
    """

    def __init__(self) -> None:
        super().__init__()
        self.operations = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Run an operation and add its cost."""
        result = func(*args, **(kwargs or {}))
        if func._overloadpacket in flop_registry:
            cost = flop_registry[func._overloadpacket]
            self.operations += cost(*args, **(kwargs or {}), out_val=result)
        return result


if __name__ == "__main__":
    main(__doc__, measurements)
