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
    with pool(count) as submit:
        yield submit


@contextlib.contextmanager
def pool(count: int, prepare: Callable | None = None, *arguments) -> Iterator[Callable]:
    """A `submit(function, *arguments) -> Future` over so many processes, gone when this ends.

    Args:
      count: processes.
      prepare: called with `arguments` in each process first.
      *arguments: for `prepare`.

    Raises:
      OSError: when a worker was killed.
    """
    executor = concurrent.futures.ProcessPoolExecutor(
        count,
        # Not fork: this process has run jax, whose threads do not survive it.
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_start_worker,
        initargs=(prepare, arguments),
    )
    try:
        yield executor.submit
    except concurrent.futures.process.BrokenProcessPool:
        raise OSError("a worker process was killed (out of memory?)") from None
    finally:
        executor.shutdown(wait=True, cancel_futures=True)


@contextlib.contextmanager
def sigterm_interrupts() -> Iterator[None]:
    """Has SIGTERM raise KeyboardInterrupt in the main thread, as Ctrl-C does.

    Only the first signal does: whoever clears up after it is not interrupted again, say by the
    parent that ends its children after a Ctrl-C that has reached them as well.
    """

    def interrupt(*_):
        for number in previous:
            signal.signal(number, lambda *_: None)
        raise KeyboardInterrupt

    previous = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    for number in previous:
        signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _run_here(function: Callable, *arguments) -> concurrent.futures.Future:
    future: concurrent.futures.Future = concurrent.futures.Future()
    future.set_result(function(*arguments))
    return future


def _start_worker(prepare: Callable | None, arguments: tuple) -> None:
    import cv2

    _end_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the main process's to answer
    cv2.setNumThreads(1)
    if prepare is not None:
        prepare(*arguments)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()

    def follow():
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)  # the parent was killed: nobody waits for this work

    if parent is not None:
        threading.Thread(target=follow, daemon=True).start()
