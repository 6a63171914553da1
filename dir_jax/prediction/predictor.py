"""Both hands from photographs: running the network, and its answer in space and on the photo."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import functools
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future

import jax
import numpy as np

from dir_jax.models.network import normalise_images
from dir_jax.models.types import (
    CAMERA_SCALE,
    CAMERA_TRANSLATION,
    IMAGE_SIZE,
    Stage,
    offset_metres,
    one_space,
)
from dir_jax.prediction.background import in_background
from dir_jax.prediction.detection import HandDetector
from dir_jax.prediction.landmarks import compile_for, on_landmarks
from dir_jax.prediction.photos import Box, Photo, PhotoError, photo_from_image
from dir_jax.prediction.presence import PRESENT, UNSURE, seen, with_detector
from dir_jax.weights.loading import DEFAULT, Loaded
from mano_jax import HandPair
from mano_jax.constants import SIDES


@dataclasses.dataclass(frozen=True, eq=False)
class Result:
    """Both hands of one photo at every stage (axis T, the last one best), all in numpy.

    Hands are an axis of size 2: left, right. Of a hand that is not in the photo the points are NaN.

    Attributes:
      photo: what was looked at.
      stages: the network's own numbers, each array with a leading axis T.
      loaded: the model that answered.
      presence: (2,) how sure it is that each hand is in the photo, 0..1.
      present: (2,) bool, which of them are taken to be.
      fitted: (2,) bool, which of them lie on landmarks in the last stage.
    """

    photo: Photo
    stages: Stage
    loaded: Loaded
    presence: np.ndarray = dataclasses.field(default_factory=lambda: np.ones(2))
    present: np.ndarray = dataclasses.field(default_factory=lambda: np.ones(2, bool))
    fitted: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(2, bool))

    def _shown(self, points: np.ndarray) -> np.ndarray:
        return np.where(self.present[:, None, None], points, np.nan)

    @functools.cached_property
    def _placed(self) -> tuple[np.ndarray, np.ndarray]:
        vertices, joints = one_space(self.stages)
        if not self.present[0]:  # what lies at the origin shall be there
            origin = joints[:, None, 1, :1]
            vertices, joints = vertices - origin, joints - origin
        return self._shown(vertices), self._shown(joints)

    @property
    def vertices_xyz(self) -> np.ndarray:
        """(T, 2, 778, 3) metres, camera axes, both hands in one space.

        Its origin is the left wrist; the right one where the left hand is not in the photo.
        """
        return self._placed[0]

    @property
    def joints_xyz(self) -> np.ndarray:
        """(T, 2, 21, 3) in the same spaces."""
        return self._placed[1]

    @functools.cached_property
    def vertices_px(self) -> np.ndarray:
        """(T, 2, 778, 2) pixels of the photo, each hand by its own weak-perspective camera."""
        return self._shown(self.photo.to_photo_px(self.stages.vertices_uv))

    @functools.cached_property
    def joints_px(self) -> np.ndarray:
        """(T, 2, 21, 2) pixels of the photo, likewise."""
        return self._shown(self.photo.to_photo_px(self.stages.joints_uv))

    @property
    def box(self) -> Box | None:
        """Around the hands as the network sees them; None: no box on the photo."""
        points = self.vertices_px[-1][self.present].reshape(-1, 2)
        low, high = points.min(0), points.max(0)
        box = (*low.tolist(), *(high - low).tolist())
        try:
            photo_from_image(self.photo.image, "", box)
        except PhotoError:
            return None
        return box

    @property
    def offset_xyz(self) -> np.ndarray:
        """(T, 3) metres, right wrist minus left wrist, camera axes."""
        return offset_metres(self.stages)

    @property
    def params(self) -> np.ndarray:
        """(T, 2, 64), see `dir_jax.models.types`."""
        return self.stages.params

    @property
    def cameras(self) -> np.ndarray:
        """(T, 2, 3) scale and translation: uv = scale * xyz[:2] + translation over the crop.

        uv in [-1, 1], xyz relative to the hand's own root joint.
        """
        scale, translation = self.params[..., CAMERA_SCALE], self.params[..., CAMERA_TRANSLATION]
        return np.concatenate([scale[..., None], translation], axis=-1)

    @property
    def hands(self) -> HandPair:
        """The hand models."""
        return self.loaded.hands

    @property
    def faces(self) -> tuple[np.ndarray, np.ndarray]:
        """Two arrays (1538, 3)."""
        return tuple(self.hands[side].faces for side in SIDES)

    @property
    def root_joint(self) -> int:
        """The joint to which the network's own vertices are relative."""
        return self.loaded.model.config.root_joint

    @property
    def finite(self) -> bool:
        """Whether there is anything to show: an answer with NaN or infinity is none."""
        numbers = [self.presence, *jax.tree.leaves(self.stages)]
        return all(bool(np.isfinite(values).all()) for values in numbers)

    @property
    def warnings(self) -> list[str]:
        """What is to be said of it before anyone believes it."""
        unsure = [
            f"unsure whether the {side} hand is there ({sure:.2f})"
            for side, sure, there in zip(SIDES, self.presence, self.present, strict=True)
            if there and sure < UNSURE
        ]
        return [*filter(None, [self.photo.doubt]), *unsure]


class Clock:
    """Seconds spent on things with names.

    Attributes:
      seconds: by name; 0 for what was never done.
    """

    def __init__(self):
        self.seconds: collections.Counter[str] = collections.Counter()

    @contextlib.contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Adds the block's seconds to a name."""
        begin = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] += time.perf_counter() - begin

    def each(self, name: str, items: Iterable) -> Iterator:
        """The items; what getting them takes is added to a name."""
        items = iter(items)
        while True:
            with self(name):
                item = next(items, None)
            if item is None:
                return
            yield item


class Predictor:
    """Runs a model on photos in batches of one size, so that it is compiled once.

    Args:
      loaded: the model.
      batch_size: photos at a time; fewer are padded.
      landmarks: whether hands are moved onto the landmarks that are seen of them; None: where the
        weights are the shipped ones.
      clock: is told the seconds of "compiling" (of waiting for what threads compile, or load from
        JAX's cache), "network" and "landmarks".
    """

    def __init__(
        self,
        loaded: Loaded,
        batch_size: int = 8,
        clock: Clock | None = None,
        landmarks: bool | None = None,
    ):
        self.loaded = loaded
        self.batch_size = batch_size
        landmarks = loaded.source == DEFAULT if landmarks is None else landmarks
        self._detector = HandDetector() if landmarks else None
        self._clock = clock or Clock()
        self._variables = jax.device_put(loaded.variables)

    @functools.cached_property
    def _program(self) -> Future[Callable]:
        images = jax.ShapeDtypeStruct((self.batch_size, IMAGE_SIZE, IMAGE_SIZE, 3), np.uint8)
        lower = functools.partial(_answer.lower, self.loaded.model, self._variables, images)
        return in_background(lambda: lower().compile())

    @functools.cached_property
    def _landmarks_ready(self) -> Future[None]:
        return in_background(compile_for, self.loaded)

    def prepare(self) -> None:
        """Begins to compile, in threads, what `photos` will wait for."""
        _ = self._program
        if self._detector is not None:
            _ = self._landmarks_ready

    def photos(self, photos: Iterable[Photo]) -> Iterator[Result]:
        """Results in order; holds one batch of photos at a time."""
        for batch in batched(photos, self.batch_size):
            crops = np.zeros((self.batch_size, IMAGE_SIZE, IMAGE_SIZE, 3), np.uint8)
            for place, photo in enumerate(batch):
                crops[place] = photo.crop()
            with self._clock("compiling"):
                program = self._program.result()
            with self._clock("network"):
                stages, presence = program(self._variables, crops)
                stages = jax.tree.map(lambda *values: np.stack(values, axis=1), *stages)
                presence = np.asarray(presence, np.float64)
            for place, photo in enumerate(batch):
                answer = jax.tree.map(lambda value, i=place: value[i], stages)
                sure = with_detector(presence[place], photo.seen)
                # In a photo there is a hand: someone drew the box, or a detector did.
                present = sure >= min(PRESENT, sure.max())
                result = Result(photo, answer, self.loaded, sure, present)
                if self._detector is not None:
                    with self._clock("compiling"):
                        self._landmarks_ready.result()
                    with self._clock("landmarks"):
                        result = on_landmarks(result, self._detector)
                yield result


@functools.partial(jax.jit, static_argnums=0)
def _answer(model, variables, images):
    """All stages of crops (B, 256, 256, 3) uint8, and how sure it is of each hand (B, 2)."""
    output = model.apply(variables, normalise_images(images), train=False)
    return output.stages, seen(output.segmentation)


def batched(items: Iterable, size: int) -> Iterator[list]:
    """Lists of `size` items, the last one shorter."""
    batch: list = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
