"""Annotation files with anything in them: troubles are counted, nothing else is raised."""

import copy
import functools
import json
import pathlib
import tempfile

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from input_pipeline.dataset import deserialize, serialize
from input_pipeline.image_files import safe_path
from input_pipeline.shards import plan_records
from input_pipeline.sources.frames import Frame
from input_pipeline.sources.interhand import InterhandSplit
from input_pipeline.troubles import FrameTrouble, SourceError
from tests.hands import toy_hands
from tests.input_pipeline.raw_data import write_raw

KINDS = ("data", "camera", "joint_3d", "MANO_NeuralAnnot")
# With half surrogate pairs, which JSON can carry and UTF-8 cannot.
TEXT = st.text(max_size=8) | st.sampled_from(["\ud800", "a/\udfff.jpg", "\x1b[31m"])
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)


@functools.cache
def sound_files():
    with tempfile.TemporaryDirectory() as folder:
        made = write_raw(pathlib.Path(folder), splits=("train",), frames=2, cameras=2)
        return {kind: made["train"][kind] for kind in KINDS}


def spoil(value, draw):
    """Replaces one place somewhere inside a nested value by anything."""
    place = value
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        key = draw(st.sampled_from(keys))
        inner = place[key]
        if not isinstance(inner, dict | list) or not inner or draw(st.integers(0, 5)) == 0:
            place[key] = draw(ANYTHING)
            return
        place = inner


def read_everything(root):
    """All that preparing and checking do with annotations."""
    try:
        split = InterhandSplit(root, "train")
    except SourceError:
        return
    for config in ("interacting", "single", "all"):
        selection = split.select(config)
        for template in plan_records(split, selection.kept, config, toy_hands())[0]:
            for value in vars(deserialize(serialize(template))).values():
                assert not isinstance(value, np.ndarray) or np.isfinite(value).all()
        for index in selection.kept:
            frame = split.frame(index)
            assert isinstance(frame, Frame)
            assert np.isfinite(frame.joints_xyz).all()
            for fit in frame.fits:
                assert fit is None or np.isfinite([*fit.pose, *fit.betas, *fit.transl]).all()
            try:
                path = safe_path(split.images_folder, frame.file_name)
                assert path.is_relative_to(root.resolve())
            except FrameTrouble:
                pass
    for index in range(len(split)):
        split.frame(index)
    json.dumps(split.describe())


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(KINDS), st.data())
def test_spoilt_values(kind, data):
    files = copy.deepcopy(sound_files())
    for _ in range(data.draw(st.integers(0, 3))):
        spoil(files[kind], data.draw)
    check_files(files if files != sound_files() else {**files, kind: data.draw(ANYTHING)})


@settings(max_examples=80, deadline=None)
@given(st.sampled_from(KINDS), st.data())
def test_spoilt_bytes(kind, data):
    text = bytearray(json.dumps(sound_files()[kind]).encode())
    for _ in range(data.draw(st.integers(1, 5))):
        text[data.draw(st.integers(0, len(text) - 1))] = data.draw(st.integers(0, 255))
    check_files(sound_files(), {kind: bytes(text[: data.draw(st.integers(0, len(text)))])})


def check_files(files, raw=()):
    with tempfile.TemporaryDirectory() as name:
        root = pathlib.Path(name)
        folder = root / "annotations" / "train"
        folder.mkdir(parents=True)
        (root / "images" / "train").mkdir(parents=True)
        for kind, value in files.items():
            data = dict(raw).get(kind) or json.dumps(value).encode("utf-8", "surrogatepass")
            (folder / f"InterHand2.6M_train_{kind}.json").write_bytes(data)
        read_everything(root)


def test_deep_nesting_and_huge_numbers():
    deep = "[" * 100_000
    for kind in KINDS:
        for text in (
            deep,
            '{"images": ' + deep,
            '{"images": [' + deep,
            "9" * 6000,
            '{"3": ' + "9" * 6000,
        ):
            check_files(sound_files(), {kind: text.encode()})
