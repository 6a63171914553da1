"""How far the hands that predict.py finds lie from annotated joints, in photographs.

    python -m tools.joint_score --source RAW --split test

RAW is a folder in InterHand2.6M's layout. Distances are means over a hand's annotated joints, in
the image, in percent of the longer side of the annotated box. Hands are looked for as `predict.py`
does; of several pairs in a photo the surest counts.
"""

from __future__ import annotations

import argparse
import sys

import numpy as np

from dir_jax.prediction.boxes import NoHandError, detected
from dir_jax.prediction.detection import HandDetector
from dir_jax.prediction.inputs import Source
from dir_jax.prediction.landmarks import on_landmarks
from dir_jax.prediction.photos import read_image
from dir_jax.prediction.predictor import Predictor, Result
from dir_jax.weights.loading import DEFAULT, load_model
from input_pipeline.commands import command
from input_pipeline.crop import project
from input_pipeline.sources import open_split
from input_pipeline.sources.frames import Frame
from mano_jax.constants import SIDES
from tools.detector_score import annotated_photos


def distances_percent(result: Result, frame: Frame, longer_side: float) -> np.ndarray:
    """(2,) mean distance of the left and the right hand's joints; NaN for what has no annotation.

    A hand that is not drawn counts where the network has it.
    """
    found = result.photo.to_photo_px(result.stages.joints_uv[-1])
    apart = np.full(2, np.nan)
    for side, valid in enumerate(frame.joint_valid):
        if valid.any():
            true = project(frame.camera.intrinsics, frame.joints_xyz[side][valid])
            apart[side] = np.linalg.norm(found[side][valid] - true, axis=-1).mean()
    return 100 * apart / longer_side


@command
def main(arguments: list[str]) -> int:
    """The command; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--source", required=True, help="folder in InterHand2.6M's layout")
    parser.add_argument("--split", default="test", help="default: test")
    parser.add_argument("--weights", default=DEFAULT, help=f"name or file (default: {DEFAULT})")
    options = parser.parse_args(arguments)
    detector = HandDetector()
    predictor = Predictor(load_model(options.weights), 1, landmarks=False)
    look = detected(detector.hands)
    reader = open_split(options.source, options.split)
    numbers = {name: index for index, name in enumerate(reader.file_names)}
    for path, kind, box in annotated_photos(options.source, options.split):
        name = path.relative_to(reader.images_folder).as_posix()
        frame = reader.frame(numbers[name])
        try:
            photo = look(Source(str(path), "", False, 0), read_image(path))[0]
        except NoHandError:
            print(f"{name} ({kind}): no hand seen")
            continue
        alone = next(predictor.photos([photo]))
        ways = {"network alone": alone, "with landmarks": on_landmarks(alone, detector)}
        for way, result in ways.items():
            apart = distances_percent(result, frame, max(box[2:]))
            hands = (
                f"{side} {value:.1f} %{'' if drawn else ' (not drawn)'}"
                for side, value, drawn in zip(SIDES, apart, result.present, strict=True)
                if np.isfinite(value)
            )
            print(f"{name} ({kind}), {way}: {', '.join(hands)}; mean {np.nanmean(apart):.1f} %")
    return 0


if __name__ == "__main__":
    sys.exit(main())
