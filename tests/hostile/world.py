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
import re
import shutil
import zipfile

import cv2
import jax
import numpy as np
from PIL import Image

import mano_jax
from dir_jax import create_model
from dir_jax.models.config import TINY
from dir_jax.training.run import plain
from dir_jax.weights.checkpoints import Checkpoints, save_variables
from dir_jax.weights.loading import save_weights
from input_pipeline import prepare
from mano_jax.constants import SIDES
from tests.dir_jax import torch_zip
from tests.input_pipeline.raw_data import toy_pair, write_raw
from tests.mano_jax.official_files import write_official

NOISE = np.random.default_rng(0).integers(0, 255, (120, 160, 3)).astype(np.uint8)
MAKERS = {}
"""(pattern of names, function of a path, the world and the pattern's groups)."""


def thing(pattern: str):
    """Registers what makes the things whose names match."""

    def register(make):
        MAKERS[pattern] = make
        return make

    return register


class World:
    """The folder in which the things lie."""

    def __init__(self, folder: pathlib.Path):
        self.folder = folder

    def __getitem__(self, name: str) -> pathlib.Path:
        path = self.folder / name
        if not os.path.lexists(path):
            for pattern, make in MAKERS.items():
                if found := re.fullmatch(pattern, name):
                    make(path, self, *found.groups())
                    return path
            raise KeyError(f"no maker of {name}")
        return path


class Runs:
    """Pickles as something that makes a folder when it is unpickled."""

    def __init__(self, trace: pathlib.Path):
        self.trace = str(trace)

    def __reduce__(self):
        return os.mkdir, (self.trace,)


def encoded(kind: str, image=NOISE, **options) -> bytes:
    """An image file's bytes, by Pillow's name of its kind."""
    data = io.BytesIO()
    Image.fromarray(image).save(data, kind, **options)
    return data.getvalue()


def npy(shape: str, data: bytes = b"", descr: str = "'<f8'") -> bytes:
    """An npy file whose header says what it likes."""
    header = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\0" + len(header).to_bytes(2, "little") + header.encode() + data


def zipped(kind=zipfile.ZIP_DEFLATED, **members: bytes) -> bytes:
    """A zip file of these members, their names with npy added."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", kind) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return data.getvalue()


def saved(save=np.savez, **arrays) -> bytes:
    """An npz file's bytes."""
    data = io.BytesIO()
    save(data, **arrays)
    return data.getvalue()


def flipped(data: bytes, at: float = 0.5) -> bytes:
    """One bit of it turned."""
    changed = bytearray(data)
    changed[int(at * len(data))] ^= 4
    return bytes(changed)


def png_claiming(side: int) -> bytes:
    """A small PNG whose header claims side x side pixels."""
    data = bytearray(encoded("PNG"))
    data[16:24] = side.to_bytes(4, "big") * 2
    data[29:33] = zipfile.crc32(data[12:29]).to_bytes(4, "big")
    return bytes(data)


JPEG = encoded("JPEG")
FILES = {
    "good.png": encoded("PNG"),
    "thin.png": encoded("PNG", NOISE[:1]),
    "empty.jpg": b"",
    "cut.jpg": JPEG[: len(JPEG) // 2],
    "text.jpg": b"no picture at all",
    "broken.png": b"\x89PNG\r\n\x1a\n" + b"\0" * 30,
    "claims.png": png_claiming(60_000),
    "moving.gif": encoded("GIF"),
    "phone.heic": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + b"\0" * 50,
    "result.hands.overlay.png": encoded("PNG"),
    "text.mp4": b"no video",
    "text": b"plain text\n",
    "lfs.pkl": b"version https://git-lfs.github.com/spec/v1\n",
    "zip.pth": zipped(other=b"x"),
    "cut.pth": zipped(other=b"x" * 999)[:60],
    "text.safetensors": b"no tensors",
    "huge.safetensors": (1 << 60).to_bytes(8, "little") + b"{}",
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
}


@thing("(" + "|".join(re.escape(name) for name in FILES) + ")")
def _file(path, world, name):
    path.write_bytes(FILES[name])


@thing(r"folder(\.jpg)?|nothing|checkout")
def _folder(path, world, _=None):
    path.mkdir()


@thing("long")
def _long(path, world):
    path.mkdir()
    (path / f"{'n' * 240}.png").write_bytes(FILES["good.png"])


@thing(r"pipe\.jpg")
def _pipe(path, world):
    os.mkfifo(path)


@thing("photos")
def _photos(path, world):
    """A photo beside what its user keeps under names like a result's, and what is skipped."""
    path.mkdir()
    cv2.imwrite(str(path / "x.png"), NOISE)
    for name in ("x.json", "x_overlay.png.txt", "x.obj"):
        (path / name).write_text("the user's own")


# --- Weights ------------------------------------------------------------------------------------


@functools.cache
def tiny():
    """A tiny network and numbers for it; compiling the real initialisation takes long."""
    model = create_model({"preset": "released", **TINY, "stages": 1}, mano_jax.open_hands())
    shapes = jax.eval_shape(model.init, jax.random.key(0), np.zeros((1, 256, 256, 3), np.float32))
    rng = np.random.default_rng(0)
    return model, jax.tree_util.tree_map_with_path(
        lambda path, leaf: (
            np.ones(leaf.shape, np.float32)
            if "batch_stats" in jax.tree_util.keystr(path)
            else rng.normal(0, 0.05, leaf.shape).astype(np.float32)
        ),
        shapes,
    )


@thing("(nan_)?model")
def _model(path, world, nan):
    model, variables = tiny()
    if nan:
        variables = jax.tree.map(lambda a: np.full_like(a, np.nan), variables)
    meta = {"config": {"model": dataclasses.asdict(model.config)}, "hands": "open hand"}
    save_variables(path, variables, meta)


@thing("damaged_model")
def _damaged_model(path, world):
    shutil.copytree(world["model"], path)
    spoil(path / "0" / "variables")


def spoil(folder: pathlib.Path) -> None:
    """Turns a bit of the largest file below a folder."""
    largest = max((p for p in folder.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
    largest.write_bytes(flipped(largest.read_bytes()))


@thing(r"(part|field|config)\.safetensors")
def _own_weights(path, world, what):
    model, _ = tiny()
    config = dataclasses.asdict(model.config)
    config |= {"part": {"encoder": "os:system"}, "field": {"depth": 3}, "config": {}}[what]
    config = {} if what == "config" else config
    save_weights(path, {"params": {"w": np.zeros(2)}}, config)


@thing(r"(hostile|other)\.pth")
def _pth(path, world, what):
    if what == "hostile":
        content = pickle.dumps({"net": Runs(world.folder / "ran")}, 2)
        path.write_bytes(torch_zip.OLD_HEAD + content + pickle.dumps([], 2))
    else:
        torch_zip.save(path, {"other.weight": np.zeros((2, 3), np.float32)})


# --- Hand models --------------------------------------------------------------------------------

OPEN_HAND = pathlib.Path(mano_jax.__file__).parent / "open_hand" / "open_hand.npz"


@functools.cache
def open_arrays() -> dict:
    """The shipped hands' arrays, which look like hands, as the official files hold them."""
    with np.load(OPEN_HAND) as file:
        return {s: {k[len(s) + 1 :]: file[k] for k in file if k.startswith(s)} for s in SIDES}


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


@thing(f"({'|'.join(HANDS)})_hands(_npz)?")
def _hands(path, world, what, as_npz):
    path.mkdir()
    hands = HANDS[what](open_arrays())
    if not as_npz and what in ("swapped", "millimetres"):
        write_official(path, hands)
        return
    for side, arrays in hands.items():
        np.savez(path / f"MANO_{side.upper()}.npz", **arrays)


LEFT_PICKLES = {
    "list": pickle.dumps([1]),
    "cut": pickle.dumps({"f": np.zeros(99)})[:50],
    "lfs": FILES["lfs.pkl"],
    "objects": pickle.dumps({"f": np.array([{}, 1], object)}),
}


@thing(r"(list|cut|lfs|objects|hostile|one|zip)_mano")
def _mano(path, world, what):
    path.mkdir()
    if what == "zip":
        (path / "MANO_LEFT.npz").write_bytes(b"not a zip")
    elif what != "one":
        hostile = pickle.dumps(Runs(world.folder / "ran"))
        (path / "MANO_LEFT.pkl").write_bytes(LEFT_PICKLES.get(what, hostile))


@thing("(open_)?mano")
def _sound_mano(path, world, is_open):
    mano_jax.save_npz(mano_jax.open_hands() if is_open else toy_pair(), path)


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


def _prediction(name, change):
    return lambda a: {**a, name: change(a.get(name))}


def without(*names):
    """Makes predictions without some arrays."""
    return lambda a: {k: v for k, v in a.items() if k not in names}


def _rows_nan(a):
    return np.where((np.arange(5) % 2 == 1)[:, None, None, None], np.nan, a)


IDS = np.array([f"{i}.jpg" for i in range(5)])
PREDICTIONS = {
    "sound": lambda a: a,
    "few_vertices": _prediction("vertices_xyz", lambda v: v[:, :, :700]),
    "millimetres": _prediction("vertices_xyz", lambda v: v * 1000),
    "scaled": _prediction("vertices_xyz", lambda v: v / 0.15),
    "centimetres": _prediction("gt_vertices_xyz", lambda v: v * 100),
    "turned": _prediction("vertices_xyz", lambda v: v.swapaxes(1, 2)),
    "zeros": _prediction("vertices_xyz", lambda v: 0 * v),
    "short": _prediction("offset", lambda o: o[:4]),
    "infinite": _prediction("offset", lambda o: o * np.inf),
    "nan": _prediction("vertices_xyz", _rows_nan),
    "nan_pred": lambda a: without("gt_vertices_xyz", "camera")(PREDICTIONS["nan"](a)),
    "no_hands": without("vertices_xyz"),
    "no_truth": without("gt_vertices_xyz"),
    "no_camera_pred": without("gt_vertices_xyz", "camera"),
    "whole_camera": _prediction("camera", lambda c: c.astype(int)),
    "blind_camera": _prediction("camera", lambda c: 0 * c),
    "same_ids": _prediction("sample_ids", lambda _: np.array(["a"] * 5)),
    "object_ids": _prediction("sample_ids", lambda _: np.array([{}] * 5)),
    "number_ids": _prediction("sample_ids", lambda _: np.zeros(5)),
    "deep_ids": _prediction("sample_ids", lambda _: np.array([["a"]] * 5)),
    "other_ids": lambda a: {**PREDICTIONS["no_camera_pred"](a), "sample_ids": np.roll(IDS, 1)[1:]},
    "empty": lambda a: {k: v[:0] for k, v in a.items()},
    "truth": lambda a: {**without("vertices_xyz", "offset")(a), "sample_ids": IDS},
    "other_truth": lambda a: {**PREDICTIONS["truth"](a), "sample_ids": np.char.add(IDS, "x")},
    "ids_pred": lambda a: {**PREDICTIONS["no_camera_pred"](a), "sample_ids": IDS},
    "nan_truth": _prediction("gt_vertices_xyz", _rows_nan),
}


@thing(rf"({'|'.join(PREDICTIONS)})(_packed)?\.npz")
def _predictions(path, world, what, packed):
    arrays = PREDICTIONS[what](predictions())
    path.write_bytes(saved(np.savez_compressed if packed else np.savez, **arrays))


@thing(r"flipped(_packed)?\.npz")
def _flipped(path, world, packed):
    name = "sound_packed.npz" if packed else "sound.npz"
    path.write_bytes(flipped(world[name].read_bytes(), 0.3))


NPZ = {
    "cut": saved(a=np.zeros((100, 100)))[:5000],
    "text": b"not a zip",
    "eight_terabytes": zipped(vertices_xyz=npy("(1099511627776,)")),
    "wraps_round": zipped(vertices_xyz=npy("(4294967296, 4294967296)")),
    "negative": zipped(vertices_xyz=npy("(-1,)")),
    "one_short": zipped(vertices_xyz=npy("(2,)", bytes(8))),
    "stored": zipped(0, vertices_xyz=npy("(4, 7)", bytes(192)), more=bytes(10**4)),
    "objects": zipped(vertices_xyz=npy("(1,)", bytes(8), "'|O'")),
    "record_objects": zipped(vertices_xyz=npy("(1,)", bytes(8), "[('a', '|O')]")),
    "code": zipped(vertices_xyz=npy("(__import__('os').mkdir('ran'),)")),
    "half_header": zipped(vertices_xyz=npy("(1,)", bytes(8))[:20]),
    "version_nine": zipped(vertices_xyz=b"\x93NUMPY\x09\0"),
    "no_npy": zipped(vertices_xyz=b"plain text"),
}


@thing(rf"bad_({'|'.join(NPZ)})\.npz")
def _npz(path, world, what):
    path.write_bytes(NPZ[what])


@thing(rf"bad_({'|'.join(NPZ)})_mano")
def _npz_mano(path, world, what):
    path.mkdir()
    for side in SIDES:
        (path / f"MANO_{side.upper()}.npz").write_bytes(NPZ[what])


@thing(r"hostile(_packed)?\.npz")
def _hostile_npz(path, world, packed):
    objects = np.array([Runs(world.folder / "ran"), 1], object)
    path.write_bytes(saved(np.savez_compressed if packed else np.savez, vertices_xyz=objects))


# --- Data sets and runs -------------------------------------------------------------------------


SPOILT = {"cut": lambda text: text[:200], "list": lambda text: b"[1, 2]",
          "empty": lambda text: b"", "binary": lambda text: b"\xff\x00"}  # fmt: skip
KINDS = "data|camera|joint_3d|MANO_NeuralAnnot"


@thing(rf"(?:({'|'.join(SPOILT)}|gone)_({KINDS})_)?raw")
def _raw(path, world, how, kind):
    """Sound, or with one annotation file of train that is not."""
    write_raw(path, frames=2, cameras=1)
    file = path / f"annotations/train/InterHand2.6M_train_{kind}.json"
    if how == "gone":
        file.unlink()
    elif how:
        file.write_bytes(SPOILT[how](file.read_bytes()))


MISSING = {"images": "images", "train_images": "images/train", "splits": "annotations/*"}


@thing(f"no_({'|'.join(MISSING)})_raw")
def _raw_without(path, world, what):
    write_raw(path, frames=2, cameras=1)
    for folder in path.glob(MISSING[what]):
        shutil.rmtree(folder)


@thing("escaping_raw")
def _escaping_raw(path, world):
    """Every name leads out of the folder or is none."""
    names = iter(["/etc/passwd", "../../../good.png", "a/../../x.jpg", "..\\x.jpg", "", 7, None])

    def change(split, files):
        for image in files["data"]["images"]:
            image["file_name"] = next(names)

    write_raw(path, splits=("train",), frames=7, cameras=1, change=change)


@thing("(damaged_|cut_)?data")
def _data(path, world, what):
    if what is None:
        options = {"source": world["raw"], "output": path, "mano": world["mano"], "workers": 1}
        assert prepare.main([text for k, v in options.items() for text in (f"--{k}", str(v))]) == 0
        return
    shutil.copytree(world["data"], path)
    if what == "damaged_":
        next(path.rglob("dataset_info.json")).write_text("{")
    else:
        next(path.rglob("*test.array_record*")).unlink()


def smoke(**changes):
    """The smoke recipe as JSON, on the tests' eight devices, some fields changed."""
    from configs.smoke import get_config

    config = get_config()
    config.train.batch_size = 8
    config.update_from_flattened_dict(changes)
    return plain(config)


@thing("(damaged_|other_|cut_|raw_|soaked_|)run")
def _run(path, world, what):
    path.mkdir()
    if what == "soaked_":
        (path / "run" / "checkpoints" / "5").mkdir(parents=True)
        return
    config = smoke(**({"train.batch_size": 3} if what == "other_" else {}))
    (path / "config.json").write_text("{" if what == "cut_" else json.dumps(config))
    if what in ("raw_", "other_", "cut_"):
        shutil.copytree(world["raw"], path / "raw")
    if what != "damaged_":
        return
    checkpoints = Checkpoints(path / "checkpoints", 2)
    for step in (3, 5):
        checkpoints.save(step, {"params": {"w": np.ones(4096)}}, {"m": np.zeros(3)}, {"config": {}})
        spoil(path / "checkpoints" / str(step) / "variables")
    checkpoints.close()


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


@thing(rf"({'|'.join([*RECIPES, *NO_RECIPES])})_recipe\.py")
def _recipe(path, world, what):
    body = f"def get_config():\n c = smoke.get_config()\n {RECIPES.get(what)}\n return c\n"
    path.write_text(NO_RECIPES.get(what, f"from configs import smoke\n{body}"))
