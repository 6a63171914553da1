"""The rest of the person: forearms that go on from the wrists, sleeves, upper arms and trunk.

Only pictures know about them; no annotation does. World axes: x right, y down, z away from the
cameras, metres.
"""

from __future__ import annotations

import dataclasses

import numpy as np

ROUND = 28
"""Points around a tube."""

FOREARM_RINGS = 30


@dataclasses.dataclass(frozen=True)
class Part:
    """A mesh of skin or cloth.

    Attributes:
      vertices: (V, 3) metres.
      faces: (F, 3), outside counter-clockwise.
      cloth: (V, 2) coordinates on the cloth, metres; None for skin.
      hand: side of the hand whose open edge is the first ring of vertices; None for other parts.
      torso: belongs to neither hand nor forearm.
    """

    vertices: np.ndarray
    faces: np.ndarray
    cloth: np.ndarray | None = None
    hand: str | None = None
    torso: bool = False


def boundary_loop(faces: np.ndarray) -> np.ndarray:
    """Vertices of a mesh's one hole, in order.

    Args:
      faces: (F, 3).

    Returns:
      (n,) vertex numbers; each follows the one before it in the direction of the faces' edges.
    """
    edges = faces[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2)
    present = {tuple(edge) for edge in edges.tolist()}
    following = {a: b for a, b in present if (b, a) not in present}
    loop = [min(following)]
    while following[loop[-1]] != loop[0] and len(loop) < len(following):
        loop.append(following[loop[-1]])
    return np.array(loop)


def grid_faces(rows: int, columns: int) -> np.ndarray:
    """Triangles of a grid of rows x columns vertices whose last column is next to the first."""
    row, column = np.mgrid[: rows - 1, :columns]
    following = (column + 1) % columns
    a, b = row * columns + column, row * columns + following
    c, d = a + columns, b + columns
    return np.concatenate([
        np.stack([a, b, d], axis=-1).reshape(-1, 3), np.stack([a, d, c], axis=-1).reshape(-1, 3)
    ])  # fmt: skip


def outward(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Faces (F, 3) turned, all together, so that the outside of a tube-like mesh is outside."""
    corners = vertices[faces] - vertices.mean(axis=0)
    volume = np.einsum("fc,fc->", corners[:, 0], np.cross(corners[:, 1], corners[:, 2]))
    return faces if volume > 0 else faces[:, ::-1]


def _frames(centres: np.ndarray, reference: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Two unit vectors across the course of a centre line (n, 3), not turning about it."""
    course = np.gradient(centres, axis=0)
    course /= np.linalg.norm(course, axis=1, keepdims=True)
    first = reference - course * (course @ reference)[:, None]
    first /= np.linalg.norm(first, axis=1, keepdims=True) + 1e-12
    return first, np.cross(course, first)


def tube(
    centres: np.ndarray, radii: np.ndarray, reference: np.ndarray, bare: bool = False, around=ROUND
) -> Part:
    """A tube about a line.

    Args:
      centres: (n, 3) of the line, metres.
      radii: (n, 2) half widths along and across `reference`.
      reference: (3,) direction that the first half width follows.
      bare: of skin, not of cloth.
      around: points around it.

    Returns:
      the open tube.
    """
    first, second = _frames(centres, reference)
    angles = np.linspace(0, 2 * np.pi, around, endpoint=False)
    ring = np.cos(angles)[None, :, None] * (radii[:, :1] * first)[:, None]
    ring = ring + np.sin(angles)[None, :, None] * (radii[:, 1:] * second)[:, None]
    length = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(centres, axis=0), axis=1))])
    cloth = np.stack(np.broadcast_arrays(angles[None] * radii.mean(), length[:, None]), axis=-1)
    vertices = (centres[:, None] + ring).reshape(-1, 3)
    faces = outward(vertices, grid_faces(len(centres), around))
    return Part(vertices, faces, None if bare else cloth.reshape(-1, 2))


def course(start: np.ndarray, towards: np.ndarray, end: np.ndarray, count: int) -> np.ndarray:
    """(count, 3) points from start, leaving along `towards`, to end (cubic Hermite curve).

    The shorter `towards`, the sooner the course is straight.
    """
    t = np.linspace(0, 1, count)[:, None]
    leave, arrive = towards, end - start
    return (
        (2 * t**3 - 3 * t**2 + 1) * start + (t**3 - 2 * t**2 + t) * leave
        + (-2 * t**3 + 3 * t**2) * end + (t**3 - t**2) * arrive
    )  # fmt: skip


def forearm(
    side: str, ring: np.ndarray, elbow: np.ndarray, backward: np.ndarray, sleeve_start: float,
    girth: float,
) -> list[Part]:  # fmt: skip
    """A forearm that continues a hand, with a sleeve over a part of it.

    Args:
      side: "left" or "right".
      ring: (n, 3) the wrist's open edge in order, metres.
      elbow: (3,) where the forearm ends.
      backward: (3,) unit vector from the hand along the wrist.
      sleeve_start: share of the forearm that is bare; 1 or more for no sleeve.
      girth: factor on the thickness.

    Returns:
      the bare part and, unless there is none, the sleeve.
    """
    centre = ring.mean(axis=0)
    centres = course(centre, 0.11 * backward, elbow, FOREARM_RINGS)
    offsets = ring - centre
    across = offsets[np.argmax(np.linalg.norm(offsets, axis=1))]
    half = np.sqrt((offsets**2).sum(1).mean())
    share = np.linspace(0, 1, len(centres))
    bulge = half * (1 + (0.15 + 0.6 * girth) * np.clip(share / 0.6, 0, 1) ** 1.3)
    # A round end: the elbow.
    bulge = bulge * np.sqrt(1 - np.clip((share - 0.86) / 0.145, 0, 1) ** 2)
    first, second = _frames(centres, across)
    # The edge's own outline fades into an ellipse up the arm.
    outline = np.stack([offsets @ first[0], offsets @ second[0]], axis=1)
    angles = np.arctan2(outline[:, 1], outline[:, 0])
    ellipse = np.stack([np.cos(angles), 0.85 * np.sin(angles)], axis=1)
    fade = np.clip(share / 0.25, 0, 1)[:, None, None]
    shape = (1 - fade) * outline + fade * bulge[:, None, None] * ellipse
    vertices = centres[:, None] + shape[..., :1] * first[:, None] + shape[..., 1:] * second[:, None]
    vertices[0] = ring
    vertices = vertices.reshape(-1, 3)
    faces = outward(vertices, grid_faces(len(centres), len(ring)))
    parts = [Part(vertices, faces, hand=side)]
    if sleeve_start < 1:
        bare = int(sleeve_start * (len(centres) - 4))
        wide = bulge[bare:, None] * [1.16, 1.05] + 0.003 * (share[bare:, None] < 0.97)
        parts.append(tube(centres[bare:], wide, across))
    return parts


def trunk(shoulders: np.ndarray, width: float, depth: float) -> Part:
    """The front of a clothed chest and belly.

    Args:
      shoulders: (3,) the middle between the shoulders, metres.
      width: half width, metres.
      depth: half depth, metres.

    Returns:
      the mesh, open at the bottom and at the neck.
    """
    down = np.concatenate([np.linspace(-0.10, 0.05, 14), np.linspace(0.06, 1.1, 40)])
    narrowing = np.clip((down + 0.12) / 0.15, 0.02, 1) ** 0.5
    half_width = width * narrowing * (1 - 0.12 * np.clip(down / 0.5, 0, 1))
    half_depth = depth * np.clip((down + 0.14) / 0.2, 0.3, 1) ** 0.6
    line = shoulders + down[:, None] * [0.0, 1.0, 0.0]
    radii = np.stack([half_width, half_depth], axis=1)
    return tube(line, radii, np.array([1.0, 0, 0]), around=72)


def upper_arm(elbow: np.ndarray, shoulder: np.ndarray, backward: np.ndarray, bare: bool) -> list:
    """Upper arm from elbow to shoulder, both (3,), with a long sleeve or, when bare, a short one.

    `backward` is the (3,) direction in which the forearm arrives at the elbow.
    """
    line = course(elbow, 0.06 * backward, shoulder, 14)
    radii = np.linspace(0.043, 0.056, 14)[:, None] * [1.0, 1.05]
    across = np.array([0.0, 0.3, 1.0])
    if not bare:
        return [tube(line, radii + 0.006, across)]
    return [tube(line, radii, across, bare=True), tube(line[5:], radii[5:] + 0.008, across)]


def neck(shoulders: np.ndarray) -> Part:
    """A neck above the middle between the shoulders (3,)."""
    line = shoulders + np.linspace(0.02, -0.25, 8)[:, None] * [0.0, 1.0, -0.1]
    return tube(line, np.full((8, 2), 0.055), np.array([1.0, 0, 0]), bare=True)


def elbow_and_shoulder(
    side: str, wrist: np.ndarray, backward: np.ndarray, shoulders: np.ndarray, numbers: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Where an arm's elbow and shoulder are.

    Args:
      side: "left" or "right".
      wrist: (3,) metres.
      backward: (3,) unit vector from the hand along the wrist.
      shoulders: (3,) the middle between the shoulders.
      numbers: (3,) normal numbers.

    Returns:
      (elbow, shoulder), each (3,).
    """
    outward = np.array([-1.0 if side == "right" else 1.0, 0, 0])
    shoulder = shoulders + 0.19 * outward
    usual = shoulder + 0.06 * outward + [0, 0.27, -0.03] + 0.03 * numbers
    direction = usual - wrist
    direction /= np.linalg.norm(direction)
    # A wrist bends by some 60 degrees at most.
    if direction @ backward < 0.5:
        across = direction - backward * (direction @ backward)
        across /= np.linalg.norm(across) + 1e-9
        direction = 0.5 * backward + 0.87 * across
    return wrist + 0.26 * direction, shoulder
