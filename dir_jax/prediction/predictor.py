"""Both hands from photographs: running the network and placing what it says in space and image."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import jax
import numpy as np

from dir_jax.models.constants import IMAGE_SIZE
from dir_jax.models.forward import estimate
from dir_jax.models.types import Stage, offset_metres, one_space
from dir_jax.pictures.drawing import draw_meshes
from dir_jax.prediction.photos import Photo
from dir_jax.weights.loading import Loaded


class Reconstruction(NamedTuple):
    """Both hands of one photo, numpy; hands are an axis of size 2, left and right.

    Attributes:
      photo: what was looked at.
      stages: the network's estimates, the last one best; arrays without the batch axis.
    """

    photo: Photo
    stages: tuple[Stage, ...]

    @property
    def offset_xyz(self) -> np.ndarray:
        """(3,) metres, right wrist minus left wrist, camera axes."""
        return offset_metres(self.stages[-1])

    def vertices_px(self, stage: int = -1) -> np.ndarray:
        """(2, 778, 2) pixels of the photo, each hand by its own weak-perspective camera."""
        return self.photo.to_photo_px(self.stages[stage].vertices_uv)

    def joints_px(self, stage: int = -1) -> np.ndarray:
        """(2, 21, 2) pixels of the photo."""
        return self.photo.to_photo_px(self.stages[stage].joints_uv)


class Predictor:
    """Runs a model on crops in batches of one size, so that it is compiled once.

    Attributes:
      loaded: the model.
      batch_size: crops at a time; fewer are padded.
      compiling: seconds that compilation took, or loading the program from JAX's cache.
      running: seconds the network ran.
      looked_at: crops so far.
    """

    def __init__(self, loaded: Loaded, batch_size: int = 8):
        self.loaded = loaded
        self.batch_size = batch_size
        self.compiling = 0.0
        self.running = 0.0
        self.looked_at = 0
        self._variables = jax.device_put(loaded.variables)
        self._compiled = None

    def compile(self) -> None:
        """Compiles the network now instead of at the first crops."""
        begin = time.perf_counter()
        shape = (self.batch_size, IMAGE_SIZE, IMAGE_SIZE, 3)
        images = jax.ShapeDtypeStruct(shape, np.uint8)
        self._compiled = estimate.lower(self.loaded.model, self._variables, images).compile()
        self.compiling += time.perf_counter() - begin

    def crops(self, images: np.ndarray) -> tuple[Stage, ...]:
        """Estimates for at most `batch_size` crops (n, 256, 256, 3) uint8, numpy arrays."""
        if self._compiled is None:
            self.compile()
        count = len(images)
        padded = np.zeros((self.batch_size, *images.shape[1:]), np.uint8)
        padded[:count] = images
        begin = time.perf_counter()
        stages = self._compiled(self._variables, padded)
        stages = jax.tree.map(lambda value: np.asarray(value)[:count], stages)
        self.running += time.perf_counter() - begin
        self.looked_at += count
        return stages

    def photos(self, photos: Iterable[Photo]) -> Iterator[Reconstruction]:
        """Reconstructs photos in order; holds one batch of them at a time."""
        for batch in batched(photos, self.batch_size):
            yield from self._batch(batch)

    def _batch(self, photos: Sequence[Photo]) -> Iterator[Reconstruction]:
        stages = self.crops(np.stack([photo.crop() for photo in photos]))
        for index, photo in enumerate(photos):
            yield Reconstruction(photo, jax.tree.map(lambda value, i=index: value[i], stages))


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


def draw_overlay(
    found: Reconstruction, faces: Sequence[np.ndarray], stage: int = -1, opacity: float = 0.9
) -> np.ndarray:
    """The photo (h, w, 3) uint8 with both meshes over it, the nearer hand in front."""
    vertices_xyz, _ = one_space(found.stages[stage])
    return draw_meshes(
        found.photo.image,
        found.vertices_px(stage),
        vertices_xyz[..., 2],
        vertices_xyz,
        faces,
        opacity,
    )
