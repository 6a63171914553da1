"""What the commands of the table are given: sound things and things that are not, by name.

A thing is made when a row first names it, and no command may change it.
"""

from __future__ import annotations

import dataclasses
import functools
import io
import json
import os
import pathlib
import pickle
import shutil
import zipfile

import jax
import numpy as np
from PIL import Image

import mano_jax
from dir_jax import create_model
from dir_jax.models.config import TINY
from dir_jax.models.network import initial_variables
from dir_jax.training.run import plain
from dir_jax.weights.checkpoints import Checkpoints, save_variables
from dir_jax.weights.loading import save_weights
from input_pipeline import prepare
from mano_jax.constants import SIDES
from tests.damage import flip_bit, flipped
from tests.dir_jax import torch_zip
from tests.hands import toy_hands
from tests.input_pipeline.raw_data import write_raw
from tests.mano_jax.official_files import open_arrays, write_official

NOISE = np.random.default_rng(0).integers(0, 255, (120, 160, 3)).astype(np.uint8)


class World:
    """The folder in which the things lie."""

    def __init__(self, folder: pathlib.Path):
        self.folder = folder

    def __getitem__(self, name: str) -> pathlib.Path:
        path, thing = self.folder / name, THINGS[name]
        if not os.path.lexists(path):
            put(path, thing(path, self) if callable(thing) else thing)
        return path


def put(path: pathlib.Path, content: bytes | str | dict | None) -> None:
    """Writes bytes or text, a folder of them by name, or nothing: it is there already."""
    if isinstance(content, dict):
        path.mkdir()
        for name, part in content.items():
            put(path / name, part)
    elif content is not None:
        path.write_bytes(content.encode() if isinstance(content, str) else content)


class Runs:
    """Pickles as something that makes a folder when it is unpickled."""

    def __reduce__(self):
        return os.mkdir, ("ran",)


def encoded(kind: str, image=NOISE) -> bytes:
    """An image file's bytes, by Pillow's name of its kind."""
    data = io.BytesIO()
    Image.fromarray(image).save(data, kind)
    return data.getvalue()


def npy(shape: str, data: bytes = b"", descr: str = "'<f8'") -> bytes:
    """An npy file whose header says what it likes."""
    header = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\0" + len(header).to_bytes(2, "little") + header.encode() + data


def zipped(content: bytes, name="vertices_xyz.npy", kind=zipfile.ZIP_DEFLATED) -> bytes:
    """A zip file with one member, stored or deflated, and 10 kB behind it."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", kind) as archive:
        archive.writestr(name, content)
        archive.writestr("more.npy", bytes(10**4))
    return data.getvalue()


def saved(save=np.savez, **arrays) -> bytes:
    """An npz file's bytes."""
    data = io.BytesIO()
    save(data, **arrays)
    return data.getvalue()


def png_claiming(side: int) -> bytes:
    """A small PNG whose header claims side x side pixels."""
    data = bytearray(encoded("PNG"))
    data[16:24] = side.to_bytes(4, "big") * 2
    data[29:33] = zipfile.crc32(data[12:29]).to_bytes(4, "big")
    return bytes(data)


PNG, JPEG = encoded("PNG"), encoded("JPEG")
FILES = {
    "good.png": PNG,
    "thin.png": encoded("PNG", NOISE[:1]),
    "long": {f"{'n' * 240}.png": PNG},
    # What a user keeps under names like a result's, and what is skipped.
    "photos": {"x.png": PNG, **dict.fromkeys(("x.json", "x_overlay.png.txt", "x.obj"), b"own")},
    "empty.jpg": b"",
    "cut.jpg": JPEG[: len(JPEG) // 2],
    "text.jpg": b"no picture at all",
    "broken.png": b"\x89PNG\r\n\x1a\n" + b"\0" * 30,
    "claims.png": png_claiming(60_000),
    "moving.gif": encoded("GIF"),
    "phone.heic": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + b"\0" * 50,
    "result.hands.overlay.png": PNG,
    "pipe.jpg": lambda path, world: os.mkfifo(path),
    "text.mp4": b"no video",
    "text": b"plain text\n",
    "folder": {}, "folder.jpg": {}, "nothing": {}, "checkout": {},
    "zip.pth": zipped(b"x", "other"),
    "cut.pth": zipped(b"x" * 999, "other")[:60],
    "hostile.pth": torch_zip.OLD_HEAD + pickle.dumps({"net": Runs()}, 2) + pickle.dumps([], 2),
    "other.pth": lambda path, world: torch_zip.save(path, {"other.weight": np.zeros((2, 3), "f")}),
    "text.safetensors": b"no tensors",
    "huge.safetensors": (1 << 60).to_bytes(8, "little") + b"{}",
    "boxes_good.json": b'{"good.png": [10, 20, 40, 30]}',
    "boxes_empty.csv": b"",
    "boxes_three.json": b'{"good.png": [1, 2, 3]}',
    "boxes_number.json": b'{"good.png": 5}',
    "boxes_cut.json": b'{"good.png": [1, 2',
    "boxes_cut_images.json": b'{"images": [{"id": 1, ',
    "boxes_nameless.json": b"[[1, 2, 3, 4]]",
    "boxes_bytes.csv": b"\xff\xfe\x80 no text",
    "boxes_huge.json": b'{"good.png": [0, 0, 1e10, 1e10]}',
    "boxes_outside.json": b'{"good.png": [500, 20, 40, 30]}',
    "boxes_other.json": b'{"other.png": [1, 2, 30, 40]}',
}  # fmt: skip


# --- Weights ------------------------------------------------------------------------------------


@functools.cache
def tiny():
    return create_model({"preset": "released", **TINY}, mano_jax.open_hands())


def _checkpoint(change):
    def make(path, world):
        meta = {"config": {"model": dataclasses.asdict(tiny().config)}, "hands": "open hand"}
        save_variables(path, jax.tree.map(change, initial_variables(tiny(), 0)), meta)

    return make


def _damaged_model(path, world):
    shutil.copytree(world["model"], path)
    flip_bit(path / "0" / "variables")


def _damaged_run(path, world):
    put(path, {"config.json": smoke()})
    checkpoints = Checkpoints(path / "checkpoints", 2)
    for step in (3, 5):
        checkpoints.save(step, {"params": {"w": np.ones(4096)}}, {"m": np.zeros(3)}, {"config": {}})
        flip_bit(path / "checkpoints" / str(step) / "variables")
    checkpoints.close()


def _own_weights(**fields):
    def make(path, world):
        config = {**dataclasses.asdict(tiny().config), **fields} if fields else {}
        save_weights(path, {"params": {"w": np.zeros(2)}}, config)

    return make


WEIGHTS = {
    "model": _checkpoint(lambda leaf: leaf),
    "nan_model": _checkpoint(lambda leaf: np.full_like(leaf, np.nan)),
    "damaged_model": _damaged_model,
    "damaged_run": _damaged_run,
    "part.safetensors": _own_weights(encoder="os:system"),
    "field.safetensors": _own_weights(depth=3),
    "config.safetensors": _own_weights(),
}


# --- Hand models --------------------------------------------------------------------------------


def _scaled(name, factor, sides=SIDES):
    return lambda h: {s: {**h[s], name: h[s][name] * (factor if s in sides else 1)} for s in h}


def _left(name, change):
    return lambda h: {**h, "left": {**h["left"], name: change(h["left"][name])}}


HANDS = {
    "swapped": lambda h: {"left": h["right"], "right": h["left"]},
    "left_twice": lambda h: {**h, "right": h["left"]},
    "millimetres": _scaled("v_template", 1000),
    "zeros": _scaled("v_template", 0),
    "no_shapes": _scaled("shapedirs", 0, ("right",)),
    "nine_shapes": _left("shapedirs", lambda a: a[..., :9]),
    "vertex_short": _left("v_template", lambda a: a[:-1]),
    "flat_correctives": _left("posedirs", lambda a: a.reshape(-1)),
    "turned_regressor": _left("J_regressor", lambda a: a.T),
    "nan_weights": _left("weights", lambda a: a * np.nan),
    "double_weights": _left("weights", lambda a: a * 2),
    "text_mean": _left("hands_mean", lambda a: a.astype("S8")),
    "other_faces": _left("f", lambda a: a + 1000),
    "other_parents": _left("kintree_table", lambda a: a[:, ::-1]),
    "lacking": lambda h: {**h, "left": {"f": h["left"]["f"]}},
}


def _hands(change):
    return lambda path, world: {
        f"MANO_{side.upper()}.npz": saved(**arrays)
        for side, arrays in change(open_arrays()).items()
    }


def _official_hands(change):
    def make(path, world):
        path.mkdir()
        write_official(path, change(open_arrays()))

    return make


LEFT_FILES = {
    "list_mano": pickle.dumps([1]),
    "cut_mano": pickle.dumps({"f": np.zeros(99)})[:50],
    "lfs_mano": b"version https://git-lfs.github.com/spec/v1\n",
    "objects_mano": pickle.dumps({"f": np.array([{}, 1], object)}),
    "hostile_mano": pickle.dumps(Runs()),
}
MANO = {
    **{f"{name}_hands": _hands(change) for name, change in HANDS.items()},
    **{f"{name}_hands_npz": _hands(HANDS[name]) for name in ("swapped", "millimetres")},
    **{f"{name}_hands": _official_hands(HANDS[name]) for name in ("swapped", "millimetres")},
    **{name: {"MANO_LEFT.pkl": content} for name, content in LEFT_FILES.items()},
    "zip_mano": {"MANO_LEFT.npz": b"not a zip"},
    "mano": lambda path, world: mano_jax.save_npz(toy_hands(), path),
    "open_mano": lambda path, world: mano_jax.save_npz(mano_jax.open_hands(), path),
}


# --- Predictions --------------------------------------------------------------------------------


@functools.cache
def predictions() -> dict:
    """Five samples: the open hands, predicted at their wrists, true in front of a camera."""
    pair = mano_jax.open_hands()
    hands = np.stack([pair[side].v_template for side in SIDES])[None].repeat(5, 0)
    hands = hands + 0.001 * np.arange(5)[:, None, None, None]
    camera = np.tile(np.array([[500.0, 0, 128], [0, 500, 127], [0, 0, 1]]), (5, 1, 1))
    return {
        "vertices_xyz": hands, "gt_vertices_xyz": hands + [0.0, 0.0, 0.7], "camera": camera,
        "offset": np.tile([0.1, 0, 0], (5, 1)),
    }  # fmt: skip


def _with(name, change):
    return lambda a: {**a, name: change(a.get(name))}


def without(*names):
    """Makes predictions without some arrays."""
    return lambda a: {k: v for k, v in a.items() if k not in names}


def _rows_nan(a):
    return np.where((np.arange(5) % 2 == 1)[:, None, None, None], np.nan, a)


IDS = np.array([f"{i}.jpg" for i in range(5)])
PREDICTED, TRUE = without("gt_vertices_xyz", "camera"), without("vertices_xyz", "offset")
PREDICTIONS = {
    "sound": lambda a: a,
    "few_vertices": _with("vertices_xyz", lambda v: v[:, :, :700]),
    "millimetres": _with("vertices_xyz", lambda v: v * 1000),
    "scaled": _with("vertices_xyz", lambda v: v / 0.15),
    "centimetres": _with("gt_vertices_xyz", lambda v: v * 100),
    "turned": _with("vertices_xyz", lambda v: v.swapaxes(1, 2)),
    "zeros": _with("vertices_xyz", lambda v: 0 * v),
    "short": _with("offset", lambda o: o[:4]),
    "infinite": _with("offset", lambda o: o * np.inf),
    "nan": _with("vertices_xyz", _rows_nan),
    "nan_pred": lambda a: _with("vertices_xyz", _rows_nan)(PREDICTED(a)),
    "no_hands": without("vertices_xyz"),
    "no_truth": without("gt_vertices_xyz"),
    "no_camera_pred": PREDICTED,
    "whole_camera": _with("camera", lambda c: c.astype(int)),
    "blind_camera": _with("camera", lambda c: 0 * c),
    "same_ids": _with("sample_ids", lambda _: np.array(["a"] * 5)),
    "object_ids": _with("sample_ids", lambda _: np.array([{}] * 5)),
    "number_ids": _with("sample_ids", lambda _: np.zeros(5)),
    "deep_ids": _with("sample_ids", lambda _: np.array([["a"]] * 5)),
    "other_ids": lambda a: {**PREDICTED(a), "sample_ids": np.roll(IDS, 1)[1:]},
    "empty": lambda a: {k: v[:0] for k, v in a.items()},
    "truth": lambda a: {**TRUE(a), "sample_ids": IDS},
    "other_truth": lambda a: {**TRUE(a), "sample_ids": np.char.add(IDS, "x")},
    "ids_pred": lambda a: {**PREDICTED(a), "sample_ids": IDS},
    "nan_truth": _with("gt_vertices_xyz", _rows_nan),
    "hostile": lambda a: {"vertices_xyz": np.array([Runs(), 1], object)},
}
NPZ = {
    "cut": saved(a=np.zeros((100, 100)))[:5000],
    "text": b"not a zip",
    "eight_terabytes": zipped(npy("(1099511627776,)")),
    "wraps_round": zipped(npy("(4294967296, 4294967296)")),
    "negative": zipped(npy("(-1,)")),
    "one_short": zipped(npy("(2,)", bytes(8))),
    "stored": zipped(npy("(4, 7)", bytes(192)), kind=zipfile.ZIP_STORED),
    "objects": zipped(npy("(1,)", bytes(8), "'|O'")),
    "record_objects": zipped(npy("(1,)", bytes(8), "[('a', '|O')]")),
    "code": zipped(npy("(__import__('os').mkdir('ran'),)")),
    "half_header": zipped(npy("(1,)", bytes(8))[:20]),
    "version_nine": zipped(b"\x93NUMPY\x09\0"),
    "no_npy": zipped(b"plain text"),
}


def _predictions(change, save=np.savez):
    return lambda path, world: saved(save, **change(predictions()))


ARRAYS = {
    **{f"{name}.npz": _predictions(change) for name, change in PREDICTIONS.items()},
    "hostile_packed.npz": _predictions(PREDICTIONS["hostile"], np.savez_compressed),
    "flipped.npz": lambda *_: flipped(saved(**predictions()), 0.3),
    "flipped_packed.npz": lambda *_: flipped(saved(np.savez_compressed, **predictions()), 0.3),
    **{f"bad_{name}.npz": content for name, content in NPZ.items()},
    **{
        f"bad_{name}_mano": {f"MANO_{side.upper()}.npz": content for side in SIDES}
        for name, content in NPZ.items()
    },
}


# --- Data sets and runs -------------------------------------------------------------------------


SPOILT = {"cut": lambda text: text[:200], "list": lambda text: b"[1, 2]",
          "empty": lambda text: b"", "binary": lambda text: b"\xff\x00"}  # fmt: skip


def _raw(spoil=lambda path: None, **options):
    def make(path, world):
        write_raw(path, **{"frames": 2, "cameras": 1, **options})
        spoil(path)

    return make


def _spoils(how, kind):
    """One annotation file of train is not sound."""

    def spoil(path):
        file = path / f"annotations/train/InterHand2.6M_train_{kind}.json"
        file.unlink() if how == "gone" else file.write_bytes(SPOILT[how](file.read_bytes()))

    return spoil


def _removes(pattern):
    return lambda path: [shutil.rmtree(folder) for folder in path.glob(pattern)]


def _escapes(split, files):
    """Every name leads out of the folder or is none."""
    names = ["/etc/passwd", "../../../good.png", "a/../../x.jpg", "..\\x.jpg", "", 7, None]
    for image, name in zip(files["data"]["images"], names, strict=True):
        image["file_name"] = name


def _data(path, world):
    options = {"source": world["raw"], "output": path, "mano": world["mano"], "workers": 1}
    assert prepare.main([text for k, v in options.items() for text in (f"--{k}", str(v))]) == 0


def _spoilt_data(pattern, spoil):
    def make(path, world):
        shutil.copytree(world["data"], path)
        spoil(next(path.rglob(pattern)))

    return make


def smoke(batch_size=8) -> str:
    """The smoke recipe as JSON, on the tests' eight devices."""
    from configs.smoke import get_config

    config = get_config()
    config.train.batch_size = batch_size
    return json.dumps(plain(config))


def _run_with_data(config):
    def make(path, world):
        put(path, {"config.json": config()})
        shutil.copytree(world["raw"], path / "raw")

    return make


DATA = {
    "raw": _raw(),
    **{
        f"{how}_{kind}_raw": _raw(_spoils(how, kind))
        for how in (*SPOILT, "gone")
        for kind in ("data", "camera", "joint_3d", "MANO_NeuralAnnot")
    },
    "no_images_raw": _raw(_removes("images")),
    "no_train_images_raw": _raw(_removes("images/train")),
    "no_splits_raw": _raw(_removes("annotations/*")),
    "escaping_raw": _raw(splits=("train",), frames=7, change=_escapes),
    "data": _data,
    "damaged_data": _spoilt_data("dataset_info.json", lambda file: file.write_text("{")),
    "cut_data": _spoilt_data("*test.array_record*", pathlib.Path.unlink),
    "run": lambda *_: {"config.json": smoke()},
    "soaked_run": {"run": {"checkpoints": {"5": {}}}},
    "raw_run": _run_with_data(smoke),
    "other_run": _run_with_data(lambda: smoke(batch_size=3)),
    "cut_run": _run_with_data(lambda: "{"),
}


# --- Recipes ------------------------------------------------------------------------------------


RECIPES = {
    "raising": "raise RuntimeError('no\\nluck today')",
    "asserting": "assert c.seed == 7",
    "importing": "import nowhere_to_be_found",
    "exiting": "raise SystemExit(0)",
    "list": "c = [1]",
    "none": "c = None",
    "part": "c = {'train': {'steps': 3}}",
    "half": "c.unlock(); del c['optimizer']",
    "typo": "c.train.batchsize = 3",
    "typo_group": "c.trian = dict(steps=3)",
    "unlocked": "c.unlock(); c.train.batchsize = 3",
    "word": "c.train.batch_size = 'six'",
}
NO_RECIPES = {"empty": "", "variable": "x = 1", "syntax": "def get_config(:", "null": "\0"}
HEAD = "from configs import smoke\ndef get_config():\n c = smoke.get_config()\n "
TEXTS = {name: f"{HEAD}{line}\n return c\n" for name, line in RECIPES.items()} | NO_RECIPES

THINGS = {
    **FILES, **WEIGHTS, **MANO, **ARRAYS, **DATA,
    **{f"{name}_recipe.py": text for name, text in TEXTS.items()},
}  # fmt: skip
