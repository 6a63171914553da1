"""Hand models: what they are; reading, checking and repairing MANO's arrays.

A hand comes as an official MANO file (`MANO_LEFT.pkl`, `MANO_RIGHT.pkl`; https://mano.is.tue.mpg.de),
as an npz file with the same array names, as a mapping of arrays, or as the open hand shipped with
this package. Official array names are v_template, f, weights, J_regressor, shapedirs, posedirs,
kintree_table, hands_components and hands_mean.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import pathlib
import tempfile
import zipfile
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from mano_jax import constants

_SHAPES = {
    "v_template": (constants.VERTICES, 3),
    "f": (constants.FACES, 3),
    "weights": (constants.VERTICES, constants.MANO_JOINTS),
    "J_regressor": (constants.MANO_JOINTS, constants.VERTICES),
    "shapedirs": (constants.VERTICES, 3, constants.BETAS),
    "posedirs": (constants.VERTICES, 3, constants.POSE_CORRECTIVES),
    "kintree_table": (2, constants.MANO_JOINTS),
    "hands_components": (constants.POSE_COMPONENTS, constants.POSE_COMPONENTS),
    "hands_mean": (constants.POSE_COMPONENTS,),
}
_FIELDS = {"f": "faces", "weights": "lbs_weights"}
"""Official names whose field of `Hand` is called differently (as smplx calls it)."""

_LENGTHS = (0.1, 0.4)
"""Metres that a hand may be long; grown-ups' are 0.19."""

_OPEN_HAND = pathlib.Path(__file__).parent / "open_hand" / "open_hand.npz"


class HandError(ValueError):
    """A hand model, or something asked of it, is not as MANO defines it."""


@dataclasses.dataclass(frozen=True, eq=False)
class Hand:
    """One hand model; a jax pytree (with `side` static), hashable by identity.

    Arrays are float64 numpy arrays as loaded; functions work in the dtype of their inputs.

    Attributes:
      v_template: (778, 3) metres, rest pose.
      shapedirs: (778, 3, 10) metres per unit of shape.
      posedirs: (778, 3, 135) metres per entry of (R - I), joints 1 to 15 row by row.
      J_regressor: (16, 778) takes rest vertices to joints.
      lbs_weights: (778, 16) skinning weights.
      hands_components: (45, 45) principal components of the finger pose, one a row, radians.
      hands_mean: (45,) mean finger pose, axis-angle, radians.
      faces: (1538, 3) int32.
      side: "left", "right", or "both" for a stacked pair (a leading axis of 2 on every array).
    """

    v_template: np.ndarray
    shapedirs: np.ndarray
    posedirs: np.ndarray
    J_regressor: np.ndarray
    lbs_weights: np.ndarray
    hands_components: np.ndarray
    hands_mean: np.ndarray
    faces: np.ndarray
    side: str


ARRAY_FIELDS = tuple(field.name for field in dataclasses.fields(Hand) if field.name != "side")
"""Names of the arrays of a `Hand`."""

jax.tree_util.register_dataclass(Hand, data_fields=ARRAY_FIELDS, meta_fields=["side"])


@dataclasses.dataclass(frozen=True, eq=False)
class HandPair:
    """A left and a right hand model; hashable by identity, so it may be a static argument.

    Attributes:
      left: the left hand.
      right: the right hand.
      name: what to call it in messages and records.
      licence: the terms it comes under, one line.
    """

    left: Hand
    right: Hand
    name: str = "unnamed hands"
    licence: str = "unknown"

    def __getitem__(self, side: str) -> Hand:
        if side not in constants.SIDES:
            raise HandError(f"side is {side!r}; wanted left or right")
        return self.left if side == "left" else self.right

    def stacked(self) -> Hand:
        """Both hands as one `Hand` whose arrays have a leading axis (left, right), for `vmap`."""
        arrays = {
            name: np.stack([getattr(self.left, name), getattr(self.right, name)])
            for name in ARRAY_FIELDS
        }
        return Hand(**arrays, side="both")


class ArraysFileError(ValueError):
    """A file of arrays that cannot be read."""


def read_npz(path: pathlib.Path, *, limit_bytes: int = 2**30) -> dict[str, np.ndarray]:
    """Reads an npz file without trusting it: nothing is unpickled.

    Args:
      path: numpy's format, uncompressed or deflated.
      limit_bytes: largest total size after decompression.

    Returns:
      Arrays by name.

    Raises:
      ArraysFileError: names the file and what is wrong with it.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            total = sum(info.file_size for info in archive.infolist())
        if total > limit_bytes:
            raise ValueError(f"it holds {total} bytes; wanted at most {limit_bytes}")
        with np.load(path, allow_pickle=False) as file:
            return {name: np.asarray(file[name]) for name in file.files}
    except FileNotFoundError:
        raise ArraysFileError(f"{path}: no such file") from None
    except Exception as error:  # zipfile and numpy raise many kinds
        reason = " ".join(str(error).split())[:200]  # zipfile quotes damaged headers whole
        raise ArraysFileError(f"{path} cannot be read as npz: {reason}") from error


def write_npz(file: str | os.PathLike, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes arrays by name as a compressed npz file, under its name only when complete."""
    path = pathlib.Path(file)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
        temporary = pathlib.Path(folder) / path.name
        with temporary.open("wb") as stream:
            np.savez_compressed(stream, **arrays)
        os.replace(temporary, path)


def _check_array(name: str, value: Any, source: str) -> np.ndarray:
    array = np.asarray(value)
    if array.dtype.kind not in "iuf":
        raise HandError(f"{source}: {name} has dtype {array.dtype}; wanted numbers")
    if array.shape != _SHAPES[name]:
        raise HandError(f"{source}: {name} has shape {array.shape}; wanted {_SHAPES[name]}")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        count = int((~np.isfinite(array)).sum())
        raise HandError(f"{source}: {name} holds {count} values that are not finite; wanted none")
    if name != "hands_mean" and not array.any():  # the mean hand may be flat
        raise HandError(f"{source}: {name} holds only zeros; wanted a hand model's numbers")
    return array.astype(np.int64 if name in ("f", "kintree_table") else np.float64)


def _check_values(arrays: Mapping[str, np.ndarray], side: str, source: str) -> None:
    faces = arrays["f"]
    if faces.min() < 0 or faces.max() >= constants.VERTICES:
        raise HandError(
            f"{source}: f names vertices {faces.min()} to {faces.max()}; "
            f"wanted 0 to {constants.VERTICES - 1}"
        )
    parents = tuple(int(parent) for parent in arrays["kintree_table"][0, 1:])
    if parents != constants.PARENTS[1:]:
        raise HandError(
            f"{source}: kintree_table has parents {parents}; wanted {constants.PARENTS[1:]}"
        )
    for name in ("weights", "J_regressor"):
        sums = arrays[name].sum(axis=1)
        worst = sums[np.argmax(np.abs(sums - 1))]
        if abs(worst - 1) > 1e-2:
            raise HandError(f"{source}: a row of {name} sums to {worst:.4g}; wanted 1")
    length = np.ptp(arrays["v_template"], axis=0).max()
    if not _LENGTHS[0] < length < _LENGTHS[1]:
        raise HandError(
            f"{source}: v_template is {length:.4g} m long; wanted a hand's 0.19 in metres, not mm"
        )
    thumb_side = _thumb_side(arrays)
    if thumb_side not in (None, side):
        raise HandError(
            f"{source}: its thumb lies as a {thumb_side} hand's does; wanted a {side} hand "
            "(are the files of left and right swapped?)"
        )


def _thumb_side(arrays: Mapping[str, np.ndarray]) -> str | None:
    """The hand whose thumb lies on this side of fingers and palm.

    The palm is where the mean pose bends the fingers to; None when it does not bend them one way.
    """
    joints = arrays["J_regressor"] @ arrays["v_template"]
    turns = arrays["hands_mean"].reshape(15, 3)
    first = np.array([1, 4, 7, 10])  # of index, middle, pinky and ring
    bent = np.concatenate(
        [np.cross(turns[j - 1], joints[j + 1] - joints[j]) for j in (first, first + 1)]
    )
    bent /= np.linalg.norm(bent, axis=1, keepdims=True) + 1e-12
    palm = bent.mean(axis=0)
    if np.linalg.norm(palm) < 0.7:
        return None
    fingers, across = joints[first].mean(axis=0) - joints[0], joints[1] - joints[7]
    return "right" if np.cross(fingers, palm) @ across > 0 else "left"


def hand_from_arrays(arrays: Mapping[str, Any], side: str, source: str = "arrays") -> Hand:
    """Checks MANO's arrays and makes a `Hand` of them, without repairing anything.

    The official left hand's mistake can only be recognised beside the right one: use `load_pair`
    for anything but inspection.

    Args:
      arrays: official names to arrays; names not needed are passed over.
      side: "left" or "right".
      source: what error messages call the origin.

    Raises:
      HandError: names the source, the array, what came and what was wanted.
    """
    if side not in constants.SIDES:
        raise HandError(f"{source}: side is {side!r}; wanted left or right")
    missing = [name for name in _SHAPES if name not in arrays]
    if missing:
        raise HandError(
            f"{source}: {', '.join(missing)} missing; wanted the arrays of an official MANO file"
        )
    checked = {name: _check_array(name, arrays[name], source) for name in _SHAPES}
    _check_values(checked, side, source)
    checked["f"] = checked["f"].astype(np.int32)
    del checked["kintree_table"]
    return Hand(**{_FIELDS.get(name, name): value for name, value in checked.items()}, side=side)


def _repaired(left: Hand, right: Hand) -> Hand:
    """The left hand with component x of `shapedirs` negated if it has the right hand's sign.

    The official MANO_LEFT file needs it (https://github.com/vchoutas/smplx/issues/48).
    """
    difference = np.abs(left.shapedirs[:, 0] - right.shapedirs[:, 0]).sum()
    if difference >= 1:
        return left
    return dataclasses.replace(left, shapedirs=left.shapedirs * np.array([-1.0, 1.0, 1.0])[:, None])


def _pair(arrays: Mapping[str, tuple[str, Any]], name: str, licence: str = "unknown") -> HandPair:
    """Both hands of (what error messages call the origin, arrays) by side."""
    hands = {side: hand_from_arrays(arrays[side][1], side, arrays[side][0]) for side in arrays}
    left, right = hands["left"], hands["right"]
    if np.array_equal(left.v_template, right.v_template):
        raise HandError(f"{name}: left and right have the same v_template; wanted one of each hand")
    return HandPair(_repaired(left, right), right, name, licence)


def _read(path: pathlib.Path) -> dict[str, Any]:
    """What a file of either kind holds."""
    try:
        if path.suffix == ".npz":
            return read_npz(path)
        from mano_jax.unpickle import OFFICIAL_MANO, restricted_load

        arrays = restricted_load(path, OFFICIAL_MANO)
    except ValueError as error:  # names the file
        raise HandError(str(error)) from error
    if not isinstance(arrays, dict):
        raise HandError(f"{path}: holds a {type(arrays).__name__}; wanted a dict of arrays")
    return arrays


def _of_folder(folder: pathlib.Path, side: str) -> tuple[str, dict[str, Any]]:
    names = [f"MANO_{side.upper()}.pkl", f"MANO_{side.upper()}.npz"]
    for name in names:
        if (folder / name).is_file():
            return str(folder / name), _read(folder / name)
    raise HandError(
        f"{folder}: neither {' nor '.join(names)}; wanted the folder with the official "
        "MANO files (models/ of mano_v1_2.zip from https://mano.is.tue.mpg.de)"
    )


def load_pair(source: str | os.PathLike | Mapping[str, Mapping[str, Any]]) -> HandPair:
    """Loads both hands, checks every array and repairs the left hand's known mistake.

    Args:
      source: folder with MANO_LEFT and MANO_RIGHT (official .pkl, or .npz); or {"left": arrays,
        "right": arrays}.

    Returns:
      The pair. `pair.left.shapedirs` has the sign that mirrors the right hand's.

    Raises:
      HandError: names file, array, what came and what was wanted; also for hands in millimetres
        and for a left hand in the right one's place.
    """
    if isinstance(source, Mapping):
        missing = [side for side in constants.SIDES if side not in source]
        if missing:
            raise HandError(f"no {' and no '.join(missing)} hand in {list(source)}; wanted both")
        return _pair({side: (side, source[side]) for side in constants.SIDES}, "hands from arrays")
    folder = pathlib.Path(source).expanduser()
    if not folder.is_dir():
        raise HandError(
            f"{folder}: no such folder; wanted one with MANO_LEFT.pkl and MANO_RIGHT.pkl"
        )
    arrays = {side: _of_folder(folder, side) for side in constants.SIDES}
    return _pair(arrays, f"MANO ({folder})", "MANO licence, https://mano.is.tue.mpg.de")


@functools.cache  # the same pair each time: programs compiled for it are found again
def open_hands() -> HandPair:
    """The freely licensed pair shipped with this package; it is not MANO (see open_hand/README.md).

    Raises:
      HandError: when the package was installed without it.
    """
    if not _OPEN_HAND.is_file():
        raise HandError(f"{_OPEN_HAND}: the open hand is missing; install the package again")
    both = _read(_OPEN_HAND)  # arrays called left/v_template and so on
    arrays = {
        side: (side, {key[len(side) + 1 :]: both[key] for key in both if key.startswith(side)})
        for side in constants.SIDES
    }
    return _pair(arrays, "open hand", "CC0 1.0 (see mano_jax/open_hand/LICENSE.txt)")


def load_hands(folder: str | os.PathLike | None) -> HandPair:
    """The hands of a MANO folder (`load_pair`), or the open hands when none is named.

    Raises:
      HandError: the folder holds no usable hand models.
    """
    return load_pair(folder) if folder else open_hands()


def save_npz(pair: HandPair, folder: str | os.PathLike) -> None:
    """Writes MANO_LEFT.npz and MANO_RIGHT.npz, which `load_pair` reads back to the same hands.

    Args:
      pair: the hands.
      folder: made if need be.
    """
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    official = {field: name for name, field in _FIELDS.items()}
    table = np.array([constants.PARENTS, range(constants.MANO_JOINTS)], np.int64)
    for side in constants.SIDES:
        arrays = {official.get(f, f): getattr(pair[side], f) for f in ARRAY_FIELDS}
        write_npz(folder / f"MANO_{side.upper()}.npz", {**arrays, "kintree_table": table})
