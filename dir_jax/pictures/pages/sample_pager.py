"""A pager through samples: pictures, both hands in space, numbers, and a list to sort."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from dir_jax.pictures.pages.hands3d import StageMesh, hands_content, shared_content
from dir_jax.pictures.pages.images import data_uri
from dir_jax.pictures.pages.page import Html, element, json_script


class SamplePicture(NamedTuple):
    """One of a sample's pictures.

    Attributes:
      label: below it.
      images: (h, w, 3) uint8; one, or one for every stage, of which the chosen one is shown.
    """

    label: str
    images: Sequence[np.ndarray]


class Sample(NamedTuple):
    """What the pager shows of one sample.

    Attributes:
      name: who it is.
      groups: buttons that lead to it ("worst").
      numbers: by the columns' names; None where there is no number.
      pictures: of it.
      stages: predicted hands, at least one stage.
      truth_xyz: (2, V, 3) the true hands in the same space; None: unknown.
    """

    name: str
    groups: Sequence[str]
    numbers: Mapping[str, float | None]
    pictures: Sequence[SamplePicture]
    stages: Sequence[StageMesh]
    truth_xyz: np.ndarray | None


def sample_pager(samples: Sequence[Sample], faces: Sequence[np.ndarray]) -> Html:
    """A pager through samples, in the given order at first.

    Args:
      samples: at least one, all with the same columns of numbers.
      faces: two arrays (F, 3) of all their meshes.

    Returns:
      Markup for `page.Section`.

    Raises:
      ValueError: no samples, or hands that cannot be shown (see `hands3d.hands_figure`).
    """
    if not samples:
        raise ValueError("no samples: there is nothing to page through")
    groups = dict.fromkeys(group for sample in samples for group in sample.groups)
    content = {
        "columns": list(samples[0].numbers),
        "groups": list(groups),
        "shared": shared_content(faces),
        "samples": [_content(sample) for sample in samples],
    }
    return element("div", json_script(content), data_figure="samples", class_="samples")


def _content(sample: Sample) -> dict[str, Any]:
    numbers = [
        None if value is None or not np.isfinite(value) else round(float(value), 3)
        for value in sample.numbers.values()
    ]
    return {
        "name": sample.name,
        "groups": list(sample.groups),
        "numbers": numbers,
        "pictures": [
            {"label": picture.label, "uris": [data_uri(image) for image in picture.images]}
            for picture in sample.pictures
        ],
        "hands": hands_content(sample.stages, truth_xyz=sample.truth_xyz),
    }
