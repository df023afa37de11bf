"""Runs every benchmark and writes RESULTS.md: `make bench`, or `python -m benchmarks.run [part ...]`.

The figures of each part are kept in `results/`, with the date and machine that they were measured on; a part that
was not run again keeps its old ones.
"""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.harness import HEADER, Figure

HERE = Path(__file__).parent
BUDGETS = {
    "relabel": 150,
    "ingest": 120,
    "training": 270,
    "gpu": 600,
    "evaluation": 120,
    "startup": 90,
    "growth": 150,
}
"""Seconds that each part may take, 15 minutes in all where there is no GPU; one that takes longer is ended and
keeps what it has."""
INTRODUCTION = """# Results

Written by `make bench`; [README.md](README.md) says how to read it. *times* is how many times as much work ours does
in a CPU-second as what it is compared with: the median of several rounds, and the lowest and highest of them.
"""


def main() -> None:
    """Run the parts named on the command line, or all of them."""
    began = time.monotonic()
    for part in sys.argv[1:] or [name for name in BUDGETS if (HERE / f"{name}.py").exists()]:
        print(f"\n{part}", flush=True)
        measure(part)
    gather()
    print(f"\n{time.monotonic() - began:.0f} s; the table is {HERE / 'RESULTS.md'}")


def gather() -> None:
    """Write RESULTS.md from what is kept of every part."""
    files = sorted((HERE / "results").glob("*.json"), key=place)
    parts = [{"part": path.stem, **json.loads(path.read_text())} for path in files]
    (HERE / "RESULTS.md").write_text(markdown(parts))


def measure(part: str) -> None:
    """Run one part in a process of its own, within its budget."""
    command = [sys.executable, "-m", f"benchmarks.{part}", "--json", str(result(part))]
    try:
        answer = subprocess.run(command, cwd=HERE.parent, timeout=BUDGETS.get(part, 300))
    except subprocess.TimeoutExpired:
        print(
            f"{part}: ended after its {BUDGETS.get(part, 300)} s; RESULTS.md has what it measured"
        )
        return
    if answer.returncode != 0:
        sys.exit(f"{part} failed")


def result(part: str) -> Path:
    """Where the figures of a part are kept."""
    return HERE / "results" / f"{part}.json"


def place(path: Path) -> tuple[int, str]:
    """Parts in the order of the pipeline, then others by name."""
    order = list(BUDGETS)
    return (order.index(path.stem) if path.stem in order else len(order), path.stem)


def markdown(parts: list[dict[str, Any]]) -> str:
    """The whole of RESULTS.md."""
    return "\n".join([INTRODUCTION, *(section(part) for part in parts)])


def section(part: dict[str, Any]) -> str:
    """One part: its table, and the circumstances that it was measured in."""
    rows = [Figure(**figure).row() for figure in part["figures"]]
    versions = ", ".join(f"{name} {value}" for name, value in part["versions"].items())
    busy = f", load average {part['load']}" if "load" in part else ""
    measured = f"{part['date']}, {part['machine']}{busy}; {versions}."
    figure = f"{part.get('part')}.svg"
    drawn = [f"![{part['title']}]({figure})", ""] if (HERE / figure).exists() else []
    return "\n".join([f"## {part['title']}", "", HEADER, *rows, "", *drawn, measured, ""])


if __name__ == "__main__":
    main()
