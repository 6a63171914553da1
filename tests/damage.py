"""Files damaged, at random or by one bit, for tests of what reads them."""

import pathlib

from hypothesis import strategies


def edits(pieces):
    """A strategy: up to six places where some bytes go and others, some of `pieces`, come in."""
    return strategies.lists(
        strategies.tuples(
            strategies.integers(0, 10**6),
            strategies.integers(0, 6),
            strategies.one_of(strategies.sampled_from(pieces), strategies.binary(max_size=4)),
        ),
        max_size=6,
    )


def damaged(seed, edits):
    """The bytes of `seed` after the edits."""
    data = bytearray(seed)
    for position, removed, inserted in edits:
        start = position % (len(data) + 1)
        data[start : start + removed] = inserted
    return bytes(data)


def flipped(data: bytes, at: float = 0.5) -> bytes:
    """One bit of it turned."""
    changed = bytearray(data)
    changed[int(at * len(data))] ^= 4
    return bytes(changed)


def largest_file(folder: pathlib.Path) -> pathlib.Path:
    """Of all below the folder."""
    return max((p for p in folder.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)


def flip_bit(folder: pathlib.Path) -> None:
    """Turns a bit of the largest file below a folder."""
    path = largest_file(folder)
    path.write_bytes(flipped(path.read_bytes()))
