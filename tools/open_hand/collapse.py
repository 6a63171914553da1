"""Reduces a triangle mesh with one boundary to an exact number of vertices by edge collapses.

Quadric error (Garland and Heckbert 1997) plus the squared edge length relative to a wanted edge
length, so that the triangles stay regular and small where the wanted length is small.
"""

from __future__ import annotations

import heapq

import numpy as np

from tools.open_hand.surface import boundary_loops, face_normals

QUADRIC_WEIGHT = 60.0
MAX_VALENCE = 8


class _Mesh:
    """Mutable mesh: faces by number, the faces around each vertex, quadrics."""

    def __init__(self, vertices: np.ndarray, faces: np.ndarray, size: np.ndarray):
        self.position = vertices.astype(float).copy()
        self.size = size.astype(float).copy()
        self.faces = dict(enumerate(map(tuple, faces.tolist())))
        self.around: list[set[int]] = [set() for _ in vertices]
        for number, face in self.faces.items():
            for vertex in face:
                self.around[vertex].add(number)
        self.boundary = {v for loop in boundary_loops(faces) for v in loop}
        self.quadrics = np.zeros((len(vertices), 4, 4))
        normals = face_normals(vertices, faces)
        area = np.linalg.norm(normals, axis=1, keepdims=True)
        normals = normals / area
        planes = np.concatenate(
            [normals, -(normals * vertices[faces[:, 0]]).sum(1, keepdims=True)], axis=1
        )
        quadrics = np.einsum("fi,fj->fij", planes, planes)
        for k in range(3):
            np.add.at(self.quadrics, faces[:, k], quadrics / 3)

    def neighbours(self, vertex: int) -> set[int]:
        found = {v for number in self.around[vertex] for v in self.faces[number]}
        found.discard(vertex)
        return found

    def place(self, i: int, j: int) -> tuple[np.ndarray, float]:
        """Where the merged vertex goes, and the cost of merging."""
        quadric = self.quadrics[i] + self.quadrics[j]
        middle = 0.5 * (self.position[i] + self.position[j])
        if i in self.boundary and j not in self.boundary:
            point = self.position[i]
        elif j in self.boundary and i not in self.boundary:
            point = self.position[j]
        elif i in self.boundary:
            point = middle
        else:
            # Regularised towards the middle: the optimum is ill-conditioned on flat parts.
            system = quadric[:3, :3] + 0.1 * np.eye(3)
            point = np.linalg.solve(system, 0.1 * middle - quadric[:3, 3])
        flat = np.append(point, 1.0)
        error = max(flat @ quadric @ flat, 0.0)
        size = 0.5 * (self.size[i] + self.size[j])
        length = np.linalg.norm(self.position[i] - self.position[j])
        return point, (QUADRIC_WEIGHT * error + length**2) / size**2

    def may_collapse(self, i: int, j: int, point: np.ndarray) -> bool:
        shared = self.neighbours(i) & self.neighbours(j)
        both = i in self.boundary and j in self.boundary
        faces = self.around[i] & self.around[j]
        if not faces or len(shared) != len(faces) or both != (len(faces) == 1):
            return False
        valence = len(self.neighbours(i) | self.neighbours(j)) - 2
        if valence > MAX_VALENCE:
            return False
        for vertex in shared:
            if len(self.neighbours(vertex)) <= 4 and vertex not in self.boundary:
                return False
        for number in self.around[i] ^ self.around[j]:
            old = np.array([self.position[v] for v in self.faces[number]])
            new = np.array([point if v in (i, j) else self.position[v] for v in self.faces[number]])
            before = np.cross(old[1] - old[0], old[2] - old[0])
            after = np.cross(new[1] - new[0], new[2] - new[0])
            if before @ after < 0.5 * np.linalg.norm(before) * np.linalg.norm(after):
                return False
            longest = max(np.linalg.norm(new[k] - new[k - 1]) for k in range(3))
            if np.linalg.norm(after) < 0.2 * longest**2:
                return False
        return True

    def collapse(self, i: int, j: int, point: np.ndarray) -> None:
        """Merges j into i."""
        for number in self.around[i] & self.around[j]:
            for vertex in self.faces.pop(number):
                self.around[vertex].discard(number)
        for number in self.around[j]:
            self.faces[number] = tuple(i if v == j else v for v in self.faces[number])
            self.around[i].add(number)
        self.around[j] = set()
        self.position[i] = point
        self.size[i] = 0.5 * (self.size[i] + self.size[j])
        self.quadrics[i] += self.quadrics[j]
        if j in self.boundary:
            self.boundary.add(i)
            self.boundary.discard(j)


def reduce_mesh(
    vertices: np.ndarray, faces: np.ndarray, size: np.ndarray, count: int, boundary: int
) -> tuple[np.ndarray, np.ndarray]:
    """Collapses edges, the cheapest first, until `count` vertices are left.

    Args:
      vertices: (N, 3).
      faces: (F, 3); a manifold with one boundary loop.
      size: (N,) wanted edge length at each vertex, metres.
      count: wanted number of vertices.
      boundary: wanted number of boundary vertices.

    Returns:
      vertices (count, 3), faces.

    Raises:
      RuntimeError: no further edge may be collapsed.
    """
    mesh = _Mesh(vertices, faces, size)
    left = _run(mesh, len(vertices), len(vertices), boundary)
    left = _run(mesh, left, count, None)
    if left != count or len(mesh.boundary) != boundary:
        raise RuntimeError(f"stuck at {left} vertices, {len(mesh.boundary)} on the boundary")
    kept = sorted({v for face in mesh.faces.values() for v in face})
    number = {v: k for k, v in enumerate(kept)}
    out = np.array([[number[v] for v in mesh.faces[f]] for f in sorted(mesh.faces)])
    return mesh.position[kept], out


def _run(mesh: _Mesh, left: int, count: int, boundary: int | None) -> int:
    """Collapses boundary edges down to `boundary`, or else interior edges down to `count`."""
    heap, stamp = [], {}

    def push(i: int, j: int) -> None:
        i, j = min(i, j), max(i, j)
        both = i in mesh.boundary and j in mesh.boundary
        if both == (boundary is not None):
            stamp[i, j] = stamp.get((i, j), 0) + 1
            heapq.heappush(heap, (mesh.place(i, j)[1], i, j, stamp[i, j]))

    for i in range(len(mesh.position)):
        for j in mesh.neighbours(i):
            if i < j:
                push(i, j)
    refused = []
    while len(mesh.boundary) > boundary if boundary is not None else left > count:
        if not heap:
            break
        _, i, j, version = heapq.heappop(heap)
        if stamp[i, j] != version or not mesh.around[i] or not mesh.around[j]:
            continue
        point, _ = mesh.place(i, j)
        if not mesh.may_collapse(i, j, point):
            refused.append((i, j))
            continue
        ring = mesh.neighbours(i) | mesh.neighbours(j)
        mesh.collapse(i, j, point)
        left -= 1
        for vertex in ring:
            if mesh.around[vertex]:
                for other in mesh.neighbours(vertex) if vertex == i else {i}:
                    if other != vertex:
                        push(vertex, other)
        # What was refused before may be fine now that its surroundings changed.
        for a, b in refused:
            if (a in ring or b in ring) and mesh.around[a] and mesh.around[b]:
                push(a, b)
        refused = [(a, b) for a, b in refused if a not in ring and b not in ring]
    return left
