"""Reading annotation files: damage is named, and the largest file is never held as a whole.

InterHand2.6M_train_data.json is about a gigabyte; as Python objects it would take ten. Its entries
are therefore decoded a megabyte of text at a time.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import pathlib
from collections.abc import Iterator
from typing import Any

from input_pipeline.troubles import SourceError

_CHUNK = 1 << 18
# No entry of an official file has more than a few kilobytes.
_ENTRY_LIMIT = 1 << 22
_DECODER = json.JSONDecoder()


def damaged(path: str | os.PathLike, why: object) -> SourceError:
    """The error for an annotation file that is not the JSON it should be."""
    return SourceError(
        f"{path} is damaged ({why}): unpack it again from the downloaded archive and compare sizes"
    )


def load_object(path: str | os.PathLike) -> dict[str, Any]:
    """Reads a whole JSON file that must hold an object.

    Raises:
      SourceError: when the file is missing, cut off or holds something else.
    """
    try:
        with open(path, encoding="utf-8") as file:
            value = json.load(file)
    except FileNotFoundError:
        raise SourceError(f"{path} is missing") from None
    except (ValueError, RecursionError) as error:
        raise damaged(path, error) from None
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror}") from None
    if not isinstance(value, dict):
        raise damaged(path, f"it holds a {type(value).__name__} where an object belongs")
    return value


@contextlib.contextmanager
def no_search_for_cycles():
    """Python's search for circular garbage rests meanwhile.

    A megabyte of entries is a hundred thousand lists: Python would look through everything there
    is once a megabyte, which takes several times as long as the decoding.
    """
    resting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if resting:
            gc.enable()


def iterate_arrays(path: str | os.PathLike) -> Iterator[tuple[str, Any]]:
    """Yields (key, entry) for every entry of every array in the file's top-level object.

    Top-level values that are no arrays are passed over.

    Args:
      path: JSON file such as InterHand2.6M_train_data.json.

    Raises:
      SourceError: when the file is missing, cut off or of another form.
    """
    for key, entries in iterate_pieces(path):
        for entry in entries:
            yield key, entry


def iterate_pieces(path: str | os.PathLike) -> Iterator[tuple[str, list]]:
    """As `iterate_arrays`, but yields (key, several neighbouring entries): much less to call."""
    try:
        with open(path, encoding="utf-8") as file:
            yield from _Scanner(path, file).arrays()
    except FileNotFoundError:
        raise SourceError(f"{path} is missing") from None
    except (UnicodeDecodeError, RecursionError) as error:
        raise damaged(path, error) from None
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror}") from None


class _Scanner:
    """A window over the text that moves on as entries are decoded."""

    def __init__(self, path: str | os.PathLike, file):
        self._path = pathlib.Path(path)
        self._file = file
        self._text = ""
        self._at = 0
        self._in_one = True  # whether the window's rest may be decoded in one go

    def arrays(self) -> Iterator[tuple[str, list]]:
        self._expect("{")
        while self._peek() != "}":
            key = self._value()
            if not isinstance(key, str):
                raise damaged(self._path, f"{key!r} where a name belongs")
            self._expect(":")
            if self._peek() != "[":
                self._value()
            else:
                self._expect("[")
                while self._peek() != "]":
                    yield key, self._entries()
                    if self._peek() == ",":
                        self._expect(",")
                    elif self._peek() != "]":
                        raise damaged(self._path, f"{self._peek()!r} between entries of {key}")
                self._expect("]")
            if self._peek() == ",":
                self._expect(",")
            elif self._peek() != "}":
                raise damaged(self._path, f"{self._peek()!r} after {key}")

    def _more(self) -> bool:
        chunk = self._file.read(_CHUNK)
        self._text = self._text[self._at :] + chunk
        self._at = 0
        self._in_one = True
        return bool(chunk)

    def _entries(self) -> list:
        """The entries that end in the window, or one that goes on beyond it."""
        end = self._text.rfind("}", self._at) + 1 if self._in_one else 0
        if end:
            # Text of an array up to a closing brace is whole entries, or no JSON at all: the brace
            # stands in a text, in an inner object, or after the array's end.
            try:
                entries = json.loads(f"[{self._text[self._at : end]}]")
                self._at = end
                return entries
            except (ValueError, RecursionError):
                self._in_one = False
        return [self._value()]

    def _peek(self) -> str:
        while True:
            while self._at < len(self._text) and self._text[self._at] in " \t\r\n":
                self._at += 1
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._more():
                raise damaged(self._path, "it ends in the middle")

    def _expect(self, character: str) -> None:
        found = self._peek()
        if found != character:
            raise damaged(self._path, f"{found!r} where {character!r} belongs")
        self._at += 1

    def _value(self) -> Any:
        self._peek()
        while True:
            try:
                value, end = _DECODER.raw_decode(self._text, self._at)
                # A number at the window's end may go on in the next chunk.
                if end < len(self._text) or not self._more():
                    self._at = end
                    return value
            except json.JSONDecodeError as error:
                if len(self._text) - self._at > _ENTRY_LIMIT:
                    raise damaged(self._path, error.msg) from None
                if not self._more():
                    raise damaged(self._path, "it ends in the middle") from None
            except ValueError as error:  # a number of thousands of digits
                raise damaged(self._path, error) from None
