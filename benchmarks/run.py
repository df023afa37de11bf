"""Runs the benchmarks and writes RESULTS.md: `make bench`, or `python -m benchmarks.run [part ...]`.

`results/` contains the last measurements of each part, with their date and machine. RESULTS.md shows all parts, including
those that were not run again.
"""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.harness import HEADER, Measurement

HERE = Path(__file__).parent
BUDGETS = {
    "relabel": 150,
    "ingest": 120,
    "training": 270,
    "agents": 300,
    "gpu": 600,
    "evaluation": 120,
    "startup": 90,
    "growth": 150,
}
"""Time limit of each part in seconds, 20 minutes in total without a GPU. A part that reaches its limit is ended, and its
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
    """Write RESULTS.md from the results of all parts."""
    files = sorted((HERE / "results").glob("*.json"), key=place)
    parts = [{"part": path.stem, **json.loads(path.read_text())} for path in files]
    (HERE / "RESULTS.md").write_text(markdown(parts))


def measure(part: str) -> None:
    """Run one part in its own process, with its time limit."""
    command = [sys.executable, "-m", f"benchmarks.{part}", "--json", str(result(part))]
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
    """The file of the measurements of a part."""
    return HERE / "results" / f"{part}.json"


def place(path: Path) -> tuple[int, str]:
    """Sort key: parts in the order of the pipeline, then others by name."""
    order = list(BUDGETS)
    return (order.index(path.stem) if path.stem in order else len(order), path.stem)


def markdown(parts: list[dict[str, Any]]) -> str:
    """The content of RESULTS.md."""
    return "\n".join([INTRODUCTION, *(section(part) for part in parts)])


def section(part: dict[str, Any]) -> str:
    """The section of one part: its table, date, machine and versions."""
    rows = [Measurement(**row).row() for row in part["measurements"]]
    versions = ", ".join(f"{name} {value}" for name, value in part["versions"].items())
    busy = f", load average {part['load']}" if "load" in part else ""
    measured = f"{part['date']}, {part['machine']}{busy}; {versions}."
    figure = f"{part.get('part')}.svg"
    drawn = [f"![{part['title']}]({figure})", ""] if (HERE / figure).exists() else []
    return "\n".join([f"## {part['title']}", "", HEADER, *rows, "", *drawn, measured, ""])


if __name__ == "__main__":
    main()
