import struct

import numpy as np
from tensorboardX.proto.event_pb2 import Event

from dir_jax.evaluation.examples import examples_of
from dir_jax.losses.targets import pose_batch
from dir_jax.models.types import Stage
from dir_jax.pictures.comparison import comparison_mesh
from dir_jax.training.board import Board
from tests.dir_jax.training_fixtures import random_batch, toy_hands


def test_the_mesh_sets_a_right_prediction_beside_its_label(tmp_path):
    hands, batch = toy_hands(), random_batch(2)
    truth = pose_batch(batch, hands)
    vertices, joints = np.asarray(truth.vertices), np.asarray(truth.joints)
    offset = (joints[:, 1, 0] - joints[:, 0, 0]) / 0.15
    roots = joints[:, :, :1]
    flat = [np.zeros((2, 2, n, 2)) for n in (21, 778)]
    stage = Stage(np.zeros((2, 2, 64)), offset, joints - roots, vertices - roots, *flat)
    found, faces, colours = comparison_mesh(examples_of(batch, (stage,), hands, 2)[1])
    label, prediction = found[: 2 * 778], found[2 * 778 :]
    moved = prediction - label
    np.testing.assert_allclose(moved, np.broadcast_to(moved[0], moved.shape), atol=1e-5)
    assert moved[0, 0] > np.ptp(label[:, 0])  # beside it, not in it
    expected = (vertices[1] - joints[1, 0, 0]).reshape(-1, 3) * [1, -1, -1]
    np.testing.assert_allclose(label, expected, atol=1e-5)
    assert faces.max() == 4 * 778 - 1 and len(np.unique(faces)) == len(found)
    assert colours.dtype == np.uint8 and (colours[:778] == colours[2 * 778 : 3 * 778]).all()

    board = Board(tmp_path, purge_step=0)
    board.mesh(7, "example", found, faces, colours)
    board.close()
    tensors = written_tensors(tmp_path)
    assert {tensor.shape for tensor in tensors} == {(1, *a.shape) for a in (found, faces, colours)}
    np.testing.assert_allclose(tensors[0][0], found.astype(np.float32))


def written_tensors(folder):
    """Tensors of the mesh events in TensorBoard's files (records: length, check, data, check)."""
    found = []
    for data in (path.read_bytes() for path in folder.iterdir()):
        while data:
            (length,) = struct.unpack("<Q", data[:8])
            event, data = Event.FromString(data[12 : 12 + length]), data[16 + length :]
            for value in event.summary.value:
                assert value.metadata.plugin_data.plugin_name == "mesh" and event.step == 7
                shape = [part.size for part in value.tensor.tensor_shape.dim]
                found.append(np.reshape(value.tensor.float_val, shape))
    return found


def test_a_hand_without_a_label_has_no_faces():
    hands, batch = toy_hands(), random_batch(1)
    batch["hand_valid"] = np.array([[False, True]])
    zeros = {n: np.zeros((1, 2, n, 3)) for n in (21, 778)}
    flat = [np.zeros((1, 2, n, 2)) for n in (21, 778)]
    stage = Stage(np.zeros((1, 2, 64)), np.zeros((1, 3)), zeros[21], zeros[778], *flat)
    vertices, faces, _ = comparison_mesh(examples_of(batch, (stage,), hands, 1)[0])
    assert len(faces) == 3 * len(hands.left.faces) and faces.min() == 778
    assert np.isfinite(vertices).all()
