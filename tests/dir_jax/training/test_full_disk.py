"""A disk that is really full: a file system of 400 kB, for which the tests must be run by root."""

import contextlib
import json
import subprocess

import numpy as np
import pytest

from configs import smoke
from dir_jax.training.record import JsonLines, Record
from dir_jax.weights.checkpoints import CheckpointError, Checkpoints


@pytest.fixture
def small_disk(tmp_path):
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(folder)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no file system can be mounted here ({error})")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(folder):
    """Takes all the room there is; returns the file that does."""
    path = folder / "fill"
    with contextlib.suppress(OSError), path.open("wb", buffering=0) as file:
        for size in (4096, 1):
            with contextlib.suppress(OSError):
                while True:
                    file.write(bytes(size))
    return path


def test_checkpoints_stay_whole_and_continue_when_there_is_room(small_disk, capfd):
    def content(seed):
        return {"params": {"w": np.random.default_rng(seed).normal(size=3000)}}

    run = Checkpoints(small_disk / "checkpoints", keep=2)
    run.save(1, content(1), None, {})
    filling = fill(small_disk)
    place = small_disk / "checkpoints"
    wanted = f"step 2 could not be written to {place}: No space left on device; the ones before"
    with pytest.raises(CheckpointError, match=wanted):
        run.save(2, content(2), None, {})
    assert capfd.readouterr() == ("", "")  # no thread of a library's own says anything
    found = run.restore_latest()
    assert found.step == 1
    np.testing.assert_array_equal(found.variables["params"]["w"], content(1)["params"]["w"])
    filling.unlink()
    run.save(3, content(3), None, {})
    assert run.restore_latest().step == 3
    run.close()


def test_the_record_continues_without_a_hang_and_without_half_lines(small_disk, capsys):
    log = Record(small_disk, smoke.get_config(), None, 100)
    values = {"loss": 1.0, **{f"term_{i}": 0.1 * i for i in range(20)}}
    log.metrics(1, values)
    filling = fill(small_disk)
    for step in range(2, 60):
        log.metrics(step, values)
        log.picture(step, "photo", np.zeros((64, 64, 3), np.uint8))
    log.validation(59, {"mpjpe_mm": 9.0})
    filling.unlink()
    log.metrics(60, values)
    log.close()
    steps = [json.loads(x)["step"] for x in (small_disk / "metrics.jsonl").read_text().splitlines()]
    assert steps[0] == 1 and steps[-1] == 60 and len(steps) < 59
    assert steps == sorted(steps)
    assert capsys.readouterr().err.count("could not be written") == 1
    assert len(list((small_disk / "tensorboard").iterdir())) >= 2


def test_a_half_line_costs_no_other(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"step": 2, "lo\n{"step": 3}\n{"step": 4}\n')
    JsonLines(path, 3).append({"step": 4, "again": True})
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert lines == [{"step": 1}, {"step": 3}, {"step": 4, "again": True}]
