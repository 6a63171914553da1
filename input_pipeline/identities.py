"""Who an example is: the photograph behind a number."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence

from input_pipeline import dataset, records


@dataclasses.dataclass(frozen=True)
class Identity:
    """Where an example comes from: the fields of the same name in `records.FIELDS`."""

    file_name: str
    capture: str
    sequence: str
    camera_name: str
    frame: int
    hand_type: str

    def __str__(self) -> str:
        return self.file_name


class Identities(Sequence):
    """The identity of every example of a split, read when asked for."""

    def __init__(self, source: dataset.RecordSource):
        """Reads nothing yet.

        Args:
          source: the split.
        """
        self._source = source

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> Identity:
        record = records.deserialize(self._source.read([index])[0])
        return Identity(**{f.name: getattr(record, f.name) for f in dataclasses.fields(Identity)})


def identities(
    data_dir: str | os.PathLike, split: str, *, config: str = "interacting"
) -> Identities:
    """Identities by `index` of a batch: `str(identities(...)[index])` is the photograph's name."""
    return Identities(dataset.open_split(data_dir, split, config))
