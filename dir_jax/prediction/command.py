"""The command behind predict.py."""

from __future__ import annotations

import argparse
import functools
import sys
import time
from collections.abc import Sequence

import jax

from dir_jax.prediction.box_finding import Finder, annotated, detected, given, whole_photo
from dir_jax.prediction.boxes import FORMATS, BoxFile, parse_box
from dir_jax.prediction.inputs import Source, find_sources
from dir_jax.prediction.outputs import KINDS, write_result
from dir_jax.prediction.photos import PhotoError
from dir_jax.prediction.predictor import Predictor
from dir_jax.prediction.run import Clock, Run, Writer
from dir_jax.prediction.video import write_video
from dir_jax.weights.arguments import add_model_arguments, keep_compiled, load_named_model


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="predict.py", description="Reconstructs both hands in photographs and videos."
    )
    parser.add_argument(
        "--image",
        "--input",
        dest="inputs",
        nargs="+",
        required=True,
        metavar="PATH",
        help="photos, videos, and folders of them",
    )
    parser.add_argument("--output", required=True, metavar="DIR", help="folder for the results")
    add_model_arguments(parser)
    boxes = parser.add_argument_group("where the hands are (default: the whole photo)")
    boxes = boxes.add_mutually_exclusive_group()
    boxes.add_argument(
        "--box",
        nargs="+",
        type=parse_box,
        metavar="x,y,w,h",
        help="around both hands, pixels of the upright photo: one for all or one for each PATH",
    )
    boxes.add_argument("--boxes", metavar="FILE", help=FORMATS.replace("%", "%%"))
    boxes.add_argument("--detect", action="store_true", help="find them (docs/prediction.md)")
    parser.add_argument(
        "--detector", metavar="DIR", help="folder of the detector's models (default: the cache)"
    )
    parser.add_argument(
        "--write",
        nargs="+",
        choices=KINDS,
        default=list(KINDS),
        metavar="KIND",
        help=f"of {', '.join(KINDS)} (default: all)",
    )
    parser.add_argument(
        "--html", action="store_true", help="a page per photo: overlay, hands to turn, all stages"
    )
    parser.add_argument("--batch_size", type=int, default=8, help="photos at a time (default: 8)")
    return parser


def _finder(arguments: argparse.Namespace) -> Finder:
    """The way to find boxes that the arguments ask for.

    Raises:
      ValueError: a number of boxes that fits nothing, an unreadable file, no detector.
    """
    count = len(arguments.inputs)
    if arguments.box:
        if len(arguments.box) not in (1, count):
            raise ValueError(
                f"{len(arguments.box)} boxes for {count} photos; wanted one for all or one each"
            )
        return given(arguments.box)
    if arguments.boxes:
        return annotated(BoxFile(arguments.boxes))
    if arguments.detect:
        from dir_jax.prediction.detection import load_detector  # optional packages

        return detected(load_detector(arguments.detector))
    return whole_photo


def _writers(arguments: argparse.Namespace) -> list[Writer]:
    """What is done with the result of every photo, in order."""
    writers: list[Writer] = [
        functools.partial(write_result, arguments.output, kinds=arguments.write)
    ]
    if arguments.html:
        from dir_jax.prediction.page import write_page  # plotly is not needed for the rest

        writers.append(functools.partial(write_page, arguments.output))
    return writers


def predict(arguments: argparse.Namespace) -> int:
    """Runs the parsed command; returns the exit status.

    Raises:
      ValueError, OSError: nothing can be done at all (weights, hand models, output folder).
    """
    if arguments.batch_size < 1:
        raise ValueError(f"--batch_size is {arguments.batch_size}; wanted 1 or more")
    finder = _finder(arguments)
    begin = time.perf_counter()
    sources, empty = find_sources(arguments.inputs)
    keep_compiled()
    clock = Clock()
    with clock("loading"):
        loaded = load_named_model(arguments)
    print(f"hands: {loaded.hands.name} ({loaded.hands.licence})")
    size = arguments.batch_size
    if not any(source.video for source in sources):
        size = max(1, min(size, len(sources)))
    run = Run(Predictor(loaded, size), finder, _writers(arguments), clock)
    for line in empty:
        run.fail(line)
    _run_all(run, sources, arguments)
    print(_timing(run, time.perf_counter() - begin))
    if run.failed:
        total = len(sources) + len(empty)
        print(f"error: {run.failed} of {total} inputs could not be used", file=sys.stderr)
    return 2 if run.failed else 0


def _run_all(run: Run, sources: Sequence[Source], arguments: argparse.Namespace) -> None:
    """Photos first, in batches, then one video after the other."""

    def say(name: str, path: object) -> None:
        print(f"[{run.done + run.failed}/{len(sources)}] {name} -> {path}", flush=True)

    for result in run.photos(source for source in sources if not source.video):
        paths = run.write(result)
        say(result.photo.name, paths[0])
    for source in sources:
        if source.video:
            try:
                paths = write_video(run, source, arguments.output, arguments.write)
            except PhotoError as error:
                run.fail(error)
                continue
            say(source.path, paths[0])


def _timing(run: Run, total: float) -> str:
    """One line: what was done and what it cost."""
    predictor = run.predictor
    seconds = run.clock.seconds
    looked = max(predictor.looked_at, 1)
    parts = [f"loading {seconds['loading']:.1f} s", f"compiling {predictor.compiling:.1f} s"]
    each = {
        "reading": seconds.get("reading", 0.0),
        "finding hands": seconds.get("finding hands", 0.0),
        "network": predictor.running,
        "drawing and writing": seconds.get("drawing and writing", 0.0),
    }
    parts += [f"{name} {1000 * spent / looked:.0f} ms" for name, spent in each.items()]
    frames = f" and {run.frames} frames of videos" if run.frames else ""
    return (
        f"{run.done} photos or videos{frames} in {total:.1f} s: {parts[0]}, {parts[1]}; "
        f"per image {', '.join(parts[2:])}"
    )


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
