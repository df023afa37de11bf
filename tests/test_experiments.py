"""The table of experiments shows what changed beside what it did, and nothing else."""

from offline_gcrl.experiments import shown

METRIC = "maze.bc.success_rate."
COMMIT = {
    "Experiment": "", "rev": "main", "State": "", "params.yaml": "", "agents.bc.hidden": "[8]",
    "agents.bc.learning_rate": "0.001", "offline_gcrl/agents": "d1",
    f"{METRIC}mean": "0.5", f"{METRIC}low": "0.25", f"{METRIC}high": "0.755", f"{METRIC}seeds": "3",
    "maze.bc.success_any_rate.mean": "0.6",
}  # fmt: skip


def test_an_experiment_shows_the_settings_that_differ_and_its_success() -> None:
    tried = {**COMMIT, "Experiment": "tried", "State": "Success", "agents.bc.learning_rate": "0.01"}
    tried |= {"offline_gcrl/agents": "d2", f"{METRIC}mean": "0.75"}
    heading, lines = shown([COMMIT, tried])
    assert heading == ["experiment", "state", "agents.bc.learning_rate", "bc on maze"]
    assert lines == [
        ["main", "", "0.001", "0.50 [0.25, 0.76]"],
        ["tried", "success", "0.01", "0.75 [0.25, 0.76]"],
    ]


def test_an_experiment_that_waits_has_no_success_yet() -> None:
    waiting = {**COMMIT, "Experiment": "next", "State": "Queued", "agents.bc.hidden": "[16]"}
    waiting |= {f"{METRIC}{part}": "" for part in ("mean", "low", "high")}
    _, lines = shown([COMMIT, waiting])
    assert lines[1] == ["next", "queued", "[16]", "-"]


def test_a_second_file_of_metrics_or_params_names_its_columns() -> None:
    rows = [
        {
            "Experiment": name,
            "rev": "",
            "State": "",
            "params.yaml:train.updates": updates,
            "reports/metrics.json:maze.bc.success_rate.mean": "1.0",
            "reports/metrics.json:maze.bc.success_rate.low": "1.0",
            "reports/metrics.json:maze.bc.success_rate.high": "1.0",
        }
        for name, updates in (("a", "1"), ("b", "2"))
    ]
    assert shown(rows)[0] == ["experiment", "state", "train.updates", "bc on maze"]


def test_without_rows_there_is_only_a_heading() -> None:
    assert shown([]) == (["experiment", "state"], [])
