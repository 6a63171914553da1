"""Trains rows of the paper's ablation tables, with several seeds, and tabulates their errors.

    python -m tools.ablations --workdir DIR --config.data.dir=DATA --config.mano=MANO --seeds 0 1 2
    python -m tools.ablations --workdir DIR --small --seeds 0 1 2

Every run is an ordinary run of train.py in DIR/ROW/seed_N. The same command started again keeps
finished runs and resumes the others. Rows with equal recipes (mfp and t2) are trained once. Further
--config.x.y=v are set in all runs. Leaves DIR/ablations.md and DIR/ablations.json.

Exit codes: 0 done, 1 some runs are missing, 2 bad input, 75 stopped (all runs saved).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import configs
from configs import read_recipe, split_recipe_arguments
from configs.ablation import ROWS, SMALL
from dir_jax.training.command import prepare_process
from dir_jax.training.data import find_data
from dir_jax.training.interruptions import FINISHED, StopRequest
from dir_jax.training.run import check_fits, read_config
from dir_jax.weights import DATA_FOLDER, EVALUATION_FILE
from input_pipeline.commands import FAILED, command
from input_pipeline.files import write_bytes, write_json

ROOT = Path(configs.__file__).parent.parent
TRAINER = (sys.executable, str(ROOT / "train.py"))
PATIENCE_S = 300
"""How long a run that was asked to stop may take to save."""
METRICS = {"mpjpe_mm": "MPJPE mm", "mpvpe_mm": "MPVPE mm", "miaa_px": "MIAA px"}


class Job(NamedTuple):
    """One training run: a row, a seed, its work folder, and train.py's arguments."""

    row: str
    seed: int
    workdir: Path
    arguments: list[str]

    def errors(self) -> dict[str, float] | None:
        """What the finished run measured on the split test; None before it is finished."""
        path = self.workdir / EVALUATION_FILE
        try:
            found = json.loads(path.read_text())["wrist_scaled"]
            return {name: float(found[name]) for name in METRICS}
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"{path} holds no errors ({error!r}); remove it, then start again"
            ) from None


def stand_in(row: str) -> str:
    """The first row of `ROWS` with the same recipe."""
    return next(name for name in ROWS if ROWS[name].changes == ROWS[row].changes)


def plan(
    rows: Sequence[str], seeds: Sequence[int], workdir: Path, overrides: Sequence[str], small: bool
) -> list[Job]:
    """The runs, all rows with the first seed first, on one data folder for all.

    Raises:
      ValueError: an unknown row or field, values that cannot work, or a run with others there.
    """
    if unknown := sorted(set(rows) - set(ROWS)):
        raise ValueError(f"there is no row {unknown[0]!r}; wanted some of {', '.join(ROWS)}")
    if len(set(seeds)) < len(seeds) or any(o.startswith("--config.seed") for o in overrides):
        raise ValueError("wanted each seed once, by --seeds alone")
    jobs = []
    for seed in seeds:
        for row in dict.fromkeys(map(stand_in, rows)):
            file = f"{ROOT / 'configs' / 'ablation.py'}:{SMALL if small else ''}{row}"
            arguments = ["--config", file, "--config.evaluation.pictures=0", *overrides]
            config = read_recipe(arguments)
            config.seed, config.data.dir = seed, config.data.dir or str(workdir / DATA_FOLDER)
            arguments += [f"--config.seed={seed}", f"--config.data.dir={config.data.dir}"]
            folder = workdir / row / f"seed_{seed}"
            if (saved := read_config(folder)) is not None:
                check_fits(config, saved, folder)
            jobs.append(Job(row, seed, folder, [*arguments, "--workdir", str(folder)]))
    return jobs


def run(jobs: Sequence[Job], stop: StopRequest, trainer: Sequence[str] = TRAINER) -> None:
    """Trains what is not finished, one after the other; a failure does not keep the others.

    Args:
      jobs: the runs.
      stop: its signals are passed on to the run, which saves.
      trainer: command to which a job's arguments are added.
    """
    for job in (job for job in jobs if job.errors() is None):
        if stop.asked:
            return
        job.workdir.mkdir(parents=True, exist_ok=True)
        log = job.workdir / "train.log"
        print(f"{job.row} seed {job.seed}: starts; its output is in {log}", flush=True)
        with open(log, "ab") as file:  # a session of its own: Ctrl-C reaches it by `stop` alone
            child = subprocess.Popen(
                [*trainer, *job.arguments], stdin=subprocess.DEVNULL, stdout=file,
                stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
            stop.on_exit(lambda child=child: end(child))
            code = child.wait()
        last = log.read_text(errors="replace").strip().replace("\r", "\n").split("\n")[-1]
        print(f"{job.row} seed {job.seed}: ended with status {code}: {last}", flush=True)


def end(child: subprocess.Popen) -> None:
    """Asks a run to save and exit, and waits for it."""
    child.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(PATIENCE_S)


def tables(rows: Sequence[str], jobs: Sequence[Job]) -> tuple[str, dict]:
    """Mean and standard deviation over the seeds beside the published figures.

    Returns:
      Markdown, a table for each of the paper's, and the same with every run's errors for JSON.
    """
    text, content = [], {}
    for title in dict.fromkeys(ROWS[row].table for row in rows):
        header = [title, "seeds", *(f"{name} | published" for name in METRICS.values())]
        text += ["", f"| {' | '.join(header)} |", f"|---|{'---:|' * (1 + 2 * len(METRICS))}"]
        for row in (row for row in rows if ROWS[row].table == title):
            done = {job.seed: job.errors() for job in jobs if job.row == stand_in(row)}
            done = {seed: errors for seed, errors in done.items() if errors}
            cells, content[row] = [ROWS[row].label, str(len(done))], {"seeds": done}
            for name in METRICS:
                values = [errors[name] for errors in done.values()]
                mean = statistics.fmean(values) if values else None
                spread = statistics.stdev(values) if len(values) > 1 else None
                published = getattr(ROWS[row], name)
                content[row][name] = {"mean": mean, "deviation": spread, "published": published}
                shown = ["-" if x is None else f"{x:.2f}" for x in (mean, spread, published)]
                cells += [shown[0] if spread is None else " ± ".join(shown[:2]), shown[2]]
            text.append(f"| {' | '.join(cells)} |")
    source = "wrist_scaled, split test; published: Ren et al., ICCV 2023, InterHand2.6M test."
    return "\n".join([*text[1:], "", source, ""]), content


@command
def main(arguments: list[str]) -> int:
    """Runs the command; returns its exit status."""
    overrides, rest = split_recipe_arguments(arguments)
    parser = argparse.ArgumentParser(
        prog="python -m tools.ablations", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    add = parser.add_argument
    add("--workdir", required=True, type=Path, metavar="DIR")
    add("--rows", nargs="+", default=list(ROWS), metavar="ROW", help=f"of {', '.join(ROWS)}")
    add("--seeds", nargs="+", type=int, default=[0], metavar="N", help="one run of each row each")
    add("--small", action="store_true", help="at the quick start's size, on synthesised hands")
    add("--no_training", action="store_true", help="only the tables of what is finished")
    options = parser.parse_args(rest)
    prepare_process()
    workdir = options.workdir.expanduser().absolute()
    jobs = plan(options.rows, options.seeds, workdir, overrides, options.small)
    if not options.no_training:
        workdir.mkdir(parents=True, exist_ok=True)
        with StopRequest() as stop:
            find_data(read_recipe(jobs[0].arguments[:-4]), workdir, stop)  # for all
            run(jobs, stop)
    text, content = tables(options.rows, jobs)
    write_json(workdir / "ablations.json", {"set for all": overrides, "rows": content})
    write_bytes(workdir / "ablations.md", text.encode())
    print(f"\n{text}\nwritten to {workdir / 'ablations.md'} and ablations.json")
    return FINISHED if all(job.errors() for job in jobs) else FAILED


if __name__ == "__main__":
    sys.exit(main())
