"""Runs the benchmarks and writes RESULTS.md: `make bench`, or `python -m benchmarks.run [part ...]`.

`results/` contains the last measurements of each part on each processor or GPU, with their date and machine. RESULTS.md has
one table per part and processor, including those that were not run again.
"""

import json
import re
import subprocess
import sys
import time
from itertools import groupby
from pathlib import Path
from typing import Any

import torch

from benchmarks.harness import HEADER, Measurement, processor

HERE = Path(__file__).parent
BUDGETS = {
    "relabel": 150,
    "ingest": 120,
    "training": 330,
    "agents": 300,
    "gpu": 600,
    "evaluation": 120,
    "startup": 90,
    "growth": 150,
    "scale": 60,
}
"""Time limit of each part in seconds, 22 minutes in total without a GPU. A part that reaches its limit is ended, and its
finished measurements are kept."""
INTRODUCTION = """# Results

This page is written by `make bench`, and [README.md](README.md) explains it. *times* is the work per CPU-second of this
package divided by that of the alternative: the median of several rounds, with the lowest and the highest.
"""


def main() -> None:
    """Run the parts of the command line, or all parts."""
    began = time.monotonic()
    for part in sys.argv[1:] or [name for name in BUDGETS if (HERE / f"{name}.py").exists()]:
        print(f"\n{part}", flush=True)
        measure(part)
    gather()
    print(f"\n{time.monotonic() - began:.0f} s; the table is {HERE / 'RESULTS.md'}")


def gather() -> None:
    """Write RESULTS.md from the results of all parts and processors."""
    files = sorted((HERE / "results").glob("*/*.json"), key=place)
    parts = [{"part": path.parent.name, **json.loads(path.read_text())} for path in files]
    (HERE / "RESULTS.md").write_text(markdown(parts))


def measure(part: str) -> None:
    """Run one part in its own process, with its time limit."""
    command = [sys.executable, "-m", f"benchmarks.{part}"]
    if part != "gpu" or torch.cuda.is_available():
        command += ["--json", str(result(part))]
    try:
        answer = subprocess.run(command, cwd=HERE.parent, timeout=BUDGETS.get(part, 300))
    except subprocess.TimeoutExpired:
        print(
            f"{part}: ended at its limit of {BUDGETS.get(part, 300)} s; RESULTS.md has its finished rows"
        )
        return
    if answer.returncode != 0:
        sys.exit(f"{part} failed")


def result(part: str) -> Path:
    """The file of the measurements of a part on this processor, or on this GPU."""
    name = processor()
    if part == "gpu" and torch.cuda.is_available():
        name = torch.cuda.get_device_name()
    return HERE / "results" / part / f"{re.sub('[^a-z0-9]+', '-', name.lower()).strip('-')}.json"


def place(path: Path) -> tuple[int, str, str]:
    """Sort key: parts in the order of the pipeline, then others by name; then processors."""
    order, part = list(BUDGETS), path.parent.name
    return (order.index(part) if part in order else len(order), part, path.stem)


def markdown(parts: list[dict[str, Any]]) -> str:
    """The content of RESULTS.md, from measurements in the order of their parts."""
    by_part = [list(same) for _, same in groupby(parts, key=lambda part: part.get("part"))]
    sections = [f"## {same[0]['title']}\n\n" + "\n".join(map(table, same)) for same in by_part]
    return "\n".join([INTRODUCTION, *sections])


def table(part: dict[str, Any]) -> str:
    """The table of one part on one processor, with date, machine and versions."""
    rows = [Measurement(**row).row() for row in part["measurements"]]
    versions = ", ".join(f"{name} {value}" for name, value in part["versions"].items())
    busy = f", load average {part['load']}" if "load" in part else ""
    measured = f"{part['date']}, {part['machine']}{busy}; {versions}."
    figure = f"{part.get('part')}.svg"
    drawn = [f"![{part['title']}]({figure})", ""] if (HERE / figure).exists() else []
    return "\n".join([HEADER, *rows, "", *drawn, measured, ""])


if __name__ == "__main__":
    main()
