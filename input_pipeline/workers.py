"""Worker processes that end with their parent and leave Ctrl-C to it."""

from __future__ import annotations

import concurrent.futures
import concurrent.futures.process
import contextlib
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from collections.abc import Callable, Iterator


def available_cores() -> int:
    """Cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextlib.contextmanager
def processes(workers: int, tasks: int) -> Iterator[Callable]:
    """A `submit(function, *arguments) -> Future` over processes, or over this one if one is enough.

    Args:
      workers: most processes.
      tasks: how many tasks there will be.

    Raises:
      OSError: when a worker was killed.
    """
    count = min(workers, tasks)
    if count <= 1:
        yield _run_here
        return
    pool = concurrent.futures.ProcessPoolExecutor(
        count,
        # Not fork: this process has run jax, whose threads do not survive it.
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_start_worker,
    )
    try:
        yield pool.submit
    except concurrent.futures.process.BrokenProcessPool:
        raise OSError("a worker process was killed (out of memory?)") from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _run_here(function: Callable, *arguments) -> concurrent.futures.Future:
    future: concurrent.futures.Future = concurrent.futures.Future()
    future.set_result(function(*arguments))
    return future


def _start_worker() -> None:
    import cv2

    cv2.setNumThreads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()

    def follow():
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)  # the parent was killed: nobody waits for this work

    if parent is not None:
        threading.Thread(target=follow, daemon=True).start()
