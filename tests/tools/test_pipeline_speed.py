"""The speed measurement runs, and hands the PyTorch code's loader the layout it expects."""

import json

import numpy as np
import pytest

import mano_jax
from mano_jax.unpickle import NUMPY_ONLY, restricted_load
from tests.input_pipeline.examples import random_record, write_dataset
from tools import pipeline_speed as benchmark
from tools import reference_loader


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    write_dataset(folder, {"train": [random_record(i) for i in range(3)]})
    return str(folder)


@pytest.mark.slow
def test_reports_speed_and_stages(data_dir, tmp_path, capsys):
    output = tmp_path / "speed.json"
    options = ["--data", data_dir, "--batch_size", "2", "--batches", "2", "--json", str(output)]
    assert benchmark.main(options) == 0
    result = json.loads(output.read_text())
    assert result["pipeline"]["examples_per_second"] > 0
    assert set(result["stages_ms"]) > {"read", "warp", "motion blur"}
    assert "reference" not in result and "examples/s" in capsys.readouterr().out


def test_processed_layout_holds_the_same_hands(tmp_path):
    hands, record = mano_jax.open_hands(), random_record(4)
    reference_loader.write_processed(tmp_path / "processed", [record], hands)
    split = tmp_path / "processed" / "train"
    assert {p.name for p in split.iterdir()} == {"img", "mask", "dense", "anno"}
    content = restricted_load(split / "anno" / "0.pkl", allow=NUMPY_ONLY)
    for h, side in enumerate(("left", "right")):
        parameters = content["mano_params"][side]
        pose = mano_jax.pca_to_axis_angle(hands[side], parameters["pose"][0])
        np.testing.assert_allclose(np.ravel(pose), record.hand_pose[h], atol=1e-4)
        turned = mano_jax.matrix_from_axis_angle(record.global_orient[h])
        np.testing.assert_allclose(parameters["R"][0], turned, atol=1e-5)
        np.testing.assert_array_equal(parameters["trans"][0], record.transl[h])
