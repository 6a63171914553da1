"""A program as users write it: `mypy` reads it, so that the names keep the types they promise."""

from typing import Any, assert_type

import jax
import numpy as np

import dir_jax
import mano_jax


def hands() -> mano_jax.HandMesh:
    """From MANO's numbers to a mesh and back."""
    pair = mano_jax.open_hands()
    assert_type(pair, mano_jax.HandPair)
    assert_type(pair["left"], mano_jax.Hand)
    pose = mano_jax.pca_to_axis_angle(pair.left, np.zeros(6))
    orient = mano_jax.matrix_from_axis_angle(np.zeros(3))
    mesh = mano_jax.pose_hand(pair.left, orient, pose, np.zeros(10), root_joint=0)
    assert_type(mesh.vertices, jax.Array)
    found = mano_jax.fit(pair.right, np.asarray(mesh.joints))
    assert_type(found.betas, np.ndarray)
    return mesh


def network(images: jax.Array, targets: dir_jax.Targets) -> jax.Array:
    """From photographs to losses, and the weights to PyTorch's names."""
    pair = mano_jax.open_hands()
    variables, config = dir_jax.load_weights("open_hands")
    assert_type(config, dict[str, Any])
    model = dir_jax.create_model(config, pair)
    output = model.apply(variables, images, train=False)
    assert isinstance(output, dir_jax.Output)
    stage: dir_jax.Stage = output.stages[-1]
    assert_type(stage.vertices_xyz, jax.Array)
    state = dir_jax.torch_from_variables(variables, model)
    dir_jax.variables_from_torch(state, model)
    terms = dir_jax.loss_terms(output, targets, pair, recipe="released")
    assert_type(terms, dict[str, jax.Array])
    return sum(terms.values(), start=stage.offset.sum())
