"""The database of the MLflow store: its address, its first creation, and a server that does not answer.

MLflow creates the tables of a new SQLite file step by step, and a file whose creation was interrupted, or on which
several processes worked, can never be used again. So the tables are created in a temporary file, under a lock of the
store's own path, and the file is renamed when it is complete.
"""

import os
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlparse

from mlflow.tracking import MlflowClient
from sqlalchemy.engine import make_url

from offline_gcrl.config.experiment import WithoutServer
from offline_gcrl.support.errors import OfflineGCRLError
from offline_gcrl.support.files import atomic_file, sqlite_uri
from offline_gcrl.support.locks import only_process
from offline_gcrl.support.terminal import warn

DATABASE = "mlflow.db"
SECONDS_TO_ANSWER = 5.0
SECONDS_FOR_A_LOCK = 300.0


def store_root() -> Path:
    """The folder of the store: the root of the DVC project, even for queued experiments in temporary folders."""
    return Path(os.environ.get("DVC_ROOT", ".")).resolve()


def store_uri() -> str:
    """``MLFLOW_TRACKING_URI``, else a SQLite file in the root of the project."""
    return os.environ.get("MLFLOW_TRACKING_URI") or sqlite_uri(store_root() / DATABASE)


def remove_misread_folder(uri: str) -> None:
    """Remove the empty folder that MLflow makes where it takes an escaped path for the path itself."""
    misread, meant = Path(uri.removeprefix("sqlite:///")).parent, make_url(uri).database
    if uri.startswith("sqlite") and meant and misread != Path(meant).parent:
        with suppress(OSError):  # There is none, or it is not empty.
            misread.rmdir()


def reachable_store(without_server: WithoutServer) -> None:
    """Use the file of the project for the rest of this process if the server does not answer and the setting allows it.

    Raises:
        OfflineGCRLError: the server does not answer, and the setting is ``stop``.
    """
    uri = store_uri()
    if not uri.startswith("http"):
        return
    try:
        _ask(uri)
    except OfflineGCRLError as error:
        if without_server == "stop":
            raise
        here = store_root() / DATABASE
        warn(
            f"{error}; experiment.without_server is '{without_server}', so runs are logged to {here}"
        )
        os.environ["MLFLOW_TRACKING_URI"] = sqlite_uri(here)


def prepare_store(uri: str) -> None:
    """Create a new SQLite file, if the store is one and there is none."""
    if uri.startswith("sqlite"):
        path = Path(str(make_url(uri).database))
        with store_lock(path.with_name(f".{path.name}.lock")):
            if not path.exists():
                _create(path)


@contextmanager
def store_lock(path: Path) -> Iterator[None]:
    """The lock of a store, which each process holds for some seconds.

    Raises:
        OfflineGCRLError: another process holds the lock for minutes.
    """
    held = (
        f"{path}: another process has held this lock for {SECONDS_FOR_A_LOCK:.0f} s, and with it the MLflow store; "
        "end that process and run again"
    )
    with only_process(path, SECONDS_FOR_A_LOCK, held):
        yield


def _create(path: Path) -> None:
    with atomic_file(path) as partial:
        partial.unlink(missing_ok=True)  # Of a process that was killed; nobody else is here.
        MlflowClient(sqlite_uri(partial)).search_experiments()


def _ask(uri: str) -> None:
    """Ask a server for its health; MLflow's client would retry for minutes."""
    address = urlparse(uri)._replace(path="/health", query="", fragment="").geturl()
    try:
        urllib.request.urlopen(address, timeout=SECONDS_TO_ANSWER).close()  # noqa: S310 - http, as given
    except urllib.error.HTTPError:
        pass  # It answers, if only that it wants a password, which MLflow's client has.
    except OSError as error:
        reason = getattr(error, "reason", error)
        if isinstance(reason, ssl.SSLError):
            return  # It answers; MLFLOW_TRACKING_INSECURE_TLS may allow its certificate.
        raise OfflineGCRLError(
            f"MLFLOW_TRACKING_URI: the server at {uri} does not answer ({reason}); start it, or unset the variable "
            "to use a file in the project, or set experiment.without_server: local"
        ) from None
