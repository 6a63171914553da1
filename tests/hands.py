"""The toy hands as a pair, loaded once: immutable, as all hand pairs are."""

import functools

import mano_jax
from mano_jax.constants import SIDES
from tests.golden.toy_mano import toy_mano


@functools.cache
def toy_hands() -> mano_jax.HandPair:
    return mano_jax.load_pair({side: toy_mano(side) for side in SIDES})
