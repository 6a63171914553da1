"""Hands for the tests: the toy pair with MANO's shapes."""

import jax
import pytest

import mano_jax
from tests.golden.toy_mano import toy_mano


@pytest.fixture(scope="session")
def toy_arrays():
    return {side: toy_mano(side) for side in ("left", "right")}


@pytest.fixture(scope="session")
def pair(toy_arrays):
    return mano_jax.load_pair(toy_arrays)


@pytest.fixture
def x64():
    with jax.enable_x64(True):
        yield
