"""Gets the hand detector's models, and measures it.

python -m dir_jax.prediction.detection --download [--folder DIR]
python -m dir_jax.prediction.detection --package mediapipe-hands-0.4.1675469240.tgz
python -m dir_jax.prediction.detection --score RAW --split test
"""

from __future__ import annotations

import argparse
import sys

from dir_jax.prediction.detection.model_files import DetectorError, download, unpack


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m dir_jax.prediction.detection",
        description="Gets the hand detector's models (MediaPipe Hands, Apache-2.0), measures it.",
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--download", action="store_true", help="fetch the npm package with npm")
    what.add_argument("--package", metavar="FILE.tgz", help="unpack what npm pack left elsewhere")
    what.add_argument("--score", metavar="RAW", help="compare with boxes in InterHand2.6M's layout")
    parser.add_argument("--split", default="test", help="of --score (default: test)")
    parser.add_argument("--limit", type=int, help="photos of --score (default: all)")
    parser.add_argument("--folder", metavar="DIR", help="of the models (default: the cache)")
    return parser


def _score(arguments: argparse.Namespace) -> None:
    from dir_jax.prediction.detection.detector import load_detector
    from tools.detector_score import annotated_photos, score_photo, summary

    detector = load_detector(arguments.folder)
    scores = []
    for path, kind, box in annotated_photos(arguments.score, arguments.split):
        if arguments.limit and len(scores) >= arguments.limit:
            break
        scores.append(score_photo(detector, path, kind, box))
        last = scores[-1]
        print(f"{last.overlap:.2f} {last.hands} {last.kind:11} {path}", flush=True)
    if not scores:
        raise DetectorError(f"{arguments.score}: no annotated photos of {arguments.split}")
    print(summary(scores))


def main(argv: list[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    arguments = _parser().parse_args(argv)
    try:
        if arguments.score:
            _score(arguments)
            return 0
        if arguments.download:
            files = download(arguments.folder)
        else:
            files = unpack(arguments.package, arguments.folder)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for file in files:
        print(file)
    return 0


if __name__ == "__main__":
    sys.exit(main())
