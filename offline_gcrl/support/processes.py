"""Worker processes of this machine, or tasks on a cluster if one was chosen: both run the same functions.

Workers are forked from a fork server that has imported the heavy packages once. They start fast and inherit no locks,
threads or GPU state. They end when their parent ends, even if it is killed, because an orphan would continue to write
to files that the next run writes, too.
"""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import forkserver, resource_tracker
from typing import Any, Protocol, TypeVar

from offline_gcrl.support import cluster
from offline_gcrl.support.errors import OfflineGCRLError
from offline_gcrl.support.imports import PRELOADED
from offline_gcrl.support.memory import workers_remark
from offline_gcrl.support.terminal import note

Item = TypeVar("Item")
Result = TypeVar("Result")

context = multiprocessing.get_context("forkserver")


def preload(*modules: str) -> None:
    """Start the fork server, which imports these modules once for all workers, in the background."""
    preload_on_demand(*modules)
    if not cluster.is_chosen():
        _start_fork_server()


def preload_on_demand(*modules: str) -> None:
    """Let the fork server import these modules once it is started, which the first pool does."""
    _one_thread_each()
    os.environ[PRELOADED] = " ".join(modules)
    context.set_forkserver_preload(["offline_gcrl.support.preloaded"])


def _start_fork_server() -> None:
    """Start the fork server if there is none; it and the workers leave Ctrl-C to this process, which ends them."""
    resource_tracker.ensure_running()  # Otherwise the fork server starts it, which ends the block.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


def _one_thread_each() -> None:
    """Restrict NumPy in each worker to one thread, as every core has its own worker."""
    # This process has read the variable already, so it only affects the workers.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


def cores() -> int:
    """Number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def balanced_workers(jobs: int) -> int:
    """Number of processes for long jobs of equal length, such that no core is idle in the last round.

    For example, three jobs on two cores all run at the same time, which takes 1.5 rounds; two jobs followed by one
    would take 2 rounds.
    """
    rounds = max(1, jobs // cores())
    return -(-jobs // rounds)


class Pool(Protocol):
    """Runs functions elsewhere."""

    def submit(self, function: Callable[..., Any], /, *arguments: Any) -> Future[Any]:
        """Run a picklable function; the future has its result, or the error that it raised."""


@contextmanager
def worker_pool(workers: int, *, gpus: int = 0) -> Iterator[Pool]:
    """A pool of ``workers`` processes, or the cluster that was chosen, whose tasks use ``gpus`` GPUs each."""
    if not cluster.is_chosen():
        with process_pool(workers) as processes:
            yield processes
    else:
        with cluster.RayPool(gpus) as tasks:
            yield tasks


@contextmanager
def process_pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    """A pool of ``workers`` processes, which end with the block; an error or an interruption kills them at once."""
    _one_thread_each()
    remark = workers_remark(workers)
    if remark:
        note(remark)
    _start_fork_server()
    pool = ProcessPoolExecutor(max_workers=workers, mp_context=context, initializer=_start_worker)
    try:
        yield pool
    except BaseException:
        for process in list((pool._processes or {}).values()):  # Python 3.14 has a method for this.
            process.kill()
        pool.shutdown(wait=False, cancel_futures=True)
        raise
    pool.shutdown()


def ordered_map(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    workers: int,
    window: int | None = None,
) -> Iterator[Result]:
    """Results of ``function`` in the order of ``items``.

    Args:
        function: a function of one item; it and the items must be picklable.
        items: consumed only as fast as needed.
        workers: number of processes.
        window: largest number of pending items, which bounds memory; if left out, 16 per worker or core of the cluster.

    Raises:
        OfflineGCRLError: a worker process died, for example because memory ran out.
    """
    with worker_pool(workers) as pool:
        window = window or 16 * getattr(pool, "size", workers)
        waiting: list[Future[Result]] = []
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) >= window:
                    yield waiting.pop(0).result()
            while waiting:
                yield waiting.pop(0).result()
        except BrokenProcessPool as error:
            raise OfflineGCRLError(
                "a worker process died (it was killed, or memory ran out); run the stage again"
            ) from error
        finally:
            for future in waiting:
                future.cancel()


def with_callback(items: Iterable[Item], on_item: Callable[[Item], None]) -> Iterator[Item]:
    """Pass items on, and call ``on_item`` with each one after the consumer has used it."""
    for item in items:
        yield item
        on_item(item)


def _start_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # The fork server of others may not block it.
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
