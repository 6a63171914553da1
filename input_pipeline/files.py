"""Writing files whole or not at all, and reading lines that were written so."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pathlib
import secrets
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def whole_file(path: str | os.PathLike) -> Iterator[pathlib.Path]:
    """Gives a temporary name beside `path`, and renames it to `path` if the block succeeds.

    Args:
      path: final name; its folder is made when missing.

    Yields:
      The temporary name to write to: hidden, with the same suffix. A killed process leaves it.

    Raises:
      OSError: the folder or the file cannot be written.
    """
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{secrets.token_hex(4)}{path.suffix}")
    temporary.touch(exist_ok=False)
    try:
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        error.filename = error.filename or os.fspath(path)  # a full disk names no file
        raise
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def locked_folder(folder: str | os.PathLike, refusal: Exception) -> Iterator[None]:
    """Lets one process at a time work in a folder; the lock ends with the process, however it ends.

    Raises:
      Exception: `refusal`, when another process holds the lock.
    """
    with open(pathlib.Path(folder) / ".lock", "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise refusal from None
        yield


def write_bytes(path: str | os.PathLike, data: bytes) -> None:
    """Writes bytes under a final name (see `whole_file`)."""
    with whole_file(path) as temporary:
        temporary.write_bytes(data)


def write_json(path: str | os.PathLike, content: Any) -> None:
    """Writes strict JSON, indented (see `whole_file`).

    Raises:
      ValueError: a number is NaN or infinite, which JSON has no word for.
    """
    text = json.dumps(content, indent=2, allow_nan=False)
    write_bytes(path, f"{text}\n".encode())


def read_json_lines(path: str | os.PathLike) -> Iterator[dict[str, Any]]:
    """The objects of a file of one JSON object a line; a missing file has none.

    What is not whole is left out: a run is writing that line, or was killed while it did.
    """
    path = pathlib.Path(path)
    for text in path.read_text(errors="replace").splitlines() if path.exists() else []:
        try:
            line = json.loads(text)
        except ValueError:
            continue
        if isinstance(line, dict):
            yield line
