"""Pictures of an evaluation: the worst, median and best samples, and the PCK curves."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from dir_jax.evaluation.protocols import PROTOCOLS
from dir_jax.models.forward import estimate_all
from dir_jax.models.types import Stage
from dir_jax.pictures.drawing import caption, contact_sheet, save_png
from dir_jax.training.drawing import comparison_picture
from dir_jax.weights.loading import Loaded
from input_pipeline.files import whole_file
from mano_jax import HandPair

_LABELS = {
    "wrist_scaled": "wrist, scaled",
    "mcp_scaled": "MCP, scaled",
    "mcp_unscaled": "MCP",
    "wrist_unscaled": "wrist",
}


def chosen_samples(
    indices: np.ndarray, errors: np.ndarray, count: int
) -> dict[str, list[tuple[int, float]]]:
    """The worst, middle and best samples.

    Args:
      indices: (N,) numbers of the samples.
      errors: (N,) their errors; NaN is left out.
      count: samples of each kind.

    Returns:
      (number, error) pairs by "worst", "median" and "best".
    """
    known = np.isfinite(errors)
    indices, errors = indices[known], errors[known]
    order = np.argsort(errors, kind="stable")
    count = min(count, len(order))
    start = (len(order) - count) // 2
    places = {"worst": order[::-1][:count], "median": order[start : start + count]}
    places["best"] = order[:count]
    return {
        name: [(int(indices[i]), float(errors[i])) for i in rows] for name, rows in places.items()
    }


def read_examples(
    data_dir: str | os.PathLike, split: str, indices: Sequence[int], config: str
) -> dict[str, np.ndarray]:
    """Chosen examples as a batch of `input_pipeline.batches.eval_batches`, without tensorflow."""
    import mano_jax
    from input_pipeline import dataset, records

    source = dataset.open_split(data_dir, split, config)
    found = [records.deserialize(data) for data in source.read(indices)]
    edge = records.MARGIN
    images = [records.decode_jpeg(row.image)[edge:-edge, edge:-edge] for row in found]

    def stack(name: str, *shape: int) -> np.ndarray:
        return np.stack([getattr(row, name) for row in found]).reshape(len(found), *shape)

    return {
        "image": np.stack(images),
        "global_orient": np.asarray(
            mano_jax.matrix_from_axis_angle(stack("global_orient", 2, 3)), np.float32
        ),
        "hand_pose": stack("hand_pose", 2, 15, 3),
        "betas": stack("betas", 2, 10),
        "transl": stack("transl", 2, 3),
        "camera": stack("camera", 3, 3),
        "hand_valid": stack("hand_valid", 2),
    }


class Examples(NamedTuple):
    """Examples of a split with what a model says of them.

    Attributes:
      split: they are from.
      indices: their numbers.
      batch: as from `read_examples`.
      stages: the network's estimates, numpy.
    """

    split: str
    indices: Sequence[int]
    batch: dict[str, np.ndarray]
    stages: tuple[Stage, ...]


def look_at(
    loaded: Loaded,
    data_dir: str | os.PathLike,
    split: str,
    indices: Sequence[int],
    config: str = "interacting",
    batch_size: int = 8,
) -> Examples:
    """Runs a model on chosen examples.

    Args:
      loaded: the model.
      data_dir: prepared data.
      split: of the examples.
      indices: at least one.
      config: configuration of the data.
      batch_size: images at a time; that of the evaluation is compiled already.
    """
    batch = read_examples(data_dir, split, indices, config)
    stages = estimate_all(loaded.model, loaded.variables, batch["image"], batch_size)
    return Examples(split, list(indices), batch, stages)


def draw_samples(
    path: str | os.PathLike,
    hands: HandPair,
    examples: Examples,
    samples: Sequence[tuple[int, float]],
) -> None:
    """Draws samples as rows: photo, label, prediction, both from the side.

    Args:
      path: PNG to write.
      hands: the hand models.
      examples: with all these samples among them.
      samples: (number, error in mm) of each.
    """
    rows = []
    for index, error in samples:
        row = examples.indices.index(index)
        picture = comparison_picture(examples.batch, examples.stages, row, hands)
        rows.append(_titled(picture, f"{examples.split} {index}: MPJPE {error:.1f} mm"))
    save_png(path, contact_sheet(rows, 1))


def _titled(picture: np.ndarray, text: str) -> np.ndarray:
    """The picture under a strip with a line of text."""
    strip = np.full((20, picture.shape[1], 3), 40, np.uint8)
    strip[:, :480] = caption(strip[:, :480], text)
    return np.concatenate([strip, picture])


def draw_pck(path: str | os.PathLike, results: Mapping[str, Mapping[str, Any]]) -> None:
    """Draws the share of joints within 0-50 mm, one panel a protocol, one line a predictor.

    Args:
      path: PNG to write.
      results: contents of `evaluation.json` by name.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, len(PROTOCOLS), figsize=(4 * len(PROTOCOLS), 3.6))
    for panel, protocol in zip(panels, PROTOCOLS, strict=True):
        for name, result in results.items():
            curve = result["pck"]
            label = f"{name} ({result[protocol]['auc_0_50']:.3f})"
            panel.plot(curve["thresholds_mm"], curve[protocol], label=label)
        panel.set(title=_LABELS[protocol], xlabel="error, mm", xlim=(0, 50), ylim=(0, 1))
        panel.grid(alpha=0.3)
        panel.legend(loc="lower right", fontsize=8, title="AUC 0-50")
    panels[0].set_ylabel("share of joints")
    figure.tight_layout()
    with whole_file(path) as temporary:
        figure.savefig(temporary, dpi=110)
    pyplot.close(figure)


def draw_evaluation(
    stem: str,
    hands: HandPair,
    examples: Examples,
    ranking: tuple[np.ndarray, np.ndarray],
    count: int,
) -> list[str]:
    """Writes STEM_worst.png, STEM_median.png and STEM_best.png.

    Args:
      stem: beginning of the files' names.
      hands: the hand models.
      examples: the chosen samples (see `chosen_samples`) and what the model says of them.
      ranking: (N,) numbers and (N,) errors of the samples (`samples.Samples.ranking`).
      count: samples in each picture.

    Returns:
      The files.
    """
    paths = []
    for name, samples in chosen_samples(*ranking, count).items():
        if samples:
            paths.append(f"{stem}_{name}.png")
            draw_samples(paths[-1], hands, examples, samples)
    return paths
