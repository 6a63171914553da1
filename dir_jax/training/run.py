"""One training run from start to finish."""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import sys
from collections.abc import Iterator
from pathlib import Path

import jax
from ml_collections import ConfigDict

from dir_jax.models.network import variable_shapes
from dir_jax.training import outputs, peers, settings
from dir_jax.training.data import find_data, unreadable_examples_end_the_run
from dir_jax.training.exits import FINISHED, STOPPED, BadInputError
from dir_jax.training.logs import RunLog
from dir_jax.training.loop import TrainingLoop
from dir_jax.training.start import (
    Run,
    build_run,
    check_sources,
    describe,
    fresh_state,
    hands_checksum,
    set_up_compiler,
)
from dir_jax.training.state import (
    TrainState,
    create_train_state,
    restore_train_state,
)
from dir_jax.training.stop import StopRequest
from dir_jax.weights.checkpoints import Checkpoints
from dir_jax.weights.workdir import CHECKPOINTS_FOLDER, CONFIG_FILE

logger = logging.getLogger(__name__)


def train(config: ConfigDict, workdir: Path) -> int:
    """Trains, or goes on training, and leaves everything in the work folder.

    Args:
      config: a recipe, every field of `configs/base.py`.
      workdir: made when missing.

    Returns:
      An exit code of `dir_jax.training.exits`.

    Raises:
      ValueError: bad input of any kind; the message is for the user.
      RunError: the run failed.
    """
    settings.check_values(config)
    workdir.mkdir(parents=True, exist_ok=True)
    with StopRequest() as stop:
        set_up_compiler(config.parallel.xla_flags, config.parallel.compilation_cache)
        peers.connect(config)
        with locked(workdir) if jax.process_index() == 0 else contextlib.nullcontext():
            hands = check_sources(config)
            _check_config_file(config, workdir)
            data = find_data(config, workdir, stop)
            run = build_run(config, workdir, hands, data)
            with unreadable_examples_end_the_run(), peers.lost_ones_end_the_run():
                return _train(run, stop)


def _train(run: Run, stop: StopRequest) -> int:
    checkpoints = Checkpoints(run.workdir / CHECKPOINTS_FOLDER, run.config.train.keep)
    try:
        state = starting_state(run, checkpoints)
        if run.leader:
            settings.write_config(run.config, run.workdir)
            print(describe(run, state), file=sys.stderr, flush=True)
        complete = _train_from(run, state, checkpoints, stop)
    finally:
        checkpoints.close()
    if not complete:
        if run.leader:
            print("stopped and saved; start the same command again to go on", file=sys.stderr)
        return STOPPED
    outputs.write_outputs(run)
    return FINISHED


def _train_from(run: Run, state: TrainState, checkpoints: Checkpoints, stop: StopRequest) -> bool:
    step = int(state.step)
    validated = checkpoints.validation(step) is not None
    if step >= run.steps and validated:
        if run.leader:
            print(f"the {run.steps} steps of this run are done already", file=sys.stderr)
        return True
    log = RunLog(run.workdir, step, run.steps, run.config.train.batch_size, run.leader, validated)
    try:
        validation = outputs.Validation(run, log)
        return TrainingLoop(run, state, checkpoints, log, stop, validation).train()
    finally:
        log.close()


def starting_state(run: Run, checkpoints: Checkpoints) -> TrainState:
    """The newest whole checkpoint's state, or a fresh one.

    Raises:
      BadInputError: the checkpoint is of another recipe or other hands; names what differs.
    """
    checkpoint = checkpoints.restore_latest()
    state = fresh_state(run) if checkpoint is None else None
    if state is not None:
        return state
    settings.check_fits(settings.plain(run.config), checkpoint.meta["config"], run.workdir)
    if checkpoint.meta["hands_sha256"] != hands_checksum(run.hands):
        raise BadInputError(
            f"{run.workdir} holds a run with {checkpoint.meta['hands']}, not {run.hands.name}; "
            "give the same --config.mano, or another --workdir"
        )
    if checkpoint.meta["steps"] != run.steps:
        raise BadInputError(
            f"{run.workdir} holds a run of {checkpoint.meta['steps']} steps, but this data set "
            f"makes it {run.steps}; use the same data, or another --workdir"
        )
    return restore_train_state(template_state(run), checkpoint)


def template_state(run: Run) -> TrainState:
    """Shapes of the state, without computing any of it."""
    shapes = variable_shapes(run.model)
    return jax.eval_shape(lambda variables: create_train_state(variables, run.optimizer), shapes)


def _check_config_file(config: ConfigDict, workdir: Path) -> None:
    """Finds another recipe's work folder out before data are made for it."""
    path = workdir / CONFIG_FILE
    if path.exists() and (workdir / CHECKPOINTS_FOLDER).is_dir():
        with contextlib.suppress(json.JSONDecodeError):
            saved = json.loads(path.read_text())
            settings.check_fits(settings.plain(config), saved, workdir)


@contextlib.contextmanager
def locked(workdir: Path) -> Iterator[None]:
    """Keeps a second process out of the same work folder; a killed one leaves nothing behind.

    Raises:
      BadInputError: another process is at work there.
    """
    with open(workdir / ".lock", "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise BadInputError(
                f"another process is training in {workdir}; wait for it, or use another --workdir"
            ) from None
        yield
