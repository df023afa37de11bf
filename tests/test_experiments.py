"""The table of experiments shows the settings that differ and the success rates, and nothing else."""

import io

import pytest
from rich.console import Console
from test_report import evaluated_episodes

from offline_gcrl.commands.experiments import experiments_table, renderable
from offline_gcrl.report.flat import headline_numbers
from offline_gcrl.report.results import AgentResults, DatasetResults


def measured(rate: float, file: str = "") -> dict[str, str]:
    """The columns that DVC makes of the report's metrics."""
    agents = {"bc": AgentResults([evaluated_episodes(rate)], [])}
    numbers = headline_numbers({"maze": DatasetResults(agents, {})})["maze"]["bc"]
    return {f"{file}maze.bc.{name}": str(value) for name, value in numbers.items()}


COMMIT = {
    "Experiment": "", "rev": "main", "State": "", "params.yaml": "", "agents.bc.hidden": "[8]",
    "agents.bc.learning_rate": "0.001", "offline_gcrl/agents": "d1", **measured(0.5),
}  # fmt: skip


def test_an_experiment_shows_the_settings_that_differ_and_its_success() -> None:
    tried = {**COMMIT, "Experiment": "tried", "State": "Success", "agents.bc.learning_rate": "0.01"}
    tried |= {"offline_gcrl/agents": "d2", **measured(0.75)}
    heading, lines = experiments_table([COMMIT, tried])
    assert heading == ["experiment", "state", "agents.bc.learning_rate", "bc on maze"]
    (first, second) = (line[-1] for line in lines)
    assert [line[:3] for line in lines] == [["main", "", "0.001"], ["tried", "success", "0.01"]]
    assert first.startswith("0.50 [0.")
    assert second.startswith("0.75 [0.")


def test_a_queued_experiment_has_no_success_rate() -> None:
    waiting = {**COMMIT, "Experiment": "next", "State": "Queued", "agents.bc.hidden": "[16]"}
    waiting |= dict.fromkeys(measured(0.5), "")
    _, lines = experiments_table([COMMIT, waiting])
    assert lines[1] == ["next", "queued", "[16]", "-"]


def test_a_second_file_of_metrics_or_params_names_its_columns() -> None:
    rows = [
        {
            "Experiment": name,
            "rev": "",
            "State": "",
            "params.yaml:train.updates": updates,
            **measured(1.0, "reports/headline.json:"),
        }
        for name, updates in (("a", "1"), ("b", "2"))
    ]
    assert experiments_table(rows)[0] == ["experiment", "state", "train.updates", "bc on maze"]


def test_without_rows_there_is_only_a_heading() -> None:
    assert experiments_table([]) == (["experiment", "state"], [])


@pytest.mark.parametrize("width", [60, 80, 400])
def test_no_name_and_no_rate_is_cut_with_six_settings_in_any_width(width: int) -> None:
    heading = [
        "experiment",
        "state",
        *(f"agents.gciql.setting_{n}" for n in range(6)),
        "bc on maze",
    ]
    lines = [[f"weedy-{n}", "success", *["0.001"] * 6, "0.88 [0.72, 1.00]"] for n in range(2)]
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(renderable(heading, lines, width))
    text = console.export_text()
    for word in (*heading[2:], *(cell for line in lines for cell in line)):
        assert word in text
    assert len(text.splitlines()) == (3 if width == 400 else 18)


def test_a_paragraph_has_only_the_results_of_its_experiment() -> None:
    heading = ["experiment", "state", "experiment.datasets", "bc on maze", "bc on arm"]
    lines = [
        ["first", "success", "['maze']", "0.50 [0.40, 0.60]", "-"],
        ["second", "success", "['arm']", "-", "0.75 [0.65, 0.85]"],
    ]
    console = Console(width=60, record=True, file=io.StringIO())
    console.print(renderable(heading, lines, 60))
    first, second = console.export_text().split("second")
    assert "bc on maze" in first
    assert "bc on arm" not in first
    assert "bc on arm" in second
    assert "bc on maze" not in second
