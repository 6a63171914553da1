import os
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dir_jax.models import mediapipe
from dir_jax.models.config import ModelConfig
from dir_jax.models.encoders import LandmarkEncoder, one_by_one
from dir_jax.models.types import IMAGENET_MEAN, IMAGENET_STD
from tools.convert_mediapipe import read_model

GOLDEN = pathlib.Path(__file__).parents[2] / "golden" / "mediapipe.npz"
"""What the TensorFlow Lite runtime computes from `picture`, at `places`; and the largest value."""
LANDMARK_TENSORS = {"c1": 114, "c2": 121, "c3": 143, "c4": 159}
HEAD_TENSORS = {"points": 165, "presence": 164, "handedness": 162, "world": 166}
PALM_TENSORS = {"boxes": 279, "logits": 276}
PACKAGE = "DIR_JAX_MEDIAPIPE_PACKAGE"
"""Names npm's package, for the comparison with the runtime itself."""


def picture(side):
    """(1, side, side, 3) in 0..1: smooth waves of skin-like colours, and an edge."""
    y, x = np.mgrid[:side, :side].astype(np.float64) / side
    waves = [np.sin(a * x + b * y) for a, b in ((9, 4), (5, 17), (30, 21))]
    image = np.stack([0.6 + 0.2 * waves[0], 0.4 + 0.2 * waves[1], 0.3 + 0.2 * waves[2]], -1)
    image[(x + 2 * y) > 1.7] *= 0.4
    return image.astype(np.float32)[None]


def places(size):
    return np.random.default_rng(size).integers(0, size, min(size, 200))


def run_tflite(model, images, tensors):
    """Tensors of a TensorFlow Lite file by name."""
    from ai_edge_litert.interpreter import Interpreter

    runtime = Interpreter(
        model_content=model, num_threads=1, experimental_preserve_all_tensors=True
    )
    runtime.resize_tensor_input(0, images.shape)
    runtime.allocate_tensors()
    runtime.set_tensor(0, images)
    runtime.invoke()
    return {name: runtime.get_tensor(number) for name, number in tensors.items()}


def ours(side):
    """Our values for `picture(side)` by name: the maps, the heads, or the palms."""
    landmark, palm = (
        mediapipe.load(name) for name in (mediapipe.LANDMARK_FILE, mediapipe.PALM_FILE)
    )
    if side == 256:
        values = jax.jit(mediapipe.landmark_maps)(landmark, picture(side))
        return "landmark", dict(zip(LANDMARK_TENSORS, values, strict=True))
    if side == 224:
        return "landmark224", jax.jit(mediapipe.landmarks)(landmark, picture(side))._asdict()
    values = jax.jit(mediapipe.palms)(palm, picture(side))
    return "palm", dict(zip(PALM_TENSORS, values, strict=True))


@pytest.mark.parametrize("side", [256, 224, 192])
def test_values_of_the_tensorflow_lite_runtime(side):
    name, values = ours(side)
    with np.load(GOLDEN) as golden:
        for key, value in values.items():
            value, wanted = np.asarray(value).reshape(-1), golden[f"{name}_{key}"]
            tolerance = 5e-5 * golden[f"{name}_{key}_largest"]
            np.testing.assert_allclose(value[places(value.size)], wanted, atol=tolerance)
            assert np.abs(value).max() == pytest.approx(
                float(golden[f"{name}_{key}_largest"]), rel=5e-5
            )


@pytest.mark.parametrize(
    ("side", "file", "tensors"),
    [
        (256, mediapipe.LANDMARK_FILE, LANDMARK_TENSORS),
        (224, mediapipe.LANDMARK_FILE, HEAD_TENSORS),
        (192, mediapipe.PALM_FILE, PALM_TENSORS),
    ],
)
def test_equal_to_the_tensorflow_lite_runtime_itself(side, file, tensors):
    pytest.importorskip("ai_edge_litert")
    if PACKAGE not in os.environ:
        pytest.skip(f"{PACKAGE} names no package")
    wanted = run_tflite(read_model(os.environ[PACKAGE], file), picture(side), tensors)
    for name, value in ours(side)[1].items():
        reference = wanted[name].reshape(-1)
        tolerance = 5e-5 * np.abs(reference).max()
        np.testing.assert_allclose(np.asarray(value).reshape(-1), reference, atol=tolerance)


@pytest.mark.parametrize(("size", "kernel", "stride"), [(8, 3, 2), (7, 5, 2), (6, 5, 1), (9, 3, 2)])
def test_shifted_products_are_the_grouped_convolution(size, kernel, stride):
    """Their value and the gradients of all that goes in."""
    generator = np.random.default_rng(0)
    x = generator.normal(size=(2, size, size + 1, 3)).astype(np.float32)
    weights = generator.normal(size=(kernel, kernel, 3)).astype(np.float32)
    bias = generator.normal(size=3).astype(np.float32)

    def grouped(x, weights, bias):
        return bias + jax.lax.conv_general_dilated(
            x,
            weights[:, :, None],
            (stride, stride),
            "SAME",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=3,
        )

    def shifted(x, weights, bias):
        return mediapipe.depthwise(x, weights, bias, stride)

    (wanted, pull), (made, ours) = (jax.vjp(f, x, weights, bias) for f in (grouped, shifted))
    np.testing.assert_allclose(made, wanted, atol=1e-5)
    gradient = generator.normal(size=wanted.shape).astype(np.float32)
    for mine, theirs in zip(ours(gradient), pull(gradient), strict=True):
        np.testing.assert_allclose(mine, theirs, atol=2e-5)


def test_the_files_name_source_and_licence():
    from safetensors import safe_open

    for name in (mediapipe.LANDMARK_FILE, mediapipe.PALM_FILE):
        with safe_open(mediapipe.FOLDER / name, "numpy") as file:
            metadata = file.metadata()
        assert set(metadata) == {"source", "source_sha256", "licence"}
        assert "Apache-2.0" in metadata["licence"]
    assert "Apache License" in (mediapipe.FOLDER / "LICENSE-mediapipe").read_text()


@pytest.mark.parametrize("trained", [False, True])
def test_the_encoder_sees_normalised_photographs_and_freezes(trained):
    config = ModelConfig(
        encoder="landmark",
        landmark_widths=(0, 0, 5, 0),
        landmark_blocks=0,
        train_encoder=trained,
    )
    encoder = LandmarkEncoder(config)
    image = picture(64)
    images = (np.concatenate([image, image[:, ::-1]]) - np.float32(IMAGENET_MEAN)) / np.float32(
        IMAGENET_STD
    )
    variables = encoder.init(jax.random.key(0), images, train=False)
    maps = encoder.apply(variables, images, train=False)
    weights = mediapipe.load(mediapipe.LANDMARK_FILE)
    wanted = mediapipe.landmark_maps(weights, image)
    assert maps[2].shape == (2, 4, 4, 5)
    for place in (0, 1, 3):
        np.testing.assert_allclose(maps[place][:1], wanted[place], atol=2e-4)
    own = set(variables["params"].get("mediapipe", {}))
    assert own == ({n for n in weights if not n.startswith("head.")} if trained else set())


def test_gradients_of_images_one_by_one_are_those_of_all_at_once():
    images = np.concatenate([picture(32), picture(32)[:, ::-1]])
    kernel = np.random.default_rng(0).normal(size=(3, 3, 3)).astype(np.float32)

    def maps(images, kernel):
        x = jax.nn.relu6(mediapipe.depthwise(images, kernel, kernel[0, 0]))
        return x, mediapipe.depthwise(x, kernel, kernel[0, 0], 2)

    def gradient(function):
        return jax.jit(jax.grad(lambda k: sum(jnp.square(x).sum() for x in function(k))))(kernel)

    wanted = gradient(lambda kernel: maps(images, kernel))
    made = gradient(lambda kernel: one_by_one(lambda image: maps(image, kernel), images))
    np.testing.assert_allclose(made, wanted, rtol=1e-5)
