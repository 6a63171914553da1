"""The loop with a small network of its own and batches out of the air: stops, resumes, reports."""

import json
import types

import jax.numpy as jnp
import numpy as np
import pytest

from configs import smoke
from dir_jax.training import record, run
from dir_jax.training.data import Data
from dir_jax.training.interruptions import FINISHED, STOPPED, RunError
from dir_jax.training.step import adamw, cosine_schedule, make_train_step
from dir_jax.weights.checkpoints import CheckpointError, Checkpoints, load_variables

STEPS, BATCH = 12, 8


def linear_loss(params, batch_stats, batch):
    y = batch["x"] @ params["w"]
    terms = {"square": jnp.mean((y - 1) ** 2), "size": 0.01 * jnp.mean(jnp.abs(y))}
    return sum(terms.values()), (terms, {"mean": y.mean()})


def build(config, parallel, model, steps):
    schedule = cosine_schedule(0.1, steps)
    optimizer = adamw(schedule)
    return optimizer, parallel.step(make_train_step(linear_loss, optimizer, schedule))


def variables(*_):
    w = jnp.asarray(np.random.default_rng(9).normal(size=3), jnp.float32)
    return {"params": {"w": w}, "batch_stats": {"mean": jnp.zeros(())}}


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
    """train(workdir, stop=None, bad=(), validate=None, **fields) -> exit code, state, checkpoints.

    All of the run is the real one but for network, data and evaluation.
    """
    hands = types.SimpleNamespace(name="toy", left=np.zeros(3), right=np.ones(3))
    data = Data(tmp_path, "", {"train": 100, "val": 4, "test": 4})
    replaced = {
        "load_hands": lambda mano: hands,
        "find_data": lambda *_: data,
        "build": build,
        "initial_variables": variables,
        "variable_shapes": variables,
        "evaluate_best": lambda *_: None,
        "label_sheet": lambda *_: np.zeros((8, 8, 3), np.uint8),
    }
    for name, replacement in replaced.items():
        monkeypatch.setattr(run, name, replacement)
    monkeypatch.setattr(record, "frame_names", lambda *a: [f"frame {i}" for i in a[-1]])

    def size_of_weights(state):
        return {"mpjpe_mm": float(jnp.abs(state.params["w"]).sum())}

    def train(name, stop=None, bad=(), validate=size_of_weights, **fields):
        stop = stop or Stop()

        def batches(config, data, first, *_):
            for step in range(first, 10**6):
                x = np.random.default_rng(step).normal(size=(BATCH, 3)).astype(np.float32)
                x[0, 0] = np.nan if step + 1 in bad else x[0, 0]
                stop.seen = step + 1
                yield {"x": x, "index": np.arange(BATCH) + step}

        monkeypatch.setattr(run, "training_batches", batches)
        monkeypatch.setattr(run, "Validation", lambda *_: validate)
        config = smoke.get_config()
        config.parallel.backend = "jit"
        config.train.update(steps=STEPS, batch_size=BATCH, checkpoint_every=5)
        config.validation.every, config.log.every = 6, 2
        config.update_from_flattened_dict(fields)
        (tmp_path / name).mkdir(exist_ok=True)
        checkpoints = Checkpoints(tmp_path / name / "checkpoints", keep=2)
        try:
            code = run.train_and_evaluate(config, tmp_path / name, checkpoints, stop)
        finally:
            checkpoints.close()
        return types.SimpleNamespace(
            code=code, checkpoints=checkpoints, last=checkpoints.restore_latest()
        )

    return train


def lines(folder, name="metrics.jsonl"):
    found = [json.loads(line) for line in (folder / name).read_text().splitlines()]
    for line in found:
        line.pop("examples_per_second", None)
    return found


def weights(found):
    return found.last.variables["params"]["w"]


def test_an_undisturbed_run_leaves_its_record(training, tmp_path, capsys):
    found = training("one")
    assert found.code == FINISHED
    metrics = lines(tmp_path / "one")
    assert [line["step"] for line in metrics] == [2, 4, 6, 8, 10, 12]
    assert set(metrics[0]) == {
        "step", "loss", "square", "size", "gradient_norm", "learning_rate",
    }  # fmt: skip
    assert [line["step"] for line in lines(tmp_path / "one", "validation.jsonl")] == [6, 12]
    assert found.checkpoints.steps()[-2:] == [10, 12]
    assert found.checkpoints.best_step() in (6, 12)
    assert list((tmp_path / "one" / "tensorboard").iterdir())
    assert training("one").code == FINISHED
    assert "12 steps of this run are done already" in capsys.readouterr().err
    assert lines(tmp_path / "one") == metrics


@pytest.mark.parametrize("at", [1, 5, 6, 7, 11])
def test_stopped_and_resumed_equals_undisturbed(training, tmp_path, at):
    training("whole")
    stop = Stop(at)
    found = training("parts", stop)
    assert found.code == STOPPED
    assert found.checkpoints.steps()[-1] == at
    assert stop.protected[-1] is False
    assert training("parts").code == FINISHED
    for name in ("metrics.jsonl", "validation.jsonl"):
        assert lines(tmp_path / "parts", name) == lines(tmp_path / "whole", name)


def test_killed_without_a_word_loses_nothing_but_time(training, tmp_path):
    whole = training("whole")

    class Killed(Exception):
        pass

    def kill(state):
        raise Killed

    with pytest.raises(Killed):  # at step 6: its checkpoint is written, its validation is not
        training("parts", validate=kill)
    with (tmp_path / "parts" / "metrics.jsonl").open("a") as file:
        file.write('{"step": 8, "loss": 1}\n{"step": 10, "lo')  # later than the checkpoint, half
    parts = training("parts")
    assert parts.code == FINISHED
    assert lines(tmp_path / "parts") == lines(tmp_path / "whole")
    np.testing.assert_array_equal(weights(parts), weights(whole))
    assert parts.checkpoints.validation(6) == whole.checkpoints.validation(6)


def test_a_loss_that_is_not_finite_stops_and_names_everything(training, tmp_path):
    with pytest.raises(RunError) as error:
        training("bad", bad=[7])
    assert "step 7: not finite: size, square" in str(error.value)
    assert f"dir_jax.training.replay --workdir {tmp_path / 'bad'} --step 7" in str(error.value)
    report = json.loads((tmp_path / "bad" / "nonfinite_step_7.json").read_text())
    assert report["step"] == 7
    assert report["terms_not_finite"] == ["size", "square"]
    assert report["indices"] == list(range(6, 6 + BATCH))
    assert report["frames"][0] == "frame 6"
    found = training("bad")  # the same steps with sound data
    assert found.code == FINISHED
    assert np.isfinite(weights(found)).all()


def test_a_limited_number_may_be_left_out(training, tmp_path):
    found = training("some", bad=[3, 8], **{"train.nonfinite_limit": 2})
    assert found.code == FINISHED
    assert found.last.optimizer["skipped"] == 2
    assert np.isfinite(weights(found)).all()
    with pytest.raises(RunError, match=r"3 updates left out, 2 allowed"):
        training("many", bad=[3, 4, 8], **{"train.nonfinite_limit": 2})


def test_a_disk_that_takes_no_checkpoint_is_survived_until_the_end(training, monkeypatch, capsys):
    save = Checkpoints.save

    def refuse(self, step, *content):
        if step < STEPS:
            raise CheckpointError(f"the checkpoint of step {step} could not be written: full")
        save(self, step, *content)

    monkeypatch.setattr(Checkpoints, "save", refuse)
    found = training("full")
    assert found.code == FINISHED
    assert found.checkpoints.steps() == [STEPS]
    assert "step 5 could not be written: full; training continues" in capsys.readouterr().err

    def always(self, step, *content):
        raise CheckpointError("no space")

    monkeypatch.setattr(Checkpoints, "save", always)
    with pytest.raises(RunError, match="no space"):
        training("fuller")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"optimizer.learning_rate": 0.2}, "optimizer.learning_rate: 0.2 here, 0.0003 in the"),
        ({"train.steps": 24}, "train.steps: 24 here, 12 in the"),
    ],
)
def test_another_recipes_work_folder_is_refused(training, fields, message):
    training("run", Stop(2))
    with pytest.raises(ValueError, match=message):
        training("run", **fields)


def test_before_there_is_anything_to_lose_a_recipe_may_change(training, tmp_path, monkeypatch):
    def no_data(*_):
        raise ValueError("no data")

    with monkeypatch.context() as patch, pytest.raises(ValueError, match="no data"):
        patch.setattr(run, "find_data", no_data)
        training("run", **{"data.synthesize": False})
    assert training("run", Stop(1)).code == STOPPED
    (tmp_path / "other" / "raw").mkdir(parents=True)  # photographs of another recipe
    run.write_config(smoke.get_config(), tmp_path / "other")
    with pytest.raises(ValueError, match=r"data.synthesize_train: 99 here, 16 in the"):
        training("other", **{"data.synthesize_train": 99})


def test_other_hands_or_other_data_are_refused(training, monkeypatch, tmp_path):
    fields = {"train.steps": 0, "train.epochs": 0.24}  # of 100 examples: three steps
    training("run", Stop(2), **fields)
    more = Data(tmp_path, "", {"train": 200, "val": 4, "test": 4})
    with monkeypatch.context() as patch, pytest.raises(ValueError, match="makes it 6"):
        patch.setattr(run, "find_data", lambda *_: more)
        training("run", **fields)
    other = types.SimpleNamespace(name="other", left=np.ones(3), right=np.ones(3))
    monkeypatch.setattr(run, "load_hands", lambda mano: other)
    with pytest.raises(ValueError, match="a run with toy, not other"):
        training("run", **fields)


def test_initial_weights_are_those_of_the_checkpoint_named(training, tmp_path, monkeypatch):
    training("first", Stop(3))
    monkeypatch.setattr("dir_jax.weights.loading.load_weights", load_variables)
    given = load_variables(tmp_path / "first")[0]["params"]["w"]
    config = smoke.get_config()
    config.train.initial_checkpoint = str(tmp_path / "first")
    found = run.first_variables(config, None)["params"]["w"]
    np.testing.assert_array_equal(found, given)
