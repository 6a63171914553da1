"""Finer hand meshes: rounder outlines, and skin with creases, wrinkles, nails and blotches.

A hand of 778 vertices is drawn with 16 times as many triangles, so that colours and shading at
the vertices are as fine as the picture.
"""

from __future__ import annotations

import dataclasses
import functools

import numpy as np

from input_pipeline.render import vertex_normals
from input_pipeline.synthetic.body import boundary_loop
from input_pipeline.synthetic.gestures import FINGERS, LONG_FINGERS, Anatomy

LEVELS = 2
"""How often every triangle is cut into four."""

ROUNDING = 0.55
"""Share of Phong tessellation (Boubekeur and Alexa 2008): 0 flat triangles, 1 bulging ones."""


Steps = list[tuple[np.ndarray, np.ndarray]]
"""Edges (E, 2) whose ends get a new vertex between them, and faces (4F, 3), step by step."""


def refinements(faces: np.ndarray, vertices: int) -> Steps:
    """Cuts every triangle into four at the middles of its edges, `LEVELS` times.

    Args:
      faces: (F, 3).
      vertices: number of vertices; each step's new ones follow the old.

    Returns:
      the steps, the outside kept outside.
    """
    steps = []
    for _ in range(LEVELS):
        pairs = np.sort(faces[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2), axis=1)
        edges, number = np.unique(pairs, axis=0, return_inverse=True)
        ab, bc, ca = (vertices + number.reshape(-1, 3)).T
        a, b, c = faces.T
        corners = [(a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca)]
        faces = np.concatenate([np.stack(t, axis=1) for t in corners])
        vertices += len(edges)
        steps.append((edges, faces))
    return steps


def spread(steps: Steps, values: np.ndarray) -> np.ndarray:
    """Values at the vertices of the finer mesh by averaging along edges: (V, C) to (W, C)."""
    for edges, _ in steps:
        values = np.concatenate([values, values[edges].mean(axis=1)])
    return values


def round_out(steps: Steps, vertices: np.ndarray, normals: np.ndarray) -> np.ndarray:
    """Vertices (W, 3) of the finer mesh, bulged towards the surface that the normals suggest.

    The vertices given stay where they are. Units of `vertices`.
    """
    for edges, _ in steps:
        first, second = edges.T
        middle = 0.5 * (vertices[first] + vertices[second])
        for end in (first, second):
            away = ((middle - vertices[end]) * normals[end]).sum(1, keepdims=True)
            middle = middle - 0.5 * ROUNDING * away * normals[end]
        between = normals[first] + normals[second]
        between /= np.linalg.norm(between, axis=1, keepdims=True) + 1e-12
        vertices = np.concatenate([vertices, middle])
        normals = np.concatenate([normals, between])
    return vertices


def noise(points: np.ndarray, spacing: float, generator: np.random.Generator) -> np.ndarray:
    """Smooth random values in about -1..1 at points in space.

    Args:
      points: (P, 3).
      spacing: distance over which the values change, in the unit of the points.
      generator: source of the values.

    Returns:
      (P,).
    """
    side = 16
    lattice = generator.uniform(-1, 1, (side, side, side)).astype(np.float32)
    places = np.asarray(points, np.float32) / spacing + generator.uniform(0, side, 3)
    whole = np.floor(places).astype(int)
    part = (places - whole).astype(np.float32)
    part = part * part * (3 - 2 * part)
    total = np.zeros(len(points), np.float32)
    for corner in np.ndindex(2, 2, 2):
        weight = np.where(corner, part, 1 - part).prod(axis=1)
        total += weight * lattice[tuple(((whole + corner) % side).T)]
    return 1.6 * total


@dataclasses.dataclass(frozen=True, eq=False)
class HandModel:
    """What drawing needs to know of one hand, side "left" or "right"; rest pose, metres."""

    side: str
    faces: np.ndarray
    template: np.ndarray
    joints: np.ndarray
    tips: np.ndarray
    anatomy: Anatomy

    @functools.cached_property
    def steps(self) -> Steps:
        """Refinements of the mesh."""
        return refinements(self.faces, len(self.template))

    @functools.cached_property
    def loop(self) -> np.ndarray:
        """The wrist's open edge."""
        return boundary_loop(self.faces)


@dataclasses.dataclass(frozen=True)
class Skin:
    """What a hand's finer mesh looks like, apart from the tone; all (W,) float32.

    Attributes:
      height: metres to add along the normal: wrinkles and creases.
      shade: factor on the albedo: blotches, darker folds.
      red: extra redness, about -1..1: palm, knuckles, fingertips.
      pale: 0..1, where the lighter skin of the palm is.
      nail: 0..1.
    """

    height: np.ndarray
    shade: np.ndarray
    red: np.ndarray
    pale: np.ndarray
    nail: np.ndarray


@functools.lru_cache(maxsize=64)
def skin(model: HandModel, seed: tuple[int, ...]) -> Skin:
    """Paints a hand in its rest pose, on its finer mesh; no two seeds give the same noise."""
    anatomy, joints, tips, steps = model.anatomy, model.joints, model.tips, model.steps
    generator = np.random.default_rng(seed)
    normals = vertex_normals(model.template, model.faces)
    points = round_out(steps, model.template, normals)
    normals = spread(steps, normals)
    _, palm, side = anatomy.frame.T
    inner = np.clip(0.5 + 0.8 * (normals @ palm), 0, 1)
    fine, middling, broad = (noise(points, size, generator) for size in (0.0022, 0.006, 0.02))
    lines = noise(points, 0.0035, generator)
    height = 1.1e-4 * fine + 2.0e-4 * middling * (1 - inner)
    shade = 1 + 0.035 * fine + 0.05 * middling + 0.06 * broad
    red = 0.25 * broad + 0.35 * inner
    nail = np.zeros(len(points))
    for number, finger in enumerate(("thumb", *LONG_FINGERS)):
        first = FINGERS[finger]
        chain = np.vstack([joints[first : first + 3], tips[number]])
        back = -palm if finger in LONG_FINGERS else -(0.5 * palm - 0.87 * side)
        for level in range(3):
            crease, knuckle, reddish = _fold(points, normals, chain, level, back, lines)
            height = height - crease - knuckle
            shade = shade * (1 - 900 * crease - 350 * knuckle)
            red = red + reddish
        nail = np.maximum(nail, _nail(points, normals, chain, back))
        red = red + 0.5 * np.exp(-(((points - tips[number]) / 0.011) ** 2).sum(1)) * (1 - nail)
    palm_lines = _palm_lines(points, anatomy, inner, generator)
    values = (height - palm_lines, shade * (1 - 500 * palm_lines), red, inner, nail)
    return Skin(*(np.asarray(value, np.float32) for value in values))


def _fold(
    points: np.ndarray, normals: np.ndarray, chain: np.ndarray, level: int, back: np.ndarray,
    lines: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:  # fmt: skip
    """Crease on the palm's side, wrinkles and redness on the back, at one finger joint."""
    bone = chain[level + 1] - chain[level]
    bone /= np.linalg.norm(bone)
    offset = points - chain[level]
    along = offset @ bone
    across = np.linalg.norm(offset - along[:, None] * bone, axis=1)
    near = np.exp(-((across / 0.016) ** 4))
    facing = normals @ back
    crease = 3.2e-4 * near * np.exp(-(((along + 6e-4 * lines) / 8e-4) ** 2)) * (facing < 0.1)
    dorsal = near * np.clip(facing, 0, 1) * np.exp(-((along / 0.006) ** 2))
    wrinkles = 1.6e-4 * dorsal * (0.5 + 0.5 * np.cos((along + 8e-4 * lines) * 2 * np.pi / 0.0028))
    return crease, wrinkles * (level > 0), 0.45 * dorsal


def _nail(
    points: np.ndarray, normals: np.ndarray, chain: np.ndarray, back: np.ndarray
) -> np.ndarray:
    """0..1 where the nail of one finger is."""
    bone = chain[3] - chain[2]
    length = np.linalg.norm(bone)
    bone = bone / length
    offset = points - chain[2]
    along = offset @ bone / length
    sideways = np.cross(bone, back)
    sideways /= np.linalg.norm(sideways)
    up = np.cross(sideways, bone)
    inside = np.clip(1 - ((along - 0.76) / 0.27) ** 4, 0, 1)
    inside = inside * np.clip(1 - (offset @ sideways / 0.0062) ** 4, 0, 1)
    on_back = np.clip((normals @ up - 0.35) * 6, 0, 1)
    near = np.linalg.norm(points - (chain[2] + 0.75 * (chain[3] - chain[2])), axis=1) < 0.018
    return np.clip(3 * inside, 0, 1) * on_back * near


def _palm_lines(
    points: np.ndarray, anatomy: Anatomy, inner: np.ndarray, generator: np.random.Generator
) -> np.ndarray:
    """Depth in metres of three long lines of the palm."""
    forward, _, side = anatomy.frame.T
    local = (points - anatomy.centre) @ np.stack([forward, side], axis=1)
    depth = np.zeros(len(points))
    # (start, middle, end) as (forward, side) of the centre, metres: heart, head and life line.
    for line in (
        [(0.020, -0.034), (0.022, -0.010), (0.036, 0.012)],
        [(0.022, 0.034), (0.010, 0.005), (-0.008, -0.028)],
        [(0.020, 0.034), (0.000, 0.008), (-0.038, 0.010)],
    ):
        ends = np.array(line) + generator.normal(0, 0.002, (3, 2))
        share = np.linspace(0, 1, 24)[:, None]
        curve = (1 - share) ** 2 * ends[0] + 2 * share * (1 - share) * ends[1] + share**2 * ends[2]
        gap = np.linalg.norm(local[:, None] - curve, axis=2).min(axis=1)
        depth = np.maximum(depth, 3.0e-4 * np.exp(-((gap / 9e-4) ** 2)))
    return depth * (inner > 0.6)
