"""Reconstructs both hands in photographs.

    python predict.py --image photo.jpg --output OUT --workdir DIR
    python predict.py --image a.jpg b.png --output OUT --torch_checkpoint DIR.pth --mano MANO \
        --box 120,80,240,200

For every photo it writes the meshes over the photo, the joints, a side view and a top view (PNG),
both hands in one space (GLB, OBJ) and all parameters with their units (JSON). Photos that cannot
be used are named and skipped; the exit status is then 2.
"""

import sys

from dir_jax.predict_command import main

if __name__ == "__main__":
    sys.exit(main())
