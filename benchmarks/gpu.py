"""Training on a GPU: minutes for a million updates at OGBench's size, and eight seeds beside one.

All of it is what the train stage does: batches made on the device, Lightning's loop, updates recorded as a CUDA
graph. Start-up, compiling and the end of a run, which a long one hardly notices, are taken off: they are in a short
run as in one three times as long.
"""

import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import torch

from benchmarks.harness import Figure, main
from benchmarks.ingest import DATASET, RECIPE, make
from offline_gcrl.agents import settings_type
from offline_gcrl.config import Relabel, Train
from offline_gcrl.episodes.ingest import ingest
from offline_gcrl.hindsight.relabel import relabel
from offline_gcrl.training.jobs import TrainingJob
from offline_gcrl.training.module import train_together

SIZES, ACTION = {"observation": 28, "achieved_goal": 28, "desired_goal": 28}, 5
BATCH, HIDDEN = 1024, [512, 512, 512]
UPDATES = 5_000
PATHS: tuple[tuple[str, str, dict[str, object]], ...] = (
    ("gciql", "compiled", {"compile": True}),
    ("gciql", "not compiled", {"compile": False}),
    ("gciql", "compiled, bf16", {"compile": True, "precision": "bf16"}),
    ("gofar", "compiled", {"compile": True}),
    ("bc", "compiled", {"compile": True}),
)
TARGET, SEEDS = 12.0, 8
"""Minutes for a million updates of GC-IQL; seeds that are to take at most three times as long as one."""


def figures() -> Iterator[Figure]:
    """Each agent alone, GC-IQL by every path; its seeds stacked."""
    title = f"a million updates at the rate of {2 * UPDATES:,}, batch {BATCH:,}, {len(HIDDEN)}x{HIDDEN[0]}"
    if not torch.cuda.is_available():
        yield Figure(f"gciql: {title}", [], "min", at_most=TARGET, skipped="there is no GPU here")
        return
    card = torch.cuda.get_device_name()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_data(folder)
        for algorithm, said, asked in PATHS:
            minutes = 1e6 / rate(folder, algorithm, 1, asked) / 60.0
            wanted = TARGET if (algorithm, said) == ("gciql", "compiled") else None
            yield Figure(
                f"{algorithm}: {title}, {said}", [minutes], "min", at_most=wanted, detail=card
            )
        times = [1 / rate(folder, "gciql", seeds, {"compile": True}) for seeds in (1, SEEDS)]
        said = f"gciql: time of {SEEDS} seeds beside one"
        yield Figure(said, [times[1] / times[0]], at_most=3.0, detail=card)


def make_data(folder: Path, episodes: int = 100, length: int = 1000) -> None:
    """An ingested and relabelled dataset in OGBench's sizes."""
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
    """Updates a second, by the clock, of a run in full swing; one update of several seeds is one."""
    # What is compiled in the first run is in torch's cache for the others.
    _, short, long = (
        seconds(folder, algorithm, seeds, asked | {"updates": count, "batch_size": batch})
        for count in (updates, updates, 3 * updates)
    )
    if long <= short:
        raise RuntimeError(f"{3 * updates:,} updates took no longer than {updates:,}: too few")
    return 2 * updates / (long - short)


def seconds(folder: Path, algorithm: str, seeds: int, asked: dict[str, object]) -> float:
    """The time that training from nothing takes."""
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
    main(__doc__, figures)
