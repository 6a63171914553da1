"""A recipe's data: found, made, and made again after an interruption."""

import pytest

from configs import smoke
from dir_jax.training import data
from dir_jax.training.interruptions import RunError, StopRequest
from tests.input_pipeline.examples import random_record, write_dataset


@pytest.fixture
def commands(monkeypatch):
    """Stands in for the two commands that make data; the names of those that were run."""
    found = []

    def run(name, arguments, stop):
        found.append(name.removeprefix("input_pipeline."))
        output = arguments[arguments.index("--output") + 1]
        if name.endswith("prepare"):
            if run.interrupted:
                raise RunError("stopped")
            write_dataset(output, {"train": [random_record(i) for i in range(3)]})
        else:
            assert arguments[arguments.index("--train") + 1] == "16"
            (data.Path(output) / "images").mkdir(parents=True)

    run.interrupted = False
    monkeypatch.setattr(data, "_run_module", run)
    return found, run


def test_an_interrupted_preparation_is_resumed(commands, tmp_path):
    names, run = commands
    run.interrupted = True
    with pytest.raises(RunError):
        data.find_data(smoke.get_config(), tmp_path, StopRequest())
    run.interrupted = False
    found = data.find_data(smoke.get_config(), tmp_path, StopRequest())
    assert names == ["synthesize", "prepare", "prepare"]
    assert found.sizes == {"train": 3, "val": 0, "test": 0}
    data.find_data(smoke.get_config(), tmp_path, StopRequest())
    assert len(names) == 3  # what is there is used


def test_a_command_that_fails_ends_the_run():
    with pytest.raises(RunError, match="ended with status 2"):
        data._run_module("input_pipeline.prepare", ["--source"], StopRequest())
