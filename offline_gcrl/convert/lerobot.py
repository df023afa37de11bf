"""LeRobot's dataset format v3.0: the rules of its files, and the frames as columns. It does not need the package lerobot.

A dataset is a folder: ``meta/info.json``, ``meta/tasks.parquet``, ``meta/stats.json``, ``meta/episodes/chunk-*/file-*.parquet``
and ``data/chunk-*/file-*.parquet`` with a row per frame. A frame has the state and the action chosen in it.
"""

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from offline_gcrl.convert.columns import ArrayColumn, Column, Columns, JoinedColumn
from offline_gcrl.convert.lerobot_images import VIDEO, PNGColumn, check_images
from offline_gcrl.support.errors import DataError

VERSION = "v3.0"
INFO, TASKS, STATS = "meta/info.json", "meta/tasks.parquet", "meta/stats.json"
DATA_PATH = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
EPISODES_PATH = "meta/episodes/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
BOOKKEEPING = {
    "timestamp": "float32",
    "frame_index": "int64",
    "episode_index": "int64",
    "index": "int64",
    "task_index": "int64",
}
"""Features that every dataset has, with one number each."""
INFO_KEYS = (
    "codebase_version", "robot_type", "total_episodes", "total_frames", "total_tasks", "chunks_size",
    "data_files_size_in_mb", "video_files_size_in_mb", "fps", "splits", "data_path", "video_path", "features",
)  # fmt: skip
EPISODE_COLUMNS = (
    "episode_index", "tasks", "length", "data/chunk_index", "data/file_index", "dataset_from_index",
    "dataset_to_index", "meta/episodes/chunk_index", "meta/episodes/file_index",
)  # fmt: skip
TOLERANCE = 1e-4
"""Seconds by which a timestamp may differ from the number of its frame divided by the rate."""
STATE = ("observation.state", "observation.environment_state")
LAST_STATE = "is_last"
"""A feature of our own: the frame has the last state of its episode, and its action is a filler."""
NAMES = {
    "action": "actions",
    "next.reward": "rewards",
    "next.done": "terminals",
    "next.success": "infos/success",
    "observation.achieved_goal": "infos/achieved_goal",
    "observation.desired_goal": "infos/desired_goal",
}
"""Names of features in the layouts of the converter."""


def read_info(folder: Path) -> dict[str, Any]:
    """The content of ``meta/info.json``.

    Raises:
        DataError: there is none, it is incomplete, or the dataset has another version.
    """
    path = folder / INFO
    try:
        info = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; name the folder that contains 'meta'") from None
    except ValueError as error:
        raise DataError(f"{path}: not JSON: {error}") from None
    version = info.get("codebase_version")
    if version != VERSION:
        raise DataError(
            f"{path}: codebase_version is {version!r}, and only '{VERSION}' can be read; convert it with the script of "
            "LeRobot for this version"
        )
    missing = [name for name in INFO_KEYS if name not in info]
    if missing:
        raise DataError(f"{path}: lacks the keys {', '.join(missing)}")
    return dict(info)


def check_format(folder: Path) -> dict[str, Any]:
    """Check a dataset against the rules of the format, and return its info.

    Raises:
        DataError: naming the file, the rule and what was found.
    """
    info = read_info(folder)
    features = info["features"]
    for name, kind in BOOKKEEPING.items():
        if features.get(name, {}).get("dtype") != kind or features[name]["shape"] != [1]:
            raise DataError(f"{folder / INFO}: the feature '{name}' must be {kind} of shape [1]")
    named = [name for name in features if "/" in name]
    if named:
        raise DataError(f"{folder / INFO}: names of features have no '/': {', '.join(named)}")
    episodes = _table(folder, "meta/episodes")
    lacking = [name for name in EPISODE_COLUMNS if name not in episodes.column_names]
    if lacking:
        raise DataError(f"{folder}/meta/episodes: lacks the columns {', '.join(lacking)}")
    _check_episodes(folder, info, episodes)
    _check_frames(folder, info, episodes)
    check_images(_files(folder, "data"), info)
    tasks = tasks_of(folder)
    if len(tasks) != info["total_tasks"]:
        raise DataError(
            f"{folder / TASKS}: {len(tasks)} tasks, and total_tasks is {info['total_tasks']}"
        )
    return info


def _check_episodes(folder: Path, info: Mapping[str, Any], episodes: pa.Table) -> None:
    lengths = episodes["length"].to_numpy()
    first, stop = (episodes[f"dataset_{end}_index"].to_numpy() for end in ("from", "to"))
    rules = {
        "total_episodes": len(lengths) == info["total_episodes"],
        "total_frames": int(lengths.sum()) == info["total_frames"],
        "episode_index counts from 0": np.array_equal(
            episodes["episode_index"].to_numpy(), np.arange(len(lengths))
        ),
        "dataset_from_index and dataset_to_index are contiguous": np.array_equal(
            first, np.append(0, stop[:-1])
        )
        and np.array_equal(stop - first, lengths),
    }
    _require(rules, f"{folder}/meta/episodes")


def _check_frames(folder: Path, info: Mapping[str, Any], episodes: pa.Table) -> None:
    frames = _table(folder, "data", [*BOOKKEEPING])
    lengths = episodes["length"].to_numpy()
    frame = np.concatenate([np.arange(length) for length in lengths])
    stamps = frames["timestamp"].to_numpy().reshape(-1)
    rules = {
        "index counts all frames": np.array_equal(
            frames["index"].to_numpy(), np.arange(info["total_frames"])
        ),
        "frame_index counts the frames of each episode": np.array_equal(
            frames["frame_index"].to_numpy(), frame
        ),
        "episode_index is that of the episode": np.array_equal(
            frames["episode_index"].to_numpy(), np.repeat(np.arange(len(lengths)), lengths)
        ),
        "timestamp is frame_index / fps": len(stamps) == len(frame)
        and bool((np.abs(stamps - frame / info["fps"]) <= TOLERANCE).all()),
        "task_index is a task": bool((frames["task_index"].to_numpy() < info["total_tasks"]).all()),
    }
    _require(rules, f"{folder}/data")


def _require(rules: Mapping[str, bool], where: str) -> None:
    """Raise an error that names the first rule that does not hold."""
    broken = next((rule for rule, holds in rules.items() if not holds), None)
    if broken is not None:
        raise DataError(f"{where}: does not fit the rule: {broken}")


def tasks_of(folder: Path) -> list[str]:
    """The sentences of the tasks in the order of their numbers.

    The sentence is the index of a pandas table, whose name differs between versions of LeRobot: it is the text column.
    """
    table = _parquet([folder / TASKS])
    text = [field.name for field in table.schema if pa.types.is_string(field.type) or pa.types.is_large_string(field.type)]  # fmt: skip
    if "task_index" not in table.column_names or len(text) != 1:
        raise DataError(f"{folder / TASKS}: expected the column task_index and one column of text")
    pairs = zip(table["task_index"].to_pylist(), table[text[0]].to_pylist(), strict=True)
    return [sentence for _, sentence in sorted(pairs)]


def left_out(folder: Path, image: str | None = None) -> list[str]:
    """Remarks on the features that are not read, and why; ``image`` is the array of the images that are read."""
    remarks = []
    for name, feature in read_info(folder)["features"].items():
        if feature["dtype"] == "video":
            remarks.append(f"'{name}' is left out: {VIDEO}")
        elif feature["dtype"] == "image" and own_name(name) != image:
            remarks.append(f"'{name}' is left out: --image {name} reads it")
        elif feature["dtype"] == "string":
            remarks.append(f"'{name}' is left out: it is text")
    return remarks


@contextmanager
def lerobot_columns(
    path: Path, image: str | None = None, size: tuple[int, int] | None = None
) -> Iterator[Columns]:
    """The frames of a dataset with the names of D4RL's files; other numeric features and the images become infos.

    Args:
        path: folder of the dataset.
        image: name of the image feature; None for vectors alone.
        size: height and width that images are scaled to; those of the data by default.

    Raises:
        DataError: the folder does not follow the format, or has no vector of the state or of the action.
    """
    info = check_format(path)
    numeric = {
        name: feature
        for name, feature in info["features"].items()
        if feature["dtype"] not in {"video", "image", "string"}
    }
    states = [name for name in STATE if name in numeric]
    if not states or "action" not in numeric:
        shown = ", ".join(info["features"])
        raise DataError(
            f"{path}: has no vector '{STATE[0]}' or no 'action', but {shown}; datasets of images and videos alone cannot be "
            "read"
        )
    frames = _table(path, "data", [*numeric])
    found: dict[str, Column] = {"observations": JoinedColumn([_column(frames, n) for n in states])}
    for name in numeric:
        if name in BOOKKEEPING or name in states:
            continue
        own = own_name(name)
        column = _column(frames, name)
        found[own] = _flat(column) if own in {"rewards", "terminals"} else column
    found["infos/task_index"] = _column(frames, "task_index")
    episode = frames["episode_index"].to_numpy()
    found["timeouts"] = ArrayColumn(np.append(np.diff(episode) != 0, True).astype(np.int8))
    if image is not None:
        found[own_name(image)] = PNGColumn(_files(path, "data"), image, size)
    yield found


def own_name(feature: str) -> str:
    """The name of a feature in the layouts of the converter; names with dots become groups of infos."""
    return NAMES.get(feature, f"infos/{feature.replace('.', '/')}")


def _flat(column: ArrayColumn) -> ArrayColumn:
    return ArrayColumn(column.values.reshape(len(column.values)))


def _column(frames: pa.Table, name: str) -> ArrayColumn:
    """A feature of all frames, (frames, ...)."""
    values = frames[name].combine_chunks()
    shape: list[int] = []
    while not pa.types.is_primitive(values.type):
        outer = len(values)
        fixed = pa.types.is_fixed_size_list(values.type)
        shape.append(values.type.list_size if fixed else len(values.flatten()) // max(1, outer))
        values = values.flatten()
    numbers: NDArray[Any] = values.to_numpy(zero_copy_only=False)
    if numbers.size != len(frames) * math.prod(shape):
        raise DataError(f"the feature '{name}' has frames of different sizes; agents need vectors")
    return ArrayColumn(numbers.reshape(len(frames), *shape))


def _table(folder: Path, part: str, columns: list[str] | None = None) -> pa.Table:
    """The rows of all files of a part of a dataset, in order."""
    return _parquet(_files(folder, part), columns)


def _files(folder: Path, part: str) -> list[Path]:
    """All files of a part of a dataset, in order."""
    files = sorted((folder / part).glob("chunk-*/file-*.parquet"))
    if not files:
        raise DataError(f"{folder / part}: no files chunk-000/file-000.parquet")
    return files


def _parquet(files: list[Path], columns: list[str] | None = None) -> pa.Table:
    try:
        tables = [pq.read_table(file, columns=columns) for file in files]
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{files[0]}: cannot be read; is the file complete? ({error})") from None
    return pa.concat_tables(tables)
