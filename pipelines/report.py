"""Results to a report: the page, tables, figures, and the numbers for ``dvc metrics``."""

from pathlib import Path

from rich.markdown import Markdown

from offline_gcrl.config import load_dataset, load_params
from offline_gcrl.report.facts import Folders
from offline_gcrl.report.results import load_results
from offline_gcrl.report.tables import markdown_table
from offline_gcrl.report.verdict import verdict
from offline_gcrl.report.writing import write_report
from offline_gcrl.terminal import close, console, note, stage


def main() -> None:
    """Fill ``reports``."""
    with stage("report", "all datasets and agents"):
        params, folders = load_params(), Folders()
        datasets = {name: load_dataset(name) for name in params.experiment.datasets}
        results = load_results(params.experiment, datasets, folders.results)
        output = Path("reports")
        write_report(params, datasets, results, folders, output)
        console.print(Markdown(markdown_table(results)))
        for dataset, found in results.items():
            note(f"{dataset}: {verdict(found).text}")
        close(f"the page is {output}/index.html; `make ui` opens the runs in MLflow")


if __name__ == "__main__":
    main()
