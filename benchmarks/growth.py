"""Growth: cost per transition and memory with ten times and a hundred times the data."""

import json
import multiprocessing
import statistics
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks import synthetic
from benchmarks.harness import Measurement, cpu_seconds, main, peak_memory
from benchmarks.ingest import DATASET, make
from offline_gcrl.config import Relabel
from offline_gcrl.episodes.dataset import open_episodes
from offline_gcrl.episodes.ingest import ingest
from offline_gcrl.hindsight.relabel import relabel

HERE = Path(__file__).parent
FACTORS, ROUNDS = (1, 10, 100), 3
SIZES = {"observation": 4, "achieved_goal": 2, "desired_goal": 2}
ACTION = 2
BYTES_A_TRANSITION = 4 * (sum(SIZES.values()) + ACTION)
INGESTED, RELABELLED = 20, 100
"""Numbers of episodes, with 1,000 transitions each, in the smallest datasets for ingest and relabelling."""
Measured = dict[str, list[float]]


def measurements() -> Iterator[Measurement]:
    """Ingest, opening and relabelling with three sizes, each in its own process; growth.svg shows them."""
    found: dict[str, Measured] = {}
    with tempfile.TemporaryDirectory() as name:
        for factor in FACTORS:
            folder = Path(name) / str(factor)
            folder.mkdir()
            make(folder / "minari", SIZES, ACTION, 1000, INGESTED * factor)
            walk = folder / "walk"
            walk.mkdir()
            synthetic.write_steps(walk, RELABELLED * factor)
            for part, work in (
                ("ingest", ingesting),
                ("opening", opening),
                ("relabel", relabelling),
            ):
                transitions, seconds, megabytes = alone(work, folder, Path(name) / "1")
                measured = found.setdefault(part, {"transitions": [], "cost": [], "memory": []})
                measured["transitions"].append(transitions)
                measured["cost"].append(1e9 * seconds / transitions)
                measured["memory"].append(megabytes)
    (HERE / "results" / "growth" / "points").write_text(json.dumps(found, indent=2) + "\n")
    draw(found, HERE / "growth.svg")
    for part, measured in found.items():
        yield from said(part, measured)


def ingesting(folder: Path) -> int:
    (folder / "parquet").mkdir(exist_ok=True)
    return int(ingest(DATASET, folder / "minari", folder / "parquet")["counts"]["transitions"])


def opening(folder: Path) -> int:
    return len(open_episodes(folder / "parquet").transition_rows())


def relabelling(folder: Path) -> int:
    counts: list[int] = []
    relabel(folder / "walk", folder / "walk", Relabel(k=4), synthetic.GOAL, counts.append)
    return sum(counts)


def alone(work: Callable[[Path], int], folder: Path, small: Path) -> tuple[int, float, float]:
    """Transitions, CPU-seconds and MB above start in a new process, which works on the small dataset first."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        return pool.apply(_measured, (work, folder, small))


def _measured(work: Callable[[Path], int], folder: Path, small: Path) -> tuple[int, float, float]:
    before = peak_memory(reset=True)
    work(small)
    costs = []
    for _ in range(ROUNDS):
        spent = cpu_seconds()
        transitions = work(folder)
        costs.append(cpu_seconds() - spent)
    return transitions, statistics.median(costs), peak_memory() - before


def said(part: str, measured: Measured) -> Iterator[Measurement]:
    """The cost with the largest size compared with the middle size, at which start-up is already negligible."""
    sizes = " / ".join(f"{count:,.0f}" for count in measured["transitions"])
    costs = " / ".join(f"{cost:,.0f}" for cost in measured["cost"])
    memory = " / ".join(f"{above:,.0f}" for above in measured["memory"])
    yield Measurement(
        f"{part}: cost per transition, 100 times the data compared with 10 times",
        [measured["cost"][2] / measured["cost"][1]],
        at_most=1.2,
        detail=f"{costs} ns at {sizes} transitions",
    )
    arrays = measured["transitions"][2] * BYTES_A_TRANSITION / 1e6
    flat = part != "opening"  # Opening loads all data into memory.
    yield Measurement(
        f"{part}: memory above start, 100 times the data",
        [measured["memory"][2]],
        "MB",
        at_most=300.0 if flat else None,
        detail=f"{memory} MB" + ("" if flat else f"; {arrays:.0f} MB of the last are the arrays"),
    )


def draw(found: dict[str, Measured], path: Path) -> None:
    """Cost and memory against the number of transitions."""
    import matplotlib.pyplot as plt

    from offline_gcrl.figures.style import PALETTE, STYLE

    with plt.rc_context(STYLE):
        figure, (left, right) = plt.subplots(1, 2, figsize=(8.4, 3.2), layout="constrained")
        for colour, (part, measured) in zip(PALETTE, found.items(), strict=False):
            for axes, key in ((left, "cost"), (right, "memory")):
                axes.plot(measured["transitions"], measured[key], "o-", color=colour, label=part)
        for axes, label in ((left, "CPU time per transition, ns"), (right, "MB above start")):
            axes.set_xscale("log")
            axes.set_xlabel("transitions")
            axes.set_ylabel(label)
        left.set_yscale("log")
        right.set_ylim(bottom=0)
        left.legend()
        figure.savefig(path)
        plt.close(figure)


if __name__ == "__main__":
    main(__doc__, measurements)
