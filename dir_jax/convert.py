"""Converts weights of the PyTorch code, both ways.

python -m dir_jax.convert --torch_checkpoint DIR.pth --output FOLDER (or FILE.safetensors)
python -m dir_jax.convert --to_torch DIR.pth --checkpoint FOLDER (or FILE.safetensors)
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import pathlib
import shutil
import sys

import jax

from dir_jax.models.network import create_model
from dir_jax.weights import WeightsError
from dir_jax.weights.conversion import is_unused, torch_from_variables, variables_from_torch
from dir_jax.weights.loading import load_weights, save_weights
from dir_jax.weights.torch_files import read_state_dict, write_state_dict
from input_pipeline.commands import command
from mano_jax import open_hands


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m dir_jax.convert",
        description="Converts weights of the PyTorch reference to a checkpoint that evaluate.py, "
        "predict.py and train.py take, and back.",
    )
    direction = parser.add_mutually_exclusive_group(required=True)
    direction.add_argument("--torch_checkpoint", metavar="DIR.pth", help="file to convert")
    direction.add_argument("--to_torch", metavar="OUT", help=".pth or .safetensors to write")
    parser.add_argument(
        "--output", metavar="PATH", help="checkpoint folder to write, or a file: NAME.safetensors"
    )
    parser.add_argument(
        "--checkpoint", metavar="PATH", help="workdir, checkpoint or file to convert"
    )
    return parser


@command
def main(argv: list[str]) -> int:
    """Runs the command; returns its exit status."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    needed = "output" if arguments.torch_checkpoint else "checkpoint"
    if getattr(arguments, needed) is None:
        parser.error(f"--{needed} is needed")
    if arguments.torch_checkpoint:
        _import(arguments.torch_checkpoint, arguments.output)
    else:
        _export(arguments.checkpoint, arguments.to_torch)
    return 0


def _import(source: str, output: str) -> None:
    target = pathlib.Path(output)
    if target.exists():
        raise WeightsError(f"{output} exists already; choose a new name")
    state = read_state_dict(source)
    model = create_model("released", open_hands())  # the weights do not depend on the hands
    variables = variables_from_torch(state, model)
    unused = [name for name in state if is_unused(name)]
    config = dataclasses.asdict(model.config)
    if target.suffix == ".safetensors":
        save_weights(target, variables, config, source=str(source))
    else:
        _save_checkpoint(target, variables, {"config": {"model": config}, "source": str(source)})
    count = sum(v.size for v in jax.tree.leaves(variables["params"]))
    print(f"{len(state) - len(unused)} tensors, {count:,} weights: {source} -> {output}")
    print(f"{len(unused)} tensors left out (unused by the network, or hand model buffers)")


def _save_checkpoint(folder: pathlib.Path, variables: dict, meta: dict) -> None:
    from dir_jax.weights.checkpoints import save_variables  # needs orbax; a file does not

    temporary = folder.with_name(f".{folder.name}.{os.getpid()}")
    try:
        save_variables(temporary, variables, meta)
        os.rename(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _export(source: str, target: str) -> None:
    variables, config = load_weights(source)
    state = torch_from_variables(variables, create_model(config, open_hands()))
    write_state_dict(target, state)
    print(f"{len(state)} tensors: {source} -> {target}")


if __name__ == "__main__":
    sys.exit(main())
