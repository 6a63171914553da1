"""The exported program gives the network's own numbers, alone with jax and numpy."""

import importlib.util
import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest

from dir_jax import export
from dir_jax.models.network import initial_variables
from dir_jax.weights.checkpoints import save_variables
from tests.dir_jax.training_fixtures import TINY_MODEL, tiny_model, toy_hands

pytestmark = pytest.mark.slow

SCRIPT = pathlib.Path(__file__).parents[2] / "docs" / "examples" / "run_exported.py"
_spec = importlib.util.spec_from_file_location("run_exported", SCRIPT)
run_exported = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(run_exported)


@pytest.fixture(scope="module")
def model():
    return tiny_model(toy_hands())


@pytest.fixture(scope="module")
def variables(model):
    return jax.device_get(initial_variables(model, seed=2))


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (3, 256, 256, 3), np.uint8)


def _equal(result, model, variables, images):
    wanted = jax.jit(export.inference(model))(variables, images)
    assert set(result) == set(wanted) == set(export.OUTPUTS)
    for name, value in wanted.items():
        scale = np.abs(value).max()
        np.testing.assert_allclose(result[name], value, rtol=0, atol=1e-5 * scale, err_msg=name)


@pytest.mark.parametrize("separate", [False, True])
def test_a_process_with_jax_and_numpy_alone_gives_the_same(
    model, variables, images, tmp_path, separate
):
    data = export.export_inference(model, variables, ("cpu", "cuda"), separate)
    assert jax.export.deserialize(bytearray(data)).platforms == ("cpu", "cuda")
    (tmp_path / "program").write_bytes(data)
    np.save(tmp_path / "images.npy", images)
    script = tmp_path / "alone.py"  # a copy, from where the project cannot be found
    script.write_text(SCRIPT.read_text())
    command = ["--program", "program", "--images", "images.npy", "--output", "result.npz"]
    if separate:
        np.savez(tmp_path / "w.npz", **export.flat_weights(variables))
        command += ["--weights", "w.npz"]
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
    with np.load(tmp_path / "result.npz") as result:
        _equal(dict(result), model, variables, images)


def test_the_command_exports_a_checkpoint(variables, images, tmp_path, capsys):
    meta = {"config": {"model": TINY_MODEL}}
    save_variables(tmp_path / "run", variables, meta)
    status = export.main(
        ["--checkpoint", str(tmp_path / "run"), "--output", str(tmp_path / "program"),
         "--separate_weights", "--platforms", "cpu"]
    )  # fmt: skip
    assert status == 0, capsys.readouterr().err
    weights = export.weights_file(tmp_path / "program")
    np.save(tmp_path / "images.npy", images[:1])
    result = run_exported.run(tmp_path / "program", weights, tmp_path / "images.npy")
    assert result["vertices_xyz"].shape == (1, 2, 778, 3)
    assert "open hand" in capsys.readouterr().out


def test_bad_input_is_named_in_one_line(tmp_path, capsys):
    (tmp_path / "program").write_bytes(b"nonsense")
    np.save(tmp_path / "images.npy", np.zeros((1, 8, 8, 3)))
    common = ["--images", str(tmp_path / "images.npy"), "--output", str(tmp_path / "r.npz")]
    assert run_exported.main(["--program", str(tmp_path / "program"), *common]) == 2
    assert capsys.readouterr().err == f"error: {tmp_path / 'program'} is not an exported program\n"
    gone = ["--checkpoint", str(tmp_path / "none"), "--output", str(tmp_path / "p")]
    assert export.main(gone) == 2
    assert export.main([*gone[:-1], str(tmp_path / "no" / "p")]) == 2
    assert capsys.readouterr().err.count("error: ") == 2
