"""Shows what training sees: augmented photographs, their labels drawn over them, the label maps.

    python -m dir_jax.training.preview --data DATA --output FILE.png

Look at it before a long training: meshes that do not lie on the hands mean wrong annotations,
wrong hand models (MANO's parameters drawn with another hand) or a mistake in the preparation.
"""

from __future__ import annotations

import argparse
import functools
import sys
from collections.abc import Mapping

import cv2
import jax
import numpy as np

import mano_jax
from dir_jax.losses.targets import targets_from_batch
from dir_jax.models.types import IMAGE_SIZE, SEGMENTATION_CLASSES, Targets
from dir_jax.pictures.drawing import HAND_COLOURS, contact_sheet, draw_meshes, save_png, to_uint8
from dir_jax.weights.loading import load_hands
from mano_jax.constants import SIDES

_COLUMNS = 2
_OPACITY = 0.65
_CLASS_COLOURS = {"background": (0.0, 0.0, 0.0), **dict(zip(SIDES, HAND_COLOURS, strict=True))}


def draw_example(image: np.ndarray, labels: Targets, hands: mano_jax.HandPair) -> np.ndarray:
    """One training example beside its labels.

    Args:
      image: (256, 256, 3) uint8.
      labels: of this example, without a batch axis.
      hands: for the triangles.

    Returns:
      (256, 640, 3) uint8: the photograph; both meshes over it (left blue, right orange); small,
      the segmentation and the dense correspondence, each cell a square.
    """
    points_px = (labels.vertices_uv + 1) * (IMAGE_SIZE / 2)
    vertices_xyz = np.asarray(labels.vertices_xyz)
    vertices_xyz = np.where(labels.hand_valid[:, None, None], vertices_xyz, np.nan)
    faces = [hands[side].faces for side in SIDES]
    overlay = draw_meshes(image, points_px, vertices_xyz[..., 2], vertices_xyz, faces, _OPACITY)
    classes = np.array([_CLASS_COLOURS[name] for name in SEGMENTATION_CLASSES])
    half = (IMAGE_SIZE // 2, IMAGE_SIZE // 2)
    maps = [
        cv2.resize(to_uint8(values), half, interpolation=cv2.INTER_NEAREST)
        for values in (classes[labels.segmentation], labels.dense)
    ]
    return np.concatenate([image, overlay, np.concatenate(maps)], axis=1)


def draw_batch(batch: Mapping[str, np.ndarray], hands: mano_jax.HandPair) -> np.ndarray:
    """All examples of a batch (see `input_pipeline.batches`) on one (H, W, 3) uint8 sheet."""
    arrays = {name: value for name, value in batch.items() if name != "image"}
    targets = jax.jit(functools.partial(targets_from_batch, hands=hands))(arrays)
    targets = jax.tree.map(np.asarray, targets)
    pictures = [
        draw_example(image, jax.tree.map(lambda leaf, i=i: leaf[i], targets), hands)
        for i, image in enumerate(batch["image"])
    ]
    return contact_sheet(pictures, min(_COLUMNS, len(pictures)))


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m dir_jax.training.preview",
        description="Draws augmented training examples with their labels.",
    )
    add = parser.add_argument
    add("--data", required=True, help="folder written by input_pipeline.prepare --output")
    add("--output", required=True, metavar="FILE.png", help="the picture to write")
    add("--mano", help="folder with MANO_LEFT and MANO_RIGHT (default: the open hand)")
    add("--config", default="interacting", help="which prepared configuration")
    add("--split", default="train", help="which split")
    add("--count", type=int, default=12, help="how many examples")
    add("--seed", type=int, default=0, help="of the order and the augmentation")
    add("--plain", action="store_true", help="no augmentation")
    options = parser.parse_args(arguments)
    if options.count < 1:
        parser.error(f"--count is {options.count}; wanted 1 or more")
    if not options.output.lower().endswith(".png"):
        parser.error(f"--output is {options.output}; wanted a name that ends in .png")
    return options


def _run(options: argparse.Namespace) -> None:
    hands, notes = load_hands(options.mano)
    for note in notes:
        print(note, file=sys.stderr)
    from input_pipeline.augment import AugmentConfig
    from input_pipeline.batches import train_batches

    stream = train_batches(
        options.data,
        split=options.split,
        config=options.config,
        batch_size=options.count,
        seed=options.seed,
        augment=None if options.plain else AugmentConfig(),
    )
    batch = next(stream)
    stream.close()
    save_png(options.output, draw_batch(batch, hands))
    print(f"{options.output}: {options.count} examples of {options.split}")


def main(arguments: list[str] | None = None) -> int:
    """The command; returns its exit status."""
    options = _options(arguments)
    try:
        _run(options)
    except (ValueError, OSError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
