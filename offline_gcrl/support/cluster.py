"""Ray tasks behind the interface of process pools, so that work runs on the nodes of a cluster.

A function of an item gives the same result on any node, so results are those of local processes. A task whose node
dies runs again elsewhere. An error of the package is not repeated: it ends the work. Ray is imported only here, and only
if a cluster was chosen. All nodes see the project under the same path, on shared storage.
"""

import logging
import os
import socket
import sys
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from types import TracebackType
from typing import Any, Self

from offline_gcrl.support.errors import OfflineGCRLError

ADDRESS = "RAY_ADDRESS"
"""Environment variable with the address of a cluster, which Ray reads, too; ``local`` starts Ray on this machine."""
RETRIES = "OFFLINE_GCRL_RETRIES"
"""Environment variable with the number of times that a task is repeated after its node or its process died."""
DEFAULT_RETRIES = 3
ORIGIN = "OFFLINE_GCRL_ADDRESS_FROM"
"""Environment variable that says where the address is from, if it is not from the variable itself."""
SECONDS_TO_CONNECT = 5.0
"""How long the address may take to answer. Ray itself tries for minutes."""
PASSED = ("MUJOCO_GL", "MINARI_DATASETS_PATH", "MLFLOW_TRACKING_URI")
"""Environment variables that tasks get from this process."""


def use_cluster(address: str | None, retries: int) -> None:
    """Run the tasks of this process on a cluster; ``RAY_ADDRESS``, if it is set, goes before the address.

    Raises:
        OfflineGCRLError: nothing answers at the address.
    """
    if address is not None and not is_chosen():
        os.environ[ADDRESS] = address
        os.environ[ORIGIN] = "cluster.address in params.yaml"
    os.environ.setdefault(RETRIES, str(retries))
    if is_chosen():
        _require_answer(os.environ[ADDRESS])


def is_chosen() -> bool:
    """Whether tasks run on a cluster."""
    return bool(os.environ.get(ADDRESS))


class RayPool:
    """Submits functions as Ray tasks.

    Args:
        gpus: GPUs that each task uses.

    Raises:
        OfflineGCRLError: Ray is not installed, or there is no cluster at the address.
    """

    def __init__(self, gpus: int = 0) -> None:
        ray = self.ray = connected()
        self.size = max(1, int(ray.cluster_resources().get("CPU", 1)))
        """Number of cores of the cluster."""
        passed = {name: os.environ[name] for name in PASSED if name in os.environ}
        self.task = ray.remote(_run).options(
            num_cpus=1,
            num_gpus=gpus,
            max_retries=int(os.environ.get(RETRIES) or DEFAULT_RETRIES),
            retry_exceptions=False,
            scheduling_strategy="SPREAD",
            runtime_env={"env_vars": {"OPENBLAS_NUM_THREADS": "1", **passed}},
        )
        self.place = (os.getcwd(), [path for path in sys.path if path])
        self.pending: set[Any] = set()

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Future[Any]:
        """Run a function of a module on any node; the future has its result, or the error that it raised."""
        ref = self.task.remote(self.place, self.ray.cloudpickle.dumps((function, arguments)))
        future: Future[Any] = Future()
        self.pending.add(ref)
        # The result comes here as soon as it is ready: results that stay on a node are lost with it.
        ref.future().add_done_callback(partial(self._settle, future, ref))
        return future

    def _settle(self, future: Future[Any], ref: Any, done: Future[Any]) -> None:
        self.pending.discard(ref)
        if future.cancelled():
            return
        error = done.exception()
        if error is None:
            future.set_result(done.result())
        else:
            future.set_exception(_explained(self.ray, error))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Cancel the tasks that have not ended, if the block failed."""
        for ref in list(self.pending):
            self.ray.cancel(ref, force=True)


def connected() -> Any:
    """Ray, connected to the cluster that was chosen.

    Raises:
        OfflineGCRLError: Ray is not installed, or there is no cluster at the address.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    address = os.environ[ADDRESS]
    try:
        import ray
    except ImportError:
        raise OfflineGCRLError(
            f"{ADDRESS} is '{address}', and Ray is not installed; run `pip install 'offline-gcrl[cluster]'`, or unset "
            f"{ADDRESS} and leave out cluster.address in params.yaml"
        ) from None
    if not ray.is_initialized():
        try:
            _require_answer(_resolved(address))
            ray.init(
                address, log_to_driver=False, logging_level=logging.ERROR, ignore_reinit_error=True
            )
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise OfflineGCRLError(_no_cluster(address, error)) from None
    return ray


def _resolved(address: str) -> str:
    """The host and the port that Ray takes for ``auto``, which may be those of a cluster that died; or the address.

    Raises:
        ConnectionError: this machine belongs to no cluster.
    """
    if address != "auto":
        return address
    try:
        from ray._private.services import get_ray_address_from_environment
    except ImportError:  # Of another version: Ray itself finds out, in minutes.
        return address
    return str(get_ray_address_from_environment(address, None))


def _require_answer(address: str) -> None:
    """Check that something answers at an address of a host and a port.

    Raises:
        OfflineGCRLError: nothing does.
    """
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal():
        return  # ``auto`` or ``local``, or an address that Ray refuses at once.
    try:
        socket.create_connection((host.strip("[]"), int(port)), SECONDS_TO_CONNECT).close()
    except (OSError, OverflowError) as error:
        raise OfflineGCRLError(_no_cluster(address, error)) from None


def _no_cluster(address: str, error: BaseException) -> str:
    origin = os.environ.get(ORIGIN, f"the environment variable {ADDRESS}")
    remedy = f"unset {ADDRESS}" if ORIGIN not in os.environ else "leave it out"
    return (
        f"{origin}: there is no Ray cluster at '{address}' ({_first_line(error)}); correct the address, start a cluster "
        f"with `make cluster`, or {remedy} for local processes"
    )


def _run(place: tuple[str, list[str]], work: bytes) -> Any:
    """Run a pickled function of the same modules, in the same folder, as where it was submitted."""
    import pickle

    folder, paths = place
    if os.path.isdir(folder):
        os.chdir(folder)
    sys.path[:0] = [path for path in paths if path not in sys.path]
    function, arguments = pickle.loads(work)  # noqa: S301 - from the process that submitted the task
    return function(*arguments)


def _explained(ray: Any, error: BaseException) -> BaseException:
    """The error that a task raised, without Ray's traceback around it; a sentence if a node or process died."""
    if isinstance(error, ray.exceptions.RayTaskError):
        cause: BaseException = error.cause
        return cause
    if isinstance(error, ray.exceptions.RayError):
        retries = os.environ.get(RETRIES, DEFAULT_RETRIES)
        return OfflineGCRLError(
            f"a process or a node of the cluster died {int(retries) + 1} times at the same task, or memory ran out there "
            f"({type(error).__name__}: {_first_line(error)}); run the stage again"
        )
    return error


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
