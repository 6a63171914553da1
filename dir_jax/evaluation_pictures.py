"""Pictures of an evaluation: the worst, median and best samples, and the PCK curves."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dir_jax.files import whole_file
from dir_jax.loading import Loaded
from dir_jax.metrics import PROTOCOLS
from dir_jax.pictures import caption, contact_sheet, save_png
from dir_jax.prediction import Predictor
from dir_jax.training.drawing import comparison_picture

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


def draw_samples(
    path: str | os.PathLike,
    loaded: Loaded,
    data_dir: str | os.PathLike,
    split: str,
    samples: Sequence[tuple[int, float]],
    config: str = "interacting",
) -> None:
    """Draws samples as rows: photo, label, prediction, both from the side.

    Args:
      path: PNG to write.
      loaded: the model.
      data_dir: prepared data.
      split: of the samples.
      samples: (number, error in mm) of each.
      config: configuration of the data.
    """
    batch = read_examples(data_dir, split, [index for index, _ in samples], config)
    stages = Predictor(loaded, len(samples)).crops(batch["image"])
    rows = []
    for row, (index, error) in enumerate(samples):
        picture = comparison_picture(batch, stages, row, loaded.hands)
        rows.append(_titled(picture, f"{split} {index}: MPJPE {error:.1f} mm"))
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
    loaded: Loaded,
    data_dir: str | os.PathLike,
    split: str,
    ranking: tuple[np.ndarray, np.ndarray],
    count: int,
    config: str = "interacting",
) -> list[str]:
    """Writes STEM_worst.png, STEM_median.png and STEM_best.png.

    Args:
      stem: beginning of the files' names.
      loaded: the model.
      data_dir: prepared data.
      split: that was evaluated.
      ranking: (N,) numbers and (N,) errors of the samples (`samples.Samples.ranking`).
      count: samples in each picture.
      config: configuration of the data.

    Returns:
      The files.
    """
    paths = []
    for name, samples in chosen_samples(*ranking, count).items():
        if samples:
            paths.append(f"{stem}_{name}.png")
            draw_samples(paths[-1], loaded, data_dir, split, samples, config)
    return paths
