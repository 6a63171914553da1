"""Reading annotation files: damage is named, and the largest file is never decoded as a whole.

InterHand2.6M_train_data.json is about a gigabyte; as Python objects it would take ten. Its entries
are therefore decoded one at a time.
"""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import re
from collections.abc import Iterator
from typing import Any

from input_pipeline.troubles import SourceError

_DECODER = json.JSONDecoder()
_SPACE = re.compile(r"[ \t\r\n]*")


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
    with _named_errors(path):
        text, at = pathlib.Path(path).read_text(encoding="utf-8"), 0

        def passes(character: str) -> bool:
            """Steps over a character if it comes next, and says whether it did."""
            nonlocal at
            at = _SPACE.match(text, at).end()
            found = text.startswith(character, at)
            at += found
            return found

        def take(character: str) -> None:
            if not passes(character):
                raise ValueError(f"{text[at : at + 1]!r} where {character!r} belongs")

        def value() -> Any:
            nonlocal at
            decoded, at = _DECODER.raw_decode(text, _SPACE.match(text, at).end())
            return decoded

        take("{")
        while not passes("}"):
            key = value()
            if not isinstance(key, str):
                raise ValueError(f"{key!r} where a name belongs")
            take(":")
            if passes("["):
                while not passes("]"):
                    yield key, value()
                    passes(",")
            else:
                value()
            passes(",")
