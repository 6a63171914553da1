"""The exported program gives the network's own numbers, alone with jax and numpy."""

import importlib.util
import pathlib
import subprocess
import sys

import cv2
import jax
import numpy as np
import pytest

from dir_jax import export
from dir_jax.models.network import initial_variables
from dir_jax.weights.checkpoints import save_variables
from input_pipeline.commands import FailedError
from mano_jax import open_hands
from tests.dir_jax.training_fixtures import TINY_MODEL, tiny_model

pytestmark = pytest.mark.slow

SCRIPT = pathlib.Path(__file__).parents[2] / "docs" / "examples" / "run_exported.py"
_spec = importlib.util.spec_from_file_location("run_exported", SCRIPT)
run_exported = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(run_exported)


@pytest.fixture(scope="module")
def variables():
    return jax.device_get(initial_variables(tiny_model(open_hands()), seed=2))


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (3, 256, 256, 3), np.uint8)


def test_a_process_with_jax_and_numpy_alone_gives_the_same(variables, images, tmp_path, capsys):
    """Of a program without weights inside, written by the command; and of one with them."""
    save_variables(tmp_path / "run", variables, {"config": {"model": TINY_MODEL}})
    flags = ["--checkpoint", str(tmp_path / "run"), "--output", str(tmp_path / "program")]
    assert export.main([*flags, "--separate_weights"]) == 0, capsys.readouterr().err
    assert "open hand" in capsys.readouterr().out
    data = (tmp_path / "program").read_bytes()
    assert jax.export.deserialize(bytearray(data)).platforms == ("cpu", "cuda")
    np.save(tmp_path / "images.npy", images)
    script = tmp_path / "alone.py"  # a copy, from where the project cannot be found
    script.write_text(SCRIPT.read_text())
    command = ["--program", "program", "--images", "images.npy", "--output", "result.npz"]
    command += ["--weights", export.weights_file(tmp_path / "program").name]
    block = "import sys; sys.modules.update(dict.fromkeys(('flax', 'dir_jax', 'mano_jax')));"
    run = f"{block} import runpy; sys.argv = ['x', *{command}]; runpy.run_path('alone.py', "
    done = subprocess.run(
        [sys.executable, "-c", run + "run_name='__main__')"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    model = tiny_model(open_hands())
    (tmp_path / "whole").write_bytes(export.export_inference(model, variables, ("cpu",)))
    whole = run_exported.run(tmp_path / "whole", None, tmp_path / "images.npy")
    wanted = jax.jit(export.inference(model))(variables, images)
    with np.load(tmp_path / "result.npz") as alone:
        for result in (alone, whole):
            assert set(result) == set(wanted) == set(export.OUTPUTS)
            for name, value in wanted.items():
                atol = 1e-5 * np.abs(value).max()
                np.testing.assert_allclose(result[name], value, rtol=0, atol=atol, err_msg=name)


def test_the_check_tells_how_far_the_answers_are(tmp_path, capsys):
    cv2.imwrite(str(tmp_path / "photo.png"), np.zeros((20, 30, 3), np.uint8))
    cube = np.stack(np.meshgrid(*[[0, 0.2]] * 3), -1).reshape(-1, 3)

    def answer(shift):
        moved = cube + [0, shift, 0]
        return lambda crops: {"vertices_xyz": np.tile(moved, (len(crops), 2, 1, 1))}

    export.check({"ours": answer(0), "theirs": answer(1e-4)}, [str(tmp_path / "photo.png")])
    ours, theirs = capsys.readouterr().out.splitlines()
    assert "drift 0.0e+00" in ours and "drift 5.0e-04 of the hand's size" in theirs
    with pytest.raises(FailedError, match="answers otherwise"):
        export.check({"ours": answer(0), "theirs": answer(3e-4)}, [str(tmp_path / "photo.png")])
