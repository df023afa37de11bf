"""Training on a GPU: minutes per million updates at the size of OGBench, and eight seeds compared with one.

The measurements run the complete training of the stage `train`: batches on the device, Lightning's loop, and updates
recorded as a CUDA graph. Rates exclude start-up, compilation and the end of a run, which are short in a long run: the
rate is that of the additional updates of a run that is three times as long.
"""

import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import torch

from benchmarks.harness import Measurement, main
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
        for algorithm, path, overrides in PATHS:
            minutes = 1e6 / rate(folder, algorithm, 1, overrides) / 60.0
            target = TARGET if (algorithm, path) == ("gciql", "compiled") else None
            yield Measurement(
                f"{algorithm}: {title}, {path}", [minutes], "min", at_most=target, detail=card
            )
        times = [1 / rate(folder, "gciql", seeds, {"compile": True}) for seeds in (1, SEEDS)]
        name = f"gciql: time of {SEEDS} seeds compared with one"
        yield Measurement(name, [times[1] / times[0]], at_most=3.0, detail=card)


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
