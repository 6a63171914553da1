"""The per-sample table: who a sample is and each of its errors, one CSV row a sample."""

from __future__ import annotations

import contextlib
import csv
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from input_pipeline.files import whole_file

IDENTITY = ("file_name", "capture", "sequence", "camera_name", "frame", "hand_type")
"""Columns that say which photograph a sample is (see `input_pipeline.identities`)."""


class SampleTable(contextlib.AbstractContextManager):
    """Writes rows as they come; the file has its name only when the block ends well.

    Args:
      path: the CSV file; None writes nothing.
      identities: identities by sample index, or None; a text becomes `file_name`.
    """

    def __init__(self, path: str | os.PathLike | None, identities: Sequence[Any] | None = None):
        self._path, self._identities = path, identities
        self._stack = contextlib.ExitStack()
        self._writer: Any = None
        self._names: list[str] = []

    def __enter__(self) -> SampleTable:
        if self._path is not None:
            temporary = self._stack.enter_context(whole_file(self._path))
            file = self._stack.enter_context(open(temporary, "w", newline=""))
            self._writer = csv.writer(file)
        return self

    def __exit__(self, *error: Any) -> bool | None:
        return self._stack.__exit__(*error)

    def add(self, indices: np.ndarray, columns: Mapping[str, np.ndarray]) -> None:
        """Adds rows.

        Args:
          indices: (n,) numbers of the samples.
          columns: (n,) each, the same names every time.
        """
        if self._writer is None:
            return
        if not self._names:
            self._names = list(columns)
            identity = IDENTITY if self._identities is not None else ()
            self._writer.writerow(["index", *identity, *self._names])
        for row, index in enumerate(indices.tolist()):
            values = [_number(columns[name][row]) for name in self._names]
            self._writer.writerow([index, *self._identity(index), *values])

    def _identity(self, index: int) -> list[Any]:
        if self._identities is None:
            return []
        return identity_row(self._identities[index])


def identity_row(identity: Any) -> list[Any]:
    """Values of `IDENTITY`; a bare name is the file's."""
    if isinstance(identity, str):
        return [identity, *[""] * (len(IDENTITY) - 1)]
    return [getattr(identity, name) for name in IDENTITY]


def _number(value: float) -> str:
    return "" if np.isnan(value) else f"{value:.6g}"
