"""PyTorch's weight files: both formats, every layout of tensors, and files that mean harm."""

import pickle
import pickletools
import zipfile

import ml_dtypes
import numpy as np
import pytest

from dir_jax.weights.torch_files import WeightsError, read_state_dict, write_state_dict
from tests.dir_jax import torch_zip

RNG = np.random.default_rng(0)
EVERY_TYPE = {
    **{n: RNG.normal(size=(3, 4)).astype(n) for n in ("float32", "float64", "float16")},
    **{n: RNG.integers(0, 99, (2, 3)).astype(n) for n in ("int64", "int32", "int16", "int8")},
    "uint8": np.arange(7, dtype=np.uint8), "bool": np.array([True, False]), "number": np.array(7),
    "empty": np.zeros((0, 3), np.float32), "turned": RNG.normal(size=(5, 3, 2)).T,
    "repeated": np.broadcast_to(np.float32([1, 2]), (3, 2)),
}  # fmt: skip
FORMATS = pytest.mark.parametrize("save", [torch_zip.save, torch_zip.save_old], ids=["zip", "old"])


@FORMATS
@pytest.mark.parametrize("wrap", ["net", "state_dict", "model", None])
def test_files_are_read_without_torch(tmp_path, save, wrap):
    state = {f"module.{name}": value for name, value in EVERY_TYPE.items()}
    save(tmp_path / "w.pth", state, wrap)
    found = read_state_dict(tmp_path / "w.pth")
    assert found.keys() == EVERY_TYPE.keys()
    for name, value in EVERY_TYPE.items():
        assert found[name].dtype == value.dtype
        np.testing.assert_array_equal(found[name], value)


@FORMATS
def test_bfloat16_comes_as_float32(tmp_path, save):
    value = np.float32([1.5, -3e38, 0.1]).astype(ml_dtypes.bfloat16)
    save(tmp_path / "w.pth", {"a": value})
    found = read_state_dict(tmp_path / "w.pth")["a"]
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, value.astype(np.float32))


def test_big_endian_storages(tmp_path):
    with zipfile.ZipFile(tmp_path / "w.pth", "w") as archive:
        content = torch_zip.pickled({"a": np.arange(3, dtype=np.float32)}, None)
        archive.writestr("w/data.pkl", content)
        archive.writestr("w/byteorder", "big")
        archive.writestr("w/data/0", np.arange(3, dtype=">f4").tobytes())
    np.testing.assert_array_equal(read_state_dict(tmp_path / "w.pth")["a"], [0, 1, 2])


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_there_and_back(tmp_path, suffix):
    state = {name: np.ascontiguousarray(value) for name, value in EVERY_TYPE.items()}
    write_state_dict(tmp_path / f"w{suffix}", state)
    found = read_state_dict(tmp_path / f"w{suffix}")
    for name, value in state.items():
        assert found[name].dtype == value.dtype
        np.testing.assert_array_equal(found[name], value)
    assert [p.name for p in tmp_path.iterdir()] == [f"w{suffix}"]
    with pytest.raises(WeightsError, match=r"ending in \.pth, \.pt, \.safetensors"):
        write_state_dict(tmp_path / "w.bin", state)


def test_what_is_written_is_what_torch_writes(tmp_path):
    """The same pickle but for what torch's pickler remembers and never reads again."""
    state = {"a.weight": np.arange(6, dtype=np.float32).reshape(2, 3), "n": np.array(7)}
    write_state_dict(tmp_path / "ours.pth", state)
    torch_zip.save(tmp_path / "theirs.pth", state)

    def content(name):
        with zipfile.ZipFile(tmp_path / name) as archive:
            files = {n: archive.read(n) for n in archive.namelist() if n != "archive/data.pkl"}
            program = pickletools.optimize(archive.read("archive/data.pkl"))
        names = [argument for _, argument, _ in pickletools.genops(program) if argument is not None]
        return files, names

    ours, theirs = content("ours.pth"), content("theirs.pth")
    assert ours[0] == theirs[0]
    assert set(ours[1]) | {"epoch"} == set(theirs[1])


def test_what_torch_writes_is_read_and_what_is_written_torch_reads(tmp_path):
    torch = pytest.importorskip("torch")
    tensors = {"a": torch.randn(3, 4).T, "b": torch.nn.Parameter(torch.ones(2)), "n": 3}
    for name, new in (("new.pth", True), ("old.pth", False)):
        weights = {name: value for name, value in tensors.items() if name != "n"}
        content = {"net": weights, "epoch": 3, "other": tensors}
        torch.save(content, tmp_path / name, _use_new_zipfile_serialization=new)
        found = read_state_dict(tmp_path / name)
        np.testing.assert_array_equal(found["a"], tensors["a"].numpy())
        np.testing.assert_array_equal(found["b"], [1, 1])
    write_state_dict(tmp_path / "ours.pth", found)
    loaded = torch.load(tmp_path / "ours.pth", weights_only=True)["net"]
    assert torch.equal(loaded["a"], tensors["a"])


class _Hostile:
    def __init__(self, marker):
        self.marker = str(marker)

    def __reduce__(self):
        return open, (self.marker, "w")


def _archive(path, content, compression=zipfile.ZIP_STORED, **entries):
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("archive/data.pkl", content)
        for name, data in entries.items():
            archive.writestr(f"archive/data/{name[1:]}", data)


@pytest.mark.parametrize("old", [False, True])
def test_a_hostile_file_runs_nothing(tmp_path, capfd, old):
    content = pickle.dumps({"net": _Hostile(tmp_path / "ran")}, 2)
    if old:
        (tmp_path / "w.pth").write_bytes(torch_zip.OLD_HEAD + content + pickle.dumps([], 2))
    else:
        _archive(tmp_path / "w.pth", content)
    with pytest.raises(WeightsError, match=r"io\.open") as caught:
        read_state_dict(tmp_path / "w.pth")
    assert not (tmp_path / "ran").exists()
    assert "\n" not in str(caught.value) and "weights_only" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def _tensor(offset, shape, stride, count=6):
    return torch_zip.pickled_tensor(offset, shape, stride, count)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (_tensor(0, (2, 4), (4, 1)), "reaches beyond its storage"),
        (_tensor(1, (2, 3), (3, 1)), "reaches beyond its storage"),
        (_tensor(-1, (2, 3), (3, 1)), "the shape"),
        (_tensor(0, (2, 3), (3, -1)), "the shape"),
        (_tensor(0, (2**20, 2**20), (0, 0)), "grow far beyond the file"),
        (_tensor(0, (2**50,), (1,)), "the shape"),
        (_tensor(0, (6,), (1, 1)), "without its storage"),
        (_tensor(0, (7,), (1,), count=7), r"shape \(7,\) comes with 24 bytes"),
        (_tensor(0, (6,), (1,), count=2**39), "comes with 24 bytes"),
        (b"\x80\x02(X\x01\x00\x00\x00aK\x01tQ.", "no storage"),
        (b"\x80\x02ctorch\nFloatStorage\n.", "a type where a value should be"),
        (b"\x80\x02ctorch.storage\n_load_from_bytes\nX\x01\x00\x00\x00a\x85R.", "_load_from_bytes"),
        (b"\x80\x02c__torch__\nNet\n)\x81.", r"__torch__\.Net"),
        (b"\x80\x02]q\x00h\x00a.", "contains itself"),
        (b"\x80\x02}.", "holds dict; wanted a dict of tensors"),
        (b"\x80\x02}X\x01\x00\x00\x00aK\x01s.", "'a' is int; wanted a tensor"),
        (b"", "ends too early"),
    ],
)
def test_tensors_that_are_not_what_the_file_holds_are_refused(tmp_path, content, message):
    _archive(tmp_path / "w.pth", content, _0=bytes(24))
    with pytest.raises(WeightsError, match=message) as caught:
        read_state_dict(tmp_path / "w.pth")
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


def test_archives_that_unpack_beyond_their_size_are_refused(tmp_path):
    _archive(tmp_path / "w.pth", _tensor(0, (6,), (1,)), zipfile.ZIP_DEFLATED, _0=bytes(10**6))
    with pytest.raises(WeightsError, match="compressed or overlap"):
        read_state_dict(tmp_path / "w.pth")
    with zipfile.ZipFile(tmp_path / "w.pth", "w") as archive:
        archive.writestr("other.txt", "")
    with pytest.raises(WeightsError, match=r"without the data\.pkl"):
        read_state_dict(tmp_path / "w.pth")
