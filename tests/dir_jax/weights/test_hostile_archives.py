"""Prediction files, damaged or hostile: read as numpy reads them, or refused in one line."""

import io
import os
import pathlib
import tempfile
import zipfile

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies

from dir_jax.evaluation.array_archive import ArchiveError, ArrayArchive
from tests.damage import damaged, edits


def packed(save, **arrays):
    stream = io.BytesIO()
    save(stream, **arrays)
    return stream.getvalue()


CONTENT = {"joints": np.arange(24.0).reshape(4, 6), "n": np.array(["a", "bc"]), "s": np.array(3)}
SEEDS = [packed(np.savez, **CONTENT), packed(np.savez_compressed, **CONTENT)]
PIECES = [b"PK\x01\x02", b"PK\x05\x06", b"\x93NUMPY\x01\0", b"|O", b"<f8", b"(4, 6)", b"(-1,)"]


class Runs:
    """Leaves a trace when it is unpickled."""

    def __init__(self, trace):
        self.trace = str(trace)

    def __reduce__(self):
        return os.mkdir, (self.trace,)


def test_object_arrays_are_refused_and_nothing_runs(tmp_path):
    objects = np.array([Runs(tmp_path / "ran"), 1], dtype=object)
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "file.npz", joints=objects)
        with pytest.raises(ArchiveError, match="Python objects"):
            ArrayArchive(tmp_path / "file.npz")
    assert not (tmp_path / "ran").exists()
    np.load(tmp_path / "file.npz", allow_pickle=True)["joints"]  # the file is as hostile as meant
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize("stored", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("shape", ["(4, 7)", "(-4, 6)", "(4, 5)", "(99999999, 99999999)"])
def test_shapes_that_are_not_what_the_file_holds_are_refused(tmp_path, stored, shape):
    with zipfile.ZipFile(tmp_path / "file.npz", "w", stored) as archive:
        header = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
        data = b"\x93NUMPY\x01\0" + len(header).to_bytes(2, "little") + header.encode()
        archive.writestr("joints.npy", data + bytes(4 * 6 * 8))
        archive.writestr("more.npy", bytes(10**4))  # what a longer map would show
    with pytest.raises(ArchiveError, match=r"joints\.npy declares"):
        ArrayArchive(tmp_path / "file.npz")


def test_what_unpacks_beyond_the_disk_is_refused_before_unpacking(tmp_path, monkeypatch):
    np.savez_compressed(tmp_path / "file.npz", joints=np.zeros(10**6))
    assert (tmp_path / "file.npz").stat().st_size < 10**5
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 7 * 10**6})())
    monkeypatch.setattr(ArrayArchive, "_unpacked", None)
    with pytest.raises(ArchiveError, match="unpacks to 80001"):
        ArrayArchive(tmp_path / "file.npz")


@hypothesis.settings(max_examples=300, deadline=None)
@hypothesis.given(strategies.sampled_from(SEEDS), edits(PIECES))
def test_damaged_archives_load_or_raise_the_one_error(seed, edits):
    data = damaged(seed, edits)
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "file.npz"
        path.write_bytes(data)
        try:
            archive = ArrayArchive(path)
        except ArchiveError as error:
            assert "\n" not in str(error)
            return
        for array in archive.values():
            assert not array.dtype.hasobject and np.array(array).nbytes <= len(data) + 1000
