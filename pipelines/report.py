"""Results to a report: the table, the figures, and the numbers for ``dvc metrics``."""

from pathlib import Path

from rich.markdown import Markdown

from offline_gcrl.config import load_dataset, load_params
from offline_gcrl.report import load_results, markdown_table, write_report
from offline_gcrl.terminal import close, console, stage


def main() -> None:
    """Fill ``reports``."""
    with stage("report", "all datasets and agents"):
        experiment = load_params().experiment
        results = load_results(experiment, Path("results"))
        datasets = {name: load_dataset(name) for name in experiment.datasets}
        output = Path("reports")
        metrics = write_report(results, datasets, Path("datasets/hindsight"), output)
        console.print(Markdown(markdown_table(metrics)))
        close(f"tables and figures in {output}; `make ui` opens the runs in MLflow")


if __name__ == "__main__":
    main()
