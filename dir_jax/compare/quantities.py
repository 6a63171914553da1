"""The same named quantities out of both networks, in the order in which they are computed."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np

from dir_jax.losses.terms import TERMS, loss_terms
from dir_jax.models.network import DIR
from dir_jax.models.types import Output, Targets
from mano_jax.constants import SIDES

STAGE_FIELDS = {
    "params": "pd_mano_para",
    "joints_xyz": "pd_joint_xyz",
    "joints_uv": "pd_joint_uv",
    "vertices_xyz": "pd_mesh_xyz",
    "vertices_uv": "pd_mesh_uv",
}
LOSS_NAMES = {
    "segmentation": "seg",
    "lovasz": "lovasz",
    "dense": "dense",
    "offset": "offset",
    "joints_xyz": "joint_{side}_xyz",
    "vertices_xyz": "mesh_{side}_xyz",
    "joints_uv": "joint_{side}_uv",
    "vertices_uv": "mesh_{side}_uv",
    "edge": "edge_{side}",
    "normal": "normal_{side}",
}
REFERENCE_RECIPE = {name: term.weight for name, term in TERMS.items() if name in LOSS_NAMES}
REFERENCE_RECIPE |= {name: 0.0 for name in TERMS if name not in LOSS_NAMES}
"""The released losses, without terms that the reference does not have."""
LEVELS = (4, 3)
"""The reference numbers its refinements by the encoder's level."""

Ours = tuple[Output, Mapping[str, Any]]
"""Our network's output and what its parts gave, its "intermediates"."""


def reference_loss_name(ours: str) -> str:
    """`joints_xyz_left_0` to the reference's `joint_left_xyz_0`, and so on."""
    if ours in LOSS_NAMES:  # of the maps
        return LOSS_NAMES[ours]
    term, index = ours.rsplit("_", 1)
    if term in LOSS_NAMES:  # of both hands
        return f"{LOSS_NAMES[term]}_{index}"
    term, side = term.rsplit("_", 1)
    return f"{LOSS_NAMES[term].format(side=side)}_{index}"


@contextlib.contextmanager
def _watch(network):
    """Outputs of the reference's parts by their dotted names, while it runs."""
    seen, handles = {}, []
    parts = ["backbone", "init_regressor", "decoder.conv_final", "decoder.seg", "decoder.dense"]
    for level in LEVELS:
        parts += [f"decoder.fusion_layer{level}", f"decoder.enhance_layer{level}"]
        names = ("gcn_left", "gcn_right", "interaction")
        parts += [f"decoder.projecter_{level}", *(f"decoder.projecter_{level}.{n}" for n in names)]
    for part in parts:

        def note(_, __, output, part=part):
            seen[part] = output

        handles.append(network.get_submodule(part).register_forward_hook(note))
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def pairs(ours: Ours, seen: Mapping[str, Any]) -> Iterator[tuple[str, Any, np.ndarray]]:
    """Every quantity of one run, in the order in which it is computed: name, ours, theirs.

    Args:
      ours: the network's output, and its "intermediates".
      seen: what the reference's parts gave.
    """
    output, state = ours

    def numbers(tensor):
        return tensor.detach().numpy()

    def image(part):
        tensor = seen[part] if isinstance(part, str) else part
        return np.moveaxis(numbers(tensor), 1, 3)

    for index, tensor in enumerate(seen["backbone"], 1):
        yield f"encoder c{index}", state[f"c{index}"][0], image(tensor)
    for index, stage in enumerate(output.stages):
        if index == 0:
            values = seen["init_regressor"]
        else:
            level, here = LEVELS[index - 1], state[f"stage{index}"]
            part, joints = f"decoder.projecter_{level}", here["joints"]
            values, features = seen[part]
            graph = np.stack([numbers(seen[f"{part}.gcn_{side}"]) for side in SIDES], 1)
            transformed = numbers(seen[f"{part}.interaction"])
            fused = image(f"decoder.fusion_layer{level}")
            yield f"{index} fused map", here["fused"][0], fused
            yield f"{index} graph network", joints["after_graph"][0], graph
            yield f"{index} transformer", joints["after_transformer"][0], transformed
        yield f"{index} offset", stage.offset, numbers(values["pd_offset"])
        for field, name in STAGE_FIELDS.items():
            sides = np.stack([numbers(values[f"{name}_{side}"]) for side in SIDES], 1)
            yield f"{index} {field}", getattr(stage, field), sides
        if index > 0:
            enhanced = image(f"decoder.enhance_layer{level}")
            yield f"{index} projected map", here["projected"][0], image(features["img_feat"])
            yield f"{index} enhanced map", here["enhanced"][0], enhanced
    yield "final map", state["final_map"][0], image("decoder.conv_final")
    yield "segmentation", output.segmentation, image("decoder.seg")
    yield "dense", output.dense, image("decoder.dense")


def infer_reference(network, images: np.ndarray) -> dict[str, Any]:
    """What the reference's parts give for normalised images (B, 256, 256, 3)."""
    import torch

    network.eval()
    inputs = {"img": torch.from_numpy(np.moveaxis(images, 3, 1).copy())}
    with torch.no_grad(), _watch(network) as seen:
        network(inputs, None, None)
    return seen


@functools.partial(jax.jit, static_argnums=0)
def infer_ours(model: DIR, variables, images: np.ndarray) -> Ours:
    """Inference of our network on the same images."""
    output, state = model.apply(variables, images, mutable=["intermediates"])
    return output, state["intermediates"]


def train_ours(model: DIR, variables, images, targets: Targets, optimiser) -> tuple:
    """One step: `Ours`, loss terms, then gradients, statistics, stepped parameters."""

    def loss(params, batch_stats):
        output, state = model.apply(
            {"params": params, "batch_stats": batch_stats},
            images,
            train=True,
            mutable=["batch_stats", "intermediates"],
        )
        terms = loss_terms(output, targets, model.hands, REFERENCE_RECIPE)
        return sum(terms.values()), (output, state, terms)

    @jax.jit
    def step(params, batch_stats):
        (_, aux), gradient = jax.value_and_grad(loss, has_aux=True)(params, batch_stats)
        updates, _ = optimiser.update(gradient, optimiser.init(params), params)
        stepped = jax.tree.map(lambda p, u: p + u, params, updates)
        return aux, gradient, stepped

    (output, state, terms), gradient, stepped = step(variables["params"], variables["batch_stats"])
    terms = {reference_loss_name(name): np.asarray(value) for name, value in terms.items()}
    statistics = state["batch_stats"]
    return (output, state["intermediates"]), terms, gradient, statistics, stepped


def train_reference(network, images, targets: tuple, optimiser) -> tuple[dict, dict]:
    """One step of the reference in place: what its parts gave, and loss terms.

    Gradients, statistics and stepped parameters stay in the network.
    """
    import torch

    network.train()
    inputs = {"img": torch.from_numpy(np.moveaxis(images, 3, 1).copy())}
    with _watch(network) as seen:
        _, terms = network(inputs, *targets)
    optimiser.zero_grad()
    sum(terms.values()).backward()
    losses = {name: value.detach().numpy() for name, value in terms.items()}
    optimiser.step()
    return seen, losses
