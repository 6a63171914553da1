"""Reading annotation files: damage is named, and the largest file is never held as a whole.

InterHand2.6M_train_data.json is about a gigabyte; as Python objects it would take ten. Its entries
are therefore decoded a megabyte of text at a time.
"""

from __future__ import annotations

import contextlib
import json
import os
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


@contextlib.contextmanager
def _named_errors(path: str | os.PathLike) -> Iterator[None]:
    try:
        yield
    except SourceError:
        raise
    except FileNotFoundError:
        raise SourceError(f"{path} is missing") from None
    except (ValueError, RecursionError) as error:  # no JSON, no UTF-8, nested too deeply
        raise damaged(path, error) from None
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror}") from None


def load_object(path: str | os.PathLike) -> dict[str, Any]:
    """Reads a whole JSON file that must hold an object.

    Raises:
      SourceError: when the file is missing, cut off or holds something else.
    """
    with _named_errors(path), open(path, encoding="utf-8") as file:
        value = json.load(file)
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
    for key, entries in iterate_pieces(path):
        for entry in entries:
            yield key, entry


def iterate_pieces(path: str | os.PathLike) -> Iterator[tuple[str, list]]:
    """As `iterate_arrays`, but yields (key, several neighbouring entries): much less to call."""
    with _named_errors(path), open(path, encoding="utf-8") as file:
        window = _Window(file)
        window.take("{")
        while not window.passes("}"):
            key = window.value()
            if not isinstance(key, str):
                raise ValueError(f"{key!r} where a name belongs")
            window.take(":")
            if window.passes("["):
                while not window.passes("]"):
                    yield key, window.entries()
                    window.passes(",")
            else:
                window.value()
            window.passes(",")


class _Window:
    """A window over the text that moves on as values are decoded; ValueError: it is no JSON."""

    def __init__(self, file):
        self._file, self._text, self._at = file, "", 0
        self._whole = True  # whether the window's rest may be decoded in one go

    def _more(self) -> bool:
        chunk = self._file.read(_CHUNK)
        self._text, self._at, self._whole = self._text[self._at :] + chunk, 0, True
        return bool(chunk)

    def _next(self) -> str:
        """The next character that is no white space."""
        while True:
            while self._at < len(self._text) and self._text[self._at] in " \t\r\n":
                self._at += 1
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._more():
                raise ValueError("it ends in the middle")

    def passes(self, character: str) -> bool:
        """Steps over a character if it comes next, and says whether it did."""
        found = self._next() == character
        self._at += found
        return found

    def take(self, character: str) -> None:
        """Passes over a character that must come next."""
        if not self.passes(character):
            raise ValueError(f"{self._next()!r} where {character!r} belongs")

    def entries(self) -> list:
        """The values that end in the window, or one that goes on beyond it."""
        end = self._text.rfind("}", self._at) + 1 if self._whole else 0
        if end:
            # Text of an array up to a closing brace is whole entries, or no JSON at all: the brace
            # stands in a text, in an inner object, or after the array's end.
            try:
                values = json.loads(f"[{self._text[self._at : end]}]")
                self._at = end
                return values
            except (ValueError, RecursionError):
                self._whole = False
        return [self.value()]

    def value(self) -> Any:
        """The value that comes next."""
        self._next()
        while True:
            try:
                value, end = _DECODER.raw_decode(self._text, self._at)
                # A number at the window's end may go on in the next chunk.
                if end < len(self._text) or not self._more():
                    self._at = end
                    return value
            except json.JSONDecodeError as error:
                if len(self._text) - self._at > _ENTRY_LIMIT:
                    raise ValueError(error.msg) from None
                if not self._more():
                    raise ValueError("it ends in the middle") from None
