"""One picture of one lit scene: backdrop, projection, cloth, highlights, lens, sensor."""

from __future__ import annotations

import dataclasses
import functools

import cv2
import numpy as np

from input_pipeline.render import rasterise, whole_number_centres
from input_pipeline.synthetic.light import gloss
from input_pipeline.synthetic.studio import CLOTH_SPAN, Camera, Capture
from input_pipeline.synthetic.studio import cloth as cloth_tile


@functools.cache
def _lamp(side: int = 61) -> np.ndarray:
    """(side, side) picture of one lamp: a round spot, a glow and a six-pointed star."""
    y, x = np.mgrid[:side, :side].astype(np.float32) - side // 2
    radius = np.hypot(x, y)
    star = np.zeros_like(radius)
    for angle in np.deg2rad([8, 68, 128]):
        across = np.abs(x * np.sin(angle) - y * np.cos(angle))
        star += np.exp(-across / 0.7) * np.exp(-radius / 7.0)
    picture = 1 / (1 + np.exp((radius - 5.5) * 1.6)) + 0.015 * np.exp(-radius / 9) + 0.14 * star
    edge = np.clip((side // 2 - radius) / 8, 0, 1)
    return (picture * edge).astype(np.float32)


def _lamps(picture: np.ndarray, generator: np.random.Generator, tint: np.ndarray) -> None:
    """Adds rows of lamps to a linear picture (h, w, 3)."""
    height, width, _ = picture.shape
    spacing = generator.uniform(75, 125)
    shift = generator.uniform(0, spacing, 2)
    sprite, reach = _lamp(), _lamp().shape[0] // 2
    padded = np.pad(picture, ((reach, reach), (reach, reach), (0, 0)))
    for row in np.arange(shift[1] - spacing, height + spacing, spacing):
        for column in np.arange(shift[0] - spacing, width + spacing, spacing):
            place = np.array([column, row]) + generator.normal(0, 0.12 * spacing, 2)
            x, y = (int(v) for v in place.round())
            if generator.random() < 0.25 or not (0 <= x < width and 0 <= y < height):
                continue
            spot = sprite[..., None] * generator.uniform(0.7, 1.6) * tint
            padded[y : y + 2 * reach + 1, x : x + 2 * reach + 1] += spot
    picture[:] = padded[reach:-reach, reach:-reach]


def _colour(generator: np.random.Generator, brightest: float = 0.8) -> np.ndarray:
    base = generator.uniform(0.02, brightest)
    return (base * generator.uniform(0.7, 1.0, 3)).astype(np.float32) ** 1.6


def _blurred(generator: np.random.Generator, size: tuple[int, int], cells: int) -> np.ndarray:
    """Smooth random picture (h, w, 3) in 0..1."""
    coarse = generator.random((cells, cells, 3)).astype(np.float32)
    return np.clip(cv2.resize(coarse, size[::-1], interpolation=cv2.INTER_CUBIC), 0, 1)


def _clutter(size: tuple[int, int], generator: np.random.Generator) -> np.ndarray:
    """A room or a table, out of focus: walls, edges, patterned things, some as warm as skin."""
    height, width = size
    picture = _colour(generator) * (0.6 + 0.8 * _blurred(generator, size, 3).mean(2, keepdims=True))
    picture = np.ascontiguousarray(picture, np.float32)
    for _ in range(int(generator.integers(4, 40))):
        colour = tuple(float(v) for v in _thing_colour(generator))
        centre = generator.uniform(-0.1, 1.1, 2) * [width, height]
        extent = np.exp(generator.uniform(np.log(8), np.log(0.9 * width), 2))
        box = (centre, extent, float(generator.uniform(0, 180) * (generator.random() < 0.7)))
        kind = generator.integers(4)
        if kind == 0:
            cv2.ellipse(picture, box, colour, -1, cv2.LINE_AA)
        elif kind == 1:
            end = (centre + generator.normal(0, width / 2, 2)).astype(int).tolist()
            thickness = int(generator.integers(1, 25))
            cv2.line(picture, centre.astype(int).tolist(), end, colour, thickness, cv2.LINE_AA)
        else:
            corners = cv2.boxPoints(box).astype(np.int32)
            cv2.fillPoly(picture, [corners], colour, cv2.LINE_AA)
    for cells in (40, 160):
        grain = _blurred(generator, size, cells).mean(2, keepdims=True)
        picture = picture * (1 + generator.uniform(0, 0.5) * (grain - 0.5))
    return cv2.GaussianBlur(picture, (0, 0), float(generator.choice([0.6, 0.8, 1.5, 4.0])))


def _thing_colour(generator: np.random.Generator) -> np.ndarray:
    if generator.random() < 0.25:  # wood, leather, other people's skin
        return generator.uniform(0.05, 0.7) * np.array([1.0, generator.uniform(0.45, 0.8),
                                                        generator.uniform(0.2, 0.6)])  # fmt: skip
    return _colour(generator, 1.1)


def backdrop(
    kind: str, size: tuple[int, int], generator: np.random.Generator, tint: np.ndarray
) -> np.ndarray:
    """Draws a background.

    Args:
      kind: one of `studio.BACKDROPS`.
      size: (height, width).
      generator: source of the variation.
      tint: (3,) colour of lamps.

    Returns:
      (h, w, 3) float32 linear.
    """
    height, width = size
    picture = np.full((height, width, 3), 0.0015, np.float32)
    picture *= 0.3 + _blurred(generator, size, 3)
    if kind == "lamps":
        _lamps(picture, generator, tint)
    elif kind == "clutter":
        picture = _clutter(size, generator)
    elif kind == "gradient":
        angle = generator.uniform(0, 2 * np.pi)
        y, x = np.mgrid[:height, :width]
        ramp = (np.cos(angle) * x / width + np.sin(angle) * y / height)[..., None]
        ramp = (ramp - ramp.min()) / np.ptp(ramp)
        picture = _colour(generator) * ramp + _colour(generator) * (1 - ramp)
    elif kind == "blobs":
        blend = _blurred(generator, size, int(generator.integers(3, 8)))
        picture = _colour(generator) * blend + _colour(generator) * (1 - blend)
    elif kind == "grain":
        picture = _colour(generator, 0.5) * np.ones((height, width, 3))
        for cells in (6, 24, 96):
            patches = _blurred(generator, size, cells)
            patches = 0.5 * patches + 0.5 * patches.mean(axis=2, keepdims=True)
            picture = picture * (0.7 + 0.6 * patches)
    return picture.astype(np.float32)


SUPERSAMPLE = 2
HEADROOM = 0.5
"""Linear light is scaled by this while it passes through the rasteriser, which wants 0..1."""

CLOTH_REACH = 4.0
"""Metres of cloth coordinates that fit into 0..1."""

SAME_DEPTH = 2e-4
"""Metres within which the nearest surface is taken to be the cloth."""

LAMP_TINT = np.array([1.0, 1.0, 0.95])

BEHIND = -0.3
"""A camera that looks towards the person's front by less than this (a cosine) is behind them."""

DARKEST_MEAN = 13.0
"""Grey level (0..255) that the whole picture reaches on average: readers drop pictures below 10."""


@dataclasses.dataclass(frozen=True)
class Lit:
    """A lit mesh of the scene.

    Attributes:
      vertices: (V, 3) world metres.
      faces: (F, 3).
      normals: (V, 3) unit.
      light: (V, 3) light that leaves the surface; for cloth, the light that falls on it.
      shares: (L, V) how much of each lamp the vertices see.
      shine: (V,) strength of the highlights.
      sharpness: (V,) their exponent.
      cloth: (V, 2) metres on the cloth, or None for skin.
      torso: left out by cameras behind the person, who would hide the hands.
    """

    vertices: np.ndarray
    faces: np.ndarray
    normals: np.ndarray
    light: np.ndarray
    shares: np.ndarray
    shine: np.ndarray
    sharpness: np.ndarray
    cloth: np.ndarray | None
    torso: bool = False


def photograph(
    parts: list[Lit], capture: Capture, camera: Camera, generator: np.random.Generator
) -> np.ndarray:
    """Takes a picture.

    Args:
      parts: the lit scene.
      capture: cloth, lamps and backdrop.
      camera: through which camera.
      generator: for backdrop, exposure and noise.

    Returns:
      (h, w, 3) uint8 RGB; all channels equal when the camera is grey.
    """
    if camera.rotation[2, 2] < BEHIND:
        parts = [part for part in parts if not part.torso]
    fine = tuple(SUPERSAMPLE * side for side in camera.size)
    # The annotations' pixels have whole numbers at their centres, the rasteriser's do not.
    intrinsics = np.diag([SUPERSAMPLE, SUPERSAMPLE, 1]) @ whole_number_centres(camera.matrix)
    seen = [camera.see(part.vertices) for part in parts]
    meshes = [
        (points, _drawn_faces(part), _light_to(part, capture, camera))
        for points, part in zip(seen, parts, strict=True)
    ]
    linear, depth = rasterise(meshes, intrinsics, fine, cull="back")
    cloth = [
        (points, _drawn_faces(part), part.cloth / CLOTH_REACH + 0.5)
        for points, part in zip(seen, parts, strict=True)
        if part.cloth is not None
    ]
    if cloth:
        place, cloth_depth = rasterise(cloth, intrinsics, fine, cull="back")
        _dye(linear, place, cloth_depth < depth + SAME_DEPTH, cloth_tile(capture.seed))
    covered = np.isfinite(depth).astype(np.float32)
    linear = cv2.resize(linear, camera.size[::-1], interpolation=cv2.INTER_AREA) / HEADROOM
    covered = cv2.resize(covered, camera.size[::-1], interpolation=cv2.INTER_AREA)
    behind = backdrop(capture.backdrop, camera.size, generator, LAMP_TINT)
    picture = linear + behind * (1 - covered[..., None])
    return develop(picture, linear[covered > 0.5], camera, generator)


def _drawn_faces(part: Lit) -> np.ndarray:
    """Skin is closed and shows its outside; one can look into a sleeve."""
    if part.cloth is None:
        return part.faces
    return np.concatenate([part.faces, part.faces[:, ::-1]])


def _light_to(part: Lit, capture: Capture, camera: Camera) -> np.ndarray:
    """Light (V, 3) from a part's vertices to a camera, scaled into 0..1."""
    light = part.light
    if part.cloth is None:
        towards = camera.position - part.vertices
        towards = towards / np.linalg.norm(towards, axis=1, keepdims=True)
        shiny = gloss(part.normals, towards, part.shares, capture.lights, capture.strengths,
                      part.sharpness)  # fmt: skip
        light = light + (part.shine * shiny)[:, None]
    return np.clip(HEADROOM * light, 0, 1)


def _dye(linear: np.ndarray, place: np.ndarray, here: np.ndarray, tile: np.ndarray) -> None:
    """Multiplies `linear` (h, w, 3), where `here`, by the cloth's colour at `place` (h, w, 2)."""
    side = tile.shape[0]
    pixel = (place * np.float32(CLOTH_REACH / CLOTH_SPAN * side)).astype(np.int32) % side
    index = pixel[..., 1] * side + pixel[..., 0]
    index[~here] = side * side
    colours = np.concatenate([tile.reshape(-1, 3), np.ones((1, 3), np.float32)])
    linear *= np.take(colours, index, axis=0)


def develop(
    linear: np.ndarray,
    person: np.ndarray,
    camera: Camera,
    generator: np.random.Generator,
) -> np.ndarray:
    """Linear light to a photograph's bytes: exposure, balance, lens blur, tone curve, noise.

    Args:
      linear: (h, w, 3) light.
      person: (n, 3) the same where the person is; exposure is set by it.
      camera: its colour balance, and whether it is grey.
      generator: for exposure, sharpness and noise.

    Returns:
      (h, w, 3) uint8.
    """
    bright = np.percentile(person[::7], 85) if len(person) else 0.2
    wanted = generator.uniform(0.22, 0.48)
    # Cameras expose for the scene only in part: dark skin stays darker than light skin.
    picture = linear * camera.balance.astype(np.float32) * (wanted * bright**-0.65 * 0.3**-0.35)
    blur = generator.uniform(0.35, 0.8)
    picture = cv2.GaussianBlur(picture, (0, 0), blur)
    if camera.grey:
        picture = (picture @ np.float32([0.35, 0.5, 0.15]))[..., None]
    picture = np.clip(picture, 0, None)
    grain = generator.standard_normal(picture.shape, dtype=np.float32)
    noise = generator.uniform(0.002, 0.008)
    display = _tone(picture) + grain * (0.4 * noise + noise * np.sqrt(np.minimum(picture, 1)))
    mean = 255 * np.clip(display, 0, 1).mean()
    if mean < DARKEST_MEAN:
        display = display * (DARKEST_MEAN / max(mean, 0.5)) ** 1.15
    bytes_ = np.clip(255 * display + 0.5, 0, 255).astype(np.uint8)
    return np.repeat(bytes_, 3, axis=2) if camera.grey else bytes_


def _tone(linear: np.ndarray) -> np.ndarray:
    """sRGB-like curve with a soft shoulder above 0.8."""
    curve = np.power(linear, 1 / 2.2)
    return np.where(curve > 0.8, 0.8 + 0.2 * np.tanh((curve - 0.8) / 0.2), curve)
