"""Runs a command in this process as a terminal would, and says what it printed and left."""

from __future__ import annotations

import errno
import importlib
import os
import pathlib
import pkgutil
import re
import shlex
import shutil
import signal
import sys
from typing import NamedTuple

import pytest

from dir_jax.__main__ import COMMANDS
from tests.hostile.world import World

OTHERS = {
    "dir-jax": "dir_jax.__main__",
    "replay": "dir_jax.training.replay",
    "ground_truth": "dir_jax.evaluation.ground_truth",
}
"""Commands beside those of `dir-jax`; `tools.NAME` is the module of this name."""
LIMIT = 60
"""Seconds of work that a command may take; ten times as many by the clock."""
TIMERS = (
    (signal.ITIMER_PROF, signal.SIGPROF, LIMIT),
    (signal.ITIMER_REAL, signal.SIGALRM, 10 * LIMIT),
)
FAULTS = {
    "Ctrl-C": lambda: KeyboardInterrupt(),
    "full": lambda: OSError(errno.ENOSPC, "No space left on device", "some/file"),
    "bug": lambda: RuntimeError("two\nlines"),
}


class TooSlow(BaseException):
    """A command has passed its time limit."""


class Done(NamedTuple):
    """How a command ended: status, what it printed, and the files new or changed."""

    status: int
    out: str
    err: str
    files: set[str]


def state(folder: pathlib.Path) -> dict[str, tuple]:
    """Size and time of every file and link below a folder, by name."""
    found = {}
    for place, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = pathlib.Path(place, name)
            status = path.lstat()
            kept = () if path.is_dir() else (status.st_mtime_ns, status.st_size)
            found[str(path.relative_to(folder)) + "/" * path.is_dir()] = kept
    return found


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    """Things by name; see `tests.hostile.world`."""
    return World(tmp_path_factory.mktemp("world"))


@pytest.fixture
def run(world, tmp_path, capsys, monkeypatch):
    """`run(command, arguments, fault)` in an empty folder; returns `Done`.

    Of the arguments @THING is the path of a thing, which must not change, and %THING a copy of it
    beside the command. The fault, "KIND MODULE:NAME", is raised in place of a call of this name.
    """
    monkeypatch.chdir(tmp_path)
    for name in ("training.command.prepare_process", "prediction.command.keep_compiled"):
        monkeypatch.setattr(f"dir_jax.{name}", lambda: None)  # they change this process
    monkeypatch.setenv("TQDM_DISABLE", "1")
    monkeypatch.setenv("XLA_FLAGS", os.environ["XLA_FLAGS"])  # recipes add theirs

    def insert(found):
        thing = world[found[2]]
        if found[1] == "@":
            return str(thing)
        copy = tmp_path / found[2]
        if not copy.exists():
            (shutil.copytree if thing.is_dir() else shutil.copy2)(thing, copy)
        return found[2]

    def runs(command: str, arguments: str | list[str], fault: str = "") -> Done:
        words = arguments
        if isinstance(words, str):
            words = [re.sub(r"([@%])(\w[\w.]*)", insert, word) for word in shlex.split(words)]
        module = COMMANDS.get(command, (OTHERS.get(command, command),))[0]
        if fault:
            kind, place = fault.split()
            owner, _, name = place.rpartition(":")

            def fail(*_, **__):
                raise FAULTS[kind]()

            monkeypatch.setattr(pkgutil.resolve_name(owner), name, fail)
        before, sound = state(tmp_path), state(world.folder)
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", [command, *words])
        for timer, number, limit in TIMERS:
            signal.signal(number, _too_slow)
            signal.setitimer(timer, limit)
        try:
            status = importlib.import_module(module).main(words)
        except SystemExit as stop:  # argparse
            status = stop.code or 0
        finally:
            for timer, _, _ in TIMERS:
                signal.setitimer(timer, 0)
        said = capsys.readouterr()
        after = state(tmp_path)
        assert not before.keys() - after.keys(), "files are gone"
        assert state(world.folder) == sound, "a thing was changed"
        changed = {name for name in after if after[name] != before.get(name)}
        return Done(status, said.out, said.err, changed)

    return runs


def _too_slow(*_):
    raise TooSlow
