"""Logs of one row per step: which columns are read, in what order, and which rows are refused."""

import shutil
from pathlib import Path

import minari
import numpy as np
import polars as pl
import pytest
import yaml

from offline_gcrl.collect.room import RESERVE
from offline_gcrl.convert.__main__ import main
from offline_gcrl.convert.logs import numbered

EPISODES, ROWS = 4, 11
GOAL = ["--goal-columns", "0", "1", "--tolerance", "0.1"]


def log(**columns: pl.Expr | float) -> pl.DataFrame:
    """Episodes of random actions, with two numbers as the observation and further or other columns."""
    random = np.random.default_rng(0)
    rows = {
        "episode": np.repeat(np.arange(EPISODES), ROWS),
        "step": np.tile(np.arange(ROWS), EPISODES),
        "action_0": random.uniform(-1, 1, EPISODES * ROWS),
        "observation_0": random.normal(size=EPISODES * ROWS),
        "observation_1": random.normal(size=EPISODES * ROWS),
    }
    values = {name: pl.lit(v) if isinstance(v, float) else v for name, v in columns.items()}
    return pl.DataFrame(rows).with_columns(**values)


def convert(table: pl.DataFrame, *more: str, name: str = "log.parquet") -> list[minari.EpisodeData]:
    """The episodes of a table after conversion."""
    if Path(name).suffix.lower() == ".csv":
        table.write_csv(name)
    else:
        table.write_parquet(name)
    main(["log", name, "my/log-v0", "--recipe", "my-log", *GOAL, *more])
    return list(minari.load_dataset("my/log-v0").iterate_episodes())


@pytest.mark.usefixtures("root")
def test_columns_are_sorted_by_their_number_within_names_and_are_printed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    own = {
        "observation_pos_1": 20.0,
        "observation_pos_0": 10.0,
        "observation_vel_0": 30.0,
        "obs_x": 40.0,
    }
    episodes = convert(log(**own).drop("observation_0", "observation_1"), name="log.CSV")
    assert episodes[0].observations[0].tolist() == [10.0, 20.0, 30.0, 40.0]
    said = " ".join(capsys.readouterr().out.split())
    assert (
        "observation: 0 to 1 observation_pos_0 ... observation_pos_1, 2 observation_vel_0, 3 obs_x"
        in said
    )
    assert "action: 0 action_0" in said


def test_parts_of_a_vector_are_numbered() -> None:
    assert numbered([("position", 3), ("angle", 1)]) == "0 to 2 position, 3 angle"


@pytest.mark.usefixtures("root")
def test_numbers_may_follow_a_prefix_directly() -> None:
    table = log().rename({"observation_0": "obs0", "observation_1": "obs1", "action_0": "act0"})
    assert convert(table)[0].observations.shape == (ROWS, 2)


@pytest.mark.usefixtures("root")
@pytest.mark.parametrize("kind", [pl.Int32, pl.UInt32, pl.Float32, pl.Datetime("us")])
def test_joined_episodes_are_refused_whatever_the_type_of_steps(
    kind: pl.DataType, capsys: pytest.CaptureFixture[str]
) -> None:
    step = pl.col("step") % 6
    with pytest.raises(SystemExit):
        convert(log(step=step.cast(kind)))
    assert "'step' does not increase in row 6; sort the rows" in capsys.readouterr().err


@pytest.mark.usefixtures("root")
def test_times_as_text_are_refused_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        convert(log(step=pl.format("2026-01-01 10:00:{}", "step")))
    assert "'step' has values of type String, expected numbers or times" in capsys.readouterr().err


@pytest.mark.usefixtures("root")
def test_missing_steps_are_reported(capsys: pytest.CaptureFixture[str]) -> None:
    convert(log(step=pl.col("step") + 100 * (pl.col("step") > 5)))
    said = " ".join(capsys.readouterr().out.split())
    assert "'step' jumps in 4 rows, first in row 6: there the transition is longer than one" in said


@pytest.mark.usefixtures("root")
def test_an_end_within_an_episode_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        convert(log(done=(pl.col("step") == 5).cast(pl.Int8)))
    assert "'done' marks row 5 as the end of an episode, and rows of the" in capsys.readouterr().err
    assert len(convert(log(done=pl.col("step") == ROWS - 1))) == EPISODES


@pytest.mark.usefixtures("root")
@pytest.mark.parametrize("missing", [None, float("nan")])
def test_the_last_row_of_an_episode_needs_neither_action_nor_reward(missing: float | None) -> None:
    is_last = pl.col("step") == ROWS - 1
    full = log(reward=1.0)
    without = [
        pl.when(is_last).then(pl.lit(missing)).otherwise(name).alias(name)
        for name in ("action_0", "reward")
    ]
    complete, short = (convert(table, "--replace") for table in (full, full.with_columns(without)))
    for one, other in zip(complete, short, strict=True):
        assert np.array_equal(one.actions, other.actions)
        assert np.array_equal(one.observations, other.observations)


@pytest.mark.usefixtures("root")
def test_an_action_that_is_missing_elsewhere_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        convert(log(action_0=pl.when(pl.col("step") != 3).then("action_0")))
    assert "'action_0' is empty in row 3; fill it, or delete the row" in capsys.readouterr().err


@pytest.mark.usefixtures("root")
@pytest.mark.parametrize("names", [("goal_0", "goal_1"), ("desired_goal_0", "desired_goal_1")])
def test_goals_in_columns_are_the_goals_of_the_recipe(names: tuple[str, str]) -> None:
    episodes = convert(log(**dict.fromkeys(names, 0.5), goal_reached=1.0))
    key = names[0].removesuffix("_0")
    assert episodes[0].infos[key].tolist() == [[0.5, 0.5]] * ROWS
    assert episodes[0].infos["goal_reached"].shape[0] == ROWS
    recipe = yaml.safe_load(Path("datasets/recipes/my-log.yaml").read_text())
    assert recipe["goal"]["desired"] == f"infos.{key}"


@pytest.mark.usefixtures("root")
def test_a_full_disk_ends_a_conversion_with_a_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    usage = shutil.disk_usage(".")._replace(free=RESERVE)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(SystemExit):
        convert(log())
    assert "the disk is full; free some space" in " ".join(capsys.readouterr().err.split())


@pytest.mark.usefixtures("root")
def test_goals_by_options_go_before_those_of_the_file(capsys: pytest.CaptureFixture[str]) -> None:
    achieved = {"achieved_goal_0": 0.1, "achieved_goal_1": 0.2}
    convert(log(**achieved), "--desired-constant", "7", "8")
    recipe = yaml.safe_load(Path("datasets/recipes/my-log.yaml").read_text())
    assert recipe["goal"]["achieved"] == {"key": "observation", "columns": [0, 1]}
    assert recipe["goal"]["desired"] == {"constant": [7.0, 8.0]}
    assert "the achieved goals in the file are not used" in " ".join(
        capsys.readouterr().out.split()
    )


@pytest.mark.usefixtures("root")
def test_columns_of_the_next_observation_are_no_part_of_the_observation() -> None:
    episodes = convert(log(obs_next_0=7.0, observation_next_1=8.0))
    assert episodes[0].observations.shape[1] == 2


@pytest.mark.usefixtures("root")
def test_an_empty_number_of_an_unused_column_is_kept_as_nan() -> None:
    table = log(battery=1)
    row = pl.int_range(len(table))
    episodes = convert(table.with_columns(battery=pl.when(row > 0).then(pl.col("battery"))))
    assert np.isnan(episodes[0].infos["battery"][0])
    assert episodes[0].infos["battery"][1] == 1


TEXT = log().write_csv()
LINES = TEXT.splitlines()


def converted(text: str) -> list[minari.EpisodeData]:
    """The episodes of the text of a CSV file after conversion."""
    Path("log.csv").write_text(text)
    main(["log", "log.csv", "my/text-v0", "--replace", *GOAL])
    return list(minari.load_dataset("my/text-v0").iterate_episodes())


@pytest.mark.usefixtures("root")
@pytest.mark.parametrize(
    ("text", "remark"),
    [
        ("\n".join(f"{n or ''},{line}" for n, line in enumerate(LINES)), "columns without a name, such as the index of pandas, are left out: 1"),
        ("\n".join(f",{line}," for line in LINES), "columns without a name, such as the index of pandas, are left out: 2"),
        (TEXT + ",,,,\n\n", "empty rows are left out: 2"),
        (TEXT.replace(",", " , "), None),
        ("\n".join(f"{line}, {'False' if n else 'done'}" for n, line in enumerate(LINES)), None),
        ("\n".join(f"{line},{'' if n else 'notes'}" for n, line in enumerate(LINES)), None),
    ],
    ids=["index", "unnamed", "empty rows", "spaces", "truth with spaces", "empty column"],
)  # fmt: skip
def test_what_other_programs_leave_in_a_csv_file_does_not_change_the_data(
    text: str, remark: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = converted(TEXT)
    capsys.readouterr()
    for one, other in zip(converted(text), plain, strict=True):
        assert np.array_equal(one.observations, other.observations)
        assert np.array_equal(one.actions, other.actions)
        assert not one.infos
    said = " ".join(capsys.readouterr().out.split())
    assert remark in said if remark else "are left out" not in said


@pytest.mark.usefixtures("root")
def test_nan_in_small_letters_is_nan() -> None:
    """As NumPy writes it, here for the action of a last row."""
    lines = LINES.copy()
    episode, step, _, *observation = lines[ROWS].split(",")
    lines[ROWS] = ",".join([episode, step, "nan", *observation])
    for one, other in zip(converted("\n".join(lines)), converted(TEXT), strict=True):
        assert np.array_equal(one.actions, other.actions)


REFUSED = {
    "semicolons": (TEXT.replace(",", ";"), "its values are separated by semicolons, and commas are expected"),
    "decimal commas": (TEXT.replace(",", ";").replace(".", ","), "separated by semicolons"),
    "tabs": (TEXT.replace(",", "\t"), "its values are separated by tabs, and commas are expected"),
    "no rows": (LINES[0] + "\n", "log.csv: has no rows"),
    "no episode": (TEXT.replace("\n0,3,", "\n,3,"), "'episode' is empty in row 3; fill it, or delete the row"),
    "NA": (TEXT.replace("\n0,3,", "\n0,3,NA"), "'action_0' is 'NA"),
    "the row of NA": (TEXT.replace("\n0,3,", "\n0,3,NA"), "in row 3, expected a number; correct it, or rename the column"),
    "two columns": (TEXT.replace("observation_1", " observation_0"), "has several columns 'observation_0'; rename them"),
    "an empty part": (log(**{"motor//heat": 1.0}).write_csv(), "column 'motor//heat' has an empty part"),
    "a slash at the end": (log(**{"motor/": 1.0}).write_csv(), "column 'motor/' has an empty part"),
    "a point": (log(**{"motor/./heat": 1.0}).write_csv(), "column 'motor/./heat' has an empty part or '.' between"),
}  # fmt: skip


@pytest.mark.usefixtures("root")
@pytest.mark.parametrize("name", REFUSED)
def test_a_csv_file_that_is_no_log_is_refused_with_the_reason(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    text, message = REFUSED[name]
    with pytest.raises(SystemExit):
        converted(text)
    assert message in " ".join(capsys.readouterr().err.split())


@pytest.mark.usefixtures("root")
@pytest.mark.parametrize("name", ["log.tsv", "log.txt"])
def test_text_of_another_suffix_is_refused(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path(name).write_text(TEXT)
    with pytest.raises(SystemExit):
        main(["log", name, "my/text-v0", *GOAL])
    said = " ".join(capsys.readouterr().err.split())
    assert "is no Parquet file, and a log in CSV has the suffix .csv; rename it if commas" in said


@pytest.mark.usefixtures("root")
def test_a_parquet_log_is_read_whatever_its_suffix_and_needs_rows(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in ("log.pq", "log.data", "log.csv"):
        log().write_parquet(name)
        main(["log", name, "my/log-v0", "--replace", *GOAL])
    with pytest.raises(SystemExit):
        convert(log().clear())
    assert "log.parquet: has no rows" in " ".join(capsys.readouterr().err.split())
