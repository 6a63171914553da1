"""The 778-vertex template: reduced mesh, skinning weights, joint regressor, vertex numbers."""

from __future__ import annotations

import dataclasses

import numpy as np

from mano_jax.constants import PARENTS, TIPS, VERTICES
from tools.open_hand.collapse import reduce_mesh
from tools.open_hand.relax import relax
from tools.open_hand.rig import unit
from tools.open_hand.source import SourceHand
from tools.open_hand.surface import boundary_loops, closest_points, edge_counts

BOUNDARY = 16
# Wanted edge lengths in metres: on the palm, on the fingers, at the fingertips.
PALM_EDGE, FINGER_EDGE, TIP_EDGE = 0.0095, 0.005, 0.004
LAST_JOINTS = {"thumb": 15, "index": 3, "middle": 6, "ring": 12, "pinky": 9}
# The ends in SourceHand.tips are ordered as the joints: index, middle, pinky, ring, thumb.
TIP_ROWS = {"index": 0, "middle": 1, "pinky": 2, "ring": 3, "thumb": 4}


@dataclasses.dataclass(frozen=True, eq=False)
class Template:
    """Right hand: vertices (778, 3), faces (1538, 3), weights (778, 16), regressor (16, 778).

    `shapes` maps a target's name to its vertices (778, 3).
    """

    vertices: np.ndarray
    faces: np.ndarray
    weights: np.ndarray
    regressor: np.ndarray
    shapes: dict[str, np.ndarray]


def make_template(source: SourceHand) -> Template:
    """Reduces the source to 778 vertices and carries its weights and shape targets over."""
    finger = np.clip(1.5 * (1 - source.weights[:, 0]), 0, 1)
    tip = source.weights[:, list(LAST_JOINTS.values())].sum(1)
    size = PALM_EDGE + (FINGER_EDGE - PALM_EDGE) * finger + (TIP_EDGE - FINGER_EDGE) * tip
    surface = (source.vertices, source.faces)
    vertices, faces = reduce_mesh(*surface, size, VERTICES, BOUNDARY)
    vertices, faces = relax(vertices, faces, size, surface)

    order = _numbering(vertices, faces, source)
    place = np.argsort(order)
    vertices, faces = vertices[order], place[faces]
    faces = np.array(sorted(map(_rotated, faces.tolist())))

    where, coordinates = closest_points(vertices, *surface)
    corners = source.faces[where]

    def carried(values: np.ndarray) -> np.ndarray:
        return np.einsum("pc,pcd->pd", coordinates, values[corners])

    # Boundary vertices lie off the jagged source by a little: carry differences, not positions.
    base = carried(source.vertices)
    shapes = {name: vertices + carried(v) - base for name, (v, _) in source.shapes.items()}
    weights = _smoothed(carried(source.weights), faces)
    regressor = _regressor(vertices, weights, source, shapes)
    return Template(vertices, faces, weights, regressor, shapes)


def _rotated(face: list[int]) -> tuple[int, ...]:
    """The same oriented face, starting with its lowest vertex."""
    k = face.index(min(face))
    return tuple(face[k:] + face[:k])


def _smoothed(weights: np.ndarray, faces: np.ndarray, rounds: int = 1) -> np.ndarray:
    """Skinning weights after a little averaging with the neighbours; rows sum to 1."""
    edges = np.array(list(edge_counts(faces)))
    for _ in range(rounds):
        total, count = np.zeros_like(weights), np.zeros(len(weights))
        for a, b in (edges.T, edges[:, ::-1].T):
            np.add.at(total, a, weights[b])
            np.add.at(count, a, 1)
        weights = 0.6 * weights + 0.4 * total / count[:, None]
    weights = np.where(weights < 0.004, 0, weights)
    return weights / weights.sum(1, keepdims=True)


def _tip_numbers() -> dict[str, list[int]]:
    """Finger -> the vertex numbers that some convention calls its tip, the commonest first."""
    numbers: dict[str, list[int]] = {}
    for finger, column in zip(LAST_JOINTS, range(5), strict=True):
        listed = [
            TIPS[name][side][column]
            for name in ("intaghand", "manopth", "smplx")
            for side in ("right", "left")
        ]
        numbers[finger] = list(dict.fromkeys(listed))
    return numbers


def _numbering(vertices: np.ndarray, faces: np.ndarray, source: SourceHand) -> np.ndarray:
    """Order (778,): entry k is the vertex that becomes number k.

    The end of each finger takes the numbers that the conventions call its tip; the others follow
    from the wrist's boundary outwards.
    """
    taken: dict[int, int] = {}
    for finger, numbers in _tip_numbers().items():
        joint, end = source.joints[LAST_JOINTS[finger]], source.tips[TIP_ROWS[finger]]
        # The middle of the fingertip's cap: far along the bone and near its line.
        offset = vertices - joint
        along = offset @ unit(end - joint)
        aside = np.linalg.norm(offset - along[:, None] * unit(end - joint), axis=1)
        score = along - 0.7 * aside
        score[np.linalg.norm(vertices - end, axis=1) > 0.02] = -np.inf
        for number, vertex in zip(numbers, np.argsort(-score, kind="stable"), strict=False):
            taken[number] = int(vertex)
    (loop,) = boundary_loops(faces)
    rest = np.setdiff1d(np.arange(len(vertices)), list(taken.values()) + loop)
    rest = rest[np.argsort(-vertices[rest, 0], kind="stable")]
    free = iter([*loop, *rest.tolist()])
    return np.array([taken[k] if k in taken else next(free) for k in range(len(vertices))])


def _regressor(
    vertices: np.ndarray, weights: np.ndarray, source: SourceHand, shapes: dict[str, np.ndarray]
) -> np.ndarray:
    """Sparse (16, 778), rows non-negative with sum 1, true to the joints of every shape target."""
    from scipy.optimize import nnls

    regressor = np.zeros((16, len(vertices)))
    for j in range(16):
        joint = source.joints[j]
        distance = np.linalg.norm(vertices - joint, axis=1)
        involved = weights[:, j] + (weights[:, PARENTS[j]] if j else 0)
        candidates = np.argsort(distance + 0.05 * (involved < 0.5), kind="stable")[:48]
        rows = [1e3 * (vertices[candidates] - joint).T, np.ones((1, len(candidates)))]
        wanted = [np.zeros(3), np.ones(1)]
        for name, shape in shapes.items():
            goal = source.shapes[name][1][j]
            rows.append(20 * (shape[candidates] - goal).T)
            wanted.append(np.zeros(3))
        # A small ridge spreads the weight over the ring around the joint.
        rows.append(0.03 * np.eye(len(candidates)))
        wanted.append(np.zeros(len(candidates)))
        solution = nnls(np.concatenate(rows), np.concatenate(wanted))[0]
        regressor[j, candidates] = solution / solution.sum()
    return regressor
