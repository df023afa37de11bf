"""Data to and from robot learning: LeRobot's format, robomimic's files, logs, and files of unknown kinds."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import SmallDataset, as_dataset

from offline_gcrl.commands.lerobot import main as export
from offline_gcrl.config import load_recipe
from offline_gcrl.config.outputs import EPISODES, STEPS
from offline_gcrl.convert.__main__ import main as convert
from offline_gcrl.convert.lerobot import (
    DATA_PATH,
    EPISODES_PATH,
    INFO,
    STATS,
    TASKS,
    check_format,
    read_info,
    tasks_of,
)
from offline_gcrl.episodes.ingest import ingest
from offline_gcrl.library.lerobot import export_lerobot, statistics
from offline_gcrl.support.errors import DataError

RECIPE = "datasets/recipes/my-data.yaml"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project folder with an empty Minari root."""
    (tmp_path / "datasets/recipes").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    return tmp_path


@pytest.fixture(scope="module")
def exported(dataset: SmallDataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lerobot") / "maze"
    export_lerobot(dataset.parquet, folder, fps=20, file_megabytes=0.01)
    return folder


def table(folder: Path, path: str, number: int = 0) -> pa.Table:
    return pq.read_table(folder / path.format(chunk_index=0, file_index=number))


def test_an_export_follows_the_rules_of_the_format(exported: Path, dataset: SmallDataset) -> None:
    info = check_format(exported)
    assert info["codebase_version"] == "v3.0"
    assert info["total_frames"] == dataset.episodes.table["length"].sum()
    assert info["splits"] == {"train": "0:9"}
    assert info["features"]["observation.state"] == {
        "dtype": "float32",
        "shape": [4],
        "names": None,
    }
    assert info["features"]["next.done"] == {"dtype": "bool", "shape": [1], "names": None}
    assert tasks_of(exported) == [dataset.recipe.instruction]


def test_frames_are_states_with_their_actions(exported: Path, dataset: SmallDataset) -> None:
    files = sorted((exported / "data").glob("*/*.parquet"))
    assert len(files) > 1
    frames = pa.concat_tables(map(pq.read_table, files))
    episodes, rows = dataset.episodes, dataset.episodes.transition_rows()
    state = frames["observation.state"].combine_chunks().flatten().to_numpy().reshape(-1, 4)
    action = frames["action"].combine_chunks().flatten().to_numpy().reshape(-1, 2)
    assert np.array_equal(state, episodes.observation[rows])
    assert np.array_equal(action, episodes.action[rows])
    assert str(frames.schema.field("action").type) == "fixed_size_list<element: float>[2]"


def test_an_episode_is_one_row_group_and_its_file_is_listed(exported: Path) -> None:
    listed = table(exported, EPISODES_PATH)
    files = np.array(listed["data/file_index"].to_pylist())
    for number in np.unique(files):
        stored = pq.ParquetFile(exported / DATA_PATH.format(chunk_index=0, file_index=number))
        lengths = np.array(listed["length"].to_pylist())[files == number]
        groups = [stored.metadata.row_group(i).num_rows for i in range(stored.num_row_groups)]
        assert groups == lengths.tolist()


def test_statistics_are_those_of_all_frames_and_of_each_episode(
    exported: Path, dataset: SmallDataset
) -> None:
    values = dataset.episodes.action[dataset.episodes.transition_rows()]
    found = json.loads((exported / STATS).read_text())["action"]
    assert found["mean"] == pytest.approx(values.mean(0, dtype=np.float64).tolist())
    assert found["q50"] == pytest.approx(
        np.quantile(values.astype(np.float64), 0.5, axis=0).tolist()
    )
    assert found["count"] == [len(values)]
    listed = table(exported, EPISODES_PATH)
    first = int(listed["length"][0].as_py())
    assert listed["stats/action/max"][0].as_py() == statistics(values[:first])["max"]


def test_the_tasks_are_the_index_of_a_pandas_table(exported: Path, dataset: SmallDataset) -> None:
    pandas = pytest.importorskip("pandas")
    tasks = pandas.read_parquet(exported / TASKS)
    assert tasks.index.tolist() == [dataset.recipe.instruction]
    assert tasks["task_index"].tolist() == [0]


@pytest.mark.parametrize("form", ["lerobot", "csv", "parquet"])
def test_the_round_trip_of_a_dataset_is_equal_to_itself(
    form: str, dataset: SmallDataset, project: Path
) -> None:
    if form == "lerobot":
        export([str(dataset.parquet), "robot", "--last-states"])
        convert(["lerobot", "robot", "my/data-v0", "--recipe", "my-data", "--tolerance", "0.45"])
    else:
        write_log(dataset, Path(f"log.{form}"))
        columns = ["--goal-columns", "0", "1", "--tolerance", "0.45"]
        convert(["log", f"log.{form}", "my/data-v0", "--recipe", "my-data", *columns])
    recipe = load_recipe("my-data", Path("datasets/recipes"))
    Path("parquet").mkdir()
    ingest(as_dataset(recipe), project / "minari", Path("parquet"))
    ours, theirs = (
        pl.read_parquet(folder / STEPS) for folder in (dataset.parquet, Path("parquet"))
    )
    names = ["episode", "step", "observation", "action", "reward"]
    names += ["achieved_goal", "desired_goal"] if form == "lerobot" else []
    assert theirs.select(names).equals(ours.select(names))
    lengths = [pl.read_parquet(f / EPISODES)["length"] for f in (dataset.parquet, Path("parquet"))]
    assert lengths[0].equals(lengths[1])


def write_log(dataset: SmallDataset, path: Path) -> None:
    steps = pl.read_parquet(dataset.parquet / STEPS)
    action = dataset.episodes.action
    columns = {f"observation_{i}": dataset.episodes.observation[:, i] for i in range(4)}
    if path.suffix == ".csv":
        columns |= {f"action_{i}": action[:, i] for i in range(2)}
    reward = steps["reward"].fill_null(0.0)
    log = pl.DataFrame(
        {"episode": steps["episode"], "step": steps["step"], **columns, "reward": reward}
    )
    if path.suffix == ".csv":
        log.write_csv(path)
    else:
        log.with_columns(pl.Series("action", action.tolist())).write_parquet(path)


def test_without_last_states_an_episode_loses_its_last_transition(
    dataset: SmallDataset, exported: Path, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    convert(["lerobot", str(exported), "my/data-v0"])
    shown = capsys.readouterr().out
    total = int(dataset.episodes.table["length"].sum())
    assert f"9 episodes, {total - 9} transitions" in shown
    assert "the last action of each episode is left out" in shown


def broken_info(folder: Path, **changed: object) -> None:
    info = json.loads((folder / INFO).read_text())
    (folder / INFO).write_text(json.dumps({**info, **changed}))


def rewritten(
    folder: Path, path: str, column: str, change: Callable[[list[int]], list[int]]
) -> None:
    file = folder / path.format(chunk_index=0, file_index=0)
    content = pq.read_table(file)
    place = content.column_names.index(column)
    values = pa.array(change(content[column].to_pylist()), content.schema.field(column).type)
    pq.write_table(content.set_column(place, content.schema.field(column), values), file)


BROKEN: dict[str, tuple[Callable[[Path], None], str]] = {
    "an old version": (
        lambda f: broken_info(f, codebase_version="v2.1"),
        "only 'v3.0' can be read",
    ),
    "another count": (
        lambda f: broken_info(f, total_frames=3),
        "does not fit the rule: total_frames",
    ),
    "another rate": (lambda f: broken_info(f, fps=7), "the rule: timestamp is frame_index / fps"),
    "no tasks": (lambda f: broken_info(f, total_tasks=2), "1 tasks, and total_tasks is 2"),
    "a gap in the index": (
        lambda f: rewritten(f, DATA_PATH, "index", lambda v: [v[0] + 1, *v[1:]]),
        "index counts all frames",
    ),
    "episodes that overlap": (
        lambda f: rewritten(f, EPISODES_PATH, "dataset_to_index", lambda v: [v[0] + 1, *v[1:]]),
        "are contiguous",
    ),
    "no data": (lambda f: shutil.rmtree(f / "data"), "no files chunk-000/file-000.parquet"),
    "no info": (lambda f: (f / INFO).unlink(), "name the folder that contains 'meta'"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_folder_that_breaks_a_rule_is_refused(name: str, exported: Path, tmp_path: Path) -> None:
    damage, message = BROKEN[name]
    folder = tmp_path / "copy"
    shutil.copytree(exported, folder)
    damage(folder)
    with pytest.raises(DataError, match=message):
        check_format(folder)


def test_videos_and_images_are_left_out_with_a_sentence(
    exported: Path, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(exported, "robot")
    features = read_info(Path("robot"))["features"]
    features |= {"observation.images.top": {"dtype": "video", "shape": [64, 64, 3], "names": None}}
    broken_info(Path("robot"), features=features)
    convert(["lerobot", "robot", "my/data-v0"])
    assert "'observation.images.top' is left out: videos are not decoded" in " ".join(
        capsys.readouterr().out.split()
    )
    del features["observation.state"]
    broken_info(Path("robot"), features=features)
    with pytest.raises(SystemExit):
        convert(["lerobot", "robot", "my/other-v0"])
    assert "datasets of images and videos alone cannot be read" in " ".join(
        capsys.readouterr().err.split()
    )


def test_an_export_replaces_nothing_but_an_export(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "parquet/mine").mkdir(parents=True)
    (project / "parquet/mine/file").write_text("1")
    (project / "other").mkdir()
    (project / "other/file").write_text("1")
    for output, said in (
        ("parquet/mine", "parquet/mine contains the dataset"),
        ("parquet", "parquet contains the dataset"),
        (".", ". contains the dataset"),
        ("other", "other is no export: it has no meta/info.json"),
    ):
        with pytest.raises(SystemExit):
            export(["parquet/mine", output, "--replace"])
        assert said in " ".join(capsys.readouterr().err.split())
    assert (project / "parquet/mine/file").exists()
    assert (project / "other/file").exists()


def write_robomimic(path: Path, demos: int = 12, **removed: str) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    arrays = {}
    with h5py.File(path, "w") as file:
        for number in range(demos):
            group = file.create_group(f"data/demo_{number}")
            length = 5 + number
            for name, size in (("obs/b", 2), ("obs/a", 3), ("actions", 2)):
                values = random.uniform(-1, 1, (length, size)).astype(np.float32)
                group[name] = arrays[f"{number}/{name}"] = values
            group["obs/image"] = np.zeros((length, 8, 8, 3), np.uint8)
            group["dones"] = np.zeros(length)
    return arrays


def test_demonstrations_of_robomimic_are_read_in_the_order_of_their_numbers(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arrays = write_robomimic(Path("lift.hdf5"))
    convert(["robomimic", "lift.hdf5", "my/lift-v0", "--recipe", "my-data"])
    assert "'image' is left out: agents read vectors" in capsys.readouterr().out
    Path("parquet").mkdir()
    recipe = load_recipe("my-data", Path("datasets/recipes"))
    ingest(as_dataset(recipe), project / "minari", Path("parquet"))
    steps = pl.read_parquet(Path("parquet") / STEPS)
    expected = [np.concatenate([arrays[f"{n}/obs/a"], arrays[f"{n}/obs/b"]], 1) for n in range(12)]
    assert np.array_equal(steps["observation"].to_numpy(), np.concatenate(expected))
    assert steps["action"].to_numpy()[0].tolist() == arrays["0/actions"][0].tolist()


def test_a_demonstration_without_an_array_of_the_first_is_an_error(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_robomimic(Path("lift.hdf5"))
    with h5py.File("lift.hdf5", "a") as file:
        del file["data/demo_3/obs/a"]
    with pytest.raises(SystemExit):
        convert(["robomimic", "lift.hdf5", "my/lift-v0"])
    assert "/data/demo_3 has no 'obs/a'" in capsys.readouterr().err


def test_rows_of_one_demonstration_that_belong_to_the_next_are_an_error(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_robomimic(Path("lift.hdf5"))
    with h5py.File("lift.hdf5", "a") as file:
        for number, rows in ((3, 9), (4, 8)):  # Together as many as there are actions.
            del file[f"data/demo_{number}/obs/a"]
            file[f"data/demo_{number}/obs/a"] = np.zeros((rows, 3), np.float32)
    with pytest.raises(SystemExit):
        convert(["robomimic", "lift.hdf5", "my/lift-v0"])
    assert "/data/demo_3: 'obs/a' has 9 rows, and 'actions' 8" in capsys.readouterr().err


LOGS = {
    "no episodes": ("a,b,episodes\n1,2,3\n", "has no column of episodes"),
    "episodes apart": ("episode,observation_0,action_0\n1,0,0\n2,0,0\n1,0,0\n", "rows of episode 1 are not together"),
    "steps that fall": ("episode,step,observation_0,action_0\n1,1,0,0\n1,0,0,0\n", "does not increase in row 1"),
    "text": ("episode,observation_0,action_0\n1,x,0\n1,y,0\n", "'observation_0' is 'x' in row 0, expected a number"),
    "an empty cell": ("episode,observation_0,action_0\n1,0,0\n1,,0\n", "'observation_0' is empty in row 1"),
    "no action": ("episode,observation_0,torque\n1,0,0\n1,0,0\n", "no column begins with 'action' or 'act'"),
}  # fmt: skip


@pytest.mark.parametrize("name", LOGS)
def test_a_log_that_cannot_be_read_is_refused_with_the_reason(
    name: str, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content, message = LOGS[name]
    Path("log.csv").write_text(content)
    with pytest.raises(SystemExit):
        convert(["log", "log.csv", "my/log-v0"])
    assert message in " ".join(capsys.readouterr().err.split())


def test_vectors_of_a_log_are_in_the_order_of_their_numbers(project: Path) -> None:
    names = [f"observation_{i}" for i in (10, 2, 1)]
    rows = "\n".join(f"0,{i}0,{i}2,{i}1,0.{i}" for i in range(1, 4))
    Path("log.csv").write_text(f"episode,{','.join(names)},action_0\n{rows}\n")
    convert(["log", "log.csv", "my/log-v0", "--recipe", "my-data"])
    Path("parquet").mkdir()
    recipe = load_recipe("my-data", Path("datasets/recipes"))
    ingest(as_dataset(recipe), project / "minari", Path("parquet"))
    first = pl.read_parquet(Path("parquet") / STEPS)["observation"].to_numpy()[0]
    assert first.tolist() == [11.0, 12.0, 10.0]


def test_a_file_of_another_kind_is_named_for_what_it_looks_like(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_robomimic(Path("lift.hdf5"), demos=1)
    Path("data.pkl").write_bytes(b"\x80\x04\x95\x10")
    Path("film.mp4").write_bytes(b"\x00\x00\x00\x20ftypisom")
    Path("rows.json").write_text('[{"a": 1}]')
    for file, words in (
        ("lift.hdf5", "use `python -m offline_gcrl.convert robomimic`"),
        ("data.pkl", "looks like a Python pickle"),
        ("film.mp4", "looks like a video (MP4), which cannot be converted; known are d4rl"),
        ("rows.json", "looks like JSON"),
        ("nothing.hdf5", "no such file"),
    ):
        with pytest.raises(SystemExit):
            convert(["d4rl", file, "my/data-v0"])
        assert words in " ".join(capsys.readouterr().err.split())
