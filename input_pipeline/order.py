"""Which example comes when: a pure function of (seed, position), so that nothing is replayed.

Training reads one endless stream of examples: all of epoch 0 in a shuffled order, then all of
epoch 1 in another, and so on. Global batch `step` is the stretch from step * batch_size on, and
each process takes its own part of every batch. No example is left out, none comes twice in an
epoch, whatever the batch size and the number of processes; only one batch an epoch holds examples
of two epochs.
"""

from __future__ import annotations

import functools

import numpy as np


def share(batch_size: int, process_index: int, process_count: int) -> range:
    """This process's places in a global batch.

    Raises:
      ValueError: when the batch cannot be shared out evenly, or the process does not exist.
    """
    if batch_size < 1:
        raise ValueError(f"batch size is {batch_size}; wanted 1 or more")
    if not 0 <= process_index < process_count:
        raise ValueError(f"process {process_index} of {process_count} does not exist")
    if batch_size % process_count:
        raise ValueError(
            f"a batch of {batch_size} cannot be shared evenly by {process_count} processes: "
            f"use a multiple of {process_count}"
        )
    local = batch_size // process_count
    return range(process_index * local, (process_index + 1) * local)


class ShuffledOrder:
    """The endless shuffled stream over one split."""

    def __init__(self, size: int, seed: int):
        """Makes the order; permutations are computed when first asked for.

        Args:
          size: examples in the split.
          seed: any two seeds give unrelated orders; not negative.

        Raises:
          ValueError: for an empty split or a negative seed.
        """
        if size < 1:
            raise ValueError("the split holds no examples")
        if seed < 0:
            raise ValueError(f"seed is {seed}; wanted 0 or more")
        self.size = size
        self._seed = seed
        # A batch touches two epochs at most, but read-ahead may already be in the next one.
        self._permutation = functools.lru_cache(maxsize=4)(self._shuffle)

    def _shuffle(self, epoch: int) -> np.ndarray:
        # Sorted by raw Philox output, which numpy promises never to change; its own `permutation`
        # may change between versions, and a resumed run would repeat and miss examples.
        keys = np.random.Philox(key=[self._seed, epoch]).random_raw(self.size)
        return np.argsort(keys, kind="stable")

    def at(self, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Examples at positions of the stream.

        Args:
          positions: (N,) whole numbers from 0.

        Returns:
          epoch (N,) and index (N,) within the split, int64.
        """
        epochs, places = np.divmod(np.asarray(positions, np.int64), self.size)
        indices = np.empty_like(places)
        for epoch in np.unique(epochs):
            here = epochs == epoch
            indices[here] = self._permutation(int(epoch))[places[here]]
        return epochs, indices
