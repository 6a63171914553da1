"""Hands for the tests: the toy pair with MANO's shapes."""

import jax
import pytest

from tests.golden.toy_mano import toy_mano
from tests.hands import toy_hands


@pytest.fixture(scope="session")
def toy_arrays():
    return {side: toy_mano(side) for side in ("left", "right")}


@pytest.fixture(scope="session")
def pair():
    return toy_hands()


@pytest.fixture
def x64():
    with jax.enable_x64(True):
        yield
