"""Adam's direction (Kingma and Ba 2015), its moments changed where they lie in memory."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax


def scale_by_adam(b1: float, b2: float, eps: float) -> optax.GradientTransformationExtraArgs:
    """`optax.scale_by_adam` with its state, and two differences.

    An update takes `finite` (bool): when it is False the state stays as it is. And on a CPU the
    direction is computed from the finished moments. Left to itself XLA computes them once more for
    the parameters, so it needs the old ones longer, and copies both (two thirds of the training
    state) in every step before it changes them; and it keeps the gradients' squares from the time
    their norm was taken.
    """

    def update(gradients, state, params=None, *, finite: jax.typing.ArrayLike = True, **unused):
        del params, unused
        gradients = _as_they_are(gradients)
        new = optax.ScaleByAdamState(
            count=optax.safe_increment(state.count),
            mu=optax.tree.update_moment(gradients, state.mu, b1, 1),
            nu=optax.tree.update_moment_per_elem_norm(gradients, state.nu, b2, 2),
        )
        new = jax.tree.map(lambda new, old: jnp.where(finite, new, old), new, state)
        new = _as_they_are(new)
        return _direction(new, b1, b2, eps), new

    return optax.GradientTransformationExtraArgs(_initial, update)


def _initial(params: Any) -> optax.ScaleByAdamState:
    def zeros():  # by numpy: `jnp.zeros` compiles a program for every shape there is
        arrays = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), params)
        return jax.device_put(arrays, may_alias=False)

    return optax.ScaleByAdamState(count=jnp.zeros((), jnp.int32), mu=zeros(), nu=zeros())


def _as_they_are(arrays: Any) -> Any:
    """The same; a CPU's compiler may neither compute them again nor look into how they came."""
    return jax.lax.platform_dependent(
        arrays, cpu=jax.lax.optimization_barrier, default=lambda same: same
    )


def _direction(state: optax.ScaleByAdamState, b1: float, b2: float, eps: float) -> Any:
    mean = optax.tree.bias_correction(state.mu, b1, state.count)
    square = optax.tree.bias_correction(state.nu, b2, state.count)
    return jax.tree.map(lambda m, v: m / (jnp.sqrt(v) + eps), mean, square)
