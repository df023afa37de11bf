"""``make experiments``: DVC's experiments in one table, what changed beside what it did.

DVC's own table has a column for every parameter, metric and file; here are the parameters that differ,
and success with its interval.
"""

import csv
import io
import re
import subprocess

from rich.table import Table

from offline_gcrl.support.errors import OfflineGCRLError
from offline_gcrl.support.terminal import console, stage

RATE = re.compile(r"(?:.*:)?(?P<dataset>[^.:]+)\.(?P<agent>[^.]+)\.success_rate")
"""Of ``report.tables.headline_numbers``, as DVC names it."""
SETTING = re.compile(
    r"(?:params\.yaml:)?(?P<name>(?:experiment|relabel|collect|train|evaluate|agents)\..+)"
)
Row = dict[str, str]


def shown(rows: list[Row]) -> tuple[list[str], list[list[str]]]:
    """Heading and lines of the table, from the rows of ``dvc exp show --csv``."""
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
            row.get("State", "").lower(),  # DVC leaves it out where no experiment has one.
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
        OfflineGCRLError: DVC cannot show them.
    """
    answer = subprocess.run(["dvc", "exp", "show", "--csv"], capture_output=True, text=True)  # noqa: S607
    if answer.returncode != 0:
        raise OfflineGCRLError(f"`dvc exp show` failed: {answer.stderr.strip()}")
    return list(csv.DictReader(io.StringIO(answer.stdout)))


def main() -> None:
    """Print the table."""
    with stage("experiments", "success at the last step, 95% intervals; settings that differ"):
        heading, lines = shown(read_experiments())
        table = Table(*heading, box=None, header_style="bold", pad_edge=True)
        for line in lines:
            table.add_row(*line)
        console.print(table)


if __name__ == "__main__":
    main()
