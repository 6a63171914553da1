"""Swap a part of the refinement for your own, train both briefly, compare.

Here: the graph network over a hand's joints against one dense layer over all of them, T = 1.

python -m docs.tutorials.swap_a_part --steps 40
"""

import argparse

import jax
import optax
from flax import linen as nn

import dir_jax
import mano_jax
from dir_jax.benchmark.programs import images_and_targets
from dir_jax.models.config import TINY, ModelConfig
from dir_jax.models.network import initial_variables


class AllJoints(nn.Module):
    """My part, as docs/variants.md asks of a graph network: made from the config, called so."""

    config: ModelConfig

    @nn.compact
    def __call__(self, x, train):
        """(B, 2, 21, C) to (B, 2, 21, C): every joint hears every other of its hand."""
        flat = nn.Dense(x.shape[2] * x.shape[3])(x.reshape(*x.shape[:2], -1))
        return x + nn.relu(flat).reshape(x.shape)


def train(graph, steps):
    """Losses of some steps with a graph network, by name, and its number of weights."""
    # Four images of noise and two random hands for each: whether a part can learn these by heart
    # is all that this small comparison shows.
    hands, optimiser = mano_jax.open_hands(), optax.adam(1e-3)
    model = dir_jax.create_model({**TINY, "stages": 1, "graph": graph}, hands)
    images, targets = images_and_targets(model, 4)

    @jax.jit
    def step(params, stats, state, images, targets):
        def loss(params):
            variables = {"params": params, "batch_stats": stats}
            output, new = model.apply(variables, images, train=True, mutable=["batch_stats"])
            return sum(dir_jax.loss_terms(output, targets, hands).values()), new["batch_stats"]

        (value, new), gradient = jax.value_and_grad(loss, has_aux=True)(params)
        updates, state = optimiser.update(gradient, state)
        return optax.apply_updates(params, updates), new, state, value

    variables = initial_variables(model, seed=0)
    params, stats = variables["params"], variables["batch_stats"]
    state, losses = jax.jit(optimiser.init)(params), []
    for _ in range(steps):
        params, stats, state, value = step(params, stats, state, images, targets)
        losses.append(float(value))
    own = params["stage1"]["joints"]["graph"]
    return losses, sum(leaf.size for leaf in jax.tree.leaves(own))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Trains a tiny network with two different parts.")
    parser.add_argument("--steps", type=int, default=40)
    steps = parser.parse_args().steps
    names = ("per_joint", "docs.tutorials.swap_a_part:AllJoints")
    results = {name.split(":")[-1]: train(name, steps) for name in names}
    print(f"{'step':>6s}" + "".join(f"{name:>16s}" for name in results))
    for row in sorted({*range(0, steps, max(steps // 8, 1)), steps - 1}):
        print(f"{row:6d}" + "".join(f"{losses[row]:16.4f}" for losses, _ in results.values()))
    print("weights: " + ", ".join(f"{name} {size:,}" for name, (_, size) in results.items()))
