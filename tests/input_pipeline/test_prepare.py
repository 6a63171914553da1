"""Preparing: what is stored, what is dropped and why, stops, starts, locks and full disks."""

import csv
import fcntl
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest
import tensorflow_datasets as tfds

from input_pipeline import crop, dataset, prepare
from input_pipeline.image_files import decode_photo, read_photo
from mano_jax import pose_hand, save_npz
from mano_jax.constants import SIDES
from tests.hands import toy_hands
from tests.input_pipeline.raw_data import camera_view, write_raw


@pytest.fixture(scope="module")
def mano(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mano")
    save_npz(toy_hands(), folder)
    return folder


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    root = tmp_path_factory.mktemp("raw")
    return root, write_raw(root, frames=6, hand_types=("interacting", "left", "interacting"))


def run(raw, output, mano, *more):
    arguments = ["--source", raw, "--output", output, "--mano", mano, "--workers", 1, *more]
    return prepare.main([str(a) for a in arguments])


def files_of(folder):
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(dataset.version_folder(folder).iterdir())
        if path.is_file()
    }


@pytest.fixture(scope="module")
def prepared(raw, mano, tmp_path_factory):
    output = tmp_path_factory.mktemp("prepared")
    assert run(raw[0], output, mano, "--shard_size", 3) == 0
    return output


def all_records(folder, split, config="interacting"):
    return list(dataset.open_split(folder, split, config))


def test_a_record_shows_the_same_hands_as_the_raw_frame(raw, prepared):
    root, made = raw
    pair = toy_hands()
    stored = all_records(prepared, "train")
    assert len(stored) == 8  # four interacting frames, seen by two cameras
    for record in stored:
        truth = made["train"]["frames"][record.frame]
        rig = made["train"]["cameras"][record.camera_name]
        pixels = []
        for side, name in enumerate(SIDES):
            want = camera_view(rig, truth.vertices[name])
            rotation = cv2.Rodrigues(record.global_orient[side].astype(np.float64))[0]
            mesh = pose_hand(
                pair[name],
                rotation.astype(np.float32),
                record.hand_pose[side].reshape(15, 3),
                record.betas[side],
                record.transl[side],
            )
            np.testing.assert_allclose(mesh.vertices, want, atol=5e-6)
            camera = np.array(
                [[1000, 0, rig["princpt"][0]], [0, 995, rig["princpt"][1]], [0, 0, 1]]
            )
            pixels.append(crop.project(camera, want))
            want_joints = camera_view(rig, truth.joints[name])
            np.testing.assert_allclose(record.joints_xyz[side], want_joints, atol=1e-6)
        square = crop.square_around(np.array(pixels))
        np.testing.assert_allclose(record.source_square, square, rtol=1e-4)
        photo = read_photo(root / "images" / "train" / record.file_name)
        assert tuple(record.source_size) == photo.shape[1::-1]
        window = crop.crop_image(photo, record.source_square, margin=crop.MARGIN).astype(int)
        assert np.abs(decode_photo(record.image) - window).mean() < 3
        seen = crop.project(record.camera, camera_view(rig, truth.vertices["left"]))
        assert seen.min() > 0 and seen.max() < 256


def test_the_same_input_gives_the_same_bytes_with_any_number_of_workers(
    raw, mano, prepared, tmp_path
):
    for split in ("test", "train"):  # the other one stays
        more = ("--shard_size", 3, "--workers", 2, "--split", split)
        assert run(raw[0], tmp_path, mano, *more) == 0
    assert files_of(tmp_path) == files_of(prepared)


def test_other_settings_need_overwrite(raw, mano, prepared, tmp_path, capsys):
    assert run(raw[0], tmp_path, mano, "--shard_size", 3) == 0
    assert run(raw[0], tmp_path, mano, "--shard_size", 4) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert files_of(tmp_path) == files_of(prepared)  # refused before anything changed
    assert run(raw[0], tmp_path, mano, "--shard_size", 4, "--overwrite") == 0
    assert len(all_records(tmp_path, "train")) == 8
    names = files_of(tmp_path)
    assert "interhand26m-train.array_record-00001-of-00002" in names
    assert "interhand26m-train.array_record-00001-of-00003" not in names


def test_configurations(raw, mano, tmp_path):
    for config, count in (("single", 4), ("all", 12)):
        assert run(raw[0], tmp_path, mano, "--config", config, "--split", "test") == 0
        stored = all_records(tmp_path, "test", config)
        assert len(stored) == count
        for record in stored:
            want = [record.hand_type in ("interacting", side) for side in SIDES]
            np.testing.assert_array_equal(record.hand_valid, want)
            np.testing.assert_array_equal(record.joint_valid.all(-1), want)
            assert not record.betas[~record.hand_valid].any()


def spoil_images(root):
    folder = root / "images" / "train" / "Capture3" / "0001_test" / "cam400000"
    names = sorted(path.name for path in folder.iterdir())
    (folder / names[0]).unlink()
    data = (folder / names[1]).read_bytes()
    (folder / names[1]).write_bytes(data[: len(data) // 2])
    (folder / names[2]).write_bytes(b"\xff\xd8 this is no photo")
    cv2.imwrite(str(folder / names[3]), np.full((512, 334, 3), 9, np.uint8))
    cv2.imwrite(str(folder / names[4]), np.full((334, 512, 3), 90, np.uint8))  # turned
    (folder / names[5]).unlink()
    (folder / names[5]).symlink_to("/etc/hostname")


def test_bad_images_are_dropped_by_reason_and_listed(tmp_path, mano, capsys):
    write_raw(tmp_path / "raw", splits=("train",), frames=6, cameras=2)
    spoil_images(tmp_path / "raw")
    assert run(tmp_path / "raw", tmp_path / "out", mano, "--workers", 2, "--shard_size", 5) == 0
    with open(dataset.version_folder(tmp_path / "out") / "dropped_train.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    reasons = [row["reason"] for row in rows]
    assert reasons == [
        "image_missing", "image_truncated", "image_unreadable", "image_black", "unsafe_path",
    ]  # fmt: skip
    assert rows[0]["file_name"] == "Capture3/0001_test/cam400000/image1000.jpg"
    assert len(all_records(tmp_path / "out", "train")) == 7
    said = capsys.readouterr().out
    assert all(reason in said for reason in reasons)
    assert "7 of 12 images" in said and "image_size_differs" in said
    turned = [r for r in all_records(tmp_path / "out", "train") if r.frame == 1012]
    assert sorted(tuple(r.source_size) for r in turned) == [(512, 334), (512, 334)]


def test_a_shard_that_loses_every_frame_is_no_obstacle(tmp_path, mano):
    write_raw(tmp_path / "raw", splits=("train",), frames=4, cameras=1)
    for path in (tmp_path / "raw" / "images").rglob("image100[03].jpg"):
        path.unlink()
    assert run(tmp_path / "raw", tmp_path / "out", mano, "--shard_size", 2) == 0
    assert dataset.split_lengths(tmp_path / "out") == {"train": [0, 2]}
    assert [r.frame for r in all_records(tmp_path / "out", "train")] == [1006, 1009]
    builder = tfds.builder_from_directory(dataset.version_folder(tmp_path / "out"))
    assert len(builder.as_data_source(split="train")) == 2


def test_photographs_that_were_missing_are_looked_for_again(tmp_path, mano, capsys):
    """As when prepare ran before, or while, the archives were unpacked."""
    write_raw(tmp_path / "raw", frames=4, cameras=1)
    images = tmp_path / "raw" / "images" / "train"
    images.rename(tmp_path / "later")
    arguments = (tmp_path / "raw", tmp_path / "out", mano, "--shard_size", 2)
    assert run(*arguments) == 2
    said = capsys.readouterr()
    assert "no frame of train" in said.err and "4  dropped: image_missing" in said.out
    assert dataset.split_lengths(tmp_path / "out") == {"test": [2, 2]}
    images.mkdir()
    for path in sorted((tmp_path / "later").rglob("*.jpg"))[:3]:
        place = images / path.relative_to(tmp_path / "later")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(path.read_bytes()[: 200 if "1003" in path.name else None])
    assert run(*arguments) == 0
    assert [r.frame for r in all_records(tmp_path / "out", "train")] == [1000, 1006]
    first = next(dataset.version_folder(tmp_path / "out").glob("*test.array_record-00000*"))
    before = first.stat().st_mtime_ns
    shutil.rmtree(images)
    (tmp_path / "later").rename(images)
    assert run(*arguments) == 0
    assert dataset.split_lengths(tmp_path / "out") == {"train": [2, 2], "test": [2, 2]}
    assert first.stat().st_mtime_ns == before
    assert run(tmp_path / "raw", tmp_path / "again", mano, "--shard_size", 2) == 0
    assert files_of(tmp_path / "again") == files_of(tmp_path / "out")


def test_hands_behind_the_camera_are_dropped(tmp_path, mano):
    def change(split, files):
        files["MANO_NeuralAnnot"]["3"]["1000"]["left"]["trans"] = [30.0, 30.0, 30.0]
        files["MANO_NeuralAnnot"]["3"]["1003"]["left"]["trans"] = [-30.0, -30.0, -30.0]

    write_raw(tmp_path / "raw", splits=("train",), frames=3, cameras=2, change=change)
    assert run(tmp_path / "raw", tmp_path / "out", mano) == 0
    text = (dataset.version_folder(tmp_path / "out") / "dropped_train.csv").read_text()
    assert "behind_camera" in text
    assert {r.frame for r in all_records(tmp_path / "out", "train")} >= {1006}


def test_a_second_prepare_into_the_same_folder_is_refused(raw, mano, tmp_path, capsys):
    folder = dataset.version_folder(tmp_path)
    folder.mkdir(parents=True)
    with open(folder / ".lock", "w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        assert run(raw[0], tmp_path, mano) == 2
    error = capsys.readouterr().err.strip()
    assert "another prepare is running" in error and len(error.splitlines()) == 1
    assert run(raw[0], tmp_path, mano) == 0


def command(raw, output, mano, *more):
    arguments = ["--source", raw, "--output", output, "--mano", mano, *more]
    return [sys.executable, "-m", "input_pipeline.prepare", *map(str, arguments)]


_IMPORTS_OF_THREADS = """
import sys, threading
from input_pipeline import dataset, prepare

class Guard:
    def find_spec(name, path=None, target=None):
        if threading.current_thread() is not threading.main_thread():
            if name.split(".")[0] in ("tensorflow_datasets", "array_record"):
                raise RuntimeError(f"{name} is imported in a thread")

sys.meta_path.insert(0, Guard)
status = prepare.main(sys.argv[1:])
source = dataset.open_split(sys.argv[sys.argv.index("--output") + 1], "train")
reader = threading.Thread(target=lambda: print(source[0].frame))
reader.start()
reader.join()
sys.exit(status)
"""


@pytest.mark.slow
def test_no_thread_imports_what_cannot_be_imported_in_two(tmp_path, mano):
    write_raw(tmp_path / "raw", splits=("train",), frames=2, cameras=2)
    arguments = command(tmp_path / "raw", tmp_path / "out", mano, "--workers", 2)[3:]
    ended = subprocess.run(
        [sys.executable, "-c", _IMPORTS_OF_THREADS, *arguments], capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.splitlines()[-1] == "1000"


@pytest.mark.slow
def test_a_killed_run_goes_on_without_redoing_finished_shards(tmp_path, mano):
    write_raw(tmp_path / "raw", splits=("train",), frames=60, cameras=2)
    more = ("--workers", 2, "--shard_size", 2)
    folder = dataset.version_folder(tmp_path / "out")
    process = subprocess.Popen(
        command(tmp_path / "raw", tmp_path / "out", mano, *more),
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    deadline = time.monotonic() + 100
    while len(list(folder.glob(".notes/train/*.json"))) < 5 and time.monotonic() < deadline:
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    finished = sorted(folder.glob(".notes/train/*.json"))
    assert 5 <= len(finished) < 60
    assert not (folder / "dataset_info.json").exists()
    shard = {n: folder / dataset.shard_name("train", int(n.stem), 60) for n in finished}
    times = {path: path.stat().st_mtime_ns for path in shard.values()}
    (folder / ".interhand26m-train.1234.array_record-00059-of-00060").write_text("half")
    assert run(tmp_path / "raw", tmp_path / "out", mano, "--shard_size", 2) == 0
    assert {path: path.stat().st_mtime_ns for path in times} == times
    assert {path.name for path in folder.glob(".*")} == {".lock", ".notes"}
    assert run(tmp_path / "raw", tmp_path / "again", mano, "--shard_size", 2) == 0
    assert files_of(tmp_path / "out") == files_of(tmp_path / "again")


@pytest.fixture
def tiny_disk(tmp_path):
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("needs the right to mount a small file system")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_is_said_and_survived(tiny_disk, tmp_path, mano, capsys):
    write_raw(tmp_path / "raw", splits=("train",), frames=30, cameras=2)
    more = ("--shard_size", 8, "--workers", 2)
    assert run(tmp_path / "raw", tiny_disk, mano, *more) == 1
    error = capsys.readouterr().err
    assert "No space left" in error and "finished shards are kept" in error
    assert "Traceback" not in error
    folder = dataset.version_folder(tiny_disk)
    assert not (folder / "dataset_info.json").exists()
    assert not list(folder.glob(".interhand26m*"))
    for path in folder.glob("*.array_record*"):  # every file under a final name is whole
        from array_record.python.array_record_module import ArrayRecordReader

        assert ArrayRecordReader(str(path)).num_records() in (4, 8)
    remount = ["mount", "-o", "remount,size=64m", str(tiny_disk)]
    subprocess.run(remount, check=True)
    assert run(tmp_path / "raw", tiny_disk, mano, *more) == 0
    assert len(all_records(tiny_disk, "train")) == 60
