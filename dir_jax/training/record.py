"""The record of a run: metrics.jsonl, TensorBoard, a progress bar, and steps that went wrong."""

from __future__ import annotations

import contextlib
import errno
import itertools
import json
import os
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict
from tensorboardX import summary
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tqdm import tqdm

from dir_jax.training.data import Data, frame_names
from dir_jax.training.interruptions import RunError
from dir_jax.training.step import STOP
from dir_jax.weights import METRICS_FILE, TENSORBOARD_FOLDER, VALIDATION_FILE
from input_pipeline.files import read_json_lines, write_bytes, write_json

FIRST_METRICS = ("loss", "learning_rate", "gradient_norm")
INTERNAL_METRICS = ("finite", STOP)


class JsonLines:
    """A file of one JSON object a line, in the order of their `step`.

    Args:
      path: the file; made when missing.
      last_step: lines after this step, written by a run that was killed before its next
        checkpoint, are taken out (they will be written again), as is a half-written last line.
    """

    def __init__(self, path: Path, last_step: int):
        self.path = path
        kept = [line for line in read_json_lines(path) if line.get("step", 0) <= last_step]
        write_bytes(path, "".join(json.dumps(line) + "\n" for line in kept).encode())

    def append(self, values: Mapping[str, Any]) -> None:
        """Adds one line, whole or not at all; the system has it before this returns.

        Raises:
          OSError: the disk is full.
        """
        data = f"{json.dumps(values)}\n".encode()
        with open(self.path, "ab", buffering=0) as file:
            before = file.tell()
            try:
                if file.write(data) < len(data):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            except OSError:
                file.truncate(before)
                raise


class Board:
    """The curves and pictures of one run in TensorBoard's files, without a thread of their own.

    tensorboardX's usual writer hands events to a thread through a queue of ten. When the disk is
    full the thread dies, and the eleventh event waits for ever. Here an event is written or raises
    OSError; the next one then begins another file, as the old one may end in half a record.
    TensorBoard reads all of them.

    Args:
      folder: where the files go.
      purge_step: what an earlier run wrote from this step on is hidden.
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


class _Pending(NamedTuple):
    """A step whose result has not been looked at; the devices may still be at it."""

    step: int
    metrics: dict[str, jax.Array]
    indices: np.ndarray


class Record:
    """Writes all of it; silent in all processes but the first. A full disk does not end the run.

    A step's result is looked at once the next step has been sent, so that no device ever waits.

    Args:
      workdir: where the files go.
      config: the recipe.
      data: to name the examples of a step that is not finite.
      steps: of the whole run; the last one gets a line whatever `log.every` says.
      step: done already.
      skipped: updates left out so far.
      validated: whether the validation at `step` is done, so that its line stays.

    Attributes:
      stop: whether any process had been asked to stop when the newest step looked at was sent.
    """

    def __init__(
        self,
        workdir: Path,
        config: ConfigDict,
        data: Data,
        steps: int,
        step: int = 0,
        skipped: int = 0,
        validated: bool = True,
    ):
        self.enabled = jax.process_index() == 0
        self.stop = False
        self._workdir, self._config, self._data, self._steps = workdir, config, data, steps
        self._skipped = skipped
        self._pending: _Pending | None = None
        self._warned = False
        self.restart_timer()
        if not self.enabled:
            return
        self._metrics = JsonLines(workdir / METRICS_FILE, step)
        self._validation = JsonLines(workdir / VALIDATION_FILE, step if validated else step - 1)
        self._board = Board(workdir / TENSORBOARD_FOLDER, purge_step=step + 1)
        self._bar = tqdm(
            total=steps,
            initial=step,
            unit="step",
            desc="training",
            dynamic_ncols=True,
            mininterval=0.5 if sys.stderr.isatty() else 20.0,
        )

    def restart_timer(self) -> None:
        """Speed is counted from here on: what lies behind was a compilation, or a validation."""
        self._started, self._examples = time.perf_counter(), 0

    def add(self, step: int, metrics: dict[str, jax.Array], indices: np.ndarray) -> None:
        """Takes what a step just sent will give, and looks at the step before it.

        Raises:
          RunError: that one was not finite, more often than allowed.
        """
        self.settle()
        self._pending = _Pending(step, metrics, np.asarray(indices))

    def settle(self) -> None:
        """Waits for the last step and looks at it; raises like `add`."""
        pending, self._pending = self._pending, None
        if pending is None:
            return
        finite, stop = jax.device_get((pending.metrics["finite"], pending.metrics[STOP]))
        self.stop = bool(stop > 0)
        self._examples += self._config.train.batch_size
        if self.enabled:
            self._bar.update()
        logged = pending.step % self._config.log.every == 0 or pending.step == self._steps
        if finite and not logged:
            return
        values = {k: float(v) for k, v in jax.device_get(pending.metrics).items()}
        if not finite:
            self._not_finite(pending, values)
        if logged:
            names = [*FIRST_METRICS, *sorted(values.keys() - {*FIRST_METRICS, *INTERNAL_METRICS})]
            self.metrics(pending.step, {name: values[name] for name in names})

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """A line of metrics.jsonl and a point on every TensorBoard curve."""
        rate = self._examples / max(time.perf_counter() - self._started, 1e-9)
        self.restart_timer()
        if self.enabled:
            self._bar.set_postfix_str(f"{rate:.1f} images/s, loss {values['loss']:.4g}")
            line = {"step": step, **values, "examples_per_second": round(rate, 3)}
            self._write(self._metrics, line, "train")

    def validation(self, step: int, values: Mapping[str, float]) -> None:
        """A line of validation.jsonl, points on TensorBoard curves, and a word on the terminal."""
        if self.enabled:
            self._write(self._validation, {"step": step, **values}, "validation")
            numbers = ", ".join(f"{name} {value:.3f}" for name, value in values.items())
            self.say(f"step {step}: validation {numbers}")

    def picture(self, step: int, name: str, image: np.ndarray) -> None:
        """Shows a (H, W, 3) uint8 picture in TensorBoard."""
        if self.enabled:
            with self._warn_when_full():
                self._board.picture(step, name, image)

    def say(self, text: str) -> None:
        """Prints a line without tearing the progress bar."""
        if self.enabled:
            tqdm.write(text, file=sys.stderr)

    def close(self) -> None:
        """Ends the bar and closes TensorBoard's file."""
        if self.enabled:
            self._bar.close()
            self._board.close()

    def _write(self, file: JsonLines, line: Mapping[str, Any], group: str) -> None:
        with self._warn_when_full():
            file.append(line)
        curves = {f"{group}/{name}": value for name, value in line.items() if name != "step"}
        with self._warn_when_full():
            self._board.scalars(line["step"], curves)

    @contextlib.contextmanager
    def _warn_when_full(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if not self._warned:
                self.say(f"warning: the run's record could not be written ({error}); going on")
            self._warned = True

    def _not_finite(self, pending: _Pending, values: dict[str, float]) -> None:
        """Reports a step whose loss or gradient was not finite; its update was not applied."""
        bad = [name for name, value in values.items() if not np.isfinite(value)]
        terms = [name for name in bad if name not in ("loss", "gradient_norm")] or bad
        where = self._workdir / f"nonfinite_step_{pending.step}.json"
        if jax.process_count() > 1:
            where = where.with_stem(f"{where.stem}_process_{jax.process_index()}")
        report = {
            "step": pending.step,
            "terms_not_finite": terms,
            "values": {name: repr(value) for name, value in values.items()},
            "indices": pending.indices.tolist(),
            "frames": frame_names(self._data, "train", pending.indices),
        }
        try:
            write_json(where, report)
            place = f"the batch is in {where}"
        except OSError as error:
            place = f"{where} could not be written ({error}); the batch is {report['frames']}"
        self._skipped += 1
        limit = self._config.train.nonfinite_limit
        found = f"step {pending.step}: not finite: {', '.join(terms)}; {place}"
        if self._skipped <= limit:
            self.say(f"{found}; left out ({self._skipped} of {limit} allowed)")
            return
        allowed = f" ({self._skipped} updates left out, {limit} allowed)" if limit else ""
        raise RunError(
            f"{found}{allowed}. Parameters are as before that step in the last checkpoint; look at "
            f"it (python -m dir_jax.training.replay --workdir {self._workdir} --step "
            f"{pending.step}), lower optimizer.learning_rate, or allow "
            "--config.train.nonfinite_limit=N such updates to be left out"
        )
