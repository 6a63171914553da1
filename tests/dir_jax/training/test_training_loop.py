"""The loop with a small loss of its own and batches out of the air: stops, resumes, reports."""

import json
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import base
from dir_jax.training import loop as loop_module
from dir_jax.training.devices import Parallel
from dir_jax.training.exits import RunError
from dir_jax.training.logs import RunLog
from dir_jax.training.loop import TrainingLoop
from dir_jax.training.start import Run
from dir_jax.training.state import (
    cosine_schedule,
    create_train_state,
    make_optimizer,
    restore_train_state,
)
from dir_jax.training.step import make_train_step
from dir_jax.weights.checkpoints import CheckpointError, Checkpoints

STEPS = 12


class ToyRun(Run):
    """A run whose network is a linear map."""

    def compiled_step(self):
        def loss(params, batch_stats, batch):
            y = batch["x"] @ params["w"]
            terms = {"square": jnp.mean((y - 1) ** 2), "size": 0.01 * jnp.mean(jnp.abs(y))}
            return sum(terms.values()), (terms, {"mean": y.mean()})

        inner = make_train_step(loss, self.optimizer, self.schedule)

        def step(state, batch):
            state, metrics = inner(state, batch)
            return state, {**metrics, "stop": batch["stop"].max()}

        return self.parallel.step(step)


class Stop:
    """Asks to stop at a given step, as a signal would."""

    def __init__(self, at=None):
        self.at, self.seen, self.protected = at, 0, []

    @property
    def asked(self):
        return self.at is not None and self.seen >= self.at

    def protect(self, on):
        self.protected.append(on)


@pytest.fixture
def training(tmp_path, monkeypatch):
    """train(workdir, stop=None, bad=(), **fields) -> (complete, loop)."""

    def train(name, stop=None, bad=(), validate=None, **fields):
        workdir = tmp_path / name
        workdir.mkdir(exist_ok=True)
        config = base.get_config()
        config.train.checkpoint_every, config.log.every = 5, 2
        config.validation.every = 6
        config.update_from_flattened_dict(fields)
        schedule = cosine_schedule(0.1, STEPS)
        data = types.SimpleNamespace(folder=tmp_path, subset="", sizes={"train": 100})
        run = ToyRun(
            config, workdir, Parallel("jit", tuple(jax.devices()[:2])), None, None,
            make_optimizer(schedule), schedule, data, STEPS,
        )  # fmt: skip
        stop = stop or Stop()

        def batches(config, data, start_step, *_):
            for step in range(start_step, 10**6):
                rng = np.random.default_rng(step)
                x = rng.normal(size=(4, 3)).astype(np.float32)
                if step + 1 in bad:
                    x[0, 0] = np.nan
                stop.seen = step + 1
                yield {"x": x, "index": np.arange(4) + step}

        monkeypatch.setattr(loop_module, "training_batches", batches)
        monkeypatch.setattr(
            loop_module, "frame_names", lambda data, split, indices: [f"frame {i}" for i in indices]
        )
        monkeypatch.setattr(ToyRun, "meta", lambda self: {"config": {}})
        w = jnp.asarray(np.random.default_rng(9).normal(size=3), jnp.float32)
        state = create_train_state(
            {"params": {"w": w}, "batch_stats": {"mean": jnp.zeros(())}}, run.optimizer
        )
        checkpoints = Checkpoints(workdir / "checkpoints", keep=2)
        found = checkpoints.restore_latest()
        state = state if found is None else restore_train_state(state, found)
        step = int(state.step)
        log = RunLog(workdir, step, STEPS, 4, validated=checkpoints.validation(step) is not None)
        validate = validate or (lambda state: {"mpjpe_mm": float(jnp.abs(state.params["w"]).sum())})
        loop = TrainingLoop(run, state, checkpoints, log, stop, validate)
        try:
            return loop.train(), loop
        finally:
            log.close()
            checkpoints.close()

    return train


def lines(folder, name="metrics.jsonl"):
    found = [json.loads(line) for line in (folder / name).read_text().splitlines()]
    for line in found:
        line.pop("examples_per_second", None)
    return found


def test_an_undisturbed_run_leaves_its_record(training, tmp_path):
    complete, loop = training("one")
    assert complete
    found = lines(tmp_path / "one")
    assert [line["step"] for line in found] == [2, 4, 6, 8, 10, 12]
    assert set(found[0]) == {
        "step", "loss", "square", "size", "gradient_norm", "learning_rate",
    }  # fmt: skip
    assert [line["step"] for line in lines(tmp_path / "one", "validation.jsonl")] == [6, 12]
    assert loop.checkpoints.steps()[-2:] == [10, 12]
    assert loop.checkpoints.best_step() in (6, 12)
    assert list((tmp_path / "one" / "tensorboard").iterdir())


@pytest.mark.parametrize("at", [1, 5, 6, 7, 11])
def test_stopped_and_gone_on_equals_undisturbed(training, tmp_path, at):
    training("whole")
    stop = Stop(at)
    complete, loop = training("parts", stop)
    assert not complete
    assert loop.step == at
    assert loop.checkpoints.steps()[-1] == at
    assert stop.protected[-1] is False
    complete, loop = training("parts")
    assert complete
    assert lines(tmp_path / "parts") == lines(tmp_path / "whole")
    assert lines(tmp_path / "parts", "validation.jsonl") == lines(
        tmp_path / "whole", "validation.jsonl"
    )


def test_killed_without_a_word_loses_nothing_but_time(training, tmp_path):
    _, whole = training("whole")

    class Killed(Exception):
        pass

    def kill(state):
        raise Killed

    with pytest.raises(Killed):  # at step 6: its checkpoint is written, its validation is not
        training("parts", validate=kill)
    with (tmp_path / "parts" / "metrics.jsonl").open("a") as file:
        file.write('{"step": 8, "loss": 1}\n{"step": 10, "lo')  # later than the checkpoint, half
    complete, parts = training("parts")
    assert complete
    assert lines(tmp_path / "parts") == lines(tmp_path / "whole")
    np.testing.assert_array_equal(parts.state.params["w"], whole.state.params["w"])
    assert parts.checkpoints.validation(6) == whole.checkpoints.validation(6)


def test_a_loss_that_is_not_finite_stops_and_names_everything(training, tmp_path):
    with pytest.raises(RunError) as error:
        training("bad", bad=[7])
    assert "step 7: not finite: size, square" in str(error.value)
    assert f"dir_jax.training.replay --workdir {tmp_path / 'bad'} --step 7" in str(error.value)
    report = json.loads((tmp_path / "bad" / "nonfinite_step_7.json").read_text())
    assert report["step"] == 7
    assert report["terms_not_finite"] == ["size", "square"]
    assert report["indices"] == [6, 7, 8, 9]
    assert report["frames"][0] == "frame 6"
    complete, loop = training("bad")  # the same steps with sound data
    assert complete
    assert np.isfinite(loop.state.params["w"]).all()


def test_a_limited_number_may_be_left_out(training, tmp_path):
    complete, loop = training("some", bad=[3, 8], **{"train.nonfinite_limit": 2})
    assert complete
    assert int(loop.state.skipped) == 2
    assert np.isfinite(loop.state.params["w"]).all()
    with pytest.raises(RunError, match=r"3 updates left out, 2 allowed"):
        training("many", bad=[3, 4, 8], **{"train.nonfinite_limit": 2})


def test_a_disk_that_takes_no_checkpoint_is_survived_until_the_end(training, monkeypatch, capsys):
    save = Checkpoints.save

    def refuse(self, step, *content):
        if step < STEPS:
            raise CheckpointError(f"the checkpoint of step {step} could not be written: full")
        save(self, step, *content)

    monkeypatch.setattr(Checkpoints, "save", refuse)
    complete, loop = training("full")
    assert complete
    assert loop.checkpoints.steps() == [STEPS]
    assert "step 5 could not be written: full; training goes on" in capsys.readouterr().err

    def always(self, step, *content):
        raise CheckpointError("no space")

    monkeypatch.setattr(Checkpoints, "save", always)
    with pytest.raises(RunError, match="no space"):
        training("fuller")
