"""One picture of one lit scene: backdrop, projection, cloth, highlights, lens, sensor."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np

from input_pipeline.render import render_meshes, whole_number_centres
from input_pipeline.synthetic.light import gloss
from input_pipeline.synthetic.studio import CLOTH_SPAN, Camera, Capture
from input_pipeline.synthetic.studio import cloth as cloth_tile


def _lamps(size: tuple[int, int], generator: np.random.Generator) -> np.ndarray:
    """Rows of round lamps with a glow (h, w, 1), linear."""
    spots = np.zeros(size, np.float32)
    spacing = generator.uniform(75, 125)
    rows, columns = (np.arange(generator.uniform(0, spacing), side, spacing) for side in size)
    for place in np.stack(np.meshgrid(columns, rows), axis=-1).reshape(-1, 2):
        if generator.random() < 0.75:
            place = (place + generator.normal(0, 0.12 * spacing, 2)).astype(int).tolist()
            cv2.circle(spots, place, 5, float(generator.uniform(0.7, 1.6)), -1)
    glow = cv2.GaussianBlur(spots, (0, 0), 1.2) + 0.5 * cv2.GaussianBlur(spots, (0, 0), 9)
    return glow[..., None]


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


def backdrop(kind: str, size: tuple[int, int], generator: np.random.Generator) -> np.ndarray:
    """Draws a background.

    Args:
      kind: one of `studio.BACKDROPS`.
      size: (height, width).
      generator: source of the variation.

    Returns:
      (h, w, 3) float32 linear.
    """
    if kind == "clutter":
        picture = _clutter(size, generator)
    elif kind == "blobs":
        blend = _blurred(generator, size, int(generator.integers(2, 8)))
        picture = _colour(generator) * blend + _colour(generator) * (1 - blend)
    elif kind == "grain":
        picture = _colour(generator, 0.5)
        for cells in (6, 24, 96):
            patches = _blurred(generator, size, cells)
            patches = 0.5 * patches + 0.5 * patches.mean(axis=2, keepdims=True)
            picture = picture * (0.7 + 0.6 * patches)
    else:  # nearly dark, with or without lamps
        picture = 0.0015 * (0.3 + _blurred(generator, size, 3))
        if kind == "lamps":
            picture = picture + _lamps(size, generator)
    return picture.astype(np.float32)


SUPERSAMPLE = 2
HEADROOM = 0.5
"""Linear light is scaled by this while it passes through the rasteriser, which wants 0..1."""

CLOTH_REACH = 4.0
"""Metres of cloth coordinates that fit into 0..1."""

SAME_DEPTH = 1e-3
"""Metres within which the nearest surface is taken to be the cloth."""

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
      shine: strength of the highlights, one for all or (V,).
      sharpness: their exponent, likewise.
      cloth: (V, 2) metres on the cloth, or None for skin.
      torso: left out by cameras behind the person, who would hide the hands.
    """

    vertices: np.ndarray
    faces: np.ndarray
    normals: np.ndarray
    light: np.ndarray
    shares: np.ndarray
    shine: float | np.ndarray = 0.02
    sharpness: float | np.ndarray = 14.0
    cloth: np.ndarray | None = None
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
        (points, part.faces, _light_to(part, capture, camera))
        for points, part in zip(seen, parts, strict=True)
    ]
    linear, depth = render_meshes(meshes, intrinsics, fine)
    cloth = [
        (points, part.faces, part.cloth / CLOTH_REACH + 0.5)
        for points, part in zip(seen, parts, strict=True)
        if part.cloth is not None
    ]
    if cloth:
        place, cloth_depth = render_meshes(cloth, intrinsics, fine)
        _dye(linear, place, cloth_depth < depth + SAME_DEPTH, cloth_tile(capture.seed))
    covered = np.isfinite(depth).astype(np.float32)
    linear = cv2.resize(linear, camera.size[::-1], interpolation=cv2.INTER_AREA) / HEADROOM
    covered = cv2.resize(covered, camera.size[::-1], interpolation=cv2.INTER_AREA)
    behind = backdrop(capture.backdrop, camera.size, generator)
    picture = linear + behind * (1 - covered[..., None])
    return develop(picture, linear[covered > 0.5], camera, generator)


def _light_to(part: Lit, capture: Capture, camera: Camera) -> np.ndarray:
    """Light (V, 3) from a part's vertices to a camera, scaled into 0..1."""
    light = part.light
    if part.cloth is None:
        towards = camera.position - part.vertices
        towards = towards / np.linalg.norm(towards, axis=1, keepdims=True)
        shiny = gloss(capture, part.normals, towards, part.shares, part.sharpness)
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
