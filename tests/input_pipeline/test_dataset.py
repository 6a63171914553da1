"""Prepared records: bytes, shards, TFDS's and our own readers agree."""

import os

import numpy as np
import pytest

from input_pipeline import crop, dataset
from input_pipeline.image_files import decode_photo
from tests.input_pipeline.examples import random_record, write_dataset


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    made = {"train": [random_record(i) for i in range(7)], "test": [random_record(100)]}
    write_dataset(folder, made, shard_size=3)
    return folder, made


def assert_same(got, want):
    assert got.image == want.image
    for name, field in dataset.FIELDS.items():
        value, wanted = getattr(got, name), getattr(want, name)
        if field.dtype is object:
            assert value == wanted
        else:
            np.testing.assert_array_equal(value, np.asarray(wanted, field.dtype))
            assert np.shape(value) == field.shape


def test_a_record_survives_its_bytes_and_they_do_not_vary():
    record = random_record(3)
    data = dataset.serialize(record)
    assert_same(dataset.deserialize(data), record)
    assert dataset.serialize(random_record(3)) == data


@pytest.mark.parametrize("cut", [0, 1, 100, -50])
def test_damaged_bytes_are_refused_by_name(cut):
    data = dataset.serialize(random_record(0))
    with pytest.raises(ValueError, match="record"):
        dataset.deserialize(data[:cut])


def test_a_wrong_shape_is_refused():
    record = random_record(0)
    object.__setattr__(record, "betas", np.zeros((2, 9)))
    with pytest.raises(ValueError, match=r"betas.*\(2, 9\)"):
        dataset.serialize(record)


def test_random_access_in_any_order_with_repeats(prepared):
    folder, made = prepared
    source = dataset.open_split(folder, "train")
    assert len(source) == 7
    wanted = [6, 0, 3, 3, 2, 5]
    for data, index in zip(source.read(wanted), wanted, strict=True):
        assert_same(dataset.deserialize(data), made["train"][index])
    for record, want in zip(source, made["train"], strict=True):
        assert_same(record, want)
    assert len(dataset.open_split(folder, "test")) == 1
    for beyond in (7, -1):
        with pytest.raises(IndexError):
            source.read([beyond])


def test_a_failing_shard_leaves_nothing(tmp_path):
    def failing():
        yield b"one"
        raise KeyError("boom")

    with pytest.raises(KeyError):
        dataset.write_shard(tmp_path / "shard", failing())
    assert os.listdir(tmp_path) == []


@pytest.mark.slow
def test_tfds_reads_the_same(prepared):
    import tensorflow_datasets as tfds

    folder, made = prepared
    builder = tfds.builder_from_directory(dataset.version_folder(folder))
    assert builder.info.splits["train"].num_examples == 7
    assert builder.info.full_name == "interhand26m/interacting/1.0.0"
    assert "hands_mean" in builder.info.features["hand_pose"].doc.desc
    source = builder.as_data_source(split="train")
    for read, want in zip(source, made["train"], strict=True):
        for name, field in dataset.FIELDS.items():
            value = np.asarray(read[name])
            if field.dtype is object:
                assert value.item().decode() == getattr(want, name)
            else:
                np.testing.assert_array_equal(value, getattr(want, name))
        image = np.asarray(read["image"]).astype(int)
        assert image.shape == (crop.STORED_SIZE, crop.STORED_SIZE, 3)
        # tensorflow and OpenCV carry different JPEG decoders.
        assert np.abs(image - decode_photo(want.image)).mean() < 1
