"""Generates the data of recipes and measures rates of collecting, success of demonstrators, and sizes on disk.

    python benchmarks/datasets.py [recipe ...] [--episodes N]     (without names: all generated datasets)

It prints a Markdown table for docs/datasets.md. The data is written to a temporary folder, in the default size or with N
episodes per task. The rate per second depends on other work on the machine; the rate per CPU-second, which counts all
processes and the writing, depends on it much less.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil

from offline_gcrl.collect.collector import collect_source
from offline_gcrl.config import Dataset, Recipe, Source, recipe_names, resolve
from offline_gcrl.environments.making import check_environments
from offline_gcrl.episodes.ingest import ingest
from offline_gcrl.episodes.sources import open_source
from offline_gcrl.statistics.intervals import Estimate, wilson
from offline_gcrl.support.errors import OfflineGCRLError
from offline_gcrl.support.processes import cores, ordered_map, preload

HEADER = (
    "| recipe | transitions | transitions/s | transitions/CPU-s | success of demonstrators | Minari | Parquet |\n"
    "|---|--:|--:|--:|---|--:|--:|"
)


def main() -> None:
    """Measure the recipes of the command line, and print one row per recipe."""
    parser = argparse.ArgumentParser(description="Rates, success and sizes of generated datasets.")
    parser.add_argument("recipe", nargs="*", help="default: all generated datasets")
    parser.add_argument(
        "--episodes", type=int, help="episodes per task, instead of the number in the recipe"
    )
    arguments = parser.parse_args()
    preload("offline_gcrl.collect.collector")
    list(ordered_map(abs, [0], workers=1))  # Rates exclude the imports of workers.
    print(f"on {cores()} cores\n\n{HEADER}", flush=True)
    for name in arguments.recipe or recipe_names():
        dataset = resolve(name, arguments.episodes)
        sources = [source for recipe in dataset.recipes for source in recipe.sources]
        if not all(source.collect for source in sources):
            continue
        try:
            print(row(dataset), flush=True)
        except OfflineGCRLError as error:
            print(f"{name} skipped: {error}", file=sys.stderr)


def row(dataset: Dataset) -> str:
    """Generate one dataset, and return its row of the table."""
    for recipe in dataset.recipes:
        check_environments(recipe, dataset.name)
    with tempfile.TemporaryDirectory() as folder:
        minari, parquet = Path(folder) / "minari", Path(folder) / "parquet"
        parquet.mkdir()
        began, used = time.perf_counter(), cpu_seconds()
        for recipe in dataset.recipes:
            for source in recipe.sources:
                collect_source(recipe, source, minari)
        seconds, used = time.perf_counter() - began, cpu_seconds() - used
        transitions = ingest(dataset, minari, parquet)["counts"]["transitions"]
        success = "; ".join(demonstrators(dataset, minari)) or "none"
        sizes = " | ".join(megabytes(place) for place in (minari, parquet))
    rates = f"{transitions / seconds:,.0f} | {transitions / used:,.0f}"
    return f"| `{dataset.name}` | {transitions:,} | {rates} | {success} | {sizes} |"


def cpu_seconds() -> float:
    """CPU time of this process and all its descendants, including those that have ended."""
    here = psutil.Process()
    return sum(sum(each.cpu_times()[:4]) for each in (here, *here.children(recursive=True)))


def demonstrators(dataset: Dataset, minari: Path) -> Iterator[str]:
    """Success rate of each source of demonstrations, with Wilson's 95% interval."""
    for recipe in dataset.recipes:
        for source in recipe.sources:
            if source.kind == "demonstration":
                rate, when = success(recipe, source, minari)
                text = f"{rate.mean:.2f} [{rate.low:.2f}, {rate.high:.2f}] {when}"
                yield f"{recipe.task}: {text}" if len(dataset.recipes) > 1 else text


def success(recipe: Recipe, source: Source, minari: Path) -> tuple[Estimate, str]:
    """Success rate at the last step; at any step for continuing episodes, and for tasks where any step counts."""
    continuing = {"continuing_task", "terminate_at_goal"}
    continues = recipe.environment is not None and not continuing.isdisjoint(
        recipe.environment.kwargs
    )
    any_step = continues or criterion(recipe) == "any_step"
    data = open_source(source, minari)
    reached = [
        bool(np.any(episode.infos["success"][1:]) if any_step else episode.infos["success"][-1])
        for episode in data
    ]
    when = "at any step" if any_step else "at the last step"
    return wilson(sum(reached), len(reached)), when


def criterion(recipe: Recipe) -> str:
    """The success that is usually reported for the task of a recipe."""
    return recipe.evaluation.criterion if recipe.evaluation else "any_step"


def megabytes(folder: Path) -> str:
    """Size of all files below a folder."""
    total = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return f"{total / 1e6:.1f} MB"


if __name__ == "__main__":
    main()
