"""Drawing reconstructed hands: over their photo, from the side, from above, beside their labels.

numpy in, numpy out: pictures are (h, w, 3) uint8 RGB. Points in pixels follow the crop's
convention (whole numbers at pixel centres, as OpenCV has it); hands are an axis of size 2, left
and right, metres, camera axes (x right, y down, z away from the camera).
"""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from input_pipeline.files import write_bytes
from input_pipeline.render import render_meshes, shade
from mano_jax.constants import BONES

HAND_COLOURS = ((0.42, 0.62, 0.93), (0.96, 0.66, 0.46))
"""Left hand blue, right hand orange."""
FINGER_COLOURS = ((230, 70, 70), (240, 180, 50), (80, 190, 80), (70, 150, 230), (170, 100, 220))
PAPER = (247, 247, 245)

VIEWS = {
    "front": np.eye(3),
    "side": np.array([[0.0, 0, 1], [0, 1, 0], [-1, 0, 0]]),
    "top": np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]]),
}
"""Rows: what is right, down and away in the picture. "side" looks from the photo's right (the
photo's camera is on the left), "top" from above (the photo's camera is below)."""

UPRIGHT = np.diag([1.0, -1.0, -1.0, 1.0])
"""From camera axes (y down, z away) to those of 3D viewers and glTF (y up, z to the viewer)."""

BONE_THICKNESS = 0.0045
"""Metres from a bone's axis to its edges."""

_SPINDLE = np.array([(end, 2 + i, 2 + (i + 1) % 4) for i in range(4) for end in (0, 1)])
_SPINDLE[0::2] = _SPINDLE[0::2, [0, 2, 1]]  # outwards at both ends

SKELETON_FACES = np.concatenate([_SPINDLE + 6 * bone for bone in range(len(BONES))])
"""(160, 3) triangles of every skeleton."""

_DISTANCE = 1.0
"""Metres from the imagined camera to the nearest vertex; any positive number draws the same."""


def draw_meshes(
    picture: np.ndarray,
    points_px: np.ndarray,
    vertices_xyz: np.ndarray,
    faces: Sequence[np.ndarray],
    opacity: float = 1.0,
) -> np.ndarray:
    """Draws both meshes at given pixels, the nearer surface in front.

    A hand with a number that is not finite (without a label, or of a network gone wrong) is left
    out.

    Args:
      picture: (h, w, 3) uint8 to draw on; it is not changed.
      points_px: (2, V, 2) where each vertex goes, by whichever camera.
      vertices_xyz: (2, V, 3) metres in the viewer's axes, both hands in one space, for the order
        of depth and the shading.
      faces: two arrays (F, 3).
      opacity: 1 hides what is behind.

    Returns:
      (h, w, 3) uint8.
    """
    picture = picture.copy()
    known = np.isfinite(points_px).all((1, 2)) & np.isfinite(vertices_xyz).all((1, 2))
    if not known.any():
        return picture
    points_px, vertices_xyz = points_px[known], vertices_xyz[known]
    hands = [(faces[i], HAND_COLOURS[i]) for i in np.flatnonzero(known)]
    low = np.floor(points_px.min((0, 1))).astype(int) - 1
    high = np.ceil(points_px.max((0, 1))).astype(int) + 2
    low, high = np.maximum(low, 0), np.minimum(high, picture.shape[1::-1])
    if (high > low).all():  # a large photo costs no more than the part the hands are in
        part = picture[low[1] : high[1], low[0] : high[0]]
        part[:] = _draw_part(part, points_px - low, vertices_xyz, hands, opacity)
    return picture


def _draw_part(part, points_px, vertices_xyz, hands, opacity) -> np.ndarray:
    """`draw_meshes` for a part of the picture that holds all there is to draw."""
    height, width = part.shape[:2]
    focal = float(max(height, width))
    depth = vertices_xyz[..., 2:]
    away = depth - depth.min() + _DISTANCE
    # The rasteriser is a pinhole with pixel centres at one half: go back through it.
    middle = np.array([width, height]) / 2
    placed = np.concatenate([(points_px + 0.5 - middle) / focal * away, away], axis=-1)
    camera = np.array([[focal, 0, middle[0]], [0, focal, middle[1]], [0, 0, 1]])
    meshes = [
        (points, faces, shade(vertices, faces, colour))
        for points, vertices, (faces, colour) in zip(placed, vertices_xyz, hands, strict=True)
    ]
    background = part.astype(np.float32) / 255
    supersample = 2 if height * width <= 2_000_000 else 1
    drawn, _ = render_meshes(meshes, camera, (height, width), supersample, background=background)
    return to_uint8(background + opacity * (drawn - background))


def draw_view(
    vertices_xyz: np.ndarray,
    faces: Sequence[np.ndarray],
    view: str = "side",
    size: int = 256,
    extent: float | None = None,
) -> np.ndarray:
    """Both hands in one space without perspective, on plain ground.

    Args:
      vertices_xyz: (2, V, 3) metres, camera axes, one space for both hands; NaN leaves one out.
      faces: two arrays (F, 3).
      view: a key of `VIEWS`.
      size: side of the picture.
      extent: metres across the picture; None: what the hands need.

    Returns:
      (size, size, 3) uint8.
    """
    flat = vertices_xyz.reshape(-1, 3)
    middle = (np.nanmin(flat, axis=0) + np.nanmax(flat, axis=0)) / 2
    turned = (vertices_xyz - middle) @ VIEWS[view].T
    if extent is None:
        extent = view_extent(vertices_xyz)
    points_px = turned[..., :2] / extent * size + (size - 1) / 2
    ground = np.full((size, size, 3), PAPER, np.uint8)
    return draw_meshes(ground, points_px, turned, faces)


def view_extent(vertices_xyz: np.ndarray) -> float:
    """Metres across that hold the hands (..., 3) in every view, with a little room."""
    flat = vertices_xyz.reshape(-1, 3)
    return float(max(np.nanmax(flat, axis=0) - np.nanmin(flat, axis=0)) * 1.12)


def draw_joints(
    picture: np.ndarray, joints_px: np.ndarray, valid: np.ndarray | None = None
) -> np.ndarray:
    """Draws the 20 bones and 21 joints of each hand.

    Args:
      picture: (h, w, 3) uint8; it is not changed.
      joints_px: (2, 21, 2).
      valid: (2, 21) bool, joints to draw; None: all finite ones.

    Returns:
      (h, w, 3) uint8.
    """
    picture = np.ascontiguousarray(picture).copy()
    known = np.isfinite(joints_px).all(-1)
    if valid is not None:
        known &= np.asarray(valid, bool)
    thick = max(1, round(max(picture.shape[:2]) / 300))
    for hand in range(2):
        ring = tuple(int(255 * c) for c in HAND_COLOURS[hand])
        # Sixteenths of a pixel; far-off predictions must not overflow OpenCV's integers.
        fixed = np.clip(np.nan_to_num(joints_px[hand]) * 16, -1e6, 1e6).round().astype(int)
        for parent, child in BONES:
            if known[hand, parent] and known[hand, child]:
                colour = FINGER_COLOURS[(child - 1) // 4]
                ends = tuple(fixed[parent].tolist()), tuple(fixed[child].tolist())
                cv2.line(picture, *ends, colour, thick, cv2.LINE_AA, 4)
        for joint in np.flatnonzero(known[hand]):
            centre = tuple(fixed[joint].tolist())
            for radius, colour in ((2.5 * thick, (255, 255, 255)), (1.5 * thick, ring)):
                cv2.circle(picture, centre, round(16 * radius), colour, -1, cv2.LINE_AA, 4)
    return picture


def skeleton_mesh(joints_xyz: np.ndarray) -> np.ndarray:
    """A spindle with four edges for each of a hand's 20 bones.

    Args:
      joints_xyz: (..., 21, 3) metres.

    Returns:
      (..., 120, 3) vertices.
    """
    joints_xyz = np.asarray(joints_xyz, np.float64)
    start, end = (joints_xyz[..., [bone[i] for bone in BONES], :] for i in range(2))
    along = end - start
    along = along / np.maximum(np.linalg.norm(along, axis=-1, keepdims=True), 1e-9)
    # Any direction that is not along the bone will do to find the two across it.
    helper = np.where(np.abs(along[..., :1]) < 0.7, np.array([1.0, 0, 0]), np.array([0.0, 1, 0]))
    across = np.cross(along, helper)
    across = across / np.maximum(np.linalg.norm(across, axis=-1, keepdims=True), 1e-9)
    other = np.cross(along, across)
    waist = start + 0.25 * (end - start)
    corners = [waist + BONE_THICKNESS * side for side in (across, other, -across, -other)]
    mesh = np.stack([start, end, *corners], axis=-2)
    return mesh.reshape(*joints_xyz.shape[:-2], -1, 3)


def draw_box(
    picture: np.ndarray, box_xywh: Sequence[float], colour: tuple[int, int, int] = (60, 220, 100)
) -> np.ndarray:
    """Draws a rectangle given as x, y, width, height in pixels."""
    picture = np.ascontiguousarray(picture).copy()
    x, y, width, height = (round(float(v)) for v in box_xywh)
    thick = max(1, round(max(picture.shape[:2]) / 400))
    cv2.rectangle(picture, (x, y), (x + width, y + height), colour, thick, cv2.LINE_AA)
    return picture


def caption(picture: np.ndarray, text: str) -> np.ndarray:
    """A copy of the picture with a line of text in its top left corner."""
    picture = np.ascontiguousarray(picture).copy()
    scale = max(0.45, picture.shape[1] / 1000)
    font, thick = cv2.FONT_HERSHEY_SIMPLEX, max(1, round(1.6 * scale))
    (width, _), _ = cv2.getTextSize(text, font, scale, thick)
    margin, height = round(10 * scale), round(40 * scale)
    # White on darkened ground reads on any photo.
    picture[:height, : width + 2 * margin] //= 3
    place = (margin, round(28 * scale))
    cv2.putText(picture, text, place, font, scale, (255, 255, 255), thick, cv2.LINE_AA)
    return picture


def contact_sheet(pictures: Sequence[np.ndarray], columns: int, gap: int = 4) -> np.ndarray:
    """Pictures of one size side by side, row after row.

    Args:
      pictures: each (h, w, 3) uint8, all the same shape.
      columns: pictures in a row.
      gap: pixels between them.

    Returns:
      One (H, W, 3) uint8 picture.

    Raises:
      ValueError: no pictures, or different shapes.
    """
    shapes = {picture.shape for picture in pictures}
    if len(shapes) != 1:
        raise ValueError(f"pictures of a sheet need one shape, got {sorted(shapes)}")
    height, width, _ = next(iter(shapes))
    rows = -(-len(pictures) // columns)
    canvas = np.full((rows, columns, height + gap, width + gap, 3), PAPER, np.uint8)
    for number, picture in enumerate(pictures):
        canvas[number // columns, number % columns, :height, :width] = picture
    sheet = canvas.swapaxes(1, 2).reshape(rows * (height + gap), columns * (width + gap), 3)
    return sheet[: len(sheet) - gap, : sheet.shape[1] - gap]


class Example(NamedTuple):
    """One photograph with its label and what was predicted, stage by stage; numpy.

    Hands are an axis of size 2, left and right; V vertices each, in the same space throughout:
    metres, camera axes, the origin at the predicted left wrist, the label's first valid wrist
    where the prediction has that wrist.

    Attributes:
      image: (h, w, 3) uint8: the crop, or plain ground where there is no photograph.
      faces: two arrays (F, 3).
      truth_xyz: (2, V, 3); NaN for a hand without a valid label.
      truth_px: (2, V, 2) pixels of the image; None: no camera, then nothing can be drawn over it.
      stages_xyz: (T, 2, V, 3), the last stage best.
      stages_px: (T, 2, V, 2); None with `truth_px`.
    """

    image: np.ndarray
    faces: list[np.ndarray]
    truth_xyz: np.ndarray
    truth_px: np.ndarray | None
    stages_xyz: np.ndarray
    stages_px: np.ndarray | None

    def label(self) -> np.ndarray:
        """The true hands over the image, (h, w, 3) uint8."""
        return draw_meshes(self.image, self.truth_px, self.truth_xyz, self.faces)

    def prediction(self, stage: int = -1) -> np.ndarray:
        """A stage's hands over the image, (h, w, 3) uint8."""
        return draw_meshes(self.image, self.stages_px[stage], self.stages_xyz[stage], self.faces)


def comparison_picture(example: Example) -> np.ndarray:
    """One row (h, 5 * h, 3) uint8: photo, label over it, prediction over it, both from the side."""
    truth, predicted = example.truth_xyz, example.stages_xyz[-1]
    size, faces = example.image.shape[0], example.faces
    extent = max(view_extent(truth), view_extent(predicted))
    row = [
        caption(example.image, "photo"),
        caption(example.label(), "label"),
        caption(example.prediction(), "prediction"),
        caption(draw_view(truth, faces, "side", size, extent), "label, side"),
        caption(draw_view(predicted, faces, "side", size, extent), "prediction, side"),
    ]
    return contact_sheet(row, len(row))


def to_uint8(picture: np.ndarray) -> np.ndarray:
    """Values in 0..1 as uint8."""
    return np.clip(np.rint(np.asarray(picture) * 255), 0, 255).astype(np.uint8)


def save_png(path: str | os.PathLike, picture: np.ndarray, description: str = "") -> None:
    """Writes a PNG whole or not at all.

    Args:
      path: final name.
      picture: (h, w, 3) uint8 RGB.
      description: kept in the file as its "Description".

    Raises:
      OSError: the file cannot be written.
    """
    data, text = io.BytesIO(), PngInfo()
    if description:
        text.add_itxt("Description", description)
    Image.fromarray(picture).save(data, "PNG", pnginfo=text, compress_level=3)
    write_bytes(path, data.getvalue())
