"""Section ``cluster`` of ``params.yaml``: where tasks run. No result depends on it, and no stage of DVC."""

from pydantic import NonNegativeInt

from offline_gcrl.config.reading import Section


class Cluster(Section):
    """Where episodes are collected and evaluated, and where seeds are trained."""

    address: str | None = None
    """Address of a Ray cluster: ``auto`` for the one that this machine belongs to, ``local`` to start Ray on this machine.
    If left out, local processes. The environment variable ``RAY_ADDRESS`` goes first."""
    retries: NonNegativeInt = 3
    """Number of times that a task is repeated after its node or its process died."""
