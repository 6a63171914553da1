"""Reconstructs both hands in photographs and videos.

    python predict.py --image FOLDER clip.mp4 --output OUT --workdir DIR
    python predict.py --image photo.jpg --output OUT --workdir DIR --box 120,80,240,200
    python predict.py --image photo.jpg --output OUT --torch_checkpoint DIR.pth --mano MANO

The hands are found, unless a box around them is given. For every photo it writes the meshes over
the photo, the joints, a side view and a top view (PNG), both hands in one space (GLB, OBJ) and all
parameters with their units (JSON); for every video the overlay (MP4) and a line of JSON a frame.
What cannot be used is named and skipped; the exit status is then 2. See
docs/prediction.md.
"""

import sys

from dir_jax.__main__ import main

if __name__ == "__main__":
    sys.exit(main(["predict", *sys.argv[1:]]))
