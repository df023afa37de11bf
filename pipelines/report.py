"""Results to a report: the table, the figures, and the numbers for ``dvc metrics``."""

from pathlib import Path

from rich.markdown import Markdown

from offline_gcrl.config import load_params, load_recipe
from offline_gcrl.report import load_results, markdown_table, write_report
from offline_gcrl.terminal import close, console, stage


def main() -> None:
    """Fill ``reports``."""
    with stage("report", "all datasets and agents"):
        experiment = load_params().experiment
        results = load_results(experiment, Path("results"))
        recipes = {dataset: load_recipe(dataset) for dataset in experiment.datasets}
        output = Path("reports")
        metrics = write_report(results, recipes, Path("datasets/hindsight"), output)
        console.print(Markdown(markdown_table(metrics)))
        close(f"tables and figures in {output}; `make ui` opens the runs in MLflow")


if __name__ == "__main__":
    main()
