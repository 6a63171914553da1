"""Swap a part of the refinement for your own, train both briefly, compare.

Here: the graph network over a hand's joints against one dense layer over all of them.

python -m docs.tutorials.swap_a_part --steps 40
"""

import argparse
from unittest import mock

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

import dir_jax
import mano_jax
from dir_jax.benchmark.programs import images_and_targets
from dir_jax.models import refinement
from dir_jax.models.config import TINY

parser = argparse.ArgumentParser(description="Trains a tiny network with two different parts.")
parser.add_argument("--steps", type=int, default=40)
steps = parser.parse_args().steps


class AllJoints(nn.Module):
    """My part. It is made and called as `dir_jax.models.graph.GraphNetwork` is."""

    layers: int
    features: int
    shared: bool = False
    axis_name: str | None = None
    dtype: jnp.dtype | None = None

    @nn.compact
    def __call__(self, x, train):
        """(B, 2, 21, C) to (B, 2, 21, features): every joint hears every other of its hand."""
        flat = nn.Dense(self.features * x.shape[2])(x.reshape(*x.shape[:2], -1))
        return x + nn.relu(flat).reshape(*x.shape[:3], self.features)


# Four images of noise and two random hands for each: whether a part can learn these by heart is
# all that this small comparison shows.
hands = mano_jax.open_hands()
model = dir_jax.create_model({"preset": "released", **TINY, "stages": 1}, hands)
images, targets = images_and_targets(model, 4)


def train(part):
    """Losses of `steps` steps with `part` for the graph network, and its number of weights."""
    optimiser = optax.adam(1e-3)

    @jax.jit
    def step(params, stats, state):
        def loss(params):
            variables = {"params": params, "batch_stats": stats}
            output, new = model.apply(variables, images, train=True, mutable=["batch_stats"])
            return sum(dir_jax.loss_terms(output, targets, hands).values()), new["batch_stats"]

        (value, new), gradient = jax.value_and_grad(loss, has_aux=True)(params)
        updates, state = optimiser.update(gradient, state)
        return optax.apply_updates(params, updates), new, state, value

    with mock.patch.object(refinement, "GraphNetwork", part):  # looked up while it is traced
        variables = jax.jit(model.init)(jax.random.key(0), images)
        params, stats = variables["params"], variables["batch_stats"]
        state, losses = optimiser.init(params), []
        for _ in range(steps):
            params, stats, state, value = step(params, stats, state)
            losses.append(float(value))
    own = params["stage1"]["joints"]
    return losses, sum(leaf.size for leaf in jax.tree.leaves(own["graph"]))


results = {part.__name__: train(part) for part in (refinement.GraphNetwork, AllJoints)}
print(f"{'step':>6s}" + "".join(f"{name:>16s}" for name in results))
for row in sorted({*range(0, steps, max(steps // 8, 1)), steps - 1}):
    print(f"{row:6d}" + "".join(f"{losses[row]:16.4f}" for losses, _ in results.values()))
print("weights in the part: " + ", ".join(f"{n} {size:,}" for n, (_, size) in results.items()))
