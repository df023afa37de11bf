"""Random damage to files, for property tests: bits, truncation, wrong types, extreme values, wrong order, missing keys."""

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import yaml

Random = np.random.Generator
EXTREME: tuple[Any, ...] = (
    None, True, -1, 0, 1e300, -1e-300, 2**63, 2**200, "", "x", "1e5", [], {}, [[]], float("nan"), float("inf"), "\0", ".inf",
)  # fmt: skip


def flip(content: bytes, random: Random) -> bytes:
    place, changed = int(random.integers(8 * len(content))), bytearray(content)
    changed[place // 8] ^= 1 << place % 8
    return bytes(changed)


def overwrite(content: bytes, random: Random) -> bytes:
    start = int(random.integers(len(content)))
    noise = random.bytes(int(random.integers(1, 200)))
    return (content[:start] + noise + content[start + len(noise) :])[: len(content)]


def swap(content: bytes, random: Random) -> bytes:
    first, middle, last = sorted(random.integers(len(content) + 1, size=3).tolist())
    return content[:first] + content[middle:last] + content[first:middle] + content[last:]


BINARY: dict[str, Callable[[bytes, Random], bytes]] = {
    "flip": flip,
    "cut": lambda content, random: content[: int(random.integers(len(content)))],
    "empty": lambda content, random: b"",
    "overwrite": overwrite,
    "swap": swap,
    "append": lambda content, random: content + random.bytes(int(random.integers(1, 99))),
    "noise": lambda content, random: random.bytes(int(random.integers(1, 9999))),
}


def places(tree: Any) -> Iterator[tuple[Any, Any]]:
    """All containers in a tree with their keys."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()  # fmt: skip
    for key, value in items:
        yield tree, key
        yield from places(value)


def edited(tree: Any, random: Random) -> Any:
    """A tree with one key missing, of a wrong or extreme value, renamed, or in another order."""
    found = list(places(tree))
    if not found:
        return EXTREME[int(random.integers(len(EXTREME)))]
    container, key = found[int(random.integers(len(found)))]
    how = random.choice(["drop", "extreme", "extreme", "rename", "reverse"])
    if how == "drop":
        del container[key]
    elif how == "extreme":
        container[key] = EXTREME[int(random.integers(len(EXTREME)))]
    elif isinstance(container, dict):
        items = list(container.items())
        if how == "reverse":
            items.reverse()
        else:
            items = [(f"{name}_" if name == key else name, value) for name, value in items]
        container.clear()
        container.update(items)
    else:
        container.reverse()
    return tree


def edit_text(path: Path, random: Random) -> str:
    """Edit a JSON or YAML file."""
    if path.suffix == ".json":
        path.write_text(json.dumps(edited(json.loads(path.read_text()), random)))
    else:
        path.write_text(yaml.safe_dump(edited(yaml.safe_load(path.read_text()), random), sort_keys=False))  # fmt: skip
    return "edit"


def edit_hdf5(path: Path, random: Random) -> str:
    """Change one array of an HDF5 file."""
    with h5py.File(path, "a") as file:
        arrays: list[str] = []
        file.visititems(lambda name, item: arrays.append(name) if isinstance(item, h5py.Dataset) else None)  # fmt: skip
        name = arrays[int(random.integers(len(arrays)))]
        values = file[name][()]
        how = str(random.choice(["drop", "reverse", "extreme", "type", "shape", "shorter"]))
        del file[name]
        if how == "reverse":
            file[name] = values[::-1]
        elif how == "extreme":
            changed = values.astype(np.float64)
            changed.flat[int(random.integers(changed.size))] = random.choice([np.nan, np.inf, 1e300, 1e30, -999.0, 2.0])  # fmt: skip
            file[name] = changed
        elif how == "type":
            file[name] = values.astype(str(random.choice(["S3", "i8", "f2", "?", "c8"])))
        elif how == "shape":
            file[name] = values.reshape(-1)
        elif how == "shorter":
            file[name] = values[: int(random.integers(len(values)))]
    return f"{how} of {name}"


def damage(folder: Path, random: Random) -> tuple[Path, str]:
    """Damage one file of a folder; returns the file and what was done."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.stat().st_size)
    path = files[int(random.integers(len(files)))]
    how = str(random.choice([*BINARY, "delete", "folder", "other file", "edit", "edit", "edit"]))
    if how == "edit" and path.suffix in {".json", ".yaml"}:
        return path, edit_text(path, random)
    if how == "edit" and path.suffix == ".hdf5":
        return path, edit_hdf5(path, random)
    if how in {"delete", "folder"}:
        path.unlink()
        if how == "folder":
            path.mkdir()
    elif how == "other file":
        path.write_bytes(files[int(random.integers(len(files)))].read_bytes())
    else:
        how = "flip" if how == "edit" else how
        path.write_bytes(BINARY[how](path.read_bytes(), random))
    return path, how


@contextmanager
def restored(folder: Path) -> Iterator[None]:
    """Give a folder its content back at the end."""
    copy = folder.with_name(f"{folder.name}-copy")
    if not copy.exists():
        shutil.copytree(folder, copy)
    try:
        yield
    finally:
        shutil.rmtree(folder)
        shutil.copytree(copy, folder)
