"""Fit a hand to 21 joints: by gradient descent written here, and by mano_jax.fit.

python -m docs.tutorials.fit_joints --output fit.png
"""

import argparse
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax

import mano_jax
from dir_jax.pictures.drawing import draw_view, save_png, view_extent

parser = argparse.ArgumentParser(description="Fits the open hand to joints in two ways.")
parser.add_argument("--output", default="fit.png")
parser.add_argument("--steps", type=int, default=300, help="of gradient descent")
options = parser.parse_args()

hand = mano_jax.open_hands().right
rng = np.random.default_rng(0)

# The joints to fit: a hand in a pose we know, so that the answer can be judged.
orient = mano_jax.matrix_from_axis_angle(jnp.array([0.4, -0.8, 0.3]))
fingers = hand.hands_mean.reshape(15, 3) + 0.25 * rng.normal(size=(15, 3))
betas, transl = 0.8 * rng.normal(size=10), jnp.array([0.05, -0.02, 0.6])
truth = mano_jax.pose_hand(hand, orient, fingers, betas, transl)
joints = truth.joints + 0.001 * rng.normal(size=(21, 3))  # measured to a millimetre


def pose(parameters):
    """The wrist turns by a 6D rotation: no angle wraps, no gradient vanishes."""
    orient = mano_jax.matrix_from_6d(parameters["orient"])
    fingers = mano_jax.pca_to_axis_angle(hand, parameters["pca"])
    return mano_jax.pose_hand(hand, orient, fingers, parameters["betas"], parameters["transl"])


def loss(parameters):
    """Squared distance to the joints in mm, and a pull towards the mean hand."""
    error = 1000 * (pose(parameters).joints - joints)
    pull = jnp.sum(parameters["pca"] ** 2) + jnp.sum(parameters["betas"] ** 2)
    return jnp.mean(jnp.sum(error**2, -1)) + 0.01 * pull


@jax.jit
def step(parameters, state):
    """One step of Adam: new parameters, its state, and the loss before."""
    value, gradient = jax.value_and_grad(loss)(parameters)
    updates, state = optimiser.update(gradient, state)
    return optax.apply_updates(parameters, updates), state, value


optimiser = optax.adam(optax.cosine_decay_schedule(0.05, options.steps))
parameters = {"pca": jnp.zeros(45), "betas": jnp.zeros(10), "transl": joints[0]}
parameters["orient"] = jnp.array([1.0, 0, 0, 0, 1, 0])
state, start = optimiser.init(parameters), time.perf_counter()
for number in range(options.steps):
    parameters, state, value = step(parameters, state)
    if number % 50 == 0:
        print(f"step {number:4d}: loss {float(value):10.2f}")
seconds = time.perf_counter() - start

begin = time.perf_counter()
fit = mano_jax.fit(hand, np.asarray(joints))
rows = {
    f"gradient descent, {seconds:.1f} s": pose(parameters),
    f"mano_jax.fit, {time.perf_counter() - begin:.1f} s": mano_jax.pose_hand(hand, *fit[:4]),
}
print(f"\n{'mean error in mm':28s}  joints  vertices   (seconds: compilation included)")
for name, mesh in rows.items():
    apart = [jnp.linalg.norm(a - b, axis=-1) for a, b in zip(mesh, truth, strict=True)]
    print(f"{name:28s} {1000 * apart[1].mean():7.2f} {1000 * apart[0].mean():9.2f}")

pairs = [np.stack([truth.vertices, mesh.vertices]) for mesh in rows.values()]
extent = max(view_extent(pair) for pair in pairs)
views = [draw_view(pair, [hand.faces] * 2, "front", 320, extent) for pair in pairs]
save_png(options.output, np.concatenate(views, axis=1))
print(f"\n{options.output}: truth blue, fits orange (left: gradient descent, right: mano_jax.fit)")
