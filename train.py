"""Trains DIR: `python train.py --help`, or see dir_jax/training/command.py."""

import sys

from dir_jax.__main__ import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
