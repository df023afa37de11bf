"""The local Minari root, where a user's own and downloaded datasets lie."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from minari.storage import get_dataset_path

from offline_gcrl.collect.collector import minari_root
from offline_gcrl.support.files import atomic_directory


@contextmanager
def placed_atomically(dataset: str) -> Iterator[None]:
    """Let Minari make ``dataset`` within the block; it stands in the local root once that succeeds.

    A block that fails, or a process that is killed, leaves nothing there that Minari would list.
    """
    with atomic_directory(get_dataset_path(dataset)) as folder:
        staging = folder / "root"
        with minari_root(staging):
            yield
        (staging / dataset / "data").rename(folder / "data")
        shutil.rmtree(staging)


def local_datasets() -> list[str]:
    """Ids of all datasets in the local root."""
    root = get_dataset_path()
    found = (path.parent.parent.relative_to(root) for path in root.glob("**/data/metadata.json"))
    return sorted(map(Path.as_posix, filter(_is_listed, found)))


def _is_listed(path: Path) -> bool:
    """Whether no part of it is hidden: what is hidden is half made."""
    return not any(part.startswith(".") for part in path.parts)
