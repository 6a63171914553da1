"""What is behind the person, in linear light."""

from __future__ import annotations

import functools

import cv2
import numpy as np


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
