"""TensorBoard's files, written without a thread of their own.

tensorboardX's usual writer hands events to a thread through a queue of ten. When the disk is full
the thread dies, and the eleventh event waits for ever. Here an event is written or raises.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from tensorboardX import summary
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog


class Board:
    """The curves, pictures and meshes of one run.

    After an error the next event begins another file, as the old one may end in half a record;
    TensorBoard reads all of them.

    Args:
      folder: where the files go.
      purge_step: what an earlier run wrote from this step on is hidden.

    Raises:
      OSError (from every method): the disk does not take it.
    """

    def __init__(self, folder: Path, purge_step: int):
        self._folder = folder
        self._numbers = itertools.count()
        self._writer: EventsWriter | None = None
        self._write([Event(step=purge_step, session_log=SessionLog(status=SessionLog.START))])

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Adds a point to each of the curves named."""
        found = [summary.scalar(name, value) for name, value in values.items()]
        self._write([Event(step=step, wall_time=time.time(), summary=one) for one in found])

    def picture(self, step: int, name: str, image: np.ndarray) -> None:
        """Adds a (H, W, 3) uint8 picture."""
        found = summary.image(name, image, dataformats="HWC")
        self._write([Event(step=step, wall_time=time.time(), summary=found)])

    def mesh(
        self, step: int, name: str, vertices: np.ndarray, faces: np.ndarray, colours: np.ndarray
    ) -> None:
        """Adds a mesh: vertices (V, 3) with y up, faces (F, 3), colours (V, 3) uint8."""
        parts = (vertices.astype(np.float32), colours, faces.astype(np.int32))
        found = summary.mesh(name, *(part[None] for part in parts))
        self._write([Event(step=step, wall_time=time.time(), summary=found)])

    def close(self) -> None:
        """Closes the file; an error then changes nothing more."""
        writer, self._writer = self._writer, None
        if writer is not None:
            with contextlib.suppress(OSError):
                writer.close()

    def _write(self, events: list[Event]) -> None:
        try:
            if self._writer is None:
                self._folder.mkdir(parents=True, exist_ok=True)
                suffix = f".{os.getpid()}.{next(self._numbers)}"
                self._writer = EventsWriter(os.fspath(self._folder / "events"), suffix)
            for event in events:
                self._writer.write_event(event)
            self._writer.flush()
        except OSError:
            self.close()
            raise
