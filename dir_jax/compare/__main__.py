"""Runs a checkout of the PyTorch code and ours side by side and says where they part.

    python -m dir_jax.compare --reference CHECKOUT [--torch_checkpoint DIR.pth] [--mano DIR]
                              [--train] [--salt N]

Both networks get the same weights (pseudo-random ones, or a checkpoint's), hands and images, on
the CPU. Inference is compared in float32 and float64; with --train, one AdamW step in float64
(over two images, fifty layers of batch statistics amplify float32 rounding until pixels change
sides of the bone mask, in any implementation). Exit status 0: every quantity agrees; 1: some
quantity does not; 2: bad input.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Iterable, Mapping

import jax
import numpy as np
import optax

from dir_jax.compare import checkout, quantities
from dir_jax.compare.samples import pseudo_images, pseudo_state_dict, random_labels
from dir_jax.evaluation.tables import text_table
from dir_jax.models.network import create_model
from dir_jax.models.types import IMAGENET_MEAN, IMAGENET_STD
from dir_jax.weights.conversion import is_unused, torch_from_variables, variables_from_torch
from dir_jax.weights.torch_files import read_state_dict
from input_pipeline.commands import command
from mano_jax import HandPair, load_hands
from mano_jax.constants import SIDES

IMAGES = 2
LEARNING_RATE = 3e-4
INFERENCE_TOLERANCE = {"float32": 2e-5, "float64": 1e-7}
OUTPUT_TOLERANCE = LOSS_TOLERANCE = STATISTIC_TOLERANCE = 1e-7
GRADIENT_TOLERANCE = 1e-6
STEP_TOLERANCE = 1e-5
SMALLEST_GRADIENT = 1e-6
"""Gradients below are zero but for rounding (a bias before BatchNorm): no relative measure."""


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
      stage: part of the computation.
      quantity: what is compared.
      absolute: largest difference.
      relative: the same over the largest reference value.
      tolerance: on `relative`.
    """

    stage: str
    quantity: str
    absolute: float
    relative: float
    tolerance: float

    @property
    def agrees(self) -> bool:
        """False also where a difference is not a number."""
        return bool(self.relative <= self.tolerance)


def difference(
    stage: str, quantity: str, ours, theirs, tolerance: float, floor: float = 1e-30
) -> Row:
    """A row from two arrays; arrays of different shapes differ infinitely."""
    ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    if ours.shape != theirs.shape:
        name = f"{quantity}: shapes {ours.shape} and {theirs.shape}"
        return Row(stage, name, np.inf, np.inf, tolerance)
    absolute = float(np.abs(ours - theirs).max(initial=0))
    scale = max(float(np.abs(theirs).max(initial=0)), floor)
    return Row(stage, quantity, absolute, absolute / scale, tolerance)


def _rows(stage: str, pairs: Iterable[tuple], tolerance: float) -> list[Row]:
    return [difference(stage, name, ours, theirs, tolerance) for name, ours, theirs in pairs]


def _inference_rows(network, model, state, images, dtype: str) -> list[Row]:
    values = images.astype(dtype)
    theirs = quantities.infer_reference(network, values)
    with jax.enable_x64(dtype == "float64"):
        ours = quantities.infer_ours(model, _variables(state, model, dtype), values)
    pairs = quantities.pairs(ours, theirs)
    return _rows(f"inference {dtype}", pairs, INFERENCE_TOLERANCE[dtype])


def _variables(state, model, dtype):
    return jax.tree.map(lambda a: np.asarray(a, dtype), variables_from_torch(state, model))


def _by_part(ours: Mapping, theirs: Mapping, stage: str, tolerance: float, floor: float):
    """One row per part of the network: the tensor that differs most."""
    worst: dict[str, Row] = {}
    for name, value in theirs.items():
        part = ".".join(name.split(".")[:2]) if name.startswith("decoder") else name.split(".")[0]
        row = difference(stage, name, ours[name], value, tolerance, floor)
        if part not in worst or row.relative > worst[part].relative:
            worst[part] = row
    return list(worst.values())


def _training_rows(network, model, state, images, seed: int) -> list[Row]:
    import torch

    targets, reference_targets = random_labels(model.hands, seed, len(images))
    optimiser = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE)
    theirs, losses = quantities.train_reference(network, images, reference_targets, optimiser)
    with jax.enable_x64(True):
        variables = _variables(state, model, "float64")
        ours, terms, gradient, statistics, stepped = quantities.train_ours(
            model, variables, images, targets, optax.adamw(LEARNING_RATE, weight_decay=0.01)
        )
        gradients = _torch_names(gradient, statistics, model)
        parameters = _torch_names(stepped, statistics, model)
    rows = _rows("training", quantities.pairs(ours, theirs), OUTPUT_TOLERANCE)
    if terms.keys() != losses.keys():
        raise AssertionError(f"loss terms differ: {sorted(terms.keys() ^ losses.keys())}")
    named = ((name, terms[name], value) for name, value in losses.items())
    rows += _rows("loss", named, LOSS_TOLERANCE)
    learnt = {n: p for n, p in network.named_parameters() if p.grad is not None}
    wanted = {n: p.grad.numpy() for n, p in learnt.items()}
    rows += _by_part(gradients, wanted, "gradient", GRADIENT_TOLERANCE, SMALLEST_GRADIENT)
    buffers = {n: b.numpy() for n, b in network.named_buffers() if "running_" in n}
    rows += _by_part(gradients, buffers, "statistic", STATISTIC_TOLERANCE, 1e-30)
    after = {n: p.detach().numpy() for n, p in learnt.items()}
    rows += _by_part(parameters, after, "AdamW step", STEP_TOLERANCE, LEARNING_RATE)
    return rows


def _torch_names(params, statistics, model) -> dict[str, np.ndarray]:
    tree = {"params": params, "batch_stats": statistics}
    return torch_from_variables(jax.tree.map(np.asarray, tree), model)


def _as_the_reference_keeps(hands: HandPair) -> HandPair:
    """The reference holds the hand arrays in float32: the same values on both sides."""

    def rounded(hand):
        return jax.tree.map(
            lambda a: a.astype(np.float32).astype(a.dtype) if a.dtype.kind == "f" else a, hand
        )

    return dataclasses.replace(hands, **{side: rounded(hands[side]) for side in SIDES})


def compare(
    reference: str, state: Mapping[str, np.ndarray] | None, hands: HandPair, train: bool, salt: int
) -> list[Row]:
    """Every row of the table.

    Args:
      reference: folder of the PyTorch code.
      state: a checkpoint's tensors, or None for pseudo-random ones.
      hands: for both networks.
      train: also compare a training step.
      salt: which pseudo-random weights, images and labels.
    """
    hands = _as_the_reference_keeps(hands)
    network = checkout.build(reference, hands)
    model = create_model({"preset": "released", "rotations": "manopth"}, hands)
    if state is None:
        shapes = {n: tuple(t.shape) for n, t in network.state_dict().items() if ".th_" not in n}
        state = pseudo_state_dict(shapes, salt)
        state = {n: v for n, v in state.items() if "img_gird" not in n and "seg_loss" not in n}
    checkout.load_weights(network, {n: v for n, v in state.items() if not is_unused(n)})
    images = pseudo_images(IMAGES, salt) / 255
    images = (images - np.array(IMAGENET_MEAN)) / np.array(IMAGENET_STD)
    with checkout.on_cpu():
        import torch

        rows = _inference_rows(network, model, state, images, "float32")
        checkout.to_float64(network)
        default = torch.get_default_dtype()
        torch.set_default_dtype(torch.float64)
        try:
            rows += _inference_rows(network, model, state, images, "float64")
            if train:
                rows += _training_rows(network, model, state, images, salt)
        finally:
            torch.set_default_dtype(default)
    return rows


def report(rows: list[Row]) -> str:
    """The table, and the first quantity on which the two part."""
    header = ["stage, quantity", "max abs", "relative", "allowed", ""]
    lines = [
        [
            *(f"{row.stage}: {row.quantity}", f"{row.absolute:.1e}", f"{row.relative:.1e}"),
            *(f"{row.tolerance:.0e}", "ok" if row.agrees else "DIFFERS"),
        ]
        for row in rows
    ]
    apart = [row for row in rows if not row.agrees]
    verdict = f"all {len(rows)} quantities agree"
    if apart:
        first = f"first in {apart[0].stage}: {apart[0].quantity}"
        verdict = f"{len(apart)} of {len(rows)} quantities differ; {first}"
    return f"{text_table([header, *lines])}\n{verdict}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m dir_jax.compare", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--reference", required=True, metavar="CHECKOUT", help="PyTorch code")
    parser.add_argument("--torch_checkpoint", metavar="DIR.pth", help="else pseudo-random weights")
    parser.add_argument("--mano", metavar="DIR", help="official hand files; else the open hand")
    parser.add_argument("--train", action="store_true", help="also one training step (float64)")
    parser.add_argument("--salt", type=int, default=0, help="which pseudo-random numbers")
    return parser


@command
def main(argv: list[str]) -> int:
    """Runs the command; returns its exit status."""
    arguments = _parser().parse_args(argv)
    state = read_state_dict(arguments.torch_checkpoint) if arguments.torch_checkpoint else None
    hands = load_hands(arguments.mano)
    print(f"hands: {hands.name}")
    rows = compare(arguments.reference, state, hands, arguments.train, arguments.salt)
    print(report(rows))
    return 0 if all(row.agrees for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
