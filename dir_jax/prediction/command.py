"""The command behind predict.py."""

from __future__ import annotations

import argparse
import contextlib
import functools
import importlib.util
import os
import re
import sys
import time
from collections.abc import Iterator, Sequence

from dir_jax.prediction.boxes import FORMATS as BOX_FILES
from dir_jax.prediction.boxes import Finder, annotated, detected, given, parse_box, whole_photo
from dir_jax.prediction.camera import watch
from dir_jax.prediction.detection import HandDetector
from dir_jax.prediction.inputs import Source, find_sources
from dir_jax.prediction.outputs import FORMATS, USUAL, about, write_result
from dir_jax.prediction.photos import Photo, PhotoError, read_image
from dir_jax.prediction.predictor import Clock, Predictor, Result, batched
from dir_jax.prediction.video import write_video
from dir_jax.weights.loading import add_model_arguments, keep_compiled, load_named_model
from input_pipeline.commands import FAILED, command, report, status_of
from mano_jax.constants import SIDES


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="predict.py", description="Reconstructs both hands in photographs and videos."
    )
    add = parser.add_argument
    looked_at = parser.add_mutually_exclusive_group(required=True)
    looked_at.add_argument(
        "--image",
        dest="inputs",
        nargs="+",
        default=[],
        metavar="PATH",
        help="photos, videos, and folders of them",
    )
    looked_at.add_argument(
        "--camera", type=int, metavar="N", help="a webcam, live (0: the first one)"
    )
    add("--output", metavar="DIR", help="folder for the results, NAME.hands.*")
    add_model_arguments(parser)
    boxes = parser.add_argument_group("where the hands are (default: they are looked for)")
    boxes = boxes.add_mutually_exclusive_group()
    boxes.add_argument(
        "--box",
        nargs="+",
        type=parse_box,
        metavar="x,y,w,h",
        help="around both hands, pixels of the upright photo: one for all or one for each PATH",
    )
    boxes.add_argument("--boxes", metavar="FILE", help=BOX_FILES.replace("%", "%%"))
    boxes.add_argument("--whole", action="store_true", help="the crop is the whole photo")
    kinds = ", ".join(FORMATS)
    add(
        "--write",
        nargs="+",
        choices=FORMATS,
        default=list(USUAL),
        metavar="KIND",
        help=f"of {kinds} (default: all but html)",
    )
    add("--html", action="store_true", help="also a page for each, to turn the hands")
    add(
        "--landmarks",
        action=argparse.BooleanOptionalAction,
        help="move every hand onto the landmarks that MediaPipe's network is sure of (default: "
        "with the shipped model)",
    )
    add("--batch_size", type=int, default=8, help="photos at a time (default: 8)")
    add(
        "--smooth",
        type=float,
        default=1.0,
        metavar="S",
        help="how much the hands of a video are smoothed over time (default: 1; 0: not at all)",
    )
    return parser


def _finder(arguments: argparse.Namespace) -> Finder | None:
    """The way to boxes that the arguments ask for; None: hands are to be looked for.

    Raises:
      ValueError: a number of boxes that fits nothing, an unreadable file.
    """
    count = len(arguments.inputs)
    if arguments.box:
        if len(arguments.box) not in (1, count):
            raise ValueError(
                f"{len(arguments.box)} boxes for {count} photos; wanted one for all or one each"
            )
        return given(arguments.box)
    if arguments.boxes:
        return annotated(arguments.boxes)
    return whole_photo if arguments.whole else None


class Run:
    """One call of the command: what it works with, and how far it has come.

    Args:
      arguments: of the command line.
      total: photos and videos.
      clock: collects seconds.

    Raises:
      ValueError: boxes that cannot be used.
    """

    def __init__(self, arguments: argparse.Namespace, total: int, clock: Clock):
        self.arguments, self.total, self.clock = arguments, total, clock
        self.kinds = list(dict.fromkeys([*arguments.write, *["html"] * arguments.html]))
        self.detector = None
        self.finder = _finder(arguments)
        if self.finder is None:
            self.detector = HandDetector()
            self.detector.prepare()
            self.finder = detected(self.detector.hands)
        self.photo_count = self.video_count = self.frames = self.failed = self.status = 0

    @contextlib.contextmanager
    def item(self) -> Iterator[None]:
        """What goes wrong with one photo or video is said, counted, and ends nothing else.

        A full disk or a lost device ends all: the next photo would fare no better.
        """
        try:
            yield
        except Exception as error:
            if status_of(error) == FAILED:
                raise
            self.failed += 1
            self.status = max(self.status, report(error))

    def photos(self, predictor: Predictor, sources: Sequence[Source]) -> None:
        """Reads, reconstructs and writes photos, a batch at a time."""
        for batch in batched(self._open(predictor, sources), predictor.batch_size):
            results = predictor.photos(photo for _, _, photo in batch)
            for (source, number, photo), result in zip(batch, results, strict=True):
                with self.item():
                    if not result.finite:
                        raise PhotoError(
                            f"{photo.name}: the network's answer is not finite; check the weights"
                        )
                    with self.clock("drawing and writing"):
                        output = self.arguments.output
                        paths = write_result(output, source.stem, result, self.kinds, number)
                    self.photo_count += number == 1
                    self.say(f"{source.path}: {found(result)} -> {paths[0]}")
                    for warning in result.warnings:
                        print(f"warning: {source.path}: {warning}")

    def _open(
        self, predictor: Predictor, sources: Sequence[Source]
    ) -> Iterator[tuple[Source, int, Photo]]:
        """Every pair of hands in every photo, numbered from 1."""
        for source in sources:
            photos = []
            with self.item():
                with self.clock("reading"):
                    image = read_image(source.path)
                predictor.prepare()
                with self.clock("finding hands"):
                    photos = self.finder(source, image)
            yield from ((source, number, photo) for number, photo in enumerate(photos, 1))

    def video(self, predictor: Predictor, source: Source) -> None:
        """Reconstructs one video."""
        with self.item():
            written = write_video(
                source,
                self.arguments.output,
                predictor,
                self.finder,
                kinds=self.kinds,
                detector=self.detector,
                smooth=self.arguments.smooth,
                clock=self.clock,
            )
            self.video_count += 1
            self.frames += written.frames
            hands = f"hands in {written.with_hands} of {written.frames} frames"
            self.say(f"{source.path}: {hands} -> {written.paths[0]}")

    def say(self, line: str) -> None:
        """One line for what is done."""
        number = self.photo_count + self.video_count + self.failed
        print(f"[{number}/{self.total}] {line}", flush=True)


def found(result: Result) -> str:
    """Where hands were looked for, and how sure it is of each."""
    photo = result.photo
    where = photo.box_from if photo.box is None else f"box {photo.box_from}"
    if photo.confidence:
        count = len(photo.confidence)
        sure = " and ".join(f"{value:.2f}" for value in photo.confidence)
        where = f"{count} hand{'s' * (count > 1)} found (confidence {sure})"
    hands = (
        f"{side} {sure:.2f}{'' if there else ' (not drawn)'}"
        for side, sure, there in zip(SIDES, result.presence, result.present, strict=True)
    )
    moved = [side for side, there in zip(SIDES, result.fitted, strict=True) if there]
    landmarks = f"; on landmarks: {' and '.join(moved)}" if moved else ""
    return f"{where}: {', '.join(hands)}{landmarks}"


def predict(arguments: argparse.Namespace) -> int:
    """Runs the parsed command; returns the exit status.

    Raises:
      ValueError, OSError: nothing can be done at all (weights, hand models, output folder).
    """
    if arguments.batch_size < 1:
        raise ValueError(f"--batch_size is {arguments.batch_size}; wanted 1 or more")
    if not 0 <= arguments.smooth < float("inf"):
        raise ValueError(f"--smooth is {arguments.smooth}; wanted 0 or more")
    if arguments.html and importlib.util.find_spec("plotly") is None:
        raise ValueError("pages need one more package: pip install plotly")
    if arguments.camera is None and arguments.output is None:
        raise ValueError("where shall the results go? Give a folder: --output DIR")
    if arguments.camera is not None and _finder(arguments):
        raise ValueError("--camera looks for the hands in every picture; leave the box out")
    begin = time.perf_counter()
    clock = Clock()
    sources, useless = find_sources(arguments.inputs)
    run = Run(arguments, len(sources) + len(useless), clock)
    keep_compiled()
    with clock("loading"):
        loaded = load_named_model(arguments)
    print(about(loaded))
    predictor = functools.partial(Predictor, loaded, clock=clock, landmarks=arguments.landmarks)
    if arguments.camera is not None:
        watch(arguments.camera, predictor(1), HandDetector(), arguments.smooth)
    os.makedirs(arguments.output, exist_ok=True)  # before the work rather than after it
    for line in useless:
        with run.item():
            raise PhotoError(line)
    photos = [source for source in sources if not source.video]
    videos = [source for source in sources if source.video]
    if photos:
        run.photos(predictor(min(arguments.batch_size, len(photos))), photos)
    if videos:
        one_size = predictor(1 if run.detector else arguments.batch_size)
        for source in videos:
            run.video(one_size, source)
    print(_timing(run, time.perf_counter() - begin))
    if run.failed:
        print(f"error: {run.failed} of {run.total} inputs could not be used", file=sys.stderr)
    return run.status


def _timing(run: Run, total: float) -> str:
    """One line: what was done and what it cost."""
    seconds, looked_at = run.clock.seconds, run.photo_count + run.frames
    each = ", ".join(
        f"{name} {1000 * seconds[name] / max(looked_at, 1):.0f} ms"
        for name in ("reading", "finding hands", "network", "landmarks", "drawing and writing")
    )
    photos, videos = run.photo_count, run.video_count
    done = [f"{photos} photo{'s' * (photos != 1)}"] if photos or not videos else []
    done += [f"{videos} video{'s' * (videos != 1)} ({run.frames} frames)"] if videos else []
    return (
        f"{' and '.join(done)} in {total:.1f} s: "
        f"loading {seconds['loading']:.1f} s, compiling {seconds['compiling']:.1f} s; "
        f"per image {each}"
    )


@command
def main(argv: list[str]) -> int:
    """Entry point of predict.py; returns the exit status."""
    # argparse takes "-10,-10,50,50" for an option; with a space before it, it is a value.
    argv = [f" {text}" if re.match(r"-[\d.]", text) else text for text in argv]
    return predict(_parser().parse_args(argv))
