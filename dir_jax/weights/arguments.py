"""The trained model that a command line names, and the cache of compiled programs."""

from __future__ import annotations

import argparse
import os

import jax

from dir_jax.weights.loading import Loaded, load_model

COMPILED = "~/.cache/dir_jax/compiled"
"""Where compiled programs are kept, unless JAX_COMPILATION_CACHE_DIR says otherwise."""


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the ways to name a trained model (exactly one must be given) and --mano."""
    group = parser.add_argument_group("model (one of these)")
    group.add_argument("--workdir", metavar="DIR", help="folder of a training run")
    group.add_argument(
        "--checkpoint", metavar="PATH", help="checkpoint, or dir_jax.convert's output"
    )
    group.add_argument("--torch_checkpoint", metavar="DIR.pth", help="the authors' weights")
    parser.add_argument(
        "--mano", metavar="DIR", help="folder with MANO_LEFT and MANO_RIGHT (.pkl or .npz)"
    )


def load_named_model(arguments: argparse.Namespace, mano: str | None = None) -> Loaded:
    """Loads the model that the arguments name and prints what is to be known of it.

    Args:
      arguments: parsed, with those of `add_model_arguments`.
      mano: used without --mano.

    Raises:
      ValueError, OSError: bad input; the message is for the user.
    """
    loaded = load_model(
        workdir=arguments.workdir,
        checkpoint=arguments.checkpoint,
        torch_checkpoint=arguments.torch_checkpoint,
        mano=arguments.mano or mano,
    )
    for note in loaded.notes:
        print(f"note: {note}")
    return loaded


def keep_compiled() -> None:
    """Lets JAX keep what it compiles, so that the next run starts in seconds."""
    if not jax.config.jax_compilation_cache_dir:
        jax.config.update("jax_compilation_cache_dir", os.path.expanduser(COMPILED))
