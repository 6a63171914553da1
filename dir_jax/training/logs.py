"""What a run tells about itself: metrics.jsonl, TensorBoard and a progress bar."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from dir_jax.weights.workdir import METRICS_FILE, TENSORBOARD_FOLDER, VALIDATION_FILE
from input_pipeline.files import read_json_lines, write_bytes


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


class Timer:
    """Examples per second of the time spent in training steps alone."""

    def __init__(self):
        self._started = time.perf_counter()
        self._examples = 0

    def restart(self) -> None:
        """Forgets what lies behind (a compilation, a validation)."""
        self._started, self._examples = time.perf_counter(), 0

    def add(self, examples: int) -> None:
        """Counts examples that a step has finished."""
        self._examples += examples

    def rate(self) -> float:
        """Examples per second since the last restart."""
        return self._examples / max(time.perf_counter() - self._started, 1e-9)


class RunLog:
    """Writes the run's record; silent in all processes but the first.

    Args:
      workdir: where the files go.
      step: steps done already.
      steps: of the whole run.
      batch_size: examples a step.
      enabled: whether this process writes.
      validated: whether the validation at `step` is done, so that its line stays.
    """

    def __init__(
        self,
        workdir: Path,
        step: int,
        steps: int,
        batch_size: int,
        enabled: bool = True,
        validated: bool = True,
    ):
        self.enabled = enabled
        self.batch_size = batch_size
        self.timer = Timer()
        self._warned = False
        if not enabled:
            return
        from dir_jax.training.board import Board

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

    def advance(self) -> None:
        """One more step is done."""
        self.timer.add(self.batch_size)
        if self.enabled:
            self._bar.update()

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """A line of metrics.jsonl and a point on every TensorBoard curve."""
        rate = self.timer.rate()
        self.timer.restart()
        if not self.enabled:
            return
        line = {"step": step, **values, "examples_per_second": round(rate, 3)}
        self._bar.set_postfix_str(f"{rate:.1f} images/s, loss {values['loss']:.4g}")
        self._write(self._metrics, line, "train")

    def validation(self, step: int, values: Mapping[str, float]) -> None:
        """A line of validation.jsonl, points on TensorBoard curves, and a word on the terminal."""
        if not self.enabled:
            return
        self._write(self._validation, {"step": step, **values}, "validation")
        self.say(
            f"step {step}: validation "
            + ", ".join(f"{name} {value:.3f}" for name, value in values.items())
        )

    def picture(self, step: int, name: str, image: np.ndarray) -> None:
        """Shows a (H, W, 3) uint8 picture in TensorBoard."""
        if self.enabled:
            with self._going_on():
                self._board.picture(step, name, image)

    def mesh(
        self, step: int, name: str, vertices: np.ndarray, faces: np.ndarray, colours: np.ndarray
    ) -> None:
        """Shows a mesh in TensorBoard (see `board.Board.mesh`)."""
        if self.enabled:
            with self._going_on():
                self._board.mesh(step, name, vertices, faces, colours)

    def say(self, text: str) -> None:
        """Prints a line without tearing the progress bar."""
        if self.enabled:
            tqdm.write(text, file=sys.stderr)

    def _write(self, file: JsonLines, line: Mapping[str, Any], group: str) -> None:
        with self._going_on():
            file.append(line)
        curves = {f"{group}/{name}": value for name, value in line.items() if name != "step"}
        with self._going_on():
            self._board.scalars(line["step"], curves)

    @contextlib.contextmanager
    def _going_on(self) -> Iterator[None]:
        """A full disk must not end the run for the sake of a log."""
        try:
            yield
        except OSError as error:
            if not self._warned:
                self.say(f"warning: the run's record could not be written ({error}); going on")
            self._warned = True

    def close(self) -> None:
        """Ends the bar and flushes TensorBoard."""
        if self.enabled:
            self._bar.close()
            self._board.close()
