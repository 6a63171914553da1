"""Hand models: reading, checking and repairing MANO's arrays.

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
from collections.abc import Mapping
from typing import Any

import numpy as np

from mano_jax import constants
from mano_jax.arrays_file import ArraysFileError, read_npz, write_npz
from mano_jax.hand import ARRAY_FIELDS, Hand, HandError, HandPair
from mano_jax.unpickle import UnpickleError, load_official

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

_OPEN_HAND = pathlib.Path(__file__).parent / "open_hand" / "open_hand.npz"


def _check_array(name: str, value: Any, source: str) -> np.ndarray:
    wanted = _SHAPES[name]
    array = np.asarray(value)
    if array.dtype.kind not in "iuf":
        raise HandError(f"{source}: {name} has dtype {array.dtype}; wanted numbers")
    if array.shape != wanted:
        raise HandError(f"{source}: {name} has shape {array.shape}; wanted {wanted}")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        count = int((~np.isfinite(array)).sum())
        raise HandError(f"{source}: {name} holds {count} values that are not finite; wanted none")
    if name in ("f", "kintree_table"):
        return array.astype(np.int64)
    return array.astype(np.float64)


def _check_values(arrays: Mapping[str, np.ndarray], source: str) -> None:
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


def hand_from_arrays(arrays: Mapping[str, Any], side: str, source: str = "arrays") -> Hand:
    """Checks MANO's arrays and makes a `Hand` of them, without repairing anything.

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
    _check_values(checked, source)
    checked["f"] = checked["f"].astype(np.int32)
    del checked["kintree_table"]
    return Hand(**{_FIELDS.get(name, name): value for name, value in checked.items()}, side=side)


def _side_of(path: pathlib.Path) -> str:
    sides = [side for side in constants.SIDES if side in path.stem.lower()]
    if len(sides) != 1:
        raise HandError(
            f"{path}: cannot tell the side from the name; wanted MANO_LEFT or MANO_RIGHT"
        )
    return sides[0]


def load_hand(file: str | os.PathLike, side: str | None = None) -> Hand:
    """Reads one hand from an official pickle or from an npz file with the same array names.

    The official left hand's mistake can only be recognised beside the right one: use `load_pair`
    for anything but inspection.

    Args:
      file: path ending in .pkl or .npz.
      side: "left" or "right"; None takes it from the file's name.

    Raises:
      HandError: names the file, the array, what came and what was wanted.
    """
    path = pathlib.Path(file)
    side = side or _side_of(path)
    if not path.is_file():
        raise HandError(f"{path}: no such file; wanted an official MANO pickle or its npz form")
    try:
        if path.suffix == ".npz":
            arrays = read_npz(path)
        elif path.suffix == ".pkl":
            arrays = load_official(path)
        else:
            raise HandError(f"{path}: ends in {path.suffix!r}; wanted .pkl or .npz")
    except (UnpickleError, ArraysFileError) as error:
        raise HandError(str(error)) from error
    return hand_from_arrays(arrays, side, str(path))


def _repaired(left: Hand, right: Hand) -> Hand:
    """The left hand with component x of `shapedirs` negated if it has the right hand's sign.

    The official MANO_LEFT file needs it (https://github.com/vchoutas/smplx/issues/48).
    """
    difference = np.abs(left.shapedirs[:, 0] - right.shapedirs[:, 0]).sum()
    if difference >= 1:
        return left
    return dataclasses.replace(left, shapedirs=left.shapedirs * np.array([-1.0, 1.0, 1.0])[:, None])


def _pair(left: Hand, right: Hand, name: str, licence: str) -> HandPair:
    if np.array_equal(left.v_template, right.v_template):
        raise HandError(f"{name}: left and right have the same v_template; wanted one of each hand")
    return HandPair(_repaired(left, right), right, name, licence)


def _load_folder(folder: pathlib.Path) -> HandPair:
    hands = {}
    for side in constants.SIDES:
        names = [f"MANO_{side.upper()}.pkl", f"MANO_{side.upper()}.npz"]
        found = [folder / name for name in names if (folder / name).is_file()]
        if not found:
            raise HandError(
                f"{folder}: neither {' nor '.join(names)}; wanted the folder with the official "
                "MANO files (models/ of mano_v1_2.zip from https://mano.is.tue.mpg.de)"
            )
        hands[side] = load_hand(found[0], side)
    return _pair(
        **hands, name=f"MANO ({folder})", licence="MANO licence, https://mano.is.tue.mpg.de"
    )


def _load_both(path: pathlib.Path, name: str, licence: str) -> HandPair:
    """A single npz file whose arrays are called left/v_template and so on."""
    try:
        arrays = read_npz(path)
    except ArraysFileError as error:
        raise HandError(str(error)) from error
    sides = {
        side: {
            key.removeprefix(f"{side}/"): value
            for key, value in arrays.items()
            if key.startswith(f"{side}/")
        }
        for side in constants.SIDES
    }
    hands = {side: hand_from_arrays(sides[side], side, f"{path} ({side})") for side in sides}
    return _pair(**hands, name=name, licence=licence)


def load_pair(source: str | os.PathLike | Mapping[str, Mapping[str, Any]]) -> HandPair:
    """Loads both hands, checks every array and repairs the left hand's known mistake.

    Args:
      source: folder with MANO_LEFT and MANO_RIGHT (official .pkl, or .npz); or one npz file with
        left/... and right/... arrays; or {"left": arrays, "right": arrays}.

    Returns:
      The pair. `pair.left.shapedirs` has the sign that mirrors the right hand's.

    Raises:
      HandError: names file, array, what came and what was wanted.
    """
    if isinstance(source, Mapping):
        missing = [side for side in constants.SIDES if side not in source]
        if missing:
            raise HandError(f"no {' and no '.join(missing)} hand in {list(source)}; wanted both")
        hands = {side: hand_from_arrays(source[side], side, side) for side in constants.SIDES}
        return _pair(**hands, name="hands from arrays", licence="unknown")
    path = pathlib.Path(source).expanduser()
    if path.is_dir():
        return _load_folder(path)
    if not path.exists():
        raise HandError(f"{path}: no such folder; wanted one with MANO_LEFT.pkl and MANO_RIGHT.pkl")
    return _load_both(path, name=f"hands of {path}", licence="unknown")


@functools.cache  # the same pair each time: programs compiled for it are found again
def open_hands() -> HandPair:
    """The freely licensed pair shipped with this package; it is not MANO (see open_hand/README.md).

    Raises:
      HandError: when the package was installed without it.
    """
    if not _OPEN_HAND.is_file():
        raise HandError(f"{_OPEN_HAND}: the open hand is missing; install the package again")
    return _load_both(_OPEN_HAND, "open hand", "CC0 1.0 (see mano_jax/open_hand/LICENSE.txt)")


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
