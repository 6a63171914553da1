"""Evens out a reduced mesh: flips edges towards Delaunay, slides vertices along the surface."""

from __future__ import annotations

import numpy as np

from tools.open_hand.surface import boundary_loops, closest_points, face_normals, vertex_normals


def relax(
    vertices: np.ndarray,
    faces: np.ndarray,
    size: np.ndarray,
    source: tuple[np.ndarray, np.ndarray],
    rounds: int = 12,
) -> tuple[np.ndarray, np.ndarray]:
    """Alternates edge flips, tangential smoothing and projection back to the source surface.

    Args:
      vertices: (N, 3).
      faces: (F, 3).
      size: (M,) wanted edge length at the source's vertices.
      source: vertices (M, 3) and faces of the surface to stay on.
      rounds: number of alternations.

    Returns:
      vertices (N, 3), faces (F, 3); the same numbers of both.
    """
    vertices, faces = vertices.copy(), faces.copy()
    (loop,) = boundary_loops(faces)
    _even_loop(vertices, loop)
    fixed = np.zeros(len(vertices), bool)
    fixed[loop] = True
    for _ in range(rounds):
        _flip_edges(vertices, faces)
        where, coordinates = closest_points(vertices, *source)
        local = (size[source[1][where]] * coordinates).sum(1)
        moved = _slide(vertices, faces, local)
        moved[fixed] = vertices[fixed]
        where, coordinates = closest_points(moved, *source)
        projected = np.einsum("pc,pcd->pd", coordinates, source[0][source[1][where]])
        vertices = np.where(fixed[:, None], vertices, projected)
    return vertices, faces


def _even_loop(vertices: np.ndarray, loop: list[int]) -> None:
    """Spreads the boundary vertices evenly along their polygon."""
    points = vertices[loop]
    closed = np.concatenate([points, points[:1]])
    along = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(closed, axis=0), axis=1))])
    wanted = np.arange(len(loop)) * along[-1] / len(loop)
    vertices[loop] = np.stack([np.interp(wanted, along, closed[:, k]) for k in range(3)], axis=1)


def _slide(vertices: np.ndarray, faces: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Moves vertices towards the centroids of their faces, weighted by area over wanted area."""
    area = np.linalg.norm(face_normals(vertices, faces), axis=1) / size[faces].mean(1) ** 2
    centre = vertices[faces].mean(1)
    total, mass = np.zeros_like(vertices), np.zeros(len(vertices))
    for k in range(3):
        np.add.at(total, faces[:, k], area[:, None] * centre)
        np.add.at(mass, faces[:, k], area)
    step = total / mass[:, None] - vertices
    normals = vertex_normals(vertices, faces)
    step -= normals * (step * normals).sum(1, keepdims=True)
    return vertices + 0.7 * step


def _flip_edges(vertices: np.ndarray, faces: np.ndarray) -> int:
    """Flips (in place) edges whose two opposite angles sum to more than pi; returns how many."""
    flips = 0
    for _ in range(5):
        owners: dict[tuple[int, int], int] = {}
        for number, face in enumerate(faces.tolist()):
            for a, b in zip(face, face[1:] + face[:1], strict=True):
                owners[a, b] = number
        touched: set[int] = set()
        for (a, b), first in owners.items():
            second = owners.get((b, a))
            if a > b or second is None or first in touched or second in touched:
                continue
            c, d = _opposite(faces[first], a, b), _opposite(faces[second], b, a)
            if (c, d) in owners or (d, c) in owners or not _better(vertices, a, b, c, d):
                continue
            faces[first], faces[second] = (c, a, d), (d, b, c)
            touched |= {first, second}
            # The surroundings' owners are stale now: leave them for the next pass.
            touched |= {owners[e] for e in _around(a, b, c, d) if e in owners}
            flips += 1
        if not touched:
            break
    return flips


def _around(a: int, b: int, c: int, d: int) -> list[tuple[int, int]]:
    return [(c, b), (a, c), (d, a), (b, d)]


def _opposite(face: np.ndarray, a: int, b: int) -> int:
    return next(int(v) for v in face if v not in (a, b))


def _angle(at: np.ndarray, one: np.ndarray, two: np.ndarray) -> float:
    u, v = one - at, two - at
    return float(np.arctan2(np.linalg.norm(np.cross(u, v)), u @ v))


def _better(vertices: np.ndarray, a: int, b: int, c: int, d: int) -> bool:
    """Whether edge c-d serves the quadrilateral a-d-b-c better than edge a-b, bending little."""
    pa, pb, pc, pd = vertices[[a, b, c, d]]
    if _angle(pc, pa, pb) + _angle(pd, pa, pb) < np.pi + 0.05:
        return False
    one, two = np.cross(pa - pc, pd - pc), np.cross(pb - pd, pc - pd)
    before = np.cross(pb - pa, pc - pa), np.cross(pa - pb, pd - pb)
    crease = one @ two / (np.linalg.norm(one) * np.linalg.norm(two) + 1e-30)
    return crease > 0.5 and all(new @ old > 0 for new in (one, two) for old in before)
