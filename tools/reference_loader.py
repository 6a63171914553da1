"""Speed of the public PyTorch code's data loader, run from a user's own checkout, unedited.

Used by `tools.pipeline_speed --reference CHECKOUT`. `write_processed` puts prepared examples
into the layout that code reads; run as a module, this file times its DataLoader over them, in a
process of its own, since forked workers and other libraries' threads do not go together. Needs
torch and scipy; packages the loader imports but does not use are replaced when missing.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import pathlib
import pickle
import sys
import time
import types
from unittest import mock

import cv2
import numpy as np

import mano_jax
from input_pipeline.crop import CROP_SIZE, MARGIN
from input_pipeline.dataset import Record
from input_pipeline.image_files import decode_photo
from mano_jax.constants import PARENTS, SIDES

_UNUSED = ("imgaug", "imgaug.augmenters", "yacs", "yacs.config")
_WARM_UP_BATCHES = 2


def write_processed(
    folder: pathlib.Path, records: list[Record], hands: mano_jax.HandPair, split: str = "train"
) -> None:
    """Writes examples in the layout of IntagHand's preparation: crop, mask, dense map, parameters.

    Args:
      folder: new folder; hand files for the loader go into it too.
      records: prepared examples.
      hands: to draw mask and dense map with.
      split: name of the split.
    """
    for name in ("img", "mask", "dense", "anno"):
        (folder / split / name).mkdir(parents=True)
    for i, record in enumerate(records):
        crop = decode_photo(record.image)[MARGIN:-MARGIN, MARGIN:-MARGIN]
        mask, dense = _draw(record, hands)
        for name, picture in (("img", crop), ("mask", mask), ("dense", dense)):
            cv2.imwrite(str(folder / split / name / f"{i}.jpg"), picture[..., ::-1])
        content = {"mano_params": _parameters(record, hands), "camera": _camera(record)}
        (folder / split / "anno" / f"{i}.pkl").write_bytes(pickle.dumps(content))
    for side in SIDES:
        (folder / f"{side}.pkl").write_bytes(pickle.dumps(_hand_file(hands[side])))


def _camera(record: Record) -> dict[str, np.ndarray]:
    return {"R": np.eye(3), "t": np.zeros(3), "camera": record.camera.astype(np.float64)}


def _parameters(record: Record, hands: mano_jax.HandPair) -> dict[str, dict[str, np.ndarray]]:
    rotations = np.asarray(mano_jax.matrix_from_axis_angle(record.global_orient))
    return {
        side: {
            "R": rotations[None, h],
            "pose": np.asarray(
                mano_jax.axis_angle_to_pca(hands[side], record.hand_pose[h].reshape(15, 3))
            )[None],
            "shape": record.betas[None, h],
            "trans": record.transl[None, h],
        }
        for h, side in enumerate(SIDES)
    }


def _draw(record: Record, hands: mano_jax.HandPair) -> tuple[np.ndarray, np.ndarray]:
    """Mask and dense map as that preparation stores them, (256, 256, 3) uint8."""
    from input_pipeline.render import render_meshes, whole_number_centres

    rotations = mano_jax.matrix_from_axis_angle(record.global_orient)
    masks, places = [], []
    for h, side in enumerate(SIDES):
        hand = hands[side]
        pose = record.hand_pose[h].reshape(15, 3)
        mesh = mano_jax.pose_hand(hand, rotations[h], pose, record.betas[h], record.transl[h])
        vertices = np.asarray(mesh.vertices)
        colour = np.zeros((len(vertices), 3))
        colour[:, h] = 1
        masks.append((vertices, hand.faces, colour))
        template = np.asarray(hand.v_template)
        place = (template - template.min(0)) / np.ptp(template, axis=0)
        places.append((vertices, hand.faces, place))
    size = (CROP_SIZE, CROP_SIZE)
    camera = whole_number_centres(record.camera)
    drawn = (render_meshes(meshes, camera, size)[0] for meshes in (masks, places))
    return tuple((255 * picture + 0.5).astype(np.uint8) for picture in drawn)


def _hand_file(hand: mano_jax.Hand) -> dict[str, np.ndarray]:
    from scipy.sparse import csc_matrix

    tree = np.array([PARENTS, range(16)])
    return {
        "v_template": hand.v_template,
        "shapedirs": hand.shapedirs,
        "posedirs": hand.posedirs,
        "weights": hand.lbs_weights,
        "J_regressor": csc_matrix(hand.J_regressor),
        "J": hand.J_regressor @ hand.v_template,
        "hands_components": hand.hands_components,
        "hands_mean": hand.hands_mean,
        "f": hand.faces,
        "kintree_table": tree,
    }


def _normalise_stand_in() -> types.ModuleType:
    """torchvision.transforms with the one class the loader uses, doing the same arithmetic."""
    import torch

    class Normalize:
        def __init__(self, mean, std):
            self._mean, self._std = (torch.tensor(v).view(-1, 1, 1) for v in (mean, std))

        def __call__(self, image):
            return image.clone().sub_(self._mean).div_(self._std)

    module = types.ModuleType("torchvision.transforms")
    module.Normalize = Normalize
    return module


def _is_missing(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is None
    except ModuleNotFoundError:
        return True


def _training_set(checkout: pathlib.Path, folder: pathlib.Path):
    """The checkout's own training data set over `folder`."""
    stand_ins: dict[str, object] = {n: mock.MagicMock(name=n) for n in _UNUSED if _is_missing(n)}
    if _is_missing("torchvision"):
        transforms = _normalise_stand_in()
        stand_ins["torchvision"] = mock.MagicMock(transforms=transforms)
        stand_ins["torchvision.transforms"] = transforms
    sys.path.insert(0, str(checkout))
    with mock.patch.dict(sys.modules, stand_ins):
        from dataset import interhand

    paths = {side: str(folder / f"{side}.pkl") for side in SIDES}
    interhand.get_mano_path = lambda: paths
    return interhand.InterHandDataset(str(folder), "train")


def time_loader(
    checkout: pathlib.Path, folder: pathlib.Path, batch_size: int, batches: int, workers: int
) -> dict[str, float]:
    """The checkout's training set in a PyTorch DataLoader.

    Returns:
      examples_per_second; cpu_ms_per_example of the workers, warm-up included.
    """
    import resource

    import torch

    class Repeated(torch.utils.data.Sampler):
        def __iter__(self):
            wanted = (_WARM_UP_BATCHES + batches) * batch_size
            yield from np.random.default_rng(0).integers(0, len(training_set), wanted).tolist()

    training_set = _training_set(checkout, folder)
    loader = torch.utils.data.DataLoader(
        training_set, batch_size, sampler=Repeated(), num_workers=workers
    )
    begin = 0.0
    for number, _ in enumerate(loader, 1):
        if number == _WARM_UP_BATCHES:
            begin = time.perf_counter()
    wall = time.perf_counter() - begin
    used = resource.getrusage(resource.RUSAGE_CHILDREN)  # the workers have ended by now
    examples = (_WARM_UP_BATCHES + batches) * batch_size
    return {
        "examples_per_second": batches * batch_size / wall,
        "cpu_ms_per_example": 1e3 * (used.ru_utime + used.ru_stime) / examples,
    }


def main() -> int:
    """Times the loader and prints the figures as JSON."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--reference", type=pathlib.Path, required=True)
    parser.add_argument("--folder", type=pathlib.Path, required=True)
    for name in ("batch_size", "batches", "workers"):
        parser.add_argument(f"--{name}", type=int, required=True)
    options = parser.parse_args()
    figures = time_loader(
        options.reference.resolve(),
        options.folder,
        options.batch_size,
        options.batches,
        options.workers,
    )
    print(json.dumps(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
