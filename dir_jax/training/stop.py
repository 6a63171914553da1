"""SIGTERM and SIGINT: save and leave, within seconds, whatever the program is doing."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable

from dir_jax.training.exits import STOPPED

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class StopRequest:
    """Notices the signals from a thread of its own.

    Python runs signal handlers between two of its instructions only, which during a compilation
    or a long device computation can be minutes away. The C part of the handler however writes to
    a pipe at once. While there is something to save (`protect`), the request only sets a flag that
    the training loop looks at after every step; otherwise the process ends there and then.
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

    def on_leave(self, cleanup: Callable[[], None]) -> None:
        """Registers what to do before the process ends without returning (end a child)."""
        self._cleanups.append(cleanup)

    def _watch(self):
        while True:
            number = os.read(self._read, 1)[0]
            if number == 0:
                return
            if number not in SIGNALS:
                continue
            again = self.asked
            self._asked.set()
            if not self._protected.is_set() or (again and number == signal.SIGINT):
                self._leave()
            print("\nasked to stop: saving after this step", file=sys.stderr, flush=True)

    def _leave(self):
        print("\nstopped; start the same command again to go on", file=sys.stderr, flush=True)
        for cleanup in self._cleanups:
            cleanup()
        os._exit(STOPPED)
