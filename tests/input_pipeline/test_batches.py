"""Batches: every example once an epoch, the same whatever the threads, processes and restarts."""

import itertools

import numpy as np
import pytest

from input_pipeline import batches, dataset
from input_pipeline.augment import AugmentConfig
from input_pipeline.batches import TrainBatches, shuffled
from input_pipeline.crop import MARGIN
from input_pipeline.image_files import decode_photo
from tests.input_pipeline.examples import random_record, write_dataset

COUNT = 22


@pytest.fixture(scope="module")
def records():
    return [random_record(i) for i in range(COUNT)]


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory, records):
    folder = tmp_path_factory.mktemp("data")
    write_dataset(folder, {"train": records, "test": records[:7]}, shard_size=9)
    return folder


def take(data_dir, count, **options):
    options = {"batch_size": 4, "seed": 11, "augment": AugmentConfig(), **options}
    return list(itertools.islice(TrainBatches(data_dir, **options), count))


def assert_same(first, second):
    assert len(first) == len(second)
    for a, b in zip(first, second, strict=True):
        assert set(a) == set(b)
        for name in a:
            np.testing.assert_array_equal(a[name], b[name], err_msg=name)


def test_shapes_and_types(data_dir):
    (batch,) = take(data_dir, 1)
    found = {name: (value.dtype.name, value.shape) for name, value in batch.items()}
    assert found == {
        "image": ("uint8", (4, 256, 256, 3)),
        "global_orient": ("float32", (4, 2, 3, 3)),
        "hand_pose": ("float32", (4, 2, 15, 3)),
        "betas": ("float32", (4, 2, 10)),
        "transl": ("float32", (4, 2, 3)),
        "motion": ("float32", (4, 3, 3)),
        "flip": ("bool", (4,)),
        "camera": ("float32", (4, 3, 3)),
        "joints_xyz": ("float32", (4, 2, 21, 3)),
        "joint_valid": ("bool", (4, 2, 21)),
        "hand_valid": ("bool", (4, 2)),
        "mask": ("float32", (4,)),
        "index": ("int64", (4,)),
    }


def test_values_are_those_of_the_records(data_dir, records):
    from scipy.spatial.transform import Rotation

    for batch in take(data_dir, 3, augment=None):
        for i, index in enumerate(batch["index"]):
            record = records[index]
            matrices = Rotation.from_rotvec(record.global_orient).as_matrix()
            np.testing.assert_allclose(batch["global_orient"][i], matrices, atol=1e-6)
            np.testing.assert_array_equal(batch["hand_pose"][i].reshape(2, 45), record.hand_pose)
            for name in ("betas", "transl", "camera", "joints_xyz", "joint_valid", "hand_valid"):
                np.testing.assert_array_equal(batch[name][i], getattr(record, name))
            np.testing.assert_array_equal(batch["motion"][i], np.eye(3))
            image = decode_photo(record.image)[MARGIN:-MARGIN, MARGIN:-MARGIN].astype(int)
            # tensorflow and OpenCV carry different JPEG decoders.
            assert np.abs(image - batch["image"][i]).mean() < 1
    assert not batch["flip"].any() and (batch["mask"] == 1).all()


def test_every_example_once_an_epoch(data_dir):
    stream = np.concatenate([b["index"] for b in take(data_dir, 3 * COUNT // 4 + 1, augment=None)])
    epochs = stream[: 3 * COUNT].reshape(3, COUNT)
    for epoch in epochs:
        assert sorted(epoch) == list(range(COUNT))
    assert (epochs[0] != epochs[1]).any() and (epochs[1] != epochs[2]).any()
    other = np.concatenate([b["index"] for b in take(data_dir, 5, seed=12, augment=None)])
    assert (other != stream[:20]).any()


def test_starting_anywhere_gives_the_same(data_dir):
    whole = take(data_dir, 9)
    assert_same(whole, take(data_dir, 9))
    assert_same(whole[5:], take(data_dir, 4, start_step=5))


def test_starting_at_step_100_000_reads_what_starting_at_0_reads(data_dir, monkeypatch):
    read, reads = dataset.RecordSource.read, []

    def counted(self, indices):
        reads.append((self, sorted(indices)))
        return read(self, indices)

    monkeypatch.setattr(dataset.RecordSource, "read", counted)
    for start in (0, 100_000):
        stream = TrainBatches(data_dir, batch_size=4, seed=11, start_step=start)
        next(stream)
        stream.close()
        steps = range(start, start + 2 * batches._AHEAD)
        wanted = [sorted(shuffled(COUNT, 11, 4 * step + np.arange(4))[1]) for step in steps]
        # The batches from `start` on, each once, and none before.
        found = [indices for source, indices in reads if source is stream._source]
        assert wanted[0] in found and all(batch in wanted for batch in found)
        assert len(found) <= len(wanted)


@pytest.mark.parametrize("processes", [2, 4])
def test_processes_share_the_same_batches(data_dir, processes):
    whole = take(data_dir, 6)
    parts = [take(data_dir, 6, process_index=i, process_count=processes) for i in range(processes)]
    joined = [
        {name: np.concatenate([part[step][name] for part in parts]) for name in whole[0]}
        for step in range(6)
    ]
    assert_same(whole, joined)


def test_augmentation_changes_with_the_epoch_not_with_the_batch(data_dir):
    by_four = take(data_dir, 11)
    by_eleven = take(data_dir, 4, batch_size=11)
    flat = [
        {name: np.concatenate([b[name] for b in many]) for name in many[0]}
        for many in (by_four, by_eleven)
    ]
    assert_same([flat[0]], [flat[1]])
    first, second = (
        np.argsort(flat[0]["index"][i * COUNT : (i + 1) * COUNT]) + i * COUNT for i in range(2)
    )
    moved = np.abs(flat[0]["motion"][first] - flat[0]["motion"][second]).max((1, 2))
    assert (moved > 1e-3).all()


def test_evaluation_pads_and_masks(data_dir):
    found = list(batches.eval_batches(data_dir, "test", batch_size=4))
    assert [b["index"].tolist() for b in found] == [[0, 1, 2, 3], [4, 5, 6, 6]]
    assert [b["mask"].tolist() for b in found] == [[1, 1, 1, 1], [1, 1, 1, 0]]
    assert found[0]["image"].shape == (4, 256, 256, 3)
    limited = list(batches.eval_batches(data_dir, "test", batch_size=4, limit=2))
    assert [b["mask"].tolist() for b in limited] == [[1, 1, 0, 0]]
    parts = [
        list(batches.eval_batches(data_dir, "test", batch_size=4, process_index=i, process_count=2))
        for i in range(2)
    ]
    for name in found[0]:
        for step in range(2):
            both = np.concatenate([part[step][name] for part in parts])
            np.testing.assert_array_equal(both, found[step][name])


def test_the_work_on_a_batch_is_traced_once(data_dir, monkeypatch):
    traced = []
    parse = batches.parse
    monkeypatch.setattr(batches, "parse", lambda data: traced.append(1) or parse(data))
    batches._joiner.cache_clear()
    for _ in range(3):
        list(batches.eval_batches(data_dir, "train", batch_size=4))
    assert len(traced) == 1


def test_unreadable_examples_are_skipped_counted_and_named(tmp_path, records, caplog):
    spoiled = list(records)
    for index in (5, 6, 13):
        half = records[index].image[: len(records[index].image) // 2]
        spoiled[index] = random_record(index, image=half)
    write_dataset(tmp_path, {"train": spoiled})
    stream = TrainBatches(tmp_path, batch_size=4, seed=11, augment=AugmentConfig(), bad_share=0.2)
    found = list(itertools.islice(stream, 11))
    assert set(stream.skipped) == {5, 6, 13}
    assert records[13].file_name in caplog.text
    _, clean = shuffled(COUNT, 11, np.arange(44))
    replaced = {5: 7, 6: 7, 13: 14}
    wanted = [replaced.get(int(i), int(i)) for i in clean]
    assert np.concatenate([b["index"] for b in found]).tolist() == wanted
    # Someone who starts again later sees the same.
    again = TrainBatches(
        tmp_path, batch_size=4, seed=11, start_step=7, augment=AugmentConfig(), bad_share=0.2
    )
    assert_same(found[7:], list(itertools.islice(again, 4)))


def test_too_many_unreadable_examples_stop_the_run(tmp_path, records):
    spoiled = [*records[:6], random_record(6, image=b"no picture")]
    write_dataset(tmp_path, {"train": spoiled})
    with pytest.raises(batches.RecordError, match=r"1 of 7 .*example 6.*image1006\.jpg"):
        take(tmp_path, 3)
    with pytest.raises(batches.RecordError, match=r"example 6.*image1006\.jpg"):
        list(batches.eval_batches(tmp_path, "train", batch_size=2))


def test_a_damaged_shard_is_told(tmp_path, records):
    folder = write_dataset(tmp_path, {"train": records[:8]})
    shard = next(folder.glob("*.array_record-*"))
    data = bytearray(shard.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 64] = bytes(64)
    shard.write_bytes(bytes(data))
    with pytest.raises(batches.RecordError, match="of 8 training examples cannot be read"):
        take(tmp_path, 8)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 3, "process_count": 2}, "multiple of 2"),
        ({"batch_size": 0}, "batch size is 0"),
        ({"process_index": 2, "process_count": 2}, "does not exist"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_bad_requests_are_refused(data_dir, options, message):
    with pytest.raises(ValueError, match=message):
        take(data_dir, 1, **options)
