"""The command behind predict.py."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence

import jax

from dir_jax.loading import Loaded, load_model
from dir_jax.photos import Photo, PhotoError, open_photo
from dir_jax.prediction import Predictor
from dir_jax.prediction_files import unique_stem, write_reconstruction

Box = tuple[float, float, float, float]


def parse_box(text: str) -> Box:
    """Reads "x,y,w,h".

    Raises:
      argparse.ArgumentTypeError: not four numbers, or an empty box.
    """
    try:
        x, y, width, height = (float(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no box; wanted x,y,width,height in pixels, for example 120,80,240,200"
        ) from None
    if not (width > 0 and height > 0):
        raise argparse.ArgumentTypeError(f"the box {text!r} is empty; wanted a width and a height")
    return x, y, width, height


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the ways to name a trained model (exactly one must be given) and --mano."""
    group = parser.add_argument_group("model (one of these)")
    group.add_argument("--workdir", metavar="DIR", help="folder of a training run")
    group.add_argument(
        "--checkpoint", metavar="PATH", help="checkpoint, or dir_jax.convert's output"
    )
    group.add_argument("--torch_checkpoint", metavar="DIR.pth", help="the authors' weights")
    parser.add_argument(
        "--mano", metavar="DIR", help="folder with MANO_LEFT and MANO_RIGHT (.pkl or .npz)"
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="predict.py", description="Reconstructs both hands in photographs."
    )
    parser.add_argument("--image", nargs="+", required=True, metavar="FILE", help="photos")
    parser.add_argument("--output", required=True, metavar="DIR", help="folder for the results")
    add_model_arguments(parser)
    parser.add_argument(
        "--box",
        nargs="+",
        type=parse_box,
        metavar="x,y,w,h",
        help="box around both hands in pixels of the upright photo: one for all photos or one "
        "each (default: the whole photo)",
    )
    parser.add_argument("--batch_size", type=int, default=8, help="photos at a time")
    return parser


class _Run:
    """Photos, failures and seconds of one call of the command."""

    def __init__(self):
        self.failed = 0
        self.reading = 0.0

    def open(self, files: Sequence[str], boxes: Sequence[Box | None]) -> Iterator[Photo]:
        """Opens the photos one by one; names and skips those that cannot be used."""
        for file, box in zip(files, boxes, strict=True):
            begin = time.perf_counter()
            try:
                photo = open_photo(file, box)
            except PhotoError as error:
                self.failed += 1
                print(f"error: {error}", file=sys.stderr)
                continue
            finally:
                self.reading += time.perf_counter() - begin
            yield photo


def _boxes(boxes: list[Box] | None, count: int) -> list[Box | None]:
    if boxes is None or len(boxes) == 1:
        return (boxes or [None]) * count
    if len(boxes) != count:
        raise ValueError(f"{len(boxes)} boxes for {count} photos; wanted one for all or one each")
    return list(boxes)


def predict(arguments: argparse.Namespace) -> int:
    """Runs the parsed command; returns the exit status.

    Raises:
      ValueError, OSError: nothing can be done at all (weights, hand models, output folder).
    """
    boxes = _boxes(arguments.box, len(arguments.image))
    if arguments.batch_size < 1:
        raise ValueError(f"--batch_size is {arguments.batch_size}; wanted 1 or more")
    begin = time.perf_counter()
    loaded = load_model(
        workdir=arguments.workdir,
        checkpoint=arguments.checkpoint,
        torch_checkpoint=arguments.torch_checkpoint,
        mano=arguments.mano,
    )
    for note in loaded.notes:
        print(f"note: {note}")
    print(f"hands: {loaded.hands.name} ({loaded.hands.licence})")
    loading = time.perf_counter() - begin
    predictor = Predictor(loaded, min(arguments.batch_size, len(arguments.image)))
    run = _Run()
    done, writing = _write_all(predictor, run, arguments, boxes, loaded)
    total = time.perf_counter() - begin
    network = total - loading - run.reading - writing
    print(
        f"{done} photos in {total:.1f} s: loading {loading:.1f}, reading {run.reading:.1f}, "
        f"network {network:.1f} ({predictor.first_batch:.1f} of it the first batch, compilation "
        f"included), writing {writing:.1f}"
    )
    if run.failed:
        print(f"error: {run.failed} of {len(boxes)} photos could not be used", file=sys.stderr)
    return 2 if run.failed else 0


def _write_all(
    predictor: Predictor,
    run: _Run,
    arguments: argparse.Namespace,
    boxes: Sequence[Box | None],
    loaded: Loaded,
) -> tuple[int, float]:
    """Writes every reconstruction; returns how many, and the seconds it took."""
    taken: set[str] = set()
    done, writing = 0, 0.0
    for found in predictor.photos(run.open(arguments.image, boxes)):
        begin = time.perf_counter()
        stem = unique_stem(found.photo.name, taken)
        paths = write_reconstruction(arguments.output, stem, found, loaded)
        done += 1
        writing += time.perf_counter() - begin
        print(f"[{done + run.failed}/{len(boxes)}] {found.photo.name} -> {paths[0]}", flush=True)
    return done, writing


def main(argv: list[str] | None = None) -> int:
    """Entry point of predict.py; returns the exit status."""
    arguments = _parser().parse_args(argv)
    try:
        return predict(arguments)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except jax.errors.JaxRuntimeError as error:
        print(f"error: the device gave up: {str(error).splitlines()[0]}", file=sys.stderr)
        return 2
