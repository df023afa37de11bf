"""The local Minari root, the folder of downloaded datasets and of the user's own datasets."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from minari.storage import get_dataset_path

from offline_gcrl.collect.collector import minari_root
from offline_gcrl.support.files import atomic_directory


@contextmanager
def placed_atomically(dataset: str) -> Iterator[None]:
    """Let Minari write ``dataset`` within the block, and move it to the local root if the block succeeds.

    If the block fails or the process is killed, Minari lists no incomplete dataset.
    """
    with atomic_directory(get_dataset_path(dataset)) as folder:
        staging = folder / "root"
        with minari_root(staging):
            yield
        (staging / dataset / "data").rename(folder / "data")
        shutil.rmtree(staging)


def local_datasets() -> list[str]:
    """Ids of all datasets in the local Minari root."""
    root = get_dataset_path()
    found = (path.parent.parent.relative_to(root) for path in root.glob("**/data/metadata.json"))
    return sorted(map(Path.as_posix, filter(_is_listed, found)))


def _is_listed(path: Path) -> bool:
    """Whether no part of a path is hidden; hidden folders contain incomplete datasets."""
    return not any(part.startswith(".") for part in path.parts)
