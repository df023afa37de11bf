"""Start-up: `--help` of every stage, which shows the cost of its imports, and `dvc repro` without changes."""

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import yaml

from benchmarks.harness import Measurement, cpu_seconds, main

ROOT = Path(__file__).parent.parent
ROUNDS = 3


def measurements() -> Iterator[Measurement]:
    """CPU time without that of Python itself, and without that of DVC for as many trivial stages."""
    bare = sorted(seconds([sys.executable, "-c", "pass"]) for _ in range(ROUNDS))[1]
    stages = [path.stem for path in sorted((ROOT / "pipelines").glob("*.py"))]
    costs = {stage: [help_of(stage) - bare for _ in range(ROUNDS)] for stage in stages}
    worst = max(stages, key=lambda stage: sorted(costs[stage])[ROUNDS // 2])
    yield Measurement(
        "`--help` of the slowest stage",
        costs[worst],
        "CPU-s",
        at_most=1.0,
        detail=f"{worst}; all {len(stages)}: {sum(map(min, costs.values())):.1f} CPU-s",
        floor=f"{bare:.2f} CPU-s: start of Python, subtracted",
    )
    yield nothing_to_do()


def help_of(stage: str) -> float:
    return seconds([sys.executable, f"pipelines/{stage}.py", "--help"])


def seconds(command: list[str], folder: Path = ROOT) -> float:
    """CPU time of a command; an exception if the command fails."""
    before = cpu_seconds()
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return cpu_seconds() - before


def nothing_to_do() -> Measurement:
    """`dvc repro` of this project without changes, compared with a project of as many trivial stages."""
    name, dvc = (
        "`dvc repro` without changes, in addition to DVC's own time",
        [sys.executable, "-m", "dvc"],
    )
    dry = subprocess.run([*dvc, "repro", "--dry"], cwd=ROOT, capture_output=True, text=True)
    if dry.returncode != 0 or "Running stage" in dry.stdout:
        return Measurement(
            name, [], "CPU-s", skipped="the pipeline has not been run; run `make repro` first"
        )
    count = dry.stdout.count("didn't change")
    with tempfile.TemporaryDirectory() as folder:
        empty = Path(folder)
        seconds([*dvc, "init", "--no-scm"], empty)
        stages = {
            f"stage{n}": {"cmd": f"echo {n} > {n}.txt", "outs": [f"{n}.txt"]} for n in range(count)
        }
        (empty / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}))
        seconds([*dvc, "repro"], empty)
        ours, theirs = [], []
        for _ in range(ROUNDS):
            theirs.append(seconds([*dvc, "repro"], empty))
            ours.append(seconds([*dvc, "repro"]))
    return Measurement(
        name,
        [mine - own for mine, own in zip(ours, theirs, strict=True)],
        "CPU-s",
        at_most=1.0,
        detail=f"{count} stages; ours {sorted(ours)[1]:.1f} CPU-s, trivial stages {sorted(theirs)[1]:.1f} CPU-s",
    )


if __name__ == "__main__":
    main(__doc__, measurements)
