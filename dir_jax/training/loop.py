"""The training loop: steps, records, checkpoints, and what to do when something goes wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from dir_jax.training.data import frame_names, training_batches
from dir_jax.training.exits import RunError
from dir_jax.training.logs import RunLog
from dir_jax.training.start import Run
from dir_jax.training.state import TrainState, optimizer_state_dict
from dir_jax.training.stop import StopRequest
from dir_jax.weights.checkpoints import CheckpointError, Checkpoints
from input_pipeline.files import write_json

INTERNAL_METRICS = ("finite", "stop")
FIRST_METRICS = ("loss", "learning_rate", "gradient_norm")


class _Pending(NamedTuple):
    """A step whose result has not been looked at yet; the device may still be at it."""

    step: int
    metrics: dict[str, jax.Array]
    indices: np.ndarray


class TrainingLoop:
    """Takes a state to the end of the run.

    The host looks at a step's result only after it has sent off the next one, so the devices never
    wait for it.

    Args:
      run: what is trained, on what.
      state: where to begin; moved to the devices here.
      checkpoints: the run's checkpoints.
      log: the run's record.
      stop: whether someone has asked to stop.
      validate: called with the state after every `validation.every` steps, when its checkpoint
        is on disk; returns numbers, among them the one that chooses the best.
    """

    def __init__(
        self,
        run: Run,
        state: TrainState,
        checkpoints: Checkpoints,
        log: RunLog,
        stop: StopRequest,
        validate: Callable[[TrainState], dict[str, float]],
    ):
        self.run, self.checkpoints, self.log, self.stop = run, checkpoints, log, stop
        self.validate = validate
        self.step = int(state.step)
        self.skipped = int(state.skipped)
        self.state = run.parallel.replicate(state)
        self._pending: _Pending | None = None
        self._saved = self.step in checkpoints.steps()

    def train(self) -> bool:
        """Runs until the last step or until asked to stop.

        Returns:
          Whether the run is complete; otherwise it was stopped, and saved.

        Raises:
          RunError: the loss was not finite more often than allowed, or no checkpoint could be
            written at the end.
        """
        self._validate_if_due()
        if self.step >= self.run.steps:
            return True
        batches = training_batches(
            self.run.config, self.run.data, self.step, jax.process_index(), jax.process_count()
        )
        compiled = self.run.compiled_step()
        for batch in batches:
            self._dispatch(compiled, batch)
            settings = self.run.config
            last = self.step >= self.run.steps
            validating = last or self.step % settings.validation.every == 0
            if validating or self.step % settings.train.checkpoint_every == 0:
                self._settle()
                self._save(must=last)
            if self._stop_agreed():
                self._settle()
                self._save(must=True)
                return False
            if validating:
                self._validate_if_due()
            if last:
                return True
        raise RunError("the training batches ended before the run; this should not happen")

    def _dispatch(self, compiled, batch: dict[str, np.ndarray]) -> None:
        """Sends one step to the devices and looks at the one before."""
        indices = np.asarray(batch["index"])
        asked = np.full(len(indices), float(self.stop.asked), np.float32)
        on_devices = self.run.parallel.shard({**batch, "stop": asked})
        first = self._pending is None
        self.state, metrics = compiled(self.state, on_devices)
        self.step += 1
        self._saved = False
        previous, self._pending = self._pending, _Pending(self.step, metrics, indices)
        if previous is not None:
            self._look_at(previous)
        if first:  # what was compiled need not be counted, what is computed must be kept
            self.stop.protect(True)

    def _settle(self) -> None:
        """Waits for the last step and looks at it."""
        if self._pending is not None:
            pending, self._pending = self._pending, None
            self._look_at(pending)

    def _stop_agreed(self) -> bool:
        """Whether to stop after this step; all processes answer alike."""
        if jax.process_count() == 1:
            return self.stop.asked
        return self._stop_seen

    _stop_seen = False

    def _look_at(self, done: _Pending) -> None:
        finite, stop = jax.device_get((done.metrics["finite"], done.metrics["stop"]))
        self._stop_seen = bool(stop > 0)
        self.log.advance()
        if not finite:
            self._not_finite(done)
        if done.step % self.run.config.log.every == 0 or done.step == self.run.steps:
            values = {k: float(v) for k, v in jax.device_get(done.metrics).items()}
            names = [name for name in sorted(values) if name not in FIRST_METRICS]
            shown = [name for name in (*FIRST_METRICS, *names) if name not in INTERNAL_METRICS]
            self.log.metrics(done.step, {name: values[name] for name in shown})

    def _not_finite(self, done: _Pending) -> None:
        """Notes a step whose loss or gradient was not finite; its update was not applied."""
        values = {k: float(v) for k, v in jax.device_get(done.metrics).items()}
        sums = ("loss", "gradient_norm")
        bad = [name for name, value in values.items() if not np.isfinite(value)]
        terms = [name for name in bad if name not in sums] or bad
        where = self.run.workdir / f"nonfinite_step_{done.step}.json"
        if jax.process_count() > 1:
            where = where.with_stem(f"{where.stem}_process_{jax.process_index()}")
        report = {
            "step": done.step,
            "terms_not_finite": terms,
            "values": {name: repr(value) for name, value in values.items()},
            "indices": done.indices.tolist(),
            "frames": frame_names(self.run.data, "train", done.indices),
        }
        try:
            write_json(where, report)
            place = f"the batch is in {where}"
        except OSError as error:
            place = f"{where} could not be written ({error}); the batch is {report['frames']}"
        self.skipped += 1
        limit = self.run.config.train.nonfinite_limit
        found = f"step {done.step}: not finite: {', '.join(terms)}; {place}"
        if self.skipped > limit:
            count = f" ({self.skipped} updates left out, {limit} allowed)" if limit else ""
            raise RunError(
                f"{found}{count}. Parameters are as before that step in the last checkpoint; "
                f"look at it (python -m dir_jax.training.replay --workdir {self.run.workdir} "
                f"--step {done.step}), lower optimizer.learning_rate, or allow "
                "--config.train.nonfinite_limit=N such updates to be left out"
            )
        self.log.say(f"{found}; left out ({self.skipped} of {limit} allowed)")

    def _save(self, must: bool) -> None:
        """Writes a checkpoint; a failure ends the run only where nothing better can be done."""
        if not self._saved:
            state: Any = jax.device_get(self.state)
            try:
                self.checkpoints.save(
                    self.step, state.variables, optimizer_state_dict(state), self.run.meta()
                )
                self._saved = True
            except CheckpointError as error:
                if must:
                    raise RunError(str(error)) from error
                self.log.say(f"warning: {error}; training goes on")
        if self._saved:
            self.stop.protect(False)

    def _validate_if_due(self) -> None:
        """Validates where the recipe says so, once per checkpoint."""
        every = self.run.config.validation.every
        due = self.step > 0 and (self.step % every == 0 or self.step >= self.run.steps)
        if due and self._saved and self.checkpoints.validation(self.step) is None:
            values = self.validate(self.state)
            if values:
                self.log.validation(self.step, values)
                try:
                    self.checkpoints.record_validation(self.step, values)
                except OSError as error:
                    self.log.say(f"warning: this validation cannot be the best: {error}")
        self.log.timer.restart()
