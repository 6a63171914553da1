"""Checkpoints: what is kept, what is noticed, what is fallen back on."""

import functools
import json
import os
import resource
import shutil

import chex
import numpy as np
import pytest

from dir_jax.weights import checkpoints
from dir_jax.weights.checkpoints import CheckpointError, Checkpoints, load_variables, save_variables
from tests.damage import flip_bit, largest_file

META = {"config": {"widths": (1, 2)}, "hands": "open hand"}


def content(seed):
    rng = np.random.default_rng(seed)
    variables = {
        "params": {"layer": {"kernel": rng.normal(size=(50, 40)).astype(np.float32)}},
        "batch_stats": {"norm": {"mean": rng.normal(size=3)}},
    }
    optimizer = {"count": np.asarray(seed, np.int32), "mu": {"layer": rng.normal(size=4)}, "e": {}}
    return variables, optimizer


@pytest.fixture
def run(tmp_path):
    found = Checkpoints(tmp_path / "checkpoints", keep=2)
    yield found
    found.close()


def save(run, *steps):
    for step in steps:
        run.save(step, *content(step), META)


assert_same = functools.partial(chex.assert_trees_all_equal, strict=True)


def test_comes_back_bit_for_bit(run):
    save(run, 7)
    found = run.restore_latest()
    variables, optimizer = content(7)
    assert_same(variables, found.variables)
    assert_same(optimizer, found.optimizer)
    assert found.step == 7
    assert found.meta["hands"] == "open hand"
    assert found.meta["config"] == {"widths": [1, 2]}


def test_nothing_there_is_none(run):
    assert run.restore_latest() is None
    assert run.best_step() is None


def test_keeps_the_latest_and_the_best(run):
    for step, error in [(1, 9.0), (2, 4.0), (3, 5.0), (4, 4.0), (5, 6.0), (6, 7.0)]:
        save(run, step)
        run.record_validation(step, {"mpjpe_mm": error})
    assert run.steps() == [2, 5, 6]
    assert run.best_step() == 2


def test_a_validation_that_is_no_number_is_never_best(run):
    save(run, 1, 2)
    run.record_validation(2, {"other": 1.0})
    assert run.best_step() is None
    run.record_validation(1, {"mpjpe_mm": 3.0})
    assert run.best_step() == 1


def test_saving_a_step_again_leaves_it_alone(run):
    save(run, 3)
    run.save(3, *content(99), META)
    assert_same(content(3)[0], run.restore_latest().variables)


def cut_off(step_folder):
    path = largest_file(step_folder / "optimizer")
    os.truncate(path, path.stat().st_size // 2)


def lose_variables(step_folder):
    shutil.rmtree(step_folder / "variables")


def lose_meta(step_folder):
    shutil.rmtree(step_folder / "meta")


def change_meta(step_folder):
    path = step_folder / "meta" / "metadata"
    meta = json.loads(path.read_text())
    path.write_text(json.dumps({**meta, "step": 12}))


def empty_meta(step_folder):
    (step_folder / "meta" / "metadata").write_text("")


@pytest.mark.parametrize(
    "damage", [flip_bit, cut_off, lose_variables, lose_meta, change_meta, empty_meta]
)
def test_falls_back_from_a_damaged_latest_with_a_warning(run, capsys, damage):
    save(run, 1, 2)
    damage(run.folder / "2")
    found = run.restore_latest()
    assert found.step == 1
    assert_same(content(1)[0], found.variables)
    said = capsys.readouterr().err
    assert "warning: the checkpoint of step 2 is damaged (" in said and said.count("\n") == 1
    assert "using the one of step 1" in said
    assert (run.folder.parent / "damaged_checkpoints" / "2").is_dir()
    save(run, 2)  # its place is free again
    assert run.restore_latest().step == 2


def test_all_damaged_is_an_error_not_a_fresh_start(run):
    save(run, 1, 2)
    for step in (1, 2):
        flip_bit(run.folder / str(step))
    for _ in range(2):  # nor when the same command is started again
        with pytest.raises(CheckpointError, match=r"none of the checkpoints \[1, 2\]"):
            run.restore_latest()


def test_an_unfinished_write_is_ignored_and_cleared(tmp_path):
    folder = tmp_path / "checkpoints"
    first = Checkpoints(folder)
    save(first, 1)
    first.close()
    unfinished = folder / "2.orbax-checkpoint-tmp-1"
    shutil.copytree(folder / "1", unfinished)
    second = Checkpoints(folder)
    assert second.restore_latest().step == 1
    save(second, 2)
    assert second.steps() == [1, 2]
    second.close()


def test_full_disk_leaves_the_last_good_one(run):
    save(run, 1)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))  # no file beyond 2 kB
    try:
        with pytest.raises(CheckpointError, match="step 2 could not be written"):
            save(run, 2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert run.restore_latest().step == 1
    assert [p.name for p in run.folder.iterdir() if "tmp" in p.name] == []
    save(run, 2)
    assert run.restore_latest().step == 2


class TestLoadVariables:
    @pytest.fixture
    def workdir(self, run):
        save(run, 1, 2, 3)
        run.record_validation(2, {"mpjpe_mm": 1.0})
        return run.folder.parent

    @pytest.mark.parametrize(
        ("place", "step"), [(".", 2), ("checkpoints", 2), ("checkpoints/3", 3)]
    )
    def test_from_any_folder_of_a_run(self, workdir, place, step):
        variables, meta = load_variables(workdir / place)
        assert meta["step"] == step
        assert_same(content(step)[0], variables)

    def test_damaged_best_gives_the_newest_whole_one_and_says_so(self, workdir, capsys):
        flip_bit(workdir / "checkpoints" / "2")
        assert load_variables(workdir)[1]["step"] == 3
        said = capsys.readouterr().err
        assert said.startswith(f"warning: {workdir / 'checkpoints' / '2'} is damaged: ")
        assert said.endswith("; using the checkpoint of step 3\n") and said.count("\n") == 1
        assert (workdir / "checkpoints" / "2").is_dir()  # reading changes nothing

    def test_what_save_variables_wrote(self, tmp_path):
        for seed in (1, 2):  # the second replaces the first
            save_variables(tmp_path / "converted", content(seed)[0], META)
        variables, meta = load_variables(tmp_path / "converted")
        assert_same(content(2)[0], variables)
        assert meta["step"] == 0
        assert checkpoints.present_steps(tmp_path / "converted") == [0]
