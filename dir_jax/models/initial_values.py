"""Initial values of parameters, drawn by numpy.

Flax draws them inside the network's program. Compiling hundreds of small random draws takes half a
minute for the full network; numpy needs a second for the same. So the network runs for its shapes
only, and each parameter's `Initial` notes which array it would have become.
"""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
import zlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

_noted: contextvars.ContextVar[list | None] = contextvars.ContextVar("noted", default=None)


@dataclasses.dataclass(frozen=True)
class Initial:
    """A distribution, callable as Flax's initialisers are.

    Attributes:
      kind: "normal", "uniform" (in -size to size) or "constant".
      size: the standard deviation, the bound or the value.
    """

    kind: str
    size: float

    def __call__(self, key: jax.Array | None, shape: Any, dtype: Any = jnp.float_) -> jax.Array:
        """An array of `shape`; `key` may be None for a constant."""
        dtype = jax.dtypes.canonicalize_dtype(dtype)  # float64 only where that is switched on
        if self.kind == "normal":
            values = self.size * jax.random.normal(key, shape, dtype)
        elif self.kind == "uniform":
            values = jax.random.uniform(key, shape, dtype, -self.size, self.size)
        else:
            values = jnp.full(shape, self.size, dtype)
        if (noted := _noted.get()) is not None:
            noted.append((values, self))
        return values

    def draw(self, generator: np.random.Generator, shape: Any, dtype: Any) -> np.ndarray:
        """The same by numpy."""
        if self.kind == "normal":
            values = generator.standard_normal(shape, np.float32) * np.float32(self.size)
        elif self.kind == "uniform":
            values = (2 * generator.random(shape, np.float32) - 1) * np.float32(self.size)
        else:
            values = np.full(shape, self.size)
        return np.asarray(values, dtype)


zeros, ones = Initial("constant", 0.0), Initial("constant", 1.0)


def draw(initialise: Callable[[jax.Array], dict[str, Any]], seed: int) -> dict[str, Any]:
    """What a network's initialisation describes.

    Args:
      initialise: key -> nested dict of variables. Those that come from no `Initial` are computed
        by this function itself.
      seed: of the random draws; a parameter's values depend on it and on the parameter's name.

    Returns:
      The variables, numpy arrays where drawn.
    """
    sources: dict[tuple[str, ...], Initial | None] = {}

    def note(key):
        with _noting() as noted:
            variables = initialise(key)
        of_array = {id(array): initial for array, initial in noted}
        flat = traverse_util.flatten_dict(variables)
        sources.update({path: of_array.get(id(leaf)) for path, leaf in flat.items()})
        return variables

    key = jax.random.key(seed)
    flat = traverse_util.flatten_dict(jax.eval_shape(note, key), keep_empty_nodes=True)
    others = [path for path, initial in sources.items() if initial is None]
    values = _computed(initialise, key, others) if others else {}
    for path, initial in sources.items():
        if initial is not None:
            name = zlib.crc32("/".join(path).encode())
            generator = np.random.Generator(np.random.PCG64([seed, name]))
            values[path] = initial.draw(generator, flat[path].shape, flat[path].dtype)
    return traverse_util.unflatten_dict({path: values.get(path, flat[path]) for path in flat})


@contextlib.contextmanager
def _noting():
    token = _noted.set([])
    try:
        yield _noted.get()
    finally:
        _noted.reset(token)


def _computed(initialise, key, paths) -> dict[tuple[str, ...], jax.Array]:
    def chosen(key):
        flat = traverse_util.flatten_dict(initialise(key))
        return [flat[path] for path in paths]

    # Run once: compiling well takes longer than it saves.
    quick = {"xla_backend_optimization_level": 0}
    return dict(zip(paths, jax.jit(chosen, compiler_options=quick)(key), strict=True))
