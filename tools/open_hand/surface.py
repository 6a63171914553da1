"""Triangle surfaces: normals, edges, boundary, topology facts, closest points."""

from __future__ import annotations

from collections import Counter

import numpy as np

from tools.open_hand.rig import unit


def face_normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Normals (F, 3), as long as twice the area of each face."""
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    return np.cross(b - a, c - a)


def vertex_normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Unit normals (N, 3), area-weighted."""
    sums = np.zeros_like(vertices)
    normals = face_normals(vertices, faces)
    for k in range(3):
        np.add.at(sums, faces[:, k], normals)
    return unit(sums + 1e-30)


def edge_counts(faces: np.ndarray) -> Counter:
    """How many faces each undirected edge (low, high) has."""
    edges = np.sort(np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]), axis=1)
    return Counter(map(tuple, edges.tolist()))


def boundary_loops(faces: np.ndarray) -> list[list[int]]:
    """Closed loops of boundary vertices, in the direction of the faces' own edges."""
    counts = edge_counts(faces)
    following = {}
    for face in faces.tolist():
        for a, b in zip(face, face[1:] + face[:1], strict=True):
            if counts[min(a, b), max(a, b)] == 1:
                following[a] = b
    loops = []
    while following:
        start, current = next(iter(following.items()))
        loop = [start]
        del following[start]
        while current != start:
            loop.append(current)
            current = following.pop(current)
        loops.append(loop)
    return loops


def topology(faces: np.ndarray, count: int) -> dict[str, object]:
    """Facts about a mesh: sizes, Euler number, boundary loops, whether it is a proper surface.

    Args:
      faces: (F, 3).
      count: number of vertices.
    """
    counts = edge_counts(faces)
    directed = Counter(
        (a, b) for face in faces.tolist() for a, b in zip(face, face[1:] + face[:1], strict=True)
    )
    fans = [0] * count
    for face in faces.tolist():
        for vertex in face:
            fans[vertex] += 1
    neighbours = Counter(v for edge in counts for v in edge)
    on_boundary = {v for loop in boundary_loops(faces) for v in loop}
    # Around a proper vertex the faces form one fan: as many neighbours as faces, one more on the
    # boundary.
    single_fan = all(neighbours[v] == fans[v] + (v in on_boundary) for v in range(count))
    return {
        "vertices": count,
        "faces": len(faces),
        "edges": len(counts),
        "euler": count - len(counts) + len(faces),
        "boundary_loops": [len(loop) for loop in boundary_loops(faces)],
        "manifold": max(counts.values()) == 2 and single_fan,
        "consistent_winding": max(directed.values()) == 1,
        "all_vertices_used": min(fans) > 0,
    }


def closest_points(
    points: np.ndarray, vertices: np.ndarray, faces: np.ndarray, candidates: int = 40
) -> tuple[np.ndarray, np.ndarray]:
    """Closest points of a surface.

    Args:
      points: (P, 3).
      vertices: (N, 3) of the surface.
      faces: (F, 3) of the surface.
      candidates: how many faces (nearest centroids) are tried for each point.

    Returns:
      face numbers (P,), barycentric coordinates (P, 3).
    """
    from scipy.spatial import cKDTree

    near = cKDTree(vertices[faces].mean(1)).query(points, k=candidates)[1]
    corners = vertices[faces[near]]
    coordinates = _closest_barycentric(points[:, None], *np.moveaxis(corners, 2, 0))
    found = np.einsum("pkc,pkcd->pkd", coordinates, corners)
    best = np.linalg.norm(found - points[:, None], axis=-1).argmin(1)
    rows = np.arange(len(points))
    return near[rows, best], coordinates[rows, best]


def _closest_barycentric(p, a, b, c) -> np.ndarray:
    """Barycentric coordinates of the closest point of triangles abc to p (broadcast)."""

    def dot(u, v):
        return (u * v).sum(-1)

    ab, ac, ap = b - a, c - a, p - a
    d00, d01, d11, d20, d21 = dot(ab, ab), dot(ab, ac), dot(ac, ac), dot(ap, ab), dot(ap, ac)
    area = np.maximum(d00 * d11 - d01 * d01, 1e-30)
    v = (d11 * d20 - d01 * d21) / area
    w = (d00 * d21 - d01 * d20) / area
    inside = np.stack([1 - v - w, v, w], -1)
    options = [inside]
    for start, end, i, j in ((a, b, 0, 1), (b, c, 1, 2), (c, a, 2, 0)):
        side = end - start
        t = np.clip(dot(p - start, side) / np.maximum(dot(side, side), 1e-30), 0, 1)
        option = np.zeros_like(inside)
        option[..., i], option[..., j] = 1 - t, t
        options.append(option)
    options = np.stack(options)
    corners = np.stack([a, b, c], -2)
    distance = np.linalg.norm((options[..., None] * corners).sum(-2) - p, axis=-1)
    distance[0][(inside < 0).any(-1)] = np.inf
    best = distance.argmin(0)
    return np.take_along_axis(options, best[None, ..., None], 0)[0]
