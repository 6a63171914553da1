"""Measures reconstructions of two hands under every protocol of the field.

    python evaluate.py --workdir DIR
    python evaluate.py --torch_checkpoint DIR.pth --mano MANO --data DATA
    python evaluate.py --predictions ours.npz theirs.npz --mano MANO --output evaluation.json

It prints one table for each protocol with the published figures beside, and writes
evaluation.json and a per-sample table (CSV). What a predictions file holds is described in
dir_jax/evaluation/predictions.py.
"""

import sys

from dir_jax.__main__ import main

if __name__ == "__main__":
    sys.exit(main(["evaluate", *sys.argv[1:]]))
