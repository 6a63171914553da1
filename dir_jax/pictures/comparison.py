"""A prediction beside its label, as a row of pictures."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from dir_jax.pictures.drawing import (
    caption,
    contact_sheet,
    draw_meshes,
    draw_view,
    view_extent,
)


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
