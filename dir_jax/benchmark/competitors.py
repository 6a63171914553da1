"""The PyTorch code of a user's checkout, run on the same weights, images and labels."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from dir_jax.benchmark.programs import LEARNING_RATE, images_and_targets, pseudo_state
from dir_jax.compare import checkout
from dir_jax.compare.samples import random_labels
from dir_jax.models.network import DIR
from dir_jax.weights.table import is_unused
from mano_jax.constants import SIDES

FORMATS = ("contiguous", "channels_last")


@dataclasses.dataclass(frozen=True)
class Reference:
    """The PyTorch network on a device.

    Attributes:
      network: a torch module.
      memory_format: one of `FORMATS`, of its weights and of the images it is given.
      device: "cpu", or "cuda" where JAX runs on a GPU too.
      model: ours, with the same hands.
    """

    network: Any
    memory_format: str
    device: str
    model: DIR


def load(folder: str, model: DIR, memory_format: str) -> Reference:
    """Builds the reference's network with the weights of `programs.pseudo_state`.

    Raises:
      ReferenceError: no usable checkout, or torch is not installed. Whatever else the checkout's
        own code raises comes as it is.
    """
    network = checkout.build(folder, model.hands)
    state = pseudo_state(model)
    checkout.load_weights(network, {n: v for n, v in state.items() if not is_unused(n)})
    import torch

    on_gpu = jax.default_backend() == "gpu" and torch.cuda.is_available()
    device = "cuda" if on_gpu else "cpu"
    network = _moved(network, device).to(memory_format=_format(memory_format))
    return Reference(network, memory_format, device, model)


def prepare(
    folder: str, model: DIR, mode: str, batch: int, compiled: bool
) -> Iterator[tuple[str, Callable[[], Any] | Exception]]:
    """Every way to run the checkout's network, or why it cannot be.

    Args:
      folder: the checkout.
      model: ours, with the same hands.
      mode: "forward" or "train_step".
      batch: examples.
      compiled: whether inference is also run through torch.compile.

    Yields:
      "eager" or "compile" with one of `FORMATS`, and a function that runs it once.
    """
    ways = ("eager", "compile") if compiled and mode == "forward" else ("eager",)
    for memory_format in FORMATS:
        network = None
        for way in ways:
            options = {"compiled": True} if way == "compile" else {}
            try:
                network = network or load(folder, model, memory_format)
                run = RUNS[mode](network, batch, **options)
            except Exception as error:  # of somebody else's code: a row of the table, not the end
                run = error
            yield f"{way} {memory_format}", run


def _moved(network, device: str):
    """The network on a device, the tensors that it keeps as plain attributes included."""
    import torch

    for module in network.modules():
        for name, value in vars(module).items():
            if isinstance(value, torch.Tensor):
                setattr(module, name, value.to(device))
    return network.to(device)


@contextlib.contextmanager
def running(reference: Reference):
    """In this block the network runs on its device."""
    here = contextlib.nullcontext() if reference.device == "cuda" else checkout.on_cpu()
    with here, checkout.own_modules(reference.network):
        yield


def _format(name: str):
    import torch

    return torch.channels_last if name == "channels_last" else torch.contiguous_format


def _images(reference: Reference, count: int):
    import torch

    images, _ = images_and_targets(reference.model, count)
    channels_first = np.moveaxis(np.asarray(images), 3, 1).copy()
    tensor = torch.from_numpy(channels_first).to(reference.device)
    return {"img": tensor.contiguous(memory_format=_format(reference.memory_format))}


def _finish(reference: Reference) -> None:
    if reference.device == "cuda":
        import torch

        torch.cuda.synchronize()


def forward(
    reference: Reference, count: int, compiled: bool = False
) -> Callable[[], dict[str, np.ndarray]]:
    """A function that runs inference once and returns the last meshes.

    Args:
      reference: the network.
      count: images.
      compiled: through torch.compile, on the first call.

    Returns:
      A function without arguments; its result is {"vertices_xyz": (count, 2, 778, 3)}.
    """
    import torch

    inputs = _images(reference, count)
    network = torch.compile(reference.network) if compiled else reference.network

    def run():
        reference.network.eval()
        with torch.no_grad(), running(reference):
            outputs, _ = network(inputs, None, None)
        _finish(reference)
        last = outputs[-2]  # after it come the auxiliary maps
        sides = [last[f"pd_mesh_xyz_{side}"].cpu().numpy() for side in SIDES]
        return {"vertices_xyz": np.stack(sides, 1)}

    return run


def train_step(reference: Reference, count: int) -> Callable[[], Any]:
    """A function that runs one AdamW step and returns the loss terms."""
    import torch

    inputs = _images(reference, count)
    labels = tuple(
        {name: value.float().to(reference.device) for name, value in part.items()}
        for part in random_labels(reference.model.hands, 0, count)[1]
    )
    network = reference.network
    optimizer = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE)

    def run():
        network.train()
        with running(reference):
            _, terms = network(inputs, *labels)
            optimizer.zero_grad()
            sum(terms.values()).backward()
            optimizer.step()
        _finish(reference)
        return terms

    return run


RUNS = {"forward": forward, "train_step": train_step}
