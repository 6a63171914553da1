import numpy as np
import pytest

from dir_jax.evaluation.examples import chosen_samples, read_examples
from input_pipeline.crop import CROP_SIZE
from tests.dir_jax.evaluation.test_evaluation import prepared


def test_worst_median_and_best():
    indices = np.array([7, 3, 9, 1, 5, 2])
    errors = np.array([5.0, 1.0, np.nan, 4.0, 2.0, 3.0])
    chosen = chosen_samples(indices, errors, 1)
    assert list(chosen.items()) == [(3, "best"), (2, "median"), (7, "worst")]
    chosen = chosen_samples(indices, errors, 2)
    assert list(chosen.items()) == [
        *((3, "best"), (5, "best"), (2, "median"), (7, "worst"), (1, "worst"))
    ]
    assert chosen_samples(indices[:1], errors[:1], 4) == {7: "best"}


def test_examples_are_what_the_pipeline_gives(tmp_path):
    batches = pytest.importorskip("input_pipeline.batches")
    rows = prepared(tmp_path, 4)
    batch = read_examples(tmp_path, "train", [3, 1], "interacting")
    expected = next(batches.eval_batches(tmp_path, "train", batch_size=4))
    for name, value in batch.items():
        assert value.dtype == expected[name].dtype, name
        # Two JPEG decoders may differ by a grey level or two.
        tolerance = 3 if name == "image" else 1e-6
        wanted = expected[name][[3, 1]].astype(float)
        np.testing.assert_allclose(value.astype(float), wanted, atol=tolerance, err_msg=name)
    assert batch["image"].shape[1:] == (CROP_SIZE, CROP_SIZE, 3)
    np.testing.assert_array_equal(batch["betas"][0], rows[3].betas)
