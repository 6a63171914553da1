"""Several processes of one run: joining, and ending when one of them is lost.

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
from collections.abc import Iterator
from typing import NoReturn

import jax
from jax.errors import JaxRuntimeError
from ml_collections import ConfigDict

from dir_jax.training.exits import FAILED, RunError

WATCHED = "DIR_JAX_WATCHED"
"""Set in the environment of the child."""
JOIN_SECONDS = 300
FINISH_SECONDS = 7 * 24 * 3600
"""How long the other processes wait for the first, which evaluates and draws at the end."""
LOST = (
    "another process of this run was lost, or its machine cannot be reached; its own last lines "
    "say why. Everything up to the last checkpoint is safe: start the same command on all "
    "machines again"
)


def connect(config: ConfigDict) -> None:
    """Joins the other processes of a run over several machines, where there are any.

    Raises:
      RunError: they did not all come.
    """
    parallel = config.parallel
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
            f"{_first_line(error)}. Start parallel.processes of them, numbered from 0 by "
            "parallel.process, with the address of process 0 for all"
        ) from error


def has_peers() -> bool:
    """Whether this process has joined others."""
    return jax.distributed.is_initialized() and jax.process_count() > 1


@contextlib.contextmanager
def lost_ones_end_the_run() -> Iterator[None]:
    """Gives an operation of all processes that failed here the form of a run's end.

    Raises:
      RunError: says that somebody was lost, and what was noticed of it.
    """
    try:
        yield
    except (ValueError, JaxRuntimeError) as error:
        # Broken connections arrive as either; our own errors are of classes of their own.
        if not has_peers() or type(error) not in (ValueError, JaxRuntimeError):
            raise
        raise RunError(f"{LOST} (here: {_first_line(error)})") from error


def leave(code: int) -> NoReturn:
    """Ends this process without waiting for the others, who may be waiting for it."""
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
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: child.send_signal(number))
    code = child.wait()
    if code >= 0:
        return code
    name = signal.Signals(-code).name
    cause = LOST if code == -signal.SIGABRT else f"this process was ended by {name}"
    print(f"error: {cause}", file=sys.stderr, flush=True)
    return FAILED


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
