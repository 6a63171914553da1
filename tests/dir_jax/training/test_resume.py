"""The real network through the real program: killed, its latest checkpoint damaged, resumed."""

import functools
import json

import jax
import numpy as np
import pytest

from configs import smoke
from dir_jax.training import replay, run
from dir_jax.training.devices import Parallel
from dir_jax.training.interruptions import FINISHED, RunError
from dir_jax.training.record import Record
from dir_jax.weights.checkpoints import CheckpointError, best_step, load_variables
from input_pipeline.batches import RecordError, TrainBatches
from input_pipeline.commands import FAILED, status_of
from tests.damage import flip_bit
from tests.dir_jax.training_fixtures import QUICK_ENCODER
from tests.input_pipeline.examples import random_record, write_dataset

STEPS = 6


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    records = [random_record(i) for i in range(10)]
    write_dataset(folder, {"train": records[:8], "val": records[8:]})
    config = smoke.get_config()
    config.data.dir = str(folder)
    config.model.update(stages=0, image_stride=2, encoder=QUICK_ENCODER)
    config.train.update({"steps": STEPS, "batch_size": 2, "checkpoint_every": 2})
    config.validation.every, config.evaluation.batch_size, config.log.every = 2, 8, 1
    # Other flags would be another compilation: the runs here share theirs.
    config.parallel.update({"backend": "jit", "compilation_cache": "", "xla_flags": ""})
    return config


class Killed(BaseException):
    """Nothing handles it, as nothing handles SIGKILL."""


def lines(path):
    found = [json.loads(line) for line in path.read_text().splitlines()]
    for line in found:
        line.pop("examples_per_second", None)
    return found


def checksums(workdir, step):
    return json.loads((workdir / "checkpoints" / str(step) / "meta/metadata").read_text())["sha256"]


@pytest.mark.slow
def test_killed_damaged_and_resumed_is_the_undisturbed_run_bit_for_bit(
    recipe, tmp_path, monkeypatch, capsys
):
    alone = functools.partial(Parallel, devices=tuple(jax.devices()[:1]))
    monkeypatch.setattr(run, "Parallel", alone)
    monkeypatch.setattr(replay, "Parallel", alone)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert run.train(recipe, whole) == FINISHED

    metrics = Record.metrics

    def kill(self, step, values):
        metrics(self, step, values)
        if step == 5:
            raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Record, "metrics", kill)
        run.train(recipe, parts)
    flip_bit(parts / "checkpoints" / "4" / "variables")
    first_steps = []
    load = TrainBatches._load
    monkeypatch.setattr(
        TrainBatches, "_load", lambda self, step: (first_steps.append(step), load(self, step))[1]
    )
    assert run.train(recipe, parts) == FINISHED
    said = capsys.readouterr().err
    assert "warning: the checkpoint of step 4 is damaged (" in said
    assert "using the one of step 2" in said
    assert min(first_steps) == 2  # nothing before the checkpoint's own place was read

    for name in ("metrics.jsonl", "validation.jsonl"):
        assert lines(parts / name) == lines(whole / name)
    assert len(lines(parts / "metrics.jsonl")) == STEPS
    assert checksums(parts, STEPS)["variables"] == checksums(whole, STEPS)["variables"]
    assert checksums(parts, STEPS)["optimizer"] == checksums(whole, STEPS)["optimizer"]
    best = best_step(whole / "checkpoints")
    assert best == best_step(parts / "checkpoints")
    errors = {line["step"]: line["mpjpe_mm"] for line in lines(whole / "validation.jsonl")}
    assert errors[best] == min(errors.values()) and np.isfinite(errors[best])

    # The last step computed once more, from the checkpoint before it.
    again = replay.replay(whole, STEPS)
    assert again["start_step"] == STEPS - 2 and again["not_finite"] == []
    assert {"step": STEPS, **again["metrics"]} == lines(whole / "metrics.jsonl")[-1]
    with np.load(again["folder"] / "batch.npz") as batch:
        assert batch["image"].shape == (2, 256, 256, 3)
    assert all(name.startswith("Capture3/") for name in again["frames"])
    assert (again["folder"] / "photos.png").stat().st_size > 1000
    assert load_variables(again["folder"] / "before")[1]["replayed"] == STEPS
    with pytest.raises(CheckpointError, match="no checkpoint before step 1"):
        replay.replay(whole, 1)
    with pytest.raises(ValueError, match=rf"--step is {STEPS + 1}; wanted 1 to {STEPS}"):
        replay.replay(whole, STEPS + 1)


def test_two_runs_cannot_share_a_work_folder(tmp_path):
    with run.locked(tmp_path):
        with pytest.raises(ValueError, match="another process is training in"):
            with run.locked(tmp_path):
                pass
    with run.locked(tmp_path):
        pass


def test_too_many_unreadable_examples_are_a_failure_not_bad_input():
    assert status_of(RecordError("9 of 10 training examples cannot be read")) == FAILED
    assert status_of(RunError("a process was lost")) == FAILED
