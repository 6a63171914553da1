"""Light on the person: many distant lamps with shadows, wrapped about soft skin."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from input_pipeline.render import render_meshes
from input_pipeline.synthetic.studio import Capture, look_along

DISTANCE = 5.0
"""Metres to the eye from which a lamp's depth map is drawn: its rays are nearly parallel."""

PIXELS_PER_METRE, MAP_SIDE = 420.0, 320
BIAS = 0.0035
"""Metres a surface may lie behind the depth map before it is in shadow."""

SKIN_WRAP = np.array([0.32, 0.14, 0.08])
"""How far red, green and blue light creep round skin beyond the edge of the light."""

CLOTH_WRAP = np.array([0.05, 0.05, 0.05])


class LampView(NamedTuple):
    """What one lamp sees.

    Attributes:
      eye: (3,) world metres, far towards the lamp.
      rotation: (3, 3) world to the axes of the eye.
      depth: (MAP_SIDE, MAP_SIDE) metres from the eye, infinite where there is nothing.
    """

    eye: np.ndarray
    rotation: np.ndarray
    depth: np.ndarray


def lamp_views(
    occluders: Sequence[tuple[np.ndarray, np.ndarray]], lights: np.ndarray, middle: np.ndarray
) -> list[LampView]:
    """Depth maps from every lamp.

    Args:
      occluders: (vertices (V, 3), faces (F, 3)) of what throws shadows, world metres.
      lights: (L, 3) unit directions towards the lamps.
      middle: (3,) what the maps are centred on; points far from it count as lit.

    Returns:
      one LampView per lamp.
    """
    focal = PIXELS_PER_METRE * DISTANCE
    camera = np.array([[focal, 0, MAP_SIDE / 2], [0, focal, MAP_SIDE / 2], [0, 0, 1]])
    views = []
    for light in lights:
        rotation, eye = look_along(-light, 0.0), middle + DISTANCE * light
        meshes = [((v - eye) @ rotation.T, f, np.zeros((len(v), 0))) for v, f in occluders]
        _, depth = render_meshes(meshes, camera, (MAP_SIDE, MAP_SIDE))
        views.append(LampView(eye, rotation, depth))
    return views


def lit_shares(views: list[LampView], points: np.ndarray) -> np.ndarray:
    """How much of every lamp each point (P, 3) (world metres) sees: (L, P) float32 in 0..1."""
    shares = np.zeros((len(views), len(points)), np.float32)
    for share, view in zip(shares, views, strict=True):
        seen = (points - view.eye) @ view.rotation.T
        pixel = seen[:, :2] / seen[:, 2:] * (PIXELS_PER_METRE * DISTANCE) + MAP_SIDE / 2
        # Four taps soften the shadow's edge.
        for tap in ((-1.1, -0.4), (0.4, -1.1), (1.1, 0.4), (-0.4, 1.1)):
            column, row = np.clip((pixel + tap).astype(int), 0, MAP_SIDE - 1).T
            share += 0.25 * (seen[:, 2] < view.depth[row, column] + BIAS)
    return shares


def irradiance(
    capture: Capture, normals: np.ndarray, shares: np.ndarray, wrap: np.ndarray
) -> np.ndarray:
    """Light that falls on points, about 0..1; less of the light from everywhere in nooks.

    Args:
      capture: its lamps.
      normals: (P, 3) unit.
      shares: (L, P) from `lit_shares`.
      wrap: (3,) softness per channel.

    Returns:
      (P, 3) float32.
    """
    facing = normals @ capture.lights.T
    sky = np.maximum(facing + 0.3, 0)
    open_sky = (sky * shares.T).sum(1) / (sky.sum(1) + 1e-3)
    total = capture.ambient * (0.25 + 0.75 * open_sky)[:, None] * np.ones(3)
    for channel in range(3):
        soft = np.maximum((facing + wrap[channel]) / (1 + wrap[channel]), 0)
        # Some light passes through thin shadow on skin too: the wrapped share of it.
        seen = shares.T * (1 - 0.3 * wrap[channel]) + 0.3 * wrap[channel]
        total[:, channel] += (soft * seen * capture.strengths).sum(axis=1)
    return total.astype(np.float32)


def gloss(
    capture: Capture,
    normals: np.ndarray,
    towards_eye: np.ndarray,
    shares: np.ndarray,
    sharpness: float | np.ndarray,
) -> np.ndarray:
    """Blinn-Phong highlights (P,) of the three strongest lamps; `sharpness`: exponent or (P,)."""
    total = np.zeros(len(normals), np.float32)
    for number in np.argsort(capture.strengths)[-3:]:
        half = towards_eye + capture.lights[number]
        half /= np.linalg.norm(half, axis=1, keepdims=True)
        shine = np.maximum((normals * half).sum(1), 0) ** sharpness
        total += capture.strengths[number] * shares[number] * shine * (sharpness + 8) / 60
    return total
