"""Hands in a photo: palms are proposed in several views of it, landmarks confirm and outline them.

The two networks are Google's MediaPipe Hands (Apache-2.0), shipped and run in JAX
(`dir_jax.models.mediapipe`); what comes before and after them is written here.

Palms: a single-shot detector (Liu et al., "SSD", 2016; Zhang et al., "MediaPipe Hands", 2020,
section 2.1). Its constants are those of MediaPipe's published graph
`modules/palm_detection/palm_detection_cpu.pbtxt`: four layers of strides 8, 16, 16, 16 on an input
of 192x192, two anchors of a fixed size at every cell of each, coordinates in input pixels relative
to the anchor, scores as logits, overlapping boxes averaged by score.

Landmarks (section 2.2 there): how a palm becomes the square the network looks at, and how its
points become a better one, follows `palm_detection_detection_to_roi.pbtxt` (turned so that the
wrist is below the middle knuckle, moved half its height towards the fingers, 2.6 times as large)
and `hand_landmark_landmarks_to_roi.pbtxt` (twice the points' extent, moved a tenth).

One look at the whole photo finds hands that are large in it and seen as in everyday photos. Others
need a second look: at the mirrored photo, at parts of it, around a hand already found.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from typing import NamedTuple

import cv2
import jax
import numpy as np

from dir_jax.models import mediapipe
from dir_jax.prediction.background import in_background
from dir_jax.prediction.photos import Box, box_around

PALM_SIDE, LANDMARK_SIDE = 192, 224
"""Pixels along the inputs of the two networks."""
POINTS = 7
WRIST, MIDDLE_KNUCKLE = 0, 2
"""Of the palm's seven points."""
OVERLAP = 0.3
"""Palms that share more than this of their union are one."""
PALM_SCORE = 0.08
"""Less sure palms are not looked at. Low, because hands that touch make unusual palms; what is no
hand is left to the landmark model to say."""
PRESENCE = 0.6
"""Of the landmark model, to believe in a hand."""
MOST_HANDS = 8
FLESH = 0.1
"""Room around the landmarks, as a share of their extent: they lie inside the fingers."""
SAME = 0.25
"""Two sightings whose points differ by less than this share of their extent are one hand."""
FINGER = 0.12
"""Width of a finger, as a share of the longer side of a hand's box."""
_PARTS = (0.66, 0.45)
"""Sides of the windows of the second look, as shares of the photo's shorter side."""
ONE_SIZE = 2.2
"""A person's hands differ less in extent: one may be a fist, or nearer."""
NEAR = 1.5
"""The box around a person's hands is no longer than this times the sum of their extents. Further
apart each of them would be small in the crop, and has one of its own."""

_STEADY_POINTS = (0, 1, 2, 3, 5, 6, 9, 10, 13, 14, 17, 18)
"""Wrist and the joints up to the middle of each finger."""


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
    for stride, count in mediapipe.PALM_ANCHORS.items():
        cells = PALM_SIDE // stride
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
    scale = PALM_SIDE / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    way = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    small = cv2.resize(image, size, interpolation=way)
    shift = (PALM_SIDE - np.array(size)) // 2
    canvas = np.zeros((PALM_SIDE, PALM_SIDE, 3), np.float32)
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
    origin = anchors()[order] * PALM_SIDE
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


@functools.cache
def _network(function: Callable, file: str, side: int) -> Future[Callable]:
    """A network for one picture (side, side, 3) in 0..1, its outputs with a batch axis of 1."""

    def compiled() -> Callable:
        weights = jax.device_put(mediapipe.load(file))
        image = jax.ShapeDtypeStruct((1, side, side, 3), np.float32)
        program = jax.jit(function).lower(weights, image).compile()
        return lambda image: program(weights, image[None])

    return in_background(compiled)


def _palm_network() -> Future[Callable]:
    return _network(mediapipe.palms, mediapipe.PALM_FILE, PALM_SIDE)


def find_palms(image: np.ndarray, least: float = PALM_SCORE) -> Palms:
    """Palms in (h, w, 3) uint8 RGB, pixels of the picture, of at least this score."""
    canvas, scale, shift = letterbox(image)
    boxes, logits = (np.asarray(part[0]) for part in _palm_network().result()(canvas))
    palms = merge(decode(boxes, logits, least))
    # From edges to whole numbers at pixel centres.
    centre = (palms.centre - shift) / scale - 0.5
    points = (palms.points - shift) / scale - 0.5
    return Palms(palms.score, centre, palms.size / scale, points)


class Region(NamedTuple):
    """A turned square of a picture.

    Attributes:
      centre: (2,) pixels.
      side: pixels.
      angle: radians by which the square is turned, from x to y.
    """

    centre: np.ndarray
    side: float
    angle: float

    def matrix(self) -> np.ndarray:
        """(2, 3) from the model's pixels (edges at whole numbers) to the picture's."""
        scale = self.side / LANDMARK_SIDE
        cos, sin = scale * np.cos(self.angle), scale * np.sin(self.angle)
        turn = np.array([[cos, -sin], [sin, cos]])
        return np.concatenate(
            [turn, (self.centre - turn @ [LANDMARK_SIDE / 2, LANDMARK_SIDE / 2])[:, None]], axis=1
        )


def _upright(wrist: np.ndarray, finger: np.ndarray) -> float:
    """The angle that turns a hand so that its fingers point up."""
    along = finger - wrist
    return float(np.arctan2(along[0], -along[1]))


def _turned(vector: np.ndarray, angle: float) -> np.ndarray:
    cos, sin = np.cos(angle), np.sin(angle)
    return np.asarray(vector) @ np.array([[cos, sin], [-sin, cos]])


def region_of_palm(palms: Palms, number: int) -> Region:
    """Where the whole hand of a palm should be."""
    points = palms.points[number]
    angle = _upright(points[WRIST], points[MIDDLE_KNUCKLE])
    width, height = palms.size[number]
    centre = palms.centre[number] + _turned([0, -0.5 * height], angle)
    return Region(centre, 2.6 * float(max(width, height)), angle)


def region_of_points(points: np.ndarray) -> Region:
    """The square around a hand whose points (21, 2) are known."""
    finger = (points[6] + points[14] + 2 * points[10]) / 4
    angle = _upright(points[0], finger)
    flat = _turned(points[list(_STEADY_POINTS)], -angle)
    low, high = flat.min(0), flat.max(0)
    side = high - low
    centre = _turned((low + high) / 2 + [0, -0.1 * side[1]], angle)
    return Region(centre, 2.0 * float(side.max()), angle)


class Landmarks(NamedTuple):
    """What the model says of one region.

    Attributes:
      points: (21, 2) pixels of the picture.
      presence: in 0..1, whether there is a hand.
      right: in 0..1, whether it is a right one.
      depth: (21,) pixels, relative to the hand's middle.
      pixels_per_metre: of the picture, at the hand, as far as its size is known.
    """

    points: np.ndarray
    presence: float
    right: float
    depth: np.ndarray
    pixels_per_metre: float


def _landmark_network() -> Future[Callable]:
    return _network(mediapipe.landmarks, mediapipe.LANDMARK_FILE, LANDMARK_SIDE)


def find_landmarks(image: np.ndarray, region: Region) -> Landmarks:
    """The 21 points of the hand in a region of (h, w, 3) uint8 RGB."""
    matrix = region.matrix()
    centres = matrix.copy()  # of the network's pixels, for OpenCV
    centres[:, 2] += matrix[:, :2] @ [0.5, 0.5]
    how = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    size = (LANDMARK_SIDE, LANDMARK_SIDE)
    patch = cv2.warpAffine(image, centres, size, flags=how, borderMode=cv2.BORDER_REPLICATE)
    seen = _landmark_network().result()(patch / np.float32(255))
    points = np.asarray(seen.points[0, :, :2], np.float64) @ matrix[:, :2].T + matrix[:, 2]
    # Its metres have an x and y of their own, not quite the points'; the hand's size is shared.
    turn = matrix[:, :2] / np.sqrt(np.linalg.det(matrix[:, :2]))
    flat = np.asarray(seen.world[0, :, :2], np.float64) @ turn.T
    flat -= flat.mean(0)
    scale = (flat * (points - points.mean(0))).sum() / max((flat**2).sum(), 1e-12)
    depth = scale * np.asarray(seen.world[0, :, 2], np.float64)
    presence, right = float(seen.presence[0]), float(seen.handedness[0])
    return Landmarks(points, presence, right, depth, float(scale))


class SeenHand(NamedTuple):
    """One hand.

    Attributes:
      box: x, y, width, height, pixels, around skin.
      points: (21, 2) pixels; wrist, then thumb, index, middle, ring, pinky from base to tip.
      presence: in 0..1.
      right: in 0..1; often wrong for hands that touch.
      depth: (21,) pixels, relative to the hand's middle, larger further away.
      pixels_per_metre: of the photo, at the hand, as far as its size is known.
    """

    box: Box
    points: np.ndarray
    presence: float
    right: float
    depth: np.ndarray | None = None
    pixels_per_metre: float = 0.0


class Pair(NamedTuple):
    """One person's hands, or the one of them that is seen; `doubt` says why they may be two's."""

    hands: tuple[SeenHand, ...]
    doubt: str = ""


def pairs(hands: Sequence[SeenHand]) -> list[Pair]:
    """Hands that belong together: near, of one size, one left and one right. The surest first.

    Two right or two left hands are joined only where they touch, with a doubt: there the detector
    often mistakes one for the other, and a handshake looks the same.
    """
    candidates = []
    for first, second in itertools.combinations(range(len(hands)), 2):
        one, two = hands[first], hands[second]
        extents = sorted(max(hand.box[2:]) for hand in (one, two))
        apart = max(box_around([one.box, two.box])[2:]) / sum(extents)
        alike = (one.right > 0.5) == (two.right > 0.5)
        if extents[1] <= ONE_SIZE * extents[0] and apart <= (1.0 if alike else NEAR):
            candidates.append((alike, apart, first, second))
    found, left = [], set(range(len(hands)))
    for alike, _, first, second in sorted(candidates):
        if {first, second} <= left:
            left -= {first, second}
            side = "right" if hands[first].right > 0.5 else "left"
            doubt = f"both look like {side} hands: are they one person's?" if alike else ""
            found.append(Pair((hands[first], hands[second]), doubt))
    found += [Pair((hands[alone],)) for alone in left]
    return sorted(found, key=lambda pair: -sum(hand.presence for hand in pair.hands))


def _alone(hands: Sequence[SeenHand]) -> list[SeenHand]:
    return [pair.hands[0] for pair in pairs(hands) if len(pair.hands) == 1]


class Window(NamedTuple):
    """An upright part of a photo, pixels; `mirrored` is how it is looked at."""

    left: int
    top: int
    right: int
    bottom: int
    mirrored: bool = False


class HandDetector:
    """Finds the hands in a photo.

    Args:
      palms: proposes; see `find_palms`.
      landmarks: confirms; see `find_landmarks`.
    """

    def __init__(self, palms: Callable = find_palms, landmarks: Callable = find_landmarks):
        self._palms = palms
        self._landmarks = landmarks

    @staticmethod
    def prepare() -> None:
        """Begins to compile the shipped networks, in threads; what uses them waits."""
        _palm_network()
        _landmark_network()

    def sighting(self, image: np.ndarray, points: np.ndarray) -> SeenHand:
        """What it sees where a hand's points (21, 2) are said to be; `presence` says how surely."""
        marks = self._landmarks(image, region_of_points(points))
        return _on_photo(marks, Window(0, 0, image.shape[1], image.shape[0]))

    def hands(self, image: np.ndarray, thorough: bool = True) -> list[SeenHand]:
        """The hands in (h, w, 3) uint8 RGB, the surest first; [] when none is seen.

        Only a thorough look goes through parts of the photo, which takes up to a second or two.
        """
        height, width = image.shape[:2]
        whole = Window(0, 0, width, height)
        seen = self._look(image, whole, [])
        mirrored = whole._replace(mirrored=True)
        if not seen or _alone(seen):
            seen = self._look(image, mirrored, seen)
        for hand in _alone(seen):  # palms that touch are taken for one
            painted = np.where(_mask(hand, image.shape)[..., None], image.mean((0, 1)), image)
            painted = painted.astype(np.uint8)
            for window in (whole, mirrored):
                found = self._look(painted, window, [])
                for other in (one for one in found if not _covers(hand, one, image.shape)):
                    seen = _with(seen, other)
        if thorough and not seen:
            for window in _windows(width, height):
                seen = self._look(image, window, seen)
                if len(seen) > 1:
                    break
        if thorough:
            for hand in _alone(seen):
                for window in _around(hand.box, width, height):
                    seen = self._look(image, window, seen)
        seen.sort(key=lambda hand: -hand.presence)
        return seen[:MOST_HANDS]

    def _look(self, image: np.ndarray, window: Window, seen: list[SeenHand]) -> list[SeenHand]:
        """Adds the hands that one view shows."""
        view = image[window.top : window.bottom, window.left : window.right]
        if window.mirrored:
            view = view[:, ::-1]
        view = np.ascontiguousarray(view)
        palms = self._palms(view, PALM_SCORE)
        for number in range(len(palms.score)):
            marks = self._landmarks(view, region_of_palm(palms, number))
            if marks.presence >= PRESENCE:  # again, in the square its own points ask for
                marks = self._landmarks(view, region_of_points(marks.points))
            if marks.presence >= PRESENCE:
                seen = _with(seen, _on_photo(marks, window))
        return seen


def _mask(hand: SeenHand, shape: Sequence[int]) -> np.ndarray:
    """(h, w) bool of a picture: where a hand's palm and fingers are."""
    mask, points = np.zeros(shape[:2], np.uint8), hand.points.round().astype(np.int32)
    thickness = max(1, round(FINGER * max(hand.box[2:])))
    for finger in range(1, 21, 4):
        cv2.polylines(mask, [points[[0, *range(finger, finger + 4)]]], False, 1, thickness)
    cv2.fillConvexPoly(mask, cv2.convexHull(points[[0, 1, 5, 9, 13, 17]]), 1)
    return mask > 0


def _covers(hand: SeenHand, other: SeenHand, shape: Sequence[int]) -> bool:
    """Whether what seems another hand is this one, as half of its points lie on it."""
    height, width = shape[:2]
    x, y = np.clip(other.points.round().astype(int), 0, [width - 1, height - 1]).T
    return _mask(hand, shape)[y, x].mean() > 0.5


def _on_photo(marks: Landmarks, window: Window) -> SeenHand:
    points, right = marks.points.copy(), marks.right
    if window.mirrored:
        points[:, 0] = window.right - window.left - 1 - points[:, 0]
        right = 1 - right
    points += [window.left, window.top]
    low, high = points.min(0), points.max(0)
    room = FLESH * (high - low).max()
    box = (*(low - room), *(high - low + 2 * room))
    box = tuple(float(v) for v in box)
    return SeenHand(box, points, marks.presence, right, marks.depth, marks.pixels_per_metre)


def _with(seen: list[SeenHand], hand: SeenHand) -> list[SeenHand]:
    """Adds a hand, or lets it replace a less sure sighting of the same one."""
    extent = max(hand.box[2:])
    kept = []
    for other in seen:
        apart = np.linalg.norm(other.points - hand.points, axis=1).mean()
        if apart >= SAME * extent:
            kept.append(other)
        elif other.presence >= hand.presence:
            return seen
    return [*kept, hand]


def _windows(width: int, height: int) -> Iterator[Window]:
    """Overlapping squares over the photo, plain and mirrored, large ones first."""
    for share in _PARTS:
        side = max(1, round(share * min(width, height)))
        columns, rows = (max(2, -(-2 * length // side) - 1) for length in (width, height))
        for top in np.linspace(0, height - side, rows).round().astype(int):
            for left in np.linspace(0, width - side, columns).round().astype(int):
                for mirrored in (False, True):
                    yield Window(int(left), int(top), int(left + side), int(top + side), mirrored)


def _around(box: Box, width: int, height: int) -> Iterator[Window]:
    """Squares around a hand, where the other one is likely to be."""
    centre = np.array([box[0] + box[2] / 2, box[1] + box[3] / 2])
    for size in (2.0, 3.0):
        half = size * max(box[2:]) / 2
        low = np.maximum(np.floor(centre - half), 0).astype(int)
        high = np.minimum(np.ceil(centre + half), [width, height]).astype(int)
        if (high - low >= 2).all():
            for mirrored in (False, True):
                yield Window(*low.tolist(), *high.tolist(), mirrored)
