"""Weights and arithmetic of a network by part.

    python -m dir_jax.benchmark.summary [--model released] [--set stages=3 ...]

Arithmetic counts matrix products and convolutions, two operations per multiply-add, of one image
in inference, straight from the traced program: nothing is compiled or run.
"""

from __future__ import annotations

import argparse
import ast
import collections
import math
import sys
from typing import Any

import jax
import jax.numpy as jnp

from dir_jax.evaluation.tables import text_table
from dir_jax.models.config import PRESETS
from dir_jax.models.network import DIR, create_model, variable_shapes
from dir_jax.models.types import IMAGE_SIZE
from input_pipeline.commands import command
from mano_jax import HandPair, open_hands

OTHER = "meshes and heads' inputs"


def _dot_flops(equation) -> int:
    (contracted, _), _ = equation.params["dimension_numbers"]
    depth = math.prod(equation.invars[0].aval.shape[axis] for axis in contracted)
    return 2 * math.prod(equation.outvars[0].aval.shape) * depth


def _convolution_flops(equation) -> int:
    kernel = equation.invars[1].aval.shape
    outputs = kernel[equation.params["dimension_numbers"].rhs_spec[0]]
    return 2 * math.prod(equation.outvars[0].aval.shape) * math.prod(kernel) // outputs


COUNTERS = {"dot_general": _dot_flops, "conv_general_dilated": _convolution_flops}


def _inner(equation):
    for value in equation.params.values():
        for item in value if isinstance(value, (tuple, list)) else (value,):
            if hasattr(item, "eqns"):
                yield item
            elif hasattr(item, "jaxpr"):
                yield item.jaxpr


def _walk(jaxpr, prefix: str, counts: collections.Counter) -> None:
    for equation in jaxpr.eqns:
        name = f"{prefix}/{equation.source_info.name_stack}"
        if equation.primitive.name in COUNTERS:
            counts[name] += COUNTERS[equation.primitive.name](equation)
        for inner in _inner(equation):
            _walk(inner, name, counts)


def operations(model: DIR) -> dict[str, int]:
    """Floating-point operations of inference on one image by top-level part of the network."""
    images = jax.ShapeDtypeStruct((1, IMAGE_SIZE, IMAGE_SIZE, 3), jnp.float32)
    variables = variable_shapes(model)
    counts: collections.Counter = collections.Counter()
    _walk(jax.make_jaxpr(model.apply)(variables, images).jaxpr, "", counts)
    by_part: collections.Counter = collections.Counter()
    for name, count in counts.items():
        parts = (piece for piece in name.split("/") if piece in variables["params"])
        by_part[next(parts, OTHER)] += count
    return dict(by_part)


def weights(model: DIR) -> dict[str, int]:
    """Learnable numbers by top-level part of the network."""
    parts = variable_shapes(model)["params"]
    return {name: sum(leaf.size for leaf in jax.tree.leaves(part)) for name, part in parts.items()}


def summary(model: DIR) -> str:
    """The table, a line per part and the totals."""
    sizes, work = weights(model), operations(model)
    parts = list(dict.fromkeys([*sizes, *work]))
    figures = [(part, sizes.get(part, 0), work.get(part, 0)) for part in parts]
    figures.append(("total", sum(sizes.values()), sum(work.values())))
    rows = [[name, f"{size:,}", f"{flop / 1e9:.3f}"] for name, size, flop in figures]
    return text_table([["part", "weights", "GFLOP"], *rows])


def network(preset: str, pairs: list[str], hands: HandPair) -> DIR:
    """A preset's network with fields changed by texts like "stages=3".

    Raises:
      ValueError: a text without "=", an unknown field, or a value it cannot have.
    """
    fields: dict[str, Any] = {}
    for pair in pairs:
        name, separator, value = pair.partition("=")
        if not separator:
            raise ValueError(f"--set {pair}: wanted FIELD=VALUE, as in stages=3")
        try:
            fields[name] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            fields[name] = value
    try:
        return create_model({"preset": preset, **fields}, hands)
    except TypeError as error:
        raise ValueError(f"--set {' '.join(pairs)}: {error}") from None


@command
def main(argv: list[str]) -> int:
    """Runs the command; returns its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m dir_jax.benchmark.summary", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--model", default="released", choices=sorted(PRESETS))
    parser.add_argument("--set", nargs="*", default=[], metavar="FIELD=VALUE")
    arguments = parser.parse_args(argv)
    print(summary(network(arguments.model, arguments.set, open_hands())))
    return 0


if __name__ == "__main__":
    sys.exit(main())
