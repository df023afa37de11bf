"""Published Minari datasets: from the local Minari root, else downloaded."""

import os
import shutil
import socket
from pathlib import Path
from urllib.parse import urlparse

import minari
from minari.storage import get_dataset_path

from offline_gcrl.collect.local import local_datasets, placed_atomically
from offline_gcrl.config import nearest
from offline_gcrl.support.errors import DataError


def fetch_published(dataset: str, root: Path) -> None:
    """Place a dataset that is not made here below the Minari root ``root``.

    It comes from the local Minari root; what is not there is downloaded to it first, once for all recipes.

    Raises:
        DataError: the dataset is neither here nor to be had, with what to place where.
    """
    local = get_dataset_path(dataset)
    if not (local / "data" / "metadata.json").exists():
        _download(dataset, local)
    shutil.copytree(local, root / dataset)


def _download(dataset: str, local: Path) -> None:
    _require_network(dataset, local)
    try:
        with placed_atomically(dataset):
            minari.download_dataset(dataset)
    except Exception as error:  # Minari and the hub raise many kinds; each means: not to be had.
        raise _unavailable(dataset, local, str(error).strip().split("\n")[0]) from error


def _require_network(dataset: str, local: Path) -> None:
    """Fail at once without network: the hub's client would go on trying for half a minute."""
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
    there = local_datasets()
    hint = f"There: {nearest(dataset, there)}\n" if there else ""
    return DataError(
        f"dataset '{dataset}' is not in the local Minari root and cannot be downloaded ({reason}).\n{hint}"
        f"Place its files here and run again:\n"
        f"  {local / 'data' / 'main_data.hdf5'}\n"
        f"  {local / 'data' / 'metadata.json'}\n"
        f"(`minari download {dataset}` on a machine with network makes them; "
        "MINARI_DATASETS_PATH names another root)"
    )
