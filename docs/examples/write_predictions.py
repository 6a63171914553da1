"""Writes another system's output as a file that `evaluate.py --predictions` scores.

Needs nothing but numpy. Replace `reconstruct` by your system and run it on the photographs that
your ground truth names; run as it is, it makes up both files, to see the format work:

    python write_predictions.py --output made_up
    python evaluate.py --predictions made_up/theirs.npz --ground_truth made_up/truth.npz
"""

import argparse
import pathlib

import numpy as np

TREE = (0, 0, 1, 2, 3, 0, 5, 6, 7, 0, 9, 10, 11, 0, 13, 14, 15, 0, 17, 18, 19)
"""Parent of each joint: the wrist, then thumb, index, middle, ring, pinky from base to tip."""


def made_up_hand(rng):
    """A hand that nobody has: (21, 3) joints, metres, wrist at the origin."""
    joints = np.zeros((21, 3))
    for joint, parent in enumerate(TREE[1:], 1):
        fan = np.array([(joint - 1) // 4 - 2.0, -3.0, 0.3]) * (0.022 if parent == 0 else 0.008)
        joints[joint] = joints[parent] + fan + rng.normal(0, 0.002, 3)
    return joints


def reconstruct(truth_xyz, rng):
    """Stands for your system: joints (2, 21, 3) of the left and the right hand, camera axes."""
    return truth_xyz + rng.normal(0, 0.005, truth_xyz.shape)


def main():
    """Runs the command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=pathlib.Path, required=True, metavar="FOLDER")
    parser.add_argument("--samples", type=int, default=100)
    arguments = parser.parse_args()
    rng = np.random.default_rng(0)
    names, predicted, true = [], [], []
    for number in range(arguments.samples):
        wrists = np.array([[-0.08, 0.05, 0.8], [0.08, 0.05, 0.8]]) + rng.normal(0, 0.02, (2, 3))
        truth_xyz = np.stack([made_up_hand(rng), made_up_hand(rng)]) + wrists[:, None]
        names.append(f"Capture0/sequence/cam0/image{number}.jpg")
        true.append(truth_xyz)
        predicted.append(reconstruct(truth_xyz, rng))
    arguments.output.mkdir(parents=True, exist_ok=True)
    np.savez(
        arguments.output / "theirs.npz",
        joints_xyz=np.array(predicted, np.float32),  # or vertices_xyz (N, 2, 778, 3)
        sample_ids=np.array(names),
    )
    np.savez(
        arguments.output / "truth.npz",
        gt_joints_xyz=np.array(true, np.float32),
        camera=np.tile(
            np.array([[700, 0, 128], [0, 700, 128], [0, 0, 1]], np.float32), (len(names), 1, 1)
        ),
        sample_ids=np.array(names),
    )
    print(f"{len(names)} samples in {arguments.output}")


if __name__ == "__main__":
    main()
