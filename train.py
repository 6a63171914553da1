"""Trains DIR: `python train.py --help`, or see dir_jax/training/command.py."""

import sys

from dir_jax.training.command import main

if __name__ == "__main__":
    sys.exit(main())
