"""``make ui``: starts MLflow's server, and prints the address of the table of runs."""

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from offline_gcrl.config import load_params
from offline_gcrl.support.errors import OfflineGCRLError
from offline_gcrl.support.silence import working_on
from offline_gcrl.support.terminal import note, stage
from offline_gcrl.tracking.database import SECONDS_TO_ANSWER, store_uri
from offline_gcrl.tracking.store import Tracker
from offline_gcrl.tracking.views import address

HOST = "127.0.0.1"
WITHOUT_JOBS = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
"""MLflow's server would start ten processes for jobs of its own, which the pages of runs do not need."""


def command(port: str) -> list[str]:
    """The command that starts MLflow's server with one worker."""
    server = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", store_uri()]
    return [*server, "--host", HOST, "--port", port, "--workers", "1"]


def main() -> None:
    """Serve MLflow's page until the process is stopped, and print the address of the runs once the page answers."""
    port = sys.argv[1] if len(sys.argv) > 1 else "5000"
    with stage("MLflow", store_uri(), again="make ui"):
        where = address(Tracker(load_params().experiment.name).experiment)
        if store_uri().startswith("http"):
            note(f"open {store_uri()}/{where}")
            return
        check_free(port)
        server = subprocess.Popen(command(port), env={**os.environ, **WITHOUT_JOBS})
        with ended_on_error(server):
            wait_for(server, f"http://{HOST}:{port}/health")
        note(f"open http://{HOST}:{port}/{where}; Ctrl-C ends the server")
    with suppress(KeyboardInterrupt), ended_on_error(server):
        server.wait()


@contextmanager
def ended_on_error(server: subprocess.Popen[bytes]) -> Iterator[None]:
    """End a server if the block raises."""
    try:
        yield
    except BaseException:
        server.terminate()
        server.wait()
        raise


def check_free(port: str) -> None:
    """Check that no other server uses a port.

    Raises:
        OfflineGCRLError: one does, or this is no port.
    """
    try:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # As the server does.
            probe.bind((HOST, int(port)))
    except (OSError, OverflowError, ValueError):
        raise OfflineGCRLError(
            f"port {port} cannot be used, mostly because another server uses it; choose another: make ui PORT=5001"
        ) from None


def wait_for(server: subprocess.Popen[bytes], health: str) -> None:
    """Wait until a server answers.

    Raises:
        OfflineGCRLError: it has ended.
    """
    with working_on("MLflow's server starts"):
        while server.poll() is None:
            try:
                urllib.request.urlopen(health, timeout=SECONDS_TO_ANSWER).close()  # noqa: S310 - http
                return
            except OSError:
                time.sleep(0.2)
    raise OfflineGCRLError("MLflow's server has ended; its messages are above this line")


if __name__ == "__main__":
    main()
