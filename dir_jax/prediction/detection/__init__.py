"""Finding hands in a photo, offline and on the CPU; optional (docs/prediction.md).

The models are Google's MediaPipe Hands (Apache-2.0), taken from the npm package `@mediapipe/hands`
and run by `ai-edge-litert`; what comes before and after them is written here.
"""

from dir_jax.prediction.detection.detector import HandDetector, SeenHand, load_detector
from dir_jax.prediction.detection.model_files import DetectorError

__all__ = ["DetectorError", "HandDetector", "SeenHand", "load_detector"]
