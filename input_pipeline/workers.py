"""Work on several cores: threads for images, processes for what Python itself computes.

Decoding and encoding leave Python's lock alone, so threads do. The processes end with their parent
and leave Ctrl-C to it.
"""

from __future__ import annotations

import collections
import concurrent.futures
import concurrent.futures.process
import contextlib
import functools
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator


def available_cores() -> int:
    """Cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def ahead(submit: Callable, tasks: Iterable, count: int) -> Iterator:
    """Results of `submit(task)`, futures, in the tasks' order; so many run or wait at a time."""
    waiting = collections.deque()
    for task in tasks:
        waiting.append(submit(task))
        if len(waiting) >= count:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def in_order(function: Callable, tasks: Iterable, threads: int) -> Iterator:
    """Results of function(task) in the tasks' order, computed a few tasks ahead.

    The first error ends the iteration; what then runs is finished, what waits is dropped. An
    iteration that is given up waits for nothing: the garbage collector may end it in any thread,
    even in one that is just being started, and waiting for threads there would never end.

    Args:
      function: called in the threads.
      tasks: may be endless; read in the calling thread, no further than needed.
      threads: how many; as many tasks again wait for them.
    """
    pool = concurrent.futures.ThreadPoolExecutor(threads)
    given_up = False
    try:
        yield from ahead(functools.partial(pool.submit, function), tasks, 2 * threads)
    except GeneratorExit:
        given_up = True
        raise
    finally:
        pool.shutdown(wait=not given_up, cancel_futures=True)


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
