"""Work spread over processes; the one place to put a pool that spans machines.

Workers come from a fork server that has imported the heavy packages once: no locks, threads or GPU state
are forked, and a worker starts at once. They end with their parent, also when it is killed: an orphan
would go on writing to files of the next run.
"""

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import forkserver
from typing import Any, TypeVar

from offline_gcrl.support.errors import OfflineGCRLError

Item = TypeVar("Item")
Result = TypeVar("Result")

context = multiprocessing.get_context("forkserver")


def preload(*modules: str) -> None:
    """Start importing what workers need, in the background: once for all of them, not once each."""
    _one_thread_each()
    context.set_forkserver_preload(list(modules))
    forkserver.ensure_running()


def _one_thread_each() -> None:
    """Keep NumPy's matrix products within a worker from waiting for other cores, which have their own workers."""
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # This process has read it already.


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def balanced_workers(jobs: int) -> int:
    """Processes for long jobs of equal length, so that no core idles through a last, half-empty round.

    Three jobs on two cores run all at once (1.5 rounds), not two and then one (2 rounds).
    """
    rounds = max(1, jobs // cores())
    return -(-jobs // rounds)


def process_pool(
    workers: int, initializer: Callable[..., None] | None = None, arguments: tuple[Any, ...] = ()
) -> ProcessPoolExecutor:
    """A pool of ``workers`` processes; ``initializer(*arguments)`` runs first in each."""
    _one_thread_each()
    return ProcessPoolExecutor(
        max_workers=workers,
        mp_context=context,
        initializer=_start_worker,
        initargs=(initializer, arguments),
    )


def ordered_map(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    workers: int,
    window: int | None = None,
) -> Iterator[Result]:
    """Results in the order of ``items``, at most ``window`` of them waiting: memory stays flat.

    Args:
        function: what to do with an item; importable, as is the item.
        items: taken as they are needed.
        workers: number of processes.
        window: 16 a worker when left out.

    Raises:
        OfflineGCRLError: if a worker dies, say for want of memory.
    """
    window = window or 16 * workers
    with process_pool(workers) as pool:
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
                "a worker process died (killed, or out of memory); run the stage again"
            ) from error
        finally:
            for future in waiting:
                future.cancel()


def with_callback(items: Iterable[Item], on_item: Callable[[Item], None]) -> Iterator[Item]:
    """The items as they come, each told to ``on_item`` once it has been used."""
    for item in items:
        yield item
        on_item(item)


def _start_worker(initializer: Callable[..., None] | None, arguments: tuple[Any, ...]) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if initializer is not None:
        initializer(*arguments)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
