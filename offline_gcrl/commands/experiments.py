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

from rich.console import Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from offline_gcrl.support.errors import OfflineGCRLError
from offline_gcrl.support.numbers import with_interval
from offline_gcrl.support.terminal import console, stage

RATE = re.compile(r"(?:.*:)?(?P<dataset>[^.:]+)\.(?P<agent>[^.]+)\.success_rate")
"""DVC's name of a success rate in ``reports/headline.json``."""
SETTING = re.compile(
    r"(?:params\.yaml:)?(?P<name>(?:experiment|relabel|collect|train|evaluate|agents)\..+)"
)
Row = dict[str, str]
GAP = 2
"""Blanks around a cell of the table."""
WIDTH_OF_FILES = 200
"""Width of the table if the output is no terminal."""
ABSENT = "-"
"""The success rate of an agent or a dataset that an experiment does not have."""


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
        return ABSENT
    names = {"mean": column, "low": f"{column}_low", "high": f"{column}_high"}
    return with_interval({part: float(row[name]) for part, name in names.items()})


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


def renderable(heading: list[str], lines: list[list[str]], width: int) -> Group | Table:
    """The table as wide as it is, or one paragraph per experiment if it does not fit.

    Args:
        heading: names of the columns.
        lines: the cells of each experiment.
        width: columns of the terminal.
    """
    wide = [max(map(len, column)) + GAP for column in zip(heading, *lines, strict=True)]
    if sum(wide) <= width:
        table = Table(*heading, box=None, header_style="bold", pad_edge=True)
        for line in lines:
            table.add_row(*map(Text, line))
        return table
    return Group(*(_paragraph(heading, line) for line in lines))


def _paragraph(heading: list[str], line: list[str]) -> Group:
    """An experiment with a line for each setting, and for each result that it has."""
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="dim", no_wrap=True)
    facts.add_column(overflow="fold")
    for name, value in zip(heading[2:], line[2:], strict=True):
        if value != ABSENT:
            facts.add_row(name, Text(value))
    return Group(Text.assemble((line[0], "bold"), f"  {line[1]}"), Padding(facts, (0, 0, 1, 2)))


def main() -> None:
    """Print the table."""
    with stage("experiments", "success rates with 95% intervals, and settings that differ"):
        heading, lines = experiments_table(read_experiments())
        width = console.width if console.is_terminal else WIDTH_OF_FILES
        console.print(renderable(heading, lines, width), width=max(width, console.width))


if __name__ == "__main__":
    main()
