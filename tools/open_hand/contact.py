"""Tells posed hands that run into themselves, by winding numbers of points just under the skin."""

from __future__ import annotations

import numpy as np

from tools.open_hand.rig import skin, transforms
from tools.open_hand.surface import boundary_loops, vertex_normals

DEPTH = 0.0015  # metres that one part may sink into another before it counts


class ContactCheck:
    """Decides whether a pose makes the hand pass through itself.

    Args:
      vertices: (N, 3) rest vertices.
      faces: (F, 3), one boundary loop at the wrist.
      weights: (N, 16).
      joints: (16, 3).
      posedirs: (N, 3, 135).
    """

    def __init__(self, vertices, faces, weights, joints, posedirs):
        (loop,) = boundary_loops(faces)
        cap = [[loop[0], loop[k + 1], loop[k]] for k in range(1, len(loop) - 1)]
        self._closed = np.concatenate([faces, cap])
        self._faces, self._vertices, self._weights = faces, vertices, weights
        self._joints, self._posedirs = joints, posedirs
        # Half of the vertices of the fingers' outer parts: those meet other parts.
        outer = weights[:, [2, 3, 5, 6, 8, 9, 11, 12, 14, 15]].sum(1) > 0.5
        self._probes = np.flatnonzero(outer)[::2]

    def posed(self, rotations: np.ndarray) -> np.ndarray:
        """Vertices (N, 3) of a pose (16, 3, 3)."""
        rest = self._vertices + self._posedirs @ (rotations[1:] - np.eye(3)).ravel()
        return skin(rest, self._weights, *transforms(self._joints, rotations))

    def buried(self, rotations: np.ndarray) -> int:
        """How many of the probes are deeper than `DEPTH` inside another part of the hand."""
        vertices = self.posed(rotations)
        normals = vertex_normals(vertices, self._faces)[self._probes]
        points = vertices[self._probes] - DEPTH * normals
        return int((winding_numbers(points, vertices, self._closed) > 1.5).sum())


def winding_numbers(points: np.ndarray, vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """How often a closed surface winds around each point (P,).

    Sum of the signed solid angles of the faces (van Oosterom and Strackee 1983) over 4 pi: 0
    outside, 1 inside, 2 where two parts of the surface's inside overlap.
    """
    corners = vertices[faces].astype(np.float32) - points[:, None, None].astype(np.float32)
    a, b, c = corners[:, :, 0], corners[:, :, 1], corners[:, :, 2]
    la, lb, lc = (np.sqrt(np.einsum("pfk,pfk->pf", x, x)) for x in (a, b, c))
    ab, bc, ca = (np.einsum("pfk,pfk->pf", x, y) for x, y in ((a, b), (b, c), (c, a)))
    volume = np.einsum("pfk,pfk->pf", a, np.cross(b, c))
    angles = 2 * np.arctan2(volume, la * lb * lc + ab * lc + bc * la + ca * lb)
    return angles.sum(1) / (4 * np.pi)
