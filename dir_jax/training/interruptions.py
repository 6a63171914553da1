"""What may end a run early: signals, lost processes, a second run, and failures.

Exit codes of train.py: 0 finished; 1 failed (a loss that is not finite, a disk that takes no
checkpoint, too many unreadable examples, a lost process); 2 bad input (recipe, files, a work
folder of another run); 70 a fault of this program; 75 stopped by SIGTERM or SIGINT with everything
saved - start the same command again to resume.

Whoever waits for a lost process in a collective operation would wait for ever. Where the
connection breaks, JAX raises; where a machine just falls silent, JAX's coordination service notices
after `parallel.heartbeat_seconds` and ends every process from outside Python, with a stack trace
for a message. So a run over several processes works in a child whose parent stays behind to say
what happened, in one line.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import jax
from jax.errors import JaxRuntimeError
from ml_collections import ConfigDict

from input_pipeline.commands import FAILED, FailedError, one_line
from input_pipeline.files import locked_folder

FINISHED = 0
STOPPED = 75  # sysexits' EX_TEMPFAIL: nothing is wrong, come back later

SIGNALS = (signal.SIGTERM, signal.SIGINT)
WATCHED = "DIR_JAX_WATCHED"
"""Set in the environment of the child that `watch_over` starts."""
JOIN_SECONDS = 300
FINISH_SECONDS = 7 * 24 * 3600
"""How long the other processes wait for the first, which evaluates and draws at the end."""
LOST = (
    "another process of this run was lost, or its machine cannot be reached; its own last lines "
    "say why. Everything up to the last checkpoint is safe: start the same command on all "
    "machines again"
)


class RunError(FailedError):
    """The run cannot continue; its message says why and what to do."""


class StopRequest:
    """SIGTERM and SIGINT: save and exit, within seconds, whatever the program is doing.

    Python runs signal handlers between two of its instructions only, which during a compilation
    or a long device computation can be minutes away. The C part of the handler however writes to
    a pipe at once, which a thread reads here. While there is something to save (`protect`), the
    request only sets a flag that the training loop looks at after every step; otherwise the
    process ends there and then.
    """

    def __init__(self):
        self._asked = threading.Event()
        self._protected = threading.Event()
        self._cleanups: list[Callable[[], None]] = []
        self._previous: dict[int, object] = {}
        self._read, self._write = os.pipe()
        os.set_blocking(self._write, False)

    def __enter__(self) -> StopRequest:
        """Starts listening (in the main thread)."""
        for number in SIGNALS:
            self._previous[number] = signal.signal(number, lambda *_: None)
        self._previous_fd = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        self._thread = threading.Thread(target=self._watch, daemon=True, name="stop request")
        self._thread.start()
        return self

    def __exit__(self, *_):
        """Puts the former handlers back."""
        signal.set_wakeup_fd(self._previous_fd)
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        os.write(self._write, b"\0")
        self._thread.join()
        os.close(self._read)
        os.close(self._write)

    @property
    def asked(self) -> bool:
        """Whether a signal has come."""
        return self._asked.is_set()

    def protect(self, on: bool) -> None:
        """Says whether there are steps that no checkpoint holds yet."""
        (self._protected.set if on else self._protected.clear)()

    def on_exit(self, cleanup: Callable[[], None]) -> None:
        """Registers what to do before the process ends without returning (end a child)."""
        self._cleanups.append(cleanup)

    def _watch(self):
        while number := os.read(self._read, 1)[0]:
            if number not in SIGNALS:
                continue
            again = self.asked
            self._asked.set()
            if not self._protected.is_set() or (again and number == signal.SIGINT):
                print("\nstopped; start the same command again to resume", file=sys.stderr)
                for cleanup in self._cleanups:
                    cleanup()
                exit_now(STOPPED)
            print("\nasked to stop: saving after this step", file=sys.stderr, flush=True)


@contextlib.contextmanager
def locked(workdir: Path) -> Iterator[None]:
    """Keeps a second run out of the same work folder; a killed one leaves nothing behind.

    Of several processes of one run the first holds the lock.

    Raises:
      ValueError: another process is at work there.
    """
    if jax.process_index() != 0:
        yield
        return
    busy = f"another process is training in {workdir}; wait for it, or use another --workdir"
    with locked_folder(workdir, ValueError(busy)):
        yield


def connect(parallel: ConfigDict) -> None:
    """Joins the other processes of a run over several machines, where there are any.

    Raises:
      RunError: they did not all come.
    """
    if not parallel.coordinator:
        return
    where = (parallel.coordinator, parallel.processes, parallel.process)
    try:
        jax.distributed.initialize(
            *(where if parallel.coordinator != "auto" else ()),
            initialization_timeout=JOIN_SECONDS,
            heartbeat_timeout_seconds=parallel.heartbeat_seconds,
            shutdown_timeout_seconds=FINISH_SECONDS,
        )
    except RuntimeError as error:
        raise RunError(
            f"the processes of this run did not find each other at {parallel.coordinator}: "
            f"{one_line(error)[:300]}. Start parallel.processes of them, numbered from 0 by "
            "parallel.process, with the address of process 0 for all"
        ) from error


def has_peers() -> bool:
    """Whether this process has joined others."""
    return jax.distributed.is_initialized() and jax.process_count() > 1


@contextlib.contextmanager
def raise_on_lost_peer() -> Iterator[None]:
    """Turns the failure of an operation of all processes into a plain error.

    Raises:
      RunError: says that a process was lost, and what was noticed of it here.
    """
    try:
        yield
    except (ValueError, JaxRuntimeError) as error:
        # Broken connections arrive as either; our own errors are of classes of their own.
        if not has_peers() or type(error) not in (ValueError, JaxRuntimeError):
            raise
        raise RunError(f"{LOST} (here: {one_line(error)[:300]})") from error


def exit_now(code: int) -> NoReturn:
    """Ends this process without waiting for its threads or peers, who may be waiting for it."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def is_watched() -> bool:
    """Whether a parent stays behind to say what happened (see `watch_over`)."""
    return WATCHED in os.environ


def die_with_parent() -> None:
    """Has Linux kill this process when its parent is killed."""
    if sys.platform == "linux":
        set_parent_death_signal = 1
        ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGKILL)


def watch_over(command: list[str]) -> int:
    """Runs a command as a child; returns its exit code, with a plain last line if it broke down.

    SIGTERM and SIGINT are passed on. The child has a process group of its own, so that Ctrl-C on a
    terminal reaches it once and not twice.
    """
    child = subprocess.Popen(command, env={**os.environ, WATCHED: "1"}, process_group=0)
    for number in SIGNALS:
        signal.signal(number, lambda number, _: child.send_signal(number))
    code = child.wait()
    if code >= 0:
        return code
    name = signal.Signals(-code).name
    cause = LOST if code == -signal.SIGABRT else f"this process was ended by {name}"
    print(f"error: {cause}", file=sys.stderr, flush=True)
    return FAILED
