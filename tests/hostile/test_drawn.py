"""Drawn at random: files' bytes, boxes, prediction arrays, recipes' values. Each is used or refused
in one line. (That nothing in a pickle runs is drawn in tests/mano_jax/test_unpickle.py.)"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import tempfile
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from configs import read_recipe
from configs.base import FIELDS, flat
from dir_jax.evaluation.array_archive import ArchiveError, ArrayArchive
from dir_jax.evaluation.predictions import read_predictions
from dir_jax.prediction.boxes import parse_box
from dir_jax.prediction.photos import PhotoError, photo_from_image, read_image
from dir_jax.weights.torch_files import WeightsError, read_state_dict
from input_pipeline.image_files import read_photo
from input_pipeline.troubles import FrameTrouble
from mano_jax.hand import ArraysFileError, read_npz
from tests.damage import damaged, edits
from tests.dir_jax import torch_zip
from tests.hostile.world import NOISE, encoded, predictions, saved

ARRAYS = {"joints": np.arange(24.0).reshape(4, 6), "n": np.array(["a", "bc"]), "s": np.array(3)}
NPZ = [saved(save, **ARRAYS) for save in (np.savez, np.savez_compressed)]
PHOTOS = [encoded(kind, NOISE[:30, :40]) for kind in ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "PPM")]
PIECES = [
    b"PK\x01\x02", b"PK\x05\x06", b"\x93NUMPY\x01\0", b"|O", b"<f8", b"(4, 6)", b"(-1,)",
    b"cposix\nsystem\n", b"ctorch\nFloatStorage\n", b"Q", b"R", b"K\x01", b"\xff\xff\xff\xff",
]  # fmt: skip
SETTINGS = settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


def torch_file(save) -> bytes:
    """A small file of PyTorch's."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "w.pth"
        save(path, {"a": np.arange(6, dtype=np.float32).reshape(2, 3).T, "b": np.array(7)})
        return path.read_bytes()


def _bytes_of(arrays) -> int:
    return sum(np.array(array).nbytes for array in arrays.values())


def _values_of(image) -> int:
    assert image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3
    return 0  # a photo may be larger than its file


class Reader(NamedTuple):
    """What reads a kind of file.

    Attributes:
      read: takes a path; returns how many bytes it made of the file.
      error: what it raises for files that it cannot use.
      seeds: sound files.
    """

    read: Callable[[pathlib.Path], int]
    error: type[Exception]
    seeds: list[bytes]


READERS = {
    "photo": Reader(lambda path: _values_of(read_image(path)), PhotoError, PHOTOS),
    "raw photo": Reader(lambda path: _values_of(read_photo(path)), FrameTrouble, PHOTOS[:2]),
    "predictions": Reader(lambda path: _bytes_of(ArrayArchive(path)), ArchiveError, NPZ),
    "hands": Reader(lambda path: _bytes_of(read_npz(path)), ArraysFileError, NPZ),
    "weights": Reader(
        lambda path: _bytes_of(read_state_dict(path)),
        WeightsError,
        [torch_file(torch_zip.save), torch_file(torch_zip.save_old)],
    ),
}


@pytest.mark.parametrize("kind", READERS)
@SETTINGS
@given(data=st.data())
def test_damaged_files_are_read_or_raise_the_one_error(kind, data):
    read, error, seeds = READERS[kind]
    content = damaged(data.draw(st.sampled_from(seeds)), data.draw(edits(PIECES)))
    content = content[: data.draw(st.none() | st.integers(0, len(content)))]
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "file"
        path.write_bytes(content)
        try:
            assert read(path) <= 3 * len(content) + 1000
        except error as refusal:
            assert "\n" not in str(refusal) and len(str(refusal)) < 500
        assert os.listdir(folder) == ["file"]


NUMBERS = st.floats() | st.integers(-(10**6), 10**6)


@SETTINGS
@given(st.tuples(*[NUMBERS | st.integers(-50, 300)] * 4))
def test_a_box_gives_a_crop_or_is_refused_with_the_photos_name(box):
    try:
        crop = photo_from_image(NOISE, "name.jpg", box).crop()
    except PhotoError as error:
        assert str(error).startswith("name.jpg: the box ")
        return
    assert crop.shape == (256, 256, 3) and parse_box(",".join(map(str, box)))


@SETTINGS
@given(st.text("0123456789.,-+einfa x", max_size=20))
def test_a_text_is_a_box_or_is_refused(text):
    try:
        x, y, width, height = parse_box(text)
    except argparse.ArgumentTypeError as error:
        assert "\n" not in str(error)
        return
    assert np.isfinite([x, y]).all() and width > 0 and height > 0


CHANGES = {
    "times": lambda a, draw: a * draw(st.sampled_from([0, -1, 10, 1000, 1e-3, 1e300, np.nan])),
    "type": lambda a, draw: a.astype(draw(st.sampled_from("f2 f4 >f8 i8 c16 S8 U4 ?".split()))),
    "rows": lambda a, draw: a[: draw(st.integers(0, len(a)))],
    "axes": lambda a, draw: np.moveaxis(a, -1, draw(st.integers(0, a.ndim - 1))),
    "deeper": lambda a, draw: a[None],
    "place": lambda a, draw: np.where(np.arange(a.size).reshape(a.shape) == draw(
        st.integers(0, 9)), draw(st.floats()), a),
    "nothing": lambda a, draw: np.array(draw(st.floats())),
}  # fmt: skip


@SETTINGS
@given(data=st.data())
def test_prediction_arrays_are_a_table_or_refused_with_the_files_name(data):
    arrays = dict(predictions())
    arrays["hand_valid"] = np.ones((5, 2), bool)
    for name in data.draw(
        st.lists(st.sampled_from(sorted(arrays)), min_size=1, max_size=2, unique=True)
    ):
        change = CHANGES[data.draw(st.sampled_from(sorted(CHANGES)))]
        arrays[name] = change(arrays[name], data.draw)
    with tempfile.TemporaryDirectory() as folder, np.errstate(all="ignore"):
        path = pathlib.Path(folder) / "p.npz"
        path.write_bytes(saved(**arrays))
        try:
            table = read_predictions(path)
        except ValueError as error:
            assert str(error).startswith(str(path)) and "\n" not in str(error)
            return
        batch = table.take(np.arange(len(table)))
        for name in ("vertices_xyz", "gt_vertices_xyz"):
            assert np.isfinite(batch[name][batch["hand_valid"].astype(bool)]).all()


VALUES = (
    st.integers(-3, 70).map(str)
    | st.sampled_from(["1" * 30, "-" + "9" * 19, "nan", "inf", "-inf", "1e400", "1e-320", "0x10"])
    | st.sampled_from(["", "None", "True", "(1,2)", "(1,)", "[1]", "{}", "os:system", "none"])
    | st.floats().map(str)
    | st.text("ab1.,:()[]'\"\\ é\n\x00", max_size=6)
)


@settings(SETTINGS, max_examples=300)
@given(st.lists(st.tuples(st.sampled_from(sorted(FIELDS)), VALUES), min_size=1, max_size=3))
def test_recipes_values_are_used_or_refused_by_name(fields):
    words = [f"--config.{name}={value}" for name, value in fields]
    try:
        recipe = flat(read_recipe(["--config", "smoke", *words]))
    except ValueError as error:
        assert "\n" not in str(error) and len(str(error)) < 500
        assert any(name.partition(".")[0] in str(error) for name, _ in fields), error
        return
    for name, field in FIELDS.items():
        field.check(name, recipe[name])
        assert type(recipe[name]) is type(field.default)
    json.dumps(recipe, allow_nan=False)
