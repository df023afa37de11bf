"""Training on a CPU: updates of GC-IQL compared with the same in JAX and in eager torch, and Lightning's share.

The baseline is a usual program: modules, one Adam over all networks, and eager torch with its default settings. It
computes the same losses on the same batches, with the approximation of GELU that OGBench uses (tanh). One row is for the
exact GELU, the default of nn.GELU, which is faster in eager torch. The JAX program is `benchmarks.jax_gciql`.
"""

import copy
import json
import multiprocessing
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from itertools import pairwise
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.harness import Measurement, compare, cpu_seconds, main
from offline_gcrl.agents import agent_type, settings_type
from offline_gcrl.config import AgentSettings, Train
from offline_gcrl.networks.conditioning import Dimensions
from offline_gcrl.training.speed import Plan, plan_for
from offline_gcrl.training.stacked import StackedUpdater
from offline_gcrl.training.updates import PlainUpdater

DIMENSIONS = Dimensions(observation=28, goal=28, action=5)


@dataclass(frozen=True)
class Size:
    """Size of networks and batches."""

    name: str
    batch: int
    hidden: list[int]
    updates: int
    """Number of updates in one round of a benchmark."""

    @property
    def products(self) -> float:
        """Floating-point operations of the matrix products in one update.

        There are forward passes through V (two), both critics (two), their targets (one) and the actor (one). A backward
        pass costs twice a forward pass, and half of that through the frozen critics, which only pass on a gradient.
        """
        state, goal, action = DIMENSIONS.observation, DIMENSIONS.goal, DIMENSIONS.action
        v, q, pi = ((state + goal, 1), (state + goal + action, 1), (state + goal, action))

        def forward(ends: tuple[int, int]) -> float:
            units = [ends[0], *self.hidden, ends[1]]
            return 2.0 * self.batch * sum(a * b for a, b in pairwise(units))

        return 4 * forward(v) + 12 * forward(q) + 3 * forward(pi)


LARGE = Size("batch 1024, 3x512", 1024, [512, 512, 512], 5)
SMALL = Size("batch 256, 2x256", 256, [256, 256], 50)


# ------------------------------------------------------------------------------------------ the baseline


class PlainGCIQL:
    """GC-IQL with DDPG+BC in plain torch."""

    def __init__(self, size: Size, gelu: str) -> None:
        def network(inputs: int, outputs: int, norm: bool) -> nn.Sequential:
            layers: list[nn.Module] = []
            for units in size.hidden:
                layers += [nn.Linear(inputs, units), nn.GELU(approximate=gelu)]
                layers += [nn.LayerNorm(units)] if norm else []
                inputs = units
            return nn.Sequential(*layers, nn.Linear(inputs, outputs))

        state = DIMENSIONS.observation + DIMENSIONS.goal
        self.value = network(state, 1, True)
        self.critics = nn.ModuleList(network(state + DIMENSIONS.action, 1, True) for _ in range(2))
        self.targets = copy.deepcopy(self.critics)
        self.actor = network(state, DIMENSIONS.action, False)
        learned = [self.value, self.critics, self.actor]
        self.optimizer = torch.optim.Adam([p for n in learned for p in n.parameters()], lr=3e-4)

    def q(self, critics: nn.ModuleList, *inputs: Tensor) -> Tensor:
        """Both critics: (2, batch)."""
        return torch.stack([critic(torch.cat(inputs, -1)).squeeze(-1) for critic in critics])

    def v(self, state: Tensor, goal: Tensor) -> Tensor:
        """The value: (batch,)."""
        value: Tensor = self.value(torch.cat([state, goal], -1)).squeeze(-1)
        return value

    def update(self, batch: dict[str, Tensor]) -> None:
        """One step of all networks, then of the targets."""
        s, a, g = batch["observations"], batch["actions"], batch["value_goals"]
        with torch.no_grad():
            target_q = self.q(self.targets, s, a, g).min(0).values
            next_v = self.v(batch["next_observations"], g)
            target = batch["rewards"] + batch["discounts"] * batch["masks"] * next_v
        difference = target_q - self.v(s, g)
        value_loss = (torch.where(difference < 0, 0.1, 0.9) * difference**2).mean()
        critic_loss = ((self.q(self.critics, s, a, g) - target) ** 2).mean(1).sum()
        goal = batch["actor_goals"]
        action = self.actor(torch.cat([s, goal], -1))
        self.critics.requires_grad_(False)
        q = self.q(self.critics, s, action.clamp(-1, 1), goal).min(0).values
        self.critics.requires_grad_(True)
        imitation = ((action - a) ** 2).sum(-1).mean()
        actor_loss = -q.mean() / q.abs().mean().detach() + 0.15 * imitation
        self.optimizer.zero_grad()
        (value_loss + critic_loss + actor_loss).backward()
        self.optimizer.step()
        with torch.no_grad():
            for slow, quick in zip(
                self.targets.parameters(), self.critics.parameters(), strict=True
            ):
                slow.lerp_(quick, 0.005)
        self.info = [value_loss.detach(), critic_loss.detach(), actor_loss.detach()]


# -------------------------------------------------------------------------------------- the measurements


def measurements() -> Iterator[Measurement]:
    """Updates by size and fast path, stacked seeds, and Lightning's share."""
    torch.set_num_threads(1)
    for size, target in ((LARGE, 2.0), (SMALL, 1.6)):
        yield from compared_with_jax(size)
        rate = matmul_rate(size)
        floor = (
            f"products alone: {rate / size.products:,.3g} updates/CPU-s ({rate / 1e9:.0f} GFLOP/s)"
        )
        of_size = partial(compared_with_plain, size)
        yield of_size("compiled", plan(compile=True), at_least=target, floor=floor)
        yield of_size(
            "compiled, compared with exact GELU", plan(compile=True), gelu="none", floor=floor
        )
        yield of_size("not compiled (short runs)", plan(), floor=floor)
        wanted = 3.3 if size is LARGE else None
        yield of_size("compiled, bf16", plan(compile=True, precision="bf16"), at_least=wanted)
    yield stacked_seeds()
    yield lightning_share()


def plan(*, compile: bool = False, precision: str = "fp32") -> Plan:
    """The fast paths to measure: those that training takes on this processor."""
    settings = _settings(LARGE)
    train = Train(updates=1, snapshots=1, accelerator="cpu", compile=compile, precision=precision)  # type: ignore[arg-type]
    return plan_for(train, settings)


def compared_with_plain(
    size: Size,
    title: str,
    plan: Plan,
    *,
    gelu: str = "tanh",
    at_least: float | None = None,
    floor: str = "",
) -> Measurement:
    """Updates of the package's agent, compared with those of the baseline."""
    batch = make_batch(size)
    plain, ours = PlainGCIQL(size, gelu), make_updater(size, plan)
    return compare(
        f"GC-IQL, {size.name}: {title}",
        repeated(lambda: plain.update(batch), size.updates),
        repeated(lambda: ours.update(batch), size.updates, plan.in_force),
        unit="updates",
        names=("eager torch", "ours"),
        at_least=at_least,
        floor=floor,
    )


def compared_with_jax(size: Size) -> Iterator[Measurement]:
    """Updates of the package's agent, compared with those of a JAX program, in float32 and bfloat16."""
    targets = {"fp32": 1.6, "bf16": 3.3} if size is LARGE else {"fp32": 1.3, "bf16": 1.8}
    names = {precision: f"GC-IQL, {size.name}: compiled, {precision}, compared with JAX" for precision in targets}  # fmt: skip
    if find_spec("flax") is None:
        for precision, target in targets.items():
            yield Measurement(names[precision], [], at_least=target, skipped="flax not installed")
        return
    batch = make_batch(size)
    with process_of_jax(size) as in_jax:
        for precision, target in targets.items():
            paths = plan(compile=True, precision=precision)
            ours = make_updater(size, paths)
            yield compare(
                names[precision],
                in_jax,
                repeated(lambda ours=ours: ours.update(batch), size.updates, paths.in_force),  # type: ignore[misc]
                unit="updates",
                names=("JAX", "ours"),
                at_least=target,
            )


@contextmanager
def process_of_jax(size: Size) -> Iterator[Callable[[], float]]:
    """A function for the harness that runs updates of the JAX program in a process of its own.

    In a process in which JAX has run, updates of this package take about 4% longer.
    """
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=serve_jax, args=(there, size), daemon=True)
    process.start()

    def in_jax() -> float:
        here.send(size.updates)
        done: float = here.recv()
        return done

    try:
        yield in_jax
    finally:
        here.close()
        process.join()


def serve_jax(connection: Connection, size: Size) -> None:
    """Run as many updates of the JAX program as are asked for, until the other end is closed."""
    from benchmarks.jax_gciql import JaxGCIQL

    program = JaxGCIQL(size.hidden, DIMENSIONS.observation, DIMENSIONS.goal, DIMENSIONS.action)
    batch = program.on_device({name: v.numpy() for name, v in make_batch(size).items()})
    with suppress(EOFError):
        while True:
            for _ in range(count := connection.recv()):
                program.update(batch)
            program.wait()
            connection.send(float(count))


def stacked_seeds(seeds: int = 4) -> Measurement:
    """Seeds in one batched update, compared with one seed after another, with small networks as in params.yaml."""
    size = Size("batch 256, 2x128", 256, [128, 128], 100)
    batch = make_batch(size)
    alone = [make_updater(size, plan(), seed) for seed in range(seeds)]
    agents = [make_updater(size, plan(), seed) for seed in range(seeds)]
    together = StackedUpdater([one.agent for one in agents], [one.optimizer for one in agents])
    stacked = {name: torch.stack([value] * seeds) for name, value in batch.items()}

    def one_by_one() -> None:
        for updater in alone:
            updater.update(batch)

    return compare(
        f"{seeds} seeds stacked in one update, GC-IQL, {size.name}, on one core",
        repeated(one_by_one, size.updates, seeds=seeds),
        repeated(lambda: together.update(stacked), size.updates, seeds=seeds),
        unit="updates of a seed",
        names=("one by one", "stacked"),
    )


def repeated(
    update: Callable[[], Any],
    count: int,
    force: Callable[[], AbstractContextManager[None]] = nullcontext,
    seeds: int = 1,
) -> Callable[[], float]:
    """A function for the harness that runs a number of updates."""

    def work() -> float:
        with force():
            for _ in range(count):
                update()
        return float(count * seeds)

    return work


def make_updater(size: Size, plan: Plan, seed: int = 0) -> PlainUpdater:
    """The package's agent with the settings of OGBench."""
    torch.manual_seed(seed)
    agent = agent_type("gciql")(_settings(size), DIMENSIONS)
    optimizer = plan.adam(agent.parameter_groups())
    return PlainUpdater(agent, plan.prepared(agent.loss), optimizer)


def _settings(size: Size) -> AgentSettings:
    content = {"algorithm": "gciql", "hidden": size.hidden}
    return settings_type("gciql").model_validate_json(json.dumps(content))


def make_batch(size: Size) -> dict[str, Tensor]:
    """A batch of normally distributed numbers."""
    random = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(size.batch, *shape, generator=random)

    return {
        "observations": normal(DIMENSIONS.observation),
        "next_observations": normal(DIMENSIONS.observation),
        "value_goals": normal(DIMENSIONS.goal),
        "actor_goals": normal(DIMENSIONS.goal),
        "actions": normal(DIMENSIONS.action).clamp(-1, 1),
        "tasks": torch.zeros(size.batch, dtype=torch.int64),
        "rewards": -torch.rand(size.batch, generator=random),
        "masks": torch.ones(size.batch),
        "discounts": torch.full((size.batch,), 0.99),
    }


def matmul_rate(size: Size, seconds: float = 1.0) -> float:
    """Floating-point operations per CPU-second of the matrix product of a hidden layer, with the planned library."""
    width = size.hidden[0]
    left, right = torch.randn(size.batch, width), torch.randn(width, width)
    with plan().in_force():
        for _ in range(5):
            left @ right
        before, done = cpu_seconds(), 0
        while cpu_seconds() - before < seconds:
            for _ in range(20):
                left @ right
            done += 20
    return done * 2.0 * size.batch * width**2 / (cpu_seconds() - before)


# -------------------------------------------------------------------------------------- Lightning's share


class Still:
    """An updater that does nothing, so that only the loop is measured."""

    def run(self, batches: dict[str, Tensor], first: int, count: int) -> dict[str, Tensor]:
        """No updates."""
        return {"value/loss": torch.zeros(())}


def lightning_share(rounds: int = 5, updates: int = 100_000) -> Measurement:
    """CPU time of Lightning's loop per update, with 25 updates per ``training_step``, without batches and updates."""
    import lightning as L

    from offline_gcrl.training.module import RoundOfChunks, TrainingModule, _quiet_lightning

    class Loop(TrainingModule):
        def __init__(self) -> None:
            L.LightningModule.__init__(self)
            self.automatic_optimization = False
            self.weight = nn.Parameter(torch.zeros(()))
            self.learners, self.updater, self.recent = [], Still(), []  # type: ignore[assignment]
            self.first_round = 0

        @property
        def updates_per_step(self) -> int:
            return self.train_settings.updates_per_step

        def configure_optimizers(self) -> list[torch.optim.Optimizer]:
            return [torch.optim.Adam([self.weight])]

        def batches(self, first: int, count: int) -> dict[str, Tensor]:
            return {}

        def on_train_epoch_end(self) -> None:
            self.recent.clear()

    _quiet_lightning()
    shares = []
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(rounds):
            loop = Loop()
            loop.train_settings = Train(updates=updates, snapshots=1)
            trainer = L.Trainer(
                accelerator="cpu",
                max_epochs=1,
                logger=False,
                enable_checkpointing=False,
                enable_progress_bar=False,
                enable_model_summary=False,
                default_root_dir=Path(folder),
            )
            chunks = RoundOfChunks(loop)
            before = cpu_seconds()
            trainer.fit(loop)
            through, before = cpu_seconds() - before, cpu_seconds()
            for chunk in chunks:
                loop.training_step(chunk, 0)
            shares.append((through - (cpu_seconds() - before)) / updates * 1e6)
    return Measurement(
        "Lightning's share, 25 updates per step",
        shares,
        "us per update",
        at_most=10.0,
        detail="Trainer.fit compared with a plain loop over the same steps",
    )


if __name__ == "__main__":
    main(__doc__, measurements)
