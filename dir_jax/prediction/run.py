"""One run of predict.py over photos: read, find the box, reconstruct, write, keep count."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from dir_jax.prediction.box_finding import Finder
from dir_jax.prediction.inputs import Source
from dir_jax.prediction.photos import Photo, PhotoError, photo_from_image, read_image
from dir_jax.prediction.predictor import Predictor, batched
from dir_jax.prediction.result import NotFiniteError, Result, result_of

Writer = Callable[[Result], Sequence[object]]
"""Leaves something of a result and returns the files; predict.py calls every writer in turn."""


class Placed(NamedTuple):
    """A photo with its source, ready for the network."""

    source: Source
    photo: Photo
    origin: str


class Clock:
    """Seconds spent on things with names."""

    def __init__(self):
        self.seconds: dict[str, float] = {}

    @contextlib.contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Adds the block's seconds to a name."""
        begin = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - begin


class Run:
    """Photos, failures and seconds of one call of the command.

    Args:
      predictor: the network.
      finder: where the hands are.
      writers: what to do with every result.
      clock: collects seconds.
    """

    def __init__(
        self, predictor: Predictor, finder: Finder, writers: Sequence[Writer], clock: Clock
    ):
        self.predictor = predictor
        self.finder = finder
        self.writers = writers
        self.clock = clock
        self.done = 0
        self.frames = 0
        self.failed = 0

    def fail(self, why: object) -> None:
        """Counts and names something that cannot be used."""
        self.failed += 1
        print(f"error: {why}", file=sys.stderr, flush=True)

    def place(self, source: Source, image: np.ndarray, finder: Finder | None = None) -> Placed:
        """Puts the crop of an image around its hands.

        Raises:
          PhotoError: no box, or one outside the photo.
        """
        with self.clock("finding hands"):
            found = (finder or self.finder)(source, image)
        photo = photo_from_image(image, source.path, found.box)
        return Placed(source, photo._replace(hand_boxes=found.hand_boxes), found.origin)

    def photos(self, sources: Iterable[Source]) -> Iterator[Result]:
        """Results of photos in order, a batch at a time; unusable ones are named and skipped."""
        for batch in batched(self._open(sources), self.predictor.batch_size):
            for result in self.results(batch):
                if isinstance(result, NotFiniteError):
                    self.fail(result)
                else:
                    yield result

    def results(self, batch: Sequence[Placed]) -> Iterator[Result | NotFiniteError]:
        """Runs the network on at most one batch; one answer for each."""
        found = self.predictor.photos(placed.photo for placed in batch)
        for placed, reconstruction in zip(batch, found, strict=True):
            stem, loaded = placed.source.stem, self.predictor.loaded
            try:
                yield result_of(stem, reconstruction, loaded, placed.origin)
            except NotFiniteError as error:
                yield error

    def write(self, result: Result) -> list[object]:
        """Hands a result to every writer; returns the files."""
        with self.clock("drawing and writing"):
            paths = [path for writer in self.writers for path in writer(result)]
        self.done += 1
        return paths

    def _open(self, sources: Iterable[Source]) -> Iterator[Placed]:
        for source in sources:
            try:
                with self.clock("reading"):
                    image = read_image(source.path)
                placed = self.place(source, image)
            except PhotoError as error:
                self.fail(error)
                continue
            yield placed
