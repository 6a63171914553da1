"""The palm model's surroundings: its anchors, its numbers as boxes, and overlapping ones merged.

A single-shot detector (Liu et al., "SSD", 2016) for palms (Zhang et al., "MediaPipe Hands", 2020,
section 2.1). Its constants are those of MediaPipe's published graph
`modules/palm_detection/palm_detection_cpu.pbtxt`: four layers of strides 8, 16, 16, 16 on an input
of 192x192, two anchors of a fixed size at every cell of each, coordinates in input pixels relative
to the anchor, scores as logits, overlapping boxes averaged by score.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

SIDE = 192
CELLS = ((SIDE // 8, 2), (SIDE // 16, 6))
"""Cells along a side, anchors in each: the three layers of stride 16 lie on each other."""
POINTS = 7
WRIST, MIDDLE_KNUCKLE = 0, 2
"""Of the palm's seven points."""
OVERLAP = 0.3
"""Palms that share more than this of their union are one."""


class Palms(NamedTuple):
    """Palms in a picture, the surest first.

    Attributes:
      score: (n,) in 0..1.
      centre: (n, 2) pixels.
      size: (n, 2) pixels.
      points: (n, 7, 2) pixels.
    """

    score: np.ndarray
    centre: np.ndarray
    size: np.ndarray
    points: np.ndarray


def anchors() -> np.ndarray:
    """(2016, 2) centres of the anchors in 0..1, in the order of the model's outputs."""
    layers = []
    for cells, count in CELLS:
        middles = (np.arange(cells) + 0.5) / cells
        grid = np.stack(np.meshgrid(middles, middles), axis=-1).reshape(-1, 1, 2)
        layers.append(np.repeat(grid, count, axis=1).reshape(-1, 2))
    return np.concatenate(layers)


def letterbox(image: np.ndarray) -> tuple[np.ndarray, float, np.ndarray]:
    """Fits a picture into the model's square.

    Args:
      image: (h, w, 3) uint8 RGB.

    Returns:
      (192, 192, 3) float32 in 0..1, black beside the picture; the scale and the shift (2,) that
      take the picture's pixels there.
    """
    height, width = image.shape[:2]
    scale = SIDE / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    way = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    small = cv2.resize(image, size, interpolation=way)
    shift = (SIDE - np.array(size)) // 2
    canvas = np.zeros((SIDE, SIDE, 3), np.float32)
    canvas[shift[1] : shift[1] + size[1], shift[0] : shift[0] + size[0]] = small / 255.0
    return canvas, scale, shift


def decode(boxes: np.ndarray, logits: np.ndarray, least: float) -> Palms:
    """The model's two outputs as palms in pixels of its input, not yet merged.

    Args:
      boxes: (2016, 18) centre, size and seven points, pixels; positions relative to the anchor.
      logits: (2016,).
      least: score below which a palm is left out.
    """
    score = 1 / (1 + np.exp(-np.clip(logits.astype(np.float64), -100, 100)))
    order = np.argsort(-score, kind="stable")
    order = order[score[order] >= least]
    origin = anchors()[order] * SIDE
    chosen = boxes[order].astype(np.float64)
    points = chosen[:, 4:].reshape(-1, POINTS, 2) + origin[:, None]
    return Palms(score[order], chosen[:, :2] + origin, chosen[:, 2:4], points)


def merge(palms: Palms) -> Palms:
    """Palms that overlap become their average, weighted by score; the surest score stays."""
    low, high = palms.centre - palms.size / 2, palms.centre + palms.size / 2
    area = np.prod(palms.size, axis=1)
    points = palms.points.reshape(-1, 2 * POINTS)
    values = np.concatenate([palms.centre, palms.size, points], axis=1)
    merged, scores = [], []
    left = np.arange(len(area))
    while len(left):
        first = left[0]
        shared = np.minimum(high[left], high[first]) - np.maximum(low[left], low[first])
        shared = np.prod(np.maximum(shared, 0), axis=1)
        same = shared / np.maximum(area[left] + area[first] - shared, 1e-9) > OVERLAP
        same[0] = True
        weight = palms.score[left[same]]
        merged.append(weight @ values[left[same]] / weight.sum())
        scores.append(palms.score[first])
        left = left[~same]
    found = np.array(merged).reshape(-1, 4 + 2 * POINTS)
    points = found[:, 4:].reshape(-1, POINTS, 2)
    return Palms(np.array(scores), found[:, :2], found[:, 2:4], points)


class PalmModel:
    """Palms of one picture.

    Args:
      interpreter: of the palm model.
    """

    def __init__(self, interpreter):
        self._interpreter = interpreter
        self._input = interpreter.get_input_details()[0]["index"]
        outputs = interpreter.get_output_details()
        self._boxes, self._scores = sorted(outputs, key=lambda o: -int(o["shape"][-1]))

    def __call__(self, image: np.ndarray, least: float) -> Palms:
        """Finds palms in (h, w, 3) uint8 RGB, pixels of the picture."""
        canvas, scale, shift = letterbox(image)
        self._interpreter.set_tensor(self._input, canvas[None])
        self._interpreter.invoke()
        boxes = self._interpreter.get_tensor(self._boxes["index"])[0]
        scores = self._interpreter.get_tensor(self._scores["index"])[0, :, 0]
        palms = merge(decode(boxes, scores, least))
        # From edges to whole numbers at pixel centres.
        centre = (palms.centre - shift) / scale - 0.5
        points = (palms.points - shift) / scale - 0.5
        return Palms(palms.score, centre, palms.size / scale, points)
