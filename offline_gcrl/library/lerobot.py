"""Export of an ingested dataset to LeRobot's dataset format v3.0, with pyarrow and JSON alone.

A frame is a state with the action chosen in it. The last state of an episode has no action, and LeRobot has no place for
it: by default it is left out, and our Parquet files remain the master. With ``last_states`` it is a frame of its own, whose
action repeats the one before and whose feature ``is_last`` is true; such a folder is converted back without loss. Images
are the feature ``observation.image``.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from offline_gcrl.config.outputs import STEPS
from offline_gcrl.convert.lerobot import (
    BOOKKEEPING,
    DATA_PATH,
    EPISODES_PATH,
    INFO,
    LAST_STATE,
    STATS,
    TASKS,
    VERSION,
    check_format,
)
from offline_gcrl.convert.lerobot_images import CELL
from offline_gcrl.episodes.dataset import Episodes, open_episodes
from offline_gcrl.library.lerobot_images import IMAGE, ExportedImages, image_statistics
from offline_gcrl.support.digests import intact
from offline_gcrl.support.errors import SettingsError
from offline_gcrl.support.files import atomic_directory, write_json

CHUNK_FILES, FILE_MEGABYTES, VIDEO_MEGABYTES = 1000, 100, 200
QUANTILES = (1, 10, 50, 90, 99)
Arrays = dict[str, NDArray[Any]]
Statistics = dict[str, Any]
"""Statistics of a feature by name; those of vectors are lists of numbers."""


def export_lerobot(
    episodes: Path,
    output: Path,
    *,
    fps: int = 10,
    robot: str | None = None,
    last_states: bool = False,
    file_megabytes: float = FILE_MEGABYTES,
) -> dict[str, Any]:
    """Write an ingested dataset as a LeRobot dataset.

    Args:
        episodes: folder of the ingested dataset.
        output: folder to write, which is replaced.
        fps: frames per second; our data has no clock, and LeRobot needs a rate.
        robot: type of the robot.
        last_states: whether the last state of each episode is a frame.
        file_megabytes: size of the arrays of a data file; an episode is never divided.

    Returns:
        The content of ``meta/info.json``.

    Raises:
        DataError: there is no ingested dataset.
        SettingsError: the rate is not positive.
    """
    if fps < 1:
        raise SettingsError(f"--fps: expected at least 1, not {fps}")
    data = open_episodes(episodes)
    frames = _frames(data, _rewards(episodes), last_states)
    lengths = data.table["length"].to_numpy().astype(np.int64) + last_states
    numbers = [data.schema["tasks"].index(task) for task in data.table["task"]]
    frames |= _bookkeeping(lengths, np.array(numbers, dtype=np.int64), fps)
    with atomic_directory(output) as folder:
        (folder / "meta").mkdir()
        images = _images(data, last_states)
        places = _write_data(folder, frames, lengths, file_megabytes, images)
        own, of_all = _statistics(frames, lengths, images)
        sentences = _distinct(data.schema["instructions"], data.schema["tasks"])
        _write_tasks(folder / TASKS, sentences)
        _write_episodes(folder, own, lengths, [sentences[n] for n in numbers], places)
        write_json(folder / STATS, of_all)
        info = _info(frames, lengths, len(sentences), fps, robot)
        info["features"] |= {} if images is None else {IMAGE: images.feature}
        write_json(folder / INFO, info)
        check_format(folder)
    return info


def _images(data: Episodes, last_states: bool) -> ExportedImages | None:
    """The images of the steps; None in a dataset without images."""
    if data.images is None or data.frames is None:
        return None
    return ExportedImages(data.frames, data.images, last_states)


def _rewards(episodes: Path) -> NDArray[np.float32]:
    """Rewards of all rows, (R,); 0 in the last row of an episode."""
    reward = pl.read_parquet(intact(episodes / STEPS), columns=["reward"])["reward"]
    return reward.fill_null(0.0).to_numpy().astype(np.float32)


def _frames(data: Episodes, rewards: NDArray[np.float32], last_states: bool) -> Arrays:
    """The features of all frames except bookkeeping, (frames, size)."""
    first = data.table["first_row"].to_numpy().astype(np.int64)
    ends = first + data.table["length"].to_numpy().astype(np.int64)
    is_last = np.zeros(len(data.observation), dtype=np.bool_)
    is_last[ends] = True
    actions, done = data.action.copy(), np.zeros(len(is_last), dtype=np.bool_)
    actions[ends] = actions[ends - 1]
    done[ends - 1] = data.table["terminated"].to_numpy()
    found: Arrays = {"observation.state": data.observation, "action": actions}
    if not data.schema["goals_are_states"]:
        found["observation.achieved_goal"] = data.achieved_goal
    if data.desired_goal is not None:
        found["observation.desired_goal"] = data.desired_goal
    found |= {"next.reward": rewards[:, None], "next.done": done[:, None]}
    if last_states:
        return found | {LAST_STATE: is_last[:, None]}
    return {name: values[~is_last] for name, values in found.items()}


def _bookkeeping(lengths: NDArray[np.int64], task: NDArray[np.int64], fps: int) -> Arrays:
    """The features that every dataset has, (frames, 1)."""
    frame = np.concatenate([np.arange(length) for length in lengths])
    found = {
        "timestamp": (frame / fps).astype(np.float32),
        "frame_index": frame,
        "episode_index": np.repeat(np.arange(len(lengths)), lengths),
        "index": np.arange(lengths.sum()),
        "task_index": np.repeat(task, lengths),
    }
    return {name: values[:, None] for name, values in found.items()}


def _write_data(
    folder: Path,
    frames: Arrays,
    lengths: NDArray[np.int64],
    megabytes: float,
    images: ExportedImages | None,
) -> list[tuple[int, int]]:
    """Write the frames, a row group per episode, and return the numbers of chunk and file of each episode."""
    fields = [(name, _type(name, values)) for name, values in frames.items()]
    schema = pa.schema([*fields, *([] if images is None else [(IMAGE, CELL)])])
    bytes_per_frame = sum(values.itemsize * values.shape[1] for values in frames.values())
    bytes_per_frame += 0 if images is None else images.bytes_per_frame
    most = max(1, int(megabytes * 2**20 / bytes_per_frame))
    places, row = [], 0
    for number, episodes in enumerate(_files(lengths, most)):
        place = divmod(number, CHUNK_FILES)
        path = folder / DATA_PATH.format(chunk_index=place[0], file_index=place[1])
        path.parent.mkdir(parents=True, exist_ok=True)
        with pq.ParquetWriter(path, schema, compression="snappy") as writer:
            for length in episodes:
                part = {name: values[row : row + length] for name, values in frames.items()}
                arrays = [_array(values, schema.field(name).type) for name, values in part.items()]
                arrays += [] if images is None else [images.read(length)]
                writer.write_table(pa.table(arrays, schema=schema))
                row += length
        places += [place] * len(episodes)
    return places


def _files(lengths: NDArray[np.int64], most: int) -> Iterator[list[int]]:
    """Lengths of consecutive episodes that one file contains: at most ``most`` frames, and at least one episode."""
    file: list[int] = []
    for length in lengths.tolist():
        if file and sum(file) + length > most:
            yield file
            file = []
        file.append(length)
    if file:
        yield file


def _type(name: str, values: NDArray[Any]) -> pa.DataType:
    inner = pa.from_numpy_dtype(values.dtype)
    is_scalar = name in BOOKKEEPING or name.startswith("next.") or name == LAST_STATE
    return inner if is_scalar else pa.list_(inner, values.shape[1])


def _array(values: NDArray[Any], kind: pa.DataType) -> pa.Array:
    flat = pa.array(np.ascontiguousarray(values).reshape(-1))
    return pa.FixedSizeListArray.from_arrays(flat, type=kind) if pa.types.is_fixed_size_list(kind) else flat  # fmt: skip


def _write_tasks(path: Path, sentences: list[str]) -> None:
    """The sentences as the index of a pandas table, as LeRobot reads them; without pandas."""
    text = {"field_name": "task", "name": "task", "pandas_type": "unicode", "numpy_type": "object", "metadata": None}  # fmt: skip
    number = {"field_name": "task_index", "name": "task_index", "pandas_type": "int64", "numpy_type": "int64", "metadata": None}  # fmt: skip
    index = {"name": None, "field_name": None, "pandas_type": "unicode", "numpy_type": "object", "metadata": {"encoding": "UTF-8"}}  # fmt: skip
    described = {
        "index_columns": ["task"],
        "column_indexes": [index],
        "columns": [number, text],
        "creator": {"library": "pyarrow", "version": pa.__version__},
        "pandas_version": "2.2.3",
    }
    table = pa.table({"task_index": pa.array(range(len(sentences)), pa.int64()), "task": sentences})
    pq.write_table(table.replace_schema_metadata({"pandas": json.dumps(described)}), path)


def _write_episodes(
    folder: Path,
    own: list[dict[str, Statistics]],
    lengths: NDArray[np.int64],
    tasks: list[str],
    places: list[tuple[int, int]],
) -> None:
    """The table of episodes with the statistics of each, by feature."""
    stops = lengths.cumsum()
    rows: list[dict[str, Any]] = []
    for number, (stop, length) in enumerate(zip(stops.tolist(), lengths.tolist(), strict=True)):
        flat = {f"stats/{name}/{key}": value for name, found in own[number].items() for key, value in found.items()}  # fmt: skip
        rows.append(
            {
                "episode_index": number,
                "tasks": [tasks[number]],
                "length": length,
                "data/chunk_index": places[number][0],
                "data/file_index": places[number][1],
                "dataset_from_index": stop - length,
                "dataset_to_index": stop,
                "meta/episodes/chunk_index": 0,
                "meta/episodes/file_index": 0,
                **flat,
            }
        )
    path = folder / EPISODES_PATH.format(chunk_index=0, file_index=0)
    path.parent.mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows), path)


def _statistics(
    frames: Arrays, lengths: NDArray[np.int64], images: ExportedImages | None
) -> tuple[list[dict[str, Statistics]], dict[str, Statistics]]:
    """The statistics of each episode, and those of all frames, by feature; images must have been written."""
    stops = lengths.cumsum().tolist()
    own: list[dict[str, Statistics]] = [
        {name: statistics(values[stop - length : stop]) for name, values in frames.items()}
        for stop, length in zip(stops, lengths.tolist(), strict=True)
    ]
    of_all: dict[str, Statistics] = {name: statistics(values) for name, values in frames.items()}
    if images is not None:
        for each, histograms, length in zip(own, images.histograms, lengths.tolist(), strict=True):
            each[IMAGE] = image_statistics(histograms, length, QUANTILES)
        total = np.sum(images.histograms, axis=0)
        of_all[IMAGE] = image_statistics(total, int(lengths.sum()), QUANTILES)
    return own, of_all


def statistics(values: NDArray[Any]) -> dict[str, list[float] | list[int]]:
    """LeRobot's statistics of a feature, (frames, size): of each dimension, and the number of frames."""
    numbers = values.astype(np.float64)
    cuts = np.quantile(numbers, [q / 100 for q in QUANTILES], axis=0)
    return {
        "min": numbers.min(0).tolist(),
        "max": numbers.max(0).tolist(),
        "mean": numbers.mean(0).tolist(),
        "std": numbers.std(0).tolist(),
        "count": [len(numbers)],
        **{f"q{q:02d}": cut.tolist() for q, cut in zip(QUANTILES, cuts, strict=True)},
    }


def _info(
    frames: Arrays, lengths: NDArray[np.int64], tasks: int, fps: int, robot: str | None
) -> dict[str, Any]:
    return {
        "codebase_version": VERSION,
        "robot_type": robot,
        "total_episodes": len(lengths),
        "total_frames": int(lengths.sum()),
        "total_tasks": tasks,
        "chunks_size": CHUNK_FILES,
        "data_files_size_in_mb": FILE_MEGABYTES,
        "video_files_size_in_mb": VIDEO_MEGABYTES,
        "fps": fps,
        "splits": {"train": f"0:{len(lengths)}"},
        "data_path": DATA_PATH,
        "video_path": None,
        "features": {
            name: {"dtype": str(values.dtype), "shape": [values.shape[1]], "names": None}
            for name, values in frames.items()
        },
    }


def _distinct(sentences: list[str], tasks: list[str]) -> list[str]:
    """A sentence for each task; two tasks with one sentence are told apart by their names."""
    repeated: Mapping[str, int] = {each: sentences.count(each) for each in sentences}
    return [
        text if repeated[text] == 1 else f"{text} ({task})"
        for text, task in zip(sentences, tasks, strict=True)
    ]
