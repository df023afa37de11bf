"""Training on a GPU: minutes per million updates at the size of OGBench, JAX on the same card, and eight seeds.

The measurements run the complete training of the stage `train`: batches on the device, Lightning's loop, and updates
recorded as a CUDA graph. Rates exclude start-up, compilation and the end of a run, which are short in a long run: the
rate is that of the additional updates of a run that is three times as long. The JAX program (`benchmarks.jax_gciql`)
does the updates only, on one batch that stays on the device.
"""

import json
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import torch

from benchmarks.harness import Measurement, main
from benchmarks.ingest import DATASET, RECIPE, make
from benchmarks.training import Size, make_batch
from offline_gcrl.agents import settings_type
from offline_gcrl.config import Relabel, Train
from offline_gcrl.episodes.ingest import ingest
from offline_gcrl.hindsight.relabel import relabel
from offline_gcrl.training.jobs import TrainingJob
from offline_gcrl.training.module import train_together

SIZES, ACTION = {"observation": 28, "achieved_goal": 28, "desired_goal": 28}, 5
BATCH, HIDDEN = 1024, [512, 512, 512]
UPDATES = 2_000
PATHS: tuple[tuple[str, dict[str, object]], ...] = (
    ("gciql", {"compile": True, "precision": "tf32"}),
    ("gciql", {"compile": True, "precision": "fp32"}),
    ("gciql", {"compile": True, "precision": "bf16"}),
    ("gciql", {"compile": False, "precision": "tf32"}),
    ("gofar", {"compile": True, "precision": "tf32"}),
    ("bc", {"compile": True, "precision": "tf32"}),
)
JAX_PRECISIONS = {"tf32": "default", "fp32": "highest"}
"""The names of JAX."""
TARGET, SEEDS = 12.0, 8
"""Target for a million updates of GC-IQL, in minutes; number of seeds that may take three times as long as one."""


def measurements() -> Iterator[Measurement]:
    """Each agent with one seed, GC-IQL with every fast path, and with stacked seeds."""
    title = f"a million updates at the rate of {2 * UPDATES:,}, batch {BATCH:,}, {len(HIDDEN)}x{HIDDEN[0]}"
    if not torch.cuda.is_available():
        yield Measurement(
            f"gciql: {title}", [], "min", at_most=TARGET, skipped="there is no GPU here"
        )
        return
    card = torch.cuda.get_device_name()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_data(folder)
        rates = []
        for algorithm, asked in PATHS:
            rates.append(rate(folder, algorithm, 1, asked))
            compiled = "compiled" if asked["compile"] else "not compiled"
            name = f"{algorithm}: {title}, {compiled}, {asked['precision']}"
            yield minutes(name, rates[-1], card, TARGET if len(rates) == 1 else None)
        stacked = rate(folder, "gciql", SEEDS, PATHS[0][1])
        name = (
            f"gciql: time of {SEEDS} seeds compared with one, compiled, {PATHS[0][1]['precision']}"
        )
        yield Measurement(name, [rates[0] / stacked], at_most=3.0, detail=card)
    for name, precision in JAX_PRECISIONS.items():
        yield minutes(f"gciql: {title}, JAX, {name}", rate_of_jax(precision), card)


def minutes(name: str, per_second: float, card: str, target: float | None = None) -> Measurement:
    """A row with the minutes that a million updates take."""
    return Measurement(name, [1e6 / per_second / 60.0], "min", at_most=target, detail=card)


def rate_of_jax(precision: str, updates: int = 2_000) -> float:
    """Updates per second of wall-clock time of the JAX program, without compilation; see `jax.default_matmul_precision`."""
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # Torch uses the card, too.
    import jax

    from benchmarks.jax_gciql import JaxGCIQL

    size = Size("", BATCH, HIDDEN, updates)
    with jax.default_matmul_precision(precision):
        agent = JaxGCIQL(HIDDEN, SIZES["observation"], SIZES["desired_goal"], ACTION)
        batch = agent.on_device(make_batch(size))
        for count in (20, updates):
            began = time.perf_counter()
            for _ in range(count):
                agent.update(batch)
            agent.wait()
            seconds = time.perf_counter() - began
    return updates / seconds


def make_data(folder: Path, episodes: int = 100, length: int = 1000) -> None:
    """Write an ingested and relabelled dataset with the sizes of OGBench."""
    make(folder / "minari", SIZES, ACTION, length, episodes)
    for name in ("parquet", "hindsight"):
        (folder / name).mkdir()
    ingest(DATASET, folder / "minari", folder / "parquet")
    relabel(folder / "parquet", folder / "hindsight", Relabel(k=1), RECIPE.goal)


def rate(
    folder: Path,
    algorithm: str,
    seeds: int,
    asked: dict[str, object],
    updates: int = UPDATES,
    batch: int = BATCH,
) -> float:
    """Updates per second of wall-clock time, without start-up; a stacked update of several seeds counts once."""
    # The first run compiles; the others use torch's cache.
    _, short, long = (
        seconds(folder, algorithm, seeds, asked | {"updates": count, "batch_size": batch})
        for count in (updates, updates, 3 * updates)
    )
    if long <= short:
        raise RuntimeError(
            f"{3 * updates:,} updates took no longer than {updates:,}; use more updates"
        )
    return 2 * updates / (long - short)


def seconds(folder: Path, algorithm: str, seeds: int, asked: dict[str, object]) -> float:
    """Wall-clock time of a training from the beginning."""
    train = Train.model_validate({"snapshots": 1, **asked})
    content = {"algorithm": algorithm, "hidden": HIDDEN}
    settings = settings_type(algorithm).model_validate_json(json.dumps(content))
    with tempfile.TemporaryDirectory(dir=folder) as name:
        jobs = [
            TrainingJob(
                dataset="walk",
                agent=algorithm,
                seed=seed,
                episodes=folder / "parquet",
                hindsight=folder / "hindsight",
                train=train,
                settings=settings,
                checkpoints=Path(name) / f"checkpoints-{seed}" / "none",
                output=Path(name) / f"policy-{seed}",
            )
            for seed in range(seeds)
        ]
        began = time.perf_counter()
        train_together(jobs, lambda event: None)
        return time.perf_counter() - began


if __name__ == "__main__":
    main(__doc__, measurements)
