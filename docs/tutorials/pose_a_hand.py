"""Pose a hand: from parameters to a mesh, its joints and a picture.

python -m docs.tutorials.pose_a_hand --output hand.png
"""

import argparse

import jax
import jax.numpy as jnp
import numpy as np

import mano_jax
from dir_jax.pictures.drawing import draw_view, save_png, view_extent

parser = argparse.ArgumentParser(description="Poses the open hand and draws it.")
parser.add_argument("--output", default="hand.png")
output = parser.parse_args().output

# The hands that come with the code. With MANO's files: mano_jax.load_pair("FOLDER").
hands = mano_jax.open_hands()
hand = hands.right
print(f"{hands.name}: {hand.v_template.shape[0]} vertices, {len(hand.faces)} triangles a hand")

# A pose is one rotation of the wrist and 15 of the fingers, as axis times angle, in radians.
# MANO's own coordinates are 45 components about the mean pose: take 0 of them for that mean.
turns = mano_jax.matrix_from_axis_angle(jnp.array([[0, 0.7, 0], [0, 0, np.pi / 2]]))
upright = turns[0] @ turns[1]
relaxed = mano_jax.pca_to_axis_angle(hand, jnp.zeros(45))
betas = jnp.zeros(10)


@jax.jit
def curled(amount):
    """The hand (778 vertices, 21 joints, metres), fingers flat at 0, relaxed at 1."""
    return mano_jax.pose_hand(hand, upright, amount * relaxed, betas)


print("\nhow far the fingertips are from the wrist, in mm:")
print("curl   thumb  index middle   ring  pinky")
meshes = []
for amount in (0.0, 0.7, 1.4, 2.0):
    mesh = curled(amount)
    tips = mesh.joints[jnp.array([4, 8, 12, 16, 20])] - mesh.joints[0]
    print(f"{amount:4.1f}  " + " ".join(f"{1000 * x:6.1f}" for x in jnp.linalg.norm(tips, axis=-1)))
    meshes.append(np.asarray(mesh.vertices))

# Everything is differentiable: which way does the middle fingertip move as the hand curls?
velocity = jax.jacfwd(lambda amount: curled(amount).joints[12])(1.0)
print("\nd(middle fingertip) / d(curl), mm:", np.round(1000 * np.asarray(velocity), 1))

# One picture: the four hands beside each other (a view draws two at a time).
extent = max(view_extent(vertices) for vertices in meshes)
nothing = np.full_like(meshes[0], np.nan)
views = [draw_view(np.stack([nothing, v]), [hand.faces] * 2, "front", 256, extent) for v in meshes]
save_png(output, np.concatenate(views, axis=1))
print(f"\n{output}: flat to curled")
