"""How every command of this project ends: in one plain line, with a status that says which way.

| status | meaning |
| --- | --- |
| 0 | done |
| 1 | failed, though the input was good: a disk without room, a device that gave up |
| 2 | bad input: the line says what came, what was wanted and what to do |
| 70 | a fault of this program: the line names a file with the traceback (`--traceback` prints it) |
| 130 | stopped by Ctrl-C |
"""

from __future__ import annotations

import errno
import functools
import os
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence

FAILED, BAD_INPUT, FAULT, STOPPED = 1, 2, 70, 130
TRACEBACK = "--traceback"

EXTRAS = {
    "train": "tensorflow tensorflow_datasets array_record orbax optax tensorboardX",
    "pages": "plotly",
    "demo": "gradio",
    "onnx": "jax2onnx onnxruntime",
    "reference": "torch smplx einops",
}
"""Optional parts of the installation (pyproject.toml), each with the modules it brings."""


class FailedError(RuntimeError):
    """The input was good, and yet the command failed; the message says why and what to do."""


class InstallationError(ImportError):
    """A library is there in a version that does not do; the message says which, and what to do."""


Main = Callable[[Sequence[str] | None], int]


def command(main: Callable[[list[str]], int]) -> Main:
    """Makes a command of a function that takes arguments and returns an exit status.

    Bad input is a `ValueError` or an `OSError`; every other exception is a fault of this program.

    Args:
      main: called with the arguments after the program's name, `--traceback` taken out.
    """

    @functools.wraps(main)
    def guarded(arguments: Sequence[str] | None = None) -> int:
        arguments = list(sys.argv[1:] if arguments is None else arguments)
        show = TRACEBACK in (*arguments, *sys.argv)  # `dir-jax COMMAND`'s is a command in a command
        arguments = [argument for argument in arguments if argument != TRACEBACK]
        try:
            return main(arguments)
        except KeyboardInterrupt:
            print("stopped", file=sys.stderr)
            return STOPPED
        except BrokenPipeError:  # `| head` has seen enough; nor shall Python say so at its end
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return STOPPED
        except Exception as error:
            if show:
                traceback.print_exc()
            return report(error)

    return guarded


def report(error: BaseException) -> int:
    """Says in one line on standard error what ended a command; returns its exit status."""
    status = status_of(error)
    line = f"error: {one_line(error)}"
    if status == FAULT:
        line = (
            f"error: a fault of this program, please report it ({type(error).__name__}: "
            f"{one_line(error)}); its traceback is in {_write_traceback(error)}"
        )
    print(line, file=sys.stderr, flush=True)
    return status


def status_of(error: BaseException) -> int:
    """The exit status for an exception that ends a command."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return FAILED
    if isinstance(error, MemoryError | FailedError) or type(error).__name__ == "JaxRuntimeError":
        return FAILED
    if isinstance(error, ModuleNotFoundError) and extra_of(error.name or ""):
        return BAD_INPUT
    return BAD_INPUT if isinstance(error, ValueError | OSError | InstallationError) else FAULT


def one_line(error: BaseException) -> str:
    """An exception's message without line breaks; a device's own report by its first line."""
    if type(error).__name__ == "JaxRuntimeError":
        return f"the device gave up: {str(error).splitlines()[0]}"
    if isinstance(error, OSError) and error.strerror:
        names = " -> ".join(str(n) for n in (error.filename, error.filename2) if n is not None)
        return f"{names}: {error.strerror}" if names else error.strerror
    if isinstance(error, ModuleNotFoundError) and (extra := extra_of(error.name or "")):
        return f'this needs {error.name}, which is not installed: pip install "dir-jax[{extra}]"'
    return " ".join(str(error).split()) or type(error).__name__


def extra_of(module: str) -> str | None:
    """The optional part of the installation that brings a module; None if none does."""
    top = module.split(".")[0]
    return next((extra for extra, names in EXTRAS.items() if top in names.split()), None)


def _write_traceback(error: BaseException) -> str:
    text = "".join(traceback.format_exception(error))
    try:
        handle, path = tempfile.mkstemp(prefix="dir_jax_fault_", suffix=".txt")
        with os.fdopen(handle, "w") as file:
            file.write(text)
    except OSError:
        return "no file (none could be written)"
    return path
