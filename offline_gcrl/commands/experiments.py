"""``make experiments``: a table of DVC experiments with the settings that differ and the success rates.

``dvc exp show`` has a column for every parameter, metric and file. This table has only the settings that differ
between experiments, and success rates with their intervals.
"""

import csv
import io
import re
import subprocess
import sys
from pathlib import Path

from rich.table import Table

from offline_gcrl.support.errors import OfflineGCRLError
from offline_gcrl.support.terminal import console, stage

RATE = re.compile(r"(?:.*:)?(?P<dataset>[^.:]+)\.(?P<agent>[^.]+)\.success_rate")
"""DVC's name of a success rate in ``reports/headline.json``."""
SETTING = re.compile(
    r"(?:params\.yaml:)?(?P<name>(?:experiment|relabel|collect|train|evaluate|agents)\..+)"
)
Row = dict[str, str]


def experiments_table(rows: list[Row]) -> tuple[list[str], list[list[str]]]:
    """Column names and lines of the table, from the rows of ``dvc exp show --csv``."""
    columns = list(rows[0]) if rows else []
    differing = [column for column in columns if len({row[column] for row in rows}) > 1]
    settings = {c: found["name"] for c in differing if (found := SETTING.fullmatch(c))}
    rates = {
        c: f"{found['agent']} on {found['dataset']}"
        for c in columns
        if (found := RATE.fullmatch(c))
    }
    heading = ["experiment", "state", *settings.values(), *rates.values()]
    lines = [
        [
            row["Experiment"] or row["rev"],
            row.get("State", "").lower(),  # DVC omits the column if no experiment has a state.
            *(row[column] for column in settings),
            *(_rate(row, column) for column in rates),
        ]
        for row in rows
    ]
    return heading, lines


def _rate(row: Row, column: str) -> str:
    if not row[column]:
        return "-"
    low, high = (row[f"{column}_{part}"] for part in ("low", "high"))
    return f"{float(row[column]):.2f} [{float(low):.2f}, {float(high):.2f}]"


def read_experiments() -> list[Row]:
    """The rows of ``dvc exp show``: the workspace, the commit, and its experiments.

    Raises:
        OfflineGCRLError: this is no project, or DVC is not installed, or it failed.
    """
    if not Path("dvc.yaml").exists():
        raise OfflineGCRLError("dvc.yaml: no such file; run from the root of the project")
    command = [sys.executable, "-m", "dvc", "exp", "show", "--csv"]
    answer = subprocess.run(command, capture_output=True, text=True)
    if answer.returncode != 0:
        lines = answer.stderr.strip().splitlines() or ["it gave no reason"]
        raise OfflineGCRLError(f"`dvc exp show` failed: {lines[0].removeprefix('ERROR: ')}")
    return list(csv.DictReader(io.StringIO(answer.stdout)))


def main() -> None:
    """Print the table."""
    with stage("experiments", "success rates with 95% intervals, and settings that differ"):
        heading, lines = experiments_table(read_experiments())
        table = Table(*heading, box=None, header_style="bold", pad_edge=True)
        for line in lines:
            table.add_row(*line)
        console.print(table)


if __name__ == "__main__":
    main()
