"""What kind of file a path is, by its first bytes and its content, for errors that name the right layout."""

import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import h5py

from offline_gcrl.support.errors import DataError

KINDS = {
    "d4rl": "D4RL's HDF5 (observations, actions, rewards)",
    "ogbench": "OGBench's .npz (observations, actions, terminals)",
    "robomimic": "robomimic's HDF5 (data/demo_0/obs, data/demo_0/actions)",
    "lerobot": "a folder with a LeRobot dataset of version 3.0 (meta/info.json)",
    "log": "a CSV or Parquet log with a column 'episode'",
}
"""The layouts that can be converted, in words."""
SIGNATURES = (
    (b"\x1f\x8b", "a gzip archive; unpack it first"),
    (b"BZh", "a bzip2 archive; unpack it first"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive; unpack it first"),
    (b"\x93NUMPY", "a single NumPy array"),
    (b"SQLite format 3", "an SQLite database"),
    (b"#ROSBAG", "a ROS bag"),
    (b"\x89MCAP", "an MCAP recording"),
    (b"ARROW1", "an Arrow file; write it as Parquet"),
    (b"\x89PNG", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"%PDF", "a PDF document"),
    (b"\x1aE\xdf\xa3", "a Matroska video"),
)
"""First bytes of files that cannot be converted."""
PICKLE = tuple(bytes([0x80, number]) for number in range(2, 6))


def check_kind(path: Path, layout: str) -> None:
    """Check that a file is not obviously of another kind than its layout.

    A file whose kind is not recognised passes; its reader then says what is wrong with it.

    Raises:
        DataError: naming what the file looks like, and what to do.
    """
    if not path.exists():
        raise DataError(f"{path}: no such file")
    found, looks = kind_of(path)
    if found == layout:
        return
    if found is not None:
        raise DataError(
            f"{path}: looks like {KINDS[found]}, not like {KINDS[layout]}; use `python -m offline_gcrl.convert {found}`"
        )
    if looks is not None:
        known = "; ".join(f"{name}: {words}" for name, words in KINDS.items())
        raise DataError(f"{path}: looks like {looks}, which cannot be converted; known are {known}")


def kind_of(path: Path) -> tuple[str | None, str | None]:
    """The layout of a file, or else what it looks like; both None if that is not recognised."""
    if path.is_dir():
        return _folder(path)
    with path.open("rb") as file:
        first = file.read(64)
    for signature, look in READERS.items():
        if first.startswith(signature):
            return look(path)
    words = next((words for start, words in SIGNATURES if first.startswith(start)), None)
    if first.startswith(PICKLE):
        words = "a Python pickle, which could run any code; save its arrays as .npz"
    if first[4:8] == b"ftyp":
        words = "a video (MP4)"
    return (None, words) if words else _text(path)


def _folder(path: Path) -> tuple[str | None, str | None]:
    if (path / "meta" / "info.json").is_file():
        return "lerobot", None
    if (path / "data" / "metadata.json").is_file():
        return None, "a Minari dataset, which a recipe can name as it is"
    if (path / "features.json").is_file() and (path / "dataset_info.json").is_file():
        return None, "an RLDS dataset (TensorFlow Datasets); write its episodes as Parquet"
    names = ", ".join(sorted(child.name for child in path.iterdir())[:6]) or "nothing"
    return None, f"a folder with {names}"


def _hdf5(path: Path) -> tuple[str | None, str | None]:
    """The layout of an HDF5 file; a damaged one is left to its reader."""
    with suppress(OSError, RuntimeError, KeyError), h5py.File(path, "r") as file:
        names = set(file)
        if "data" in names and any(name.startswith("demo_") for name in file["data"]):
            return "robomimic", None
        if {"observations", "actions"} & names:
            return "d4rl", None
        if any(name.startswith("episode_") for name in names):
            return None, "the HDF5 file of a Minari dataset; name its folder in a recipe"
        listed = ", ".join(sorted(names)[:6]) or "nothing"
        return None, f"an HDF5 file with {listed}"
    return None, None


def _zip(path: Path) -> tuple[str | None, str | None]:
    with suppress(zipfile.BadZipFile, OSError), zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        if any(name.endswith("data.pkl") for name in names):
            return None, "a file of PyTorch; save its arrays as .npz"
        if not any(name.endswith(".npy") for name in names):
            return None, f"a zip archive with {', '.join(names[:6])}; unpack it first"
        return "ogbench", None
    return None, None


def _text(path: Path) -> tuple[str | None, str | None]:
    """CSV by its first line; other text by what it begins with."""
    try:
        with path.open(encoding="utf-8") as file:
            line = file.readline(10_000).strip()
    except (UnicodeDecodeError, OSError):
        return None, None
    if line.startswith(("{", "[")):
        return None, "JSON; write its rows as CSV or Parquet"
    is_table = line.count(",") >= 2 and "episode" in line.lower()
    return ("log", None) if is_table else (None, None)


def _parquet(path: Path) -> tuple[str | None, str | None]:
    return "log", None


READERS: dict[bytes, Callable[[Path], tuple[str | None, str | None]]] = {
    b"\x89HDF\r\n\x1a\n": _hdf5,
    b"PK\x03\x04": _zip,
    b"PAR1": _parquet,
}
"""Functions that look into files, by the first bytes of these."""
