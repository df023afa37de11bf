"""Published Minari datasets, from the local Minari root or by download."""

import os
import socket
from pathlib import Path
from urllib.parse import urlparse

import minari
from minari.storage import get_dataset_path

from offline_gcrl.collect.local import local_datasets, placed_atomically
from offline_gcrl.config import nearest
from offline_gcrl.support.errors import DataError
from offline_gcrl.support.files import copy_contents
from offline_gcrl.support.silence import working_on
from offline_gcrl.support.stores import copy_from_store

METADATA = "data/metadata.json"
REMEDY = "copy the folder of the Minari dataset there, such as ~/.minari/datasets/<id>, with all of its files"


def fetch_published(dataset: str, root: Path, address: str | None = None) -> None:
    """Copy a published dataset to the Minari root ``root``.

    The dataset is copied from the local Minari root. If it is missing there, it is first downloaded to it, once for all
    recipes.

    Args:
        dataset: its id.
        root: the Minari root.
        address: folder of the dataset in an object store, from which it is copied instead; None for the local Minari root.

    Raises:
        DataError: the dataset is not available; the message says which files to place where.
    """
    if address is not None:
        with working_on(f"copying {address}"):
            copy_from_store(address, root / dataset, METADATA, REMEDY)
        return
    local = get_dataset_path(dataset)
    if not (local / METADATA).exists():
        with working_on(f"downloading '{dataset}'"):
            _download(dataset, local)
    with working_on(f"copying {local}"):
        copy_contents(local, root / dataset)


def _download(dataset: str, local: Path) -> None:
    _require_network(dataset, local)
    try:
        with placed_atomically(dataset):
            minari.download_dataset(dataset)
    except Exception as error:  # Minari and its client raise many types for an unavailable dataset.
        raise _unavailable(dataset, local, str(error).strip().split("\n")[0]) from error


def _require_network(dataset: str, local: Path) -> None:
    """Fail immediately without network; the download client would retry for half a minute."""
    from huggingface_hub.constants import ENDPOINT, HF_HUB_OFFLINE

    if HF_HUB_OFFLINE:
        raise _unavailable(dataset, local, "HF_HUB_OFFLINE is set")
    if any(os.environ.get(name) for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY")):
        return
    url = urlparse(ENDPOINT)
    try:
        socket.create_connection((url.hostname, url.port or 443), timeout=3).close()
    except OSError:
        raise _unavailable(dataset, local, f"{url.hostname} cannot be reached") from None


def _unavailable(dataset: str, local: Path, reason: str) -> DataError:
    available = local_datasets()
    hint = f"In the root: {nearest(dataset, available)}\n" if available else ""
    return DataError(
        f"dataset '{dataset}' is not in the local Minari root and cannot be downloaded ({reason}).\n{hint}"
        f"Place its files here and run again:\n"
        f"  {local / 'data' / 'main_data.hdf5'}\n"
        f"  {local / 'data' / 'metadata.json'}\n"
        f"(`minari download {dataset}` on a machine with network downloads them; "
        "MINARI_DATASETS_PATH sets another root)"
    )
