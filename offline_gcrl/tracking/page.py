"""``make ui``: starts MLflow's server, and prints the address of the table of runs."""

import os
import sys

from offline_gcrl.config import load_params
from offline_gcrl.support.terminal import note, stage
from offline_gcrl.tracking.database import store_uri
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
    """Print the address of the runs, and serve MLflow's page until the process is stopped."""
    port = sys.argv[1] if len(sys.argv) > 1 else "5000"
    with stage("MLflow", store_uri()):
        experiment = load_params().experiment.name
        where = address(Tracker(experiment).experiment)
        server = store_uri() if store_uri().startswith("http") else f"http://{HOST}:{port}"
        note(f"open {server}/{where}")
    if server != store_uri():
        arguments = command(port)
        os.execve(arguments[0], arguments, {**os.environ, **WITHOUT_JOBS})  # noqa: S606 (no shell is wanted)


if __name__ == "__main__":
    main()
