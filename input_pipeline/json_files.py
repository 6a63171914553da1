"""Reading annotation files: damage is named, and the largest file is never held as a whole.

InterHand2.6M_train_data.json is about a gigabyte; as Python objects it would take ten. Its entries
are therefore decoded one at a time.
"""

from __future__ import annotations

import json
import os
import pathlib
from collections.abc import Iterator
from typing import Any

from input_pipeline.troubles import SourceError

_CHUNK = 1 << 20
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


def iterate_arrays(path: str | os.PathLike) -> Iterator[tuple[str, Any]]:
    """Yields (key, entry) for every entry of every array in the file's top-level object.

    Top-level values that are no arrays are passed over.

    Args:
      path: JSON file such as InterHand2.6M_train_data.json.

    Raises:
      SourceError: when the file is missing, cut off or of another form.
    """
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

    def arrays(self) -> Iterator[tuple[str, Any]]:
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
                    yield key, self._value()
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
        return bool(chunk)

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
