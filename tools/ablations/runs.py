"""Runs train.py once for each job: one after the other, or one on each device."""

from __future__ import annotations

import contextlib
import json
import math
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from dir_jax.training.exits import FINISHED, BadInputError
from dir_jax.weights.workdir import CONFIG_FILE, EVALUATION_FILE
from tools.ablations.plan import ROOT, Job

TRAINER = (sys.executable, str(ROOT / "train.py"))
LOG_FILE = "train.log"
PATIENCE_S = 300
"""How long a run that was asked to stop may take to save."""

Say = Callable[[str], None]


def evaluation(job: Job) -> dict[str, Any] | None:
    """What a finished run measured; None before it is finished.

    `evaluation.json` is the last thing that matters a run writes, and appears only whole.
    """
    path = job.workdir / EVALUATION_FILE
    try:
        content = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise BadInputError(f"{path} is not JSON ({error}); remove it, then go on") from None
    value = content.get("wrist_scaled", {}).get("mpjpe_mm") if isinstance(content, dict) else None
    if not isinstance(value, int | float) or not math.isfinite(value):
        raise BadInputError(f"{path} holds no wrist_scaled MPJPE; remove it, then go on")
    return content


class Runner:
    """Trains what is not yet trained.

    Args:
      devices: one run at a time on each: a number for a GPU, or "cpu"; empty: one run at a time,
        on whatever JAX finds.
      say: takes lines for the user.
      trainer: command to which a job's arguments are added.
    """

    def __init__(
        self,
        devices: Sequence[str] = (),
        say: Say = print,
        trainer: Sequence[str] = TRAINER,
    ):
        self._devices, self._trainer = list(devices), list(trainer)
        self._lock = threading.Lock()
        self._say_line = say
        self._children: set[subprocess.Popen] = set()
        self._stopping = False

    def run(self, jobs: Sequence[Job]) -> dict[Job, str]:
        """Runs every job that is not finished; one that fails does not keep the others.

        Returns:
          Why, for every job that did not finish.
        """
        waiting: queue.SimpleQueue[tuple[int, Job]] = queue.SimpleQueue()
        for number, job in enumerate(jobs, 1):
            if evaluation(job) is None:
                waiting.put((number, job))
        done = len(jobs) - waiting.qsize()
        if done:
            self._say(f"{done} of {len(jobs)} runs are finished already")
        failures: dict[Job, str] = {}

        def work(device: str | None) -> None:
            while not self._stopping:
                try:
                    number, job = waiting.get_nowait()
                except queue.Empty:
                    return
                name = f"[{number}/{len(jobs)}] {job}"
                try:
                    reason = self._run(name, job, device)
                except (OSError, ValueError) as error:
                    reason = str(error)
                    self._say(f"{name}: {reason}")
                if reason:
                    failures[job] = reason

        workers = [threading.Thread(target=work, args=(d,)) for d in self._devices or [None]]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        return failures

    def stop(self) -> None:
        """Asks all runs to save and leave, and waits for them."""
        self._stopping = True
        with self._lock:
            children = list(self._children)
        for child in children:
            child.terminate()
        for child in children:
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(PATIENCE_S)

    def _say(self, text: str) -> None:
        with self._lock:
            self._say_line(text)

    def _run(self, name: str, job: Job, device: str | None) -> str:
        """Runs one job; returns why it did not finish, or nothing."""
        job.workdir.mkdir(parents=True, exist_ok=True)
        log = job.workdir / LOG_FILE
        again = (job.workdir / CONFIG_FILE).exists()
        where = f" on {device}" if device else ""
        self._say(f"{name}: {'goes on' if again else 'starts'}{where}; its output is in {log}")
        begin = time.monotonic()
        with open(log, "ab") as file:
            beginning = file.tell()
            code = self._wait([*self._trainer, *job.arguments], file, device)
        seconds = time.monotonic() - begin
        found = evaluation(job) if code == FINISHED else None
        if found is None:
            reason = _last_words(log, beginning) or f"train.py ended with status {code}"
            self._say(f"{name}: not finished (status {code}): {reason}")
            return reason
        error = found["wrist_scaled"]["mpjpe_mm"]
        self._say(f"{name}: finished in {seconds:.0f} s, MPJPE {error:.2f} mm")
        return ""

    def _wait(self, command: list[str], log, device: str | None) -> int:
        # In a session of its own: a Ctrl-C at the terminal reaches it through `stop` alone.
        with self._lock:
            if self._stopping:
                return -1
            child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **device_environment(device)},
                start_new_session=True,
            )
            self._children.add(child)
        try:
            return child.wait()
        finally:
            with self._lock:
                self._children.discard(child)


def device_environment(device: str | None) -> dict[str, str]:
    """Variables that show a process one device only.

    Raises:
      BadInputError: neither "cpu" nor a GPU's number.
    """
    if device is None:
        return {}
    if device == "cpu":
        return {"JAX_PLATFORMS": "cpu"}
    if not device.isdecimal():
        raise BadInputError(f"--devices {device}: wanted numbers of GPUs (0 1 2), or cpu")
    return {"CUDA_VISIBLE_DEVICES": device, "ROCR_VISIBLE_DEVICES": device}


def _last_words(log: Path, beginning: int) -> str:
    """The last line that a run has written since `beginning`, its error if there is one."""
    with open(log, "rb") as file:
        file.seek(beginning)
        lines = file.read().decode(errors="replace").replace("\r", "\n").splitlines()
    lines = [line.strip() for line in lines if line.strip()]
    errors = [line for line in lines if line.startswith("error: ")]
    return (errors or lines or [""])[-1].removeprefix("error: ")
