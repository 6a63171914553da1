"""Files damaged at random, for tests that what reads them does no harm."""

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
