"""The PyTorch code of a user's checkout, run on the same weights, images and labels."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from dir_jax.benchmark.measure import attempt
from dir_jax.benchmark.programs import LEARNING_RATE, images_and_targets, pseudo_variables
from dir_jax.compare import checkout
from dir_jax.compare.samples import random_labels
from dir_jax.models.network import DIR
from dir_jax.weights.conversion import is_unused, torch_from_variables
from mano_jax.constants import SIDES

FORMATS = ("contiguous", "channels_last")
"""Memory formats, of the weights and of the images."""


def device() -> str:
    """ "cuda" where JAX runs on a GPU and torch can, else "cpu"."""
    import torch

    return "cuda" if jax.default_backend() == "gpu" and torch.cuda.is_available() else "cpu"


def synchronized(result: Any = None) -> Any:
    """Waits for the device, then gives its argument back."""
    if device() == "cuda":
        import torch

        torch.cuda.synchronize()
    return result


def prepare(
    folder: str, model: DIR, mode: str, batch: int, compiled: bool
) -> dict[str, Callable[[], Any] | Exception]:
    """Every way to run the checkout's network once, or why it cannot be.

    Args:
      folder: the checkout.
      model: ours, with the same hands.
      mode: "forward" or "train_step".
      batch: examples.
      compiled: whether inference is also run through torch.compile.

    Returns:
      By "eager" or "compile" with one of `FORMATS`.
    """
    ways = ("eager", "compile") if compiled and mode == "forward" else ("eager",)
    return {
        f"{way} {name}": attempt(
            functools.partial(build, folder, name, model, mode, batch, way == "compile")
        )
        for name in FORMATS
        for way in ways
    }


def build(
    reference: str,
    memory_format: str,
    model: DIR,
    mode: str,
    batch: int,
    compiled: bool = False,
) -> Callable[[], Any]:
    """A function that runs the checkout's network once.

    It has the weights of `programs.pseudo_variables`.

    Args:
      reference: the checkout.
      memory_format: one of `FORMATS`.
      model: ours, with the same hands.
      mode: "forward", whose result is {"vertices_xyz": (batch, 2, 778, 3)} of the last stage, or
        "train_step", one AdamW step, whose result are the loss terms.
      batch: examples.
      compiled: through torch.compile, on the first call.

    Raises:
      ReferenceError: no usable checkout, or torch is not installed. Whatever else the checkout's
        own code raises comes as it is.
    """
    network = checkout.build(reference, model.hands)
    state = torch_from_variables(jax.device_get(pseudo_variables(model)), model)
    checkout.load_weights(network, {n: v for n, v in state.items() if not is_unused(n)})
    import torch

    formats = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
    chosen = {"memory_format": formats[memory_format]}
    for module in network.modules():  # tensors that are kept as plain attributes move as well
        for name, value in vars(module).items():
            if isinstance(value, torch.Tensor):
                setattr(module, name, value.to(device()))
    network = network.to(device()).to(**chosen)
    images, _ = images_and_targets(model, batch)
    images = torch.from_numpy(np.moveaxis(np.asarray(images), 3, 1).copy()).to(device())
    inputs = {"img": images.contiguous(**chosen)}
    run = _forward(network, inputs, compiled) if mode == "forward" else (
        _train_step(network, inputs, random_labels(model.hands, 0, batch)[1])
    )  # fmt: skip

    def on_its_device():
        here = contextlib.nullcontext() if device() == "cuda" else checkout.on_cpu()
        with here, checkout.own_modules(network):
            return synchronized(run())

    return on_its_device


def _forward(network, inputs, compiled: bool):
    import torch

    called = torch.compile(network) if compiled else network

    def run():
        network.eval()
        with torch.no_grad():
            outputs, _ = called(inputs, None, None)
        last = outputs[-2]  # after it come the auxiliary maps
        sides = [last[f"pd_mesh_xyz_{side}"].cpu().numpy() for side in SIDES]
        return {"vertices_xyz": np.stack(sides, 1)}

    return run


def _train_step(network, inputs, labels):
    import torch

    labels = [{n: value.float().to(device()) for n, value in part.items()} for part in labels]
    optimizer = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE)

    def run():
        network.train()
        _, terms = network(inputs, *labels)
        optimizer.zero_grad()
        sum(terms.values()).backward()
        optimizer.step()
        return terms

    return run
