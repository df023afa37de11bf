"""Write the report of all results: the page, tables, figures, and numbers for ``dvc metrics``."""

from pathlib import Path
from typing import TYPE_CHECKING

import this_project  # noqa: F401 - first: it decides which copy of the package is imported
from rich.table import Table
from rich.text import Text

from offline_gcrl.config import load_dataset, load_params
from offline_gcrl.support.terminal import close, console, note, stage, stage_arguments

if TYPE_CHECKING:
    from offline_gcrl.report.results import DatasetResults


def main() -> None:
    """Fill ``reports``."""
    stage_arguments(__doc__)
    from offline_gcrl.report.facts import Folders
    from offline_gcrl.report.results import load_results
    from offline_gcrl.report.verdict import verdict
    from offline_gcrl.report.writing import write_report

    with stage("report", "all datasets and agents"):
        params, folders = load_params(), Folders()
        datasets = {name: load_dataset(name) for name in params.experiment.datasets}
        results = load_results(params.experiment, datasets, folders.results)
        output = Path("reports")
        write_report(params, datasets, results, folders, output)
        for dataset, found in results.items():
            summary = verdict(found)
            headline = (f"{dataset}: {summary.headline}", "bold")
            note(Text.assemble(headline, " ", " ".join(summary.sentences)))
            if found.comparison:
                console.print(metrics_table(found, list(found.comparison.ranking)))
            for sentence in summary.confidence:
                note(sentence)
        close(f"open {output}/index.html; `make ui` shows the runs in MLflow")


def metrics_table(found: "DatasetResults", agents: list[str]) -> Table:
    """The main metrics with their intervals, one row per agent; it fits into 80 columns."""
    from offline_gcrl.report.tables import cell, columns

    named = columns(found)
    shown = {key: named[key] for key in (found.metric, "final_distance", "steps_to_goal")}
    table = Table("agent", *shown.values(), box=None, header_style="bold", padding=(0, 1, 0, 2))
    for agent in agents:
        table.add_row(agent, *(Text(cell(found.metrics[agent][key])) for key in shown))
    return table


if __name__ == "__main__":
    main()
