"""Synthesised InterHand2.6M: shaded hands in the official folders and annotation files.

    python -m input_pipeline.synthesize --output RAW --train 2000 --test 200 --seed 0

writes RAW/images/<split>/Capture*/<sequence>/cam<id>/image<frame>.jpg and
RAW/annotations/<split>/InterHand2.6M_<split>_{data,camera,joint_3d,MANO_NeuralAnnot}.json, units
and fields as in the official v1.0 release. The hands are the shipped open hand unless --mano names
a folder with the official files; joints are the model's own, tips as in `intaghand`. The same
arguments give the same bytes, whatever the number of processes.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import os
import pathlib
import shutil
import sys
import tempfile
from collections.abc import Iterator

from input_pipeline.commands import command
from input_pipeline.sources.frames import SPLITS
from input_pipeline.synthetic.frame import Pictures, make_frame
from input_pipeline.synthetic.layout import Annotations
from input_pipeline.synthetic.plan import FrameTask, hand_models, plan_split, posed_tasks
from input_pipeline.synthetic.studio import VARIETIES, Variety
from input_pipeline.synthetic.surface import HandModel
from input_pipeline.workers import ahead, pool, sigterm_interrupts

# mano_jax is imported in functions: drawing processes import this module and need no jax.

AHEAD = 6
"""Frames handed to each drawing process before the first of them is awaited."""

_models: dict[str, HandModel] = {}
"""A drawing process's hands."""


def _draw(task: FrameTask) -> tuple[FrameTask, Pictures]:
    return make_frame(task, _models)


def _use(models: dict[str, HandModel]) -> None:
    _models.update(models)


def _results(tasks: Iterator[FrameTask], models: dict, workers: int) -> Iterator:
    """Draws tasks, in order, here or in processes of their own."""
    if workers <= 1:
        _use(models)
        yield from map(_draw, tasks)
        return
    # The drawing's matrix products are tiny: threads in them would only get in each other's way.
    for library in ("OPENBLAS", "OMP", "MKL"):
        os.environ.setdefault(f"{library}_NUM_THREADS", "1")
    with pool(workers, _use, models) as submit:
        yield from ahead(functools.partial(submit, _draw), tasks, AHEAD * workers)


def synthesize(
    output: pathlib.Path,
    counts: dict[str, int],
    *,
    seed: int = 0,
    variety: Variety = VARIETIES["studio"],
    workers: int | None = None,
    pair=None,
    progress: bool = True,
) -> None:
    """Writes a synthetic InterHand2.6M.

    Args:
      output: folder to make; it must not exist, or be empty.
      counts: pictures by split ("train", "val", "test"); splits without any are left out.
      seed: fixes everything.
      variety: what frames may show.
      workers: drawing processes; None for one per core.
      pair: a `mano_jax.HandPair`; None for the shipped open hand.
      progress: whether to show a progress bar.

    A program that calls this with more than one worker needs the usual
    `if __name__ == "__main__"` guard, since drawing processes are started afresh.

    Raises:
      ValueError: the output exists and is not empty, or a number makes no sense.
    """
    from tqdm import tqdm

    from mano_jax import open_hands

    output = pathlib.Path(output)
    _check(output, counts, seed)
    pair = open_hands() if pair is None else pair
    models = hand_models(pair)
    workers = (os.cpu_count() or 1) if workers is None else workers
    output.parent.mkdir(parents=True, exist_ok=True)
    unfinished = pathlib.Path(tempfile.mkdtemp(prefix=f".{output.name}.", dir=output.parent))
    try:
        with tqdm(total=sum(counts.values()), unit="image", disable=not progress) as bar:
            for split, pictures in counts.items():
                if pictures:
                    bar.set_description(split)
                    plans = plan_split(split, pictures, seed, variety)
                    _write_split(unfinished, split, plans, pair, models, workers, bar)
        unfinished.chmod(0o755)
        os.replace(unfinished, output)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise


def _write_split(folder, split, plans, pair, models, workers, bar) -> None:
    annotations = Annotations()
    tasks = posed_tasks(plans, pair, models, str(folder / "images" / split))
    # Closed here, so that no process draws on while an interrupted run's folder is removed.
    with contextlib.closing(_results(tasks, models, workers)) as results:
        for task, pictures in results:
            annotations.add(task, pictures)
            bar.update(len(pictures))
    annotations.write(folder / "annotations", split)


def _check(output: pathlib.Path, counts: dict, seed: int) -> None:
    if output.exists() and not (output.is_dir() and not any(output.iterdir())):
        raise ValueError(f"{output} exists already; name a new folder or remove it first")
    for split, count in counts.items():
        if split not in SPLITS or count < 0:
            raise ValueError(f"{count} pictures for split {split!r}; wanted 0 or more for "
                                 f"{', '.join(SPLITS)}")  # fmt: skip
    if not sum(counts.values()):
        raise ValueError("no pictures asked for; give --train, --val or --test a number")
    if seed < 0:
        raise ValueError(f"seed {seed}; wanted 0 or more")


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m input_pipeline.synthesize", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    add = parser.add_argument
    add("--output", type=pathlib.Path, required=True, help="folder to make (new or empty)")
    add("--train", type=int, default=0, help="training pictures (default 0)")
    add("--val", type=int, help="validation pictures (default: as many as --test)")
    add("--test", type=int, default=0, help="test pictures (default 0)")
    add("--seed", type=int, default=0, help="fixes everything that is random (default 0)")
    add("--variety", choices=VARIETIES, default="studio",
        help="InterHand2.6M's studio; hands as people photograph them, from all sides, in any "
        "place and light; or two hands from the front, apart (default %(default)s)")  # fmt: skip
    add("--workers", type=int, help="drawing processes (default: one per core)")
    add("--mano", type=pathlib.Path, help="folder with MANO files (default: the open hand)")
    return parser.parse_args(arguments)


@command
def main(arguments: list[str]) -> int:
    """The command; returns the exit status."""
    options = _options(arguments)
    from mano_jax import load_hands

    counts = {
        "train": options.train,
        "val": options.test if options.val is None else options.val,
        "test": options.test,
    }
    _check(options.output, counts, options.seed)
    pair = load_hands(options.mano)
    print(f"hands: {pair.name}")
    with sigterm_interrupts():
        synthesize(
            options.output, counts, seed=options.seed, variety=VARIETIES[options.variety],
            workers=options.workers, pair=pair,
        )  # fmt: skip
    print(f"wrote {sum(counts.values())} pictures to {options.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
