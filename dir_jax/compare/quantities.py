"""The same named quantities out of both networks, in the order in which they are computed."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Mapping
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

Quantities = dict[str, np.ndarray]


def reference_loss_name(ours: str) -> str:
    """`joints_xyz_left_0` to the reference's `joint_left_xyz_0`, and so on."""
    if ours in LOSS_NAMES:  # of the maps
        return LOSS_NAMES[ours]
    term, index = ours.rsplit("_", 1)
    if term in LOSS_NAMES:  # of both hands
        return f"{LOSS_NAMES[term]}_{index}"
    term, side = term.rsplit("_", 1)
    return f"{LOSS_NAMES[term].format(side=side)}_{index}"


def _channels_last(value: np.ndarray) -> np.ndarray:
    return np.moveaxis(value, 1, 3)


def _stage(index: int, values: Mapping[str, Any]) -> Quantities:
    found = {f"{index} offset": values["pd_offset"].detach().numpy()}
    for field, name in STAGE_FIELDS.items():
        sides = [values[f"{name}_{side}"].detach().numpy() for side in SIDES]
        found[f"{index} {field}"] = np.stack(sides, 1)
    return found


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


def _of_reference(seen: Mapping[str, Any]) -> Quantities:
    found = {}

    def image(name, tensor):
        found[name] = _channels_last(tensor.detach().numpy())

    for index, tensor in enumerate(seen["backbone"], 1):
        image(f"encoder c{index}", tensor)
    found |= _stage(0, seen["init_regressor"])
    for index, level in enumerate(LEVELS, 1):
        projecter = f"decoder.projecter_{level}"
        image(f"{index} fused map", seen[f"decoder.fusion_layer{level}"])
        graph = [seen[f"{projecter}.gcn_{side}"].detach().numpy() for side in SIDES]
        found[f"{index} graph network"] = np.stack(graph, 1)
        found[f"{index} transformer"] = seen[f"{projecter}.interaction"].detach().numpy()
        result, features = seen[projecter]
        found |= _stage(index, result)
        image(f"{index} projected map", features["img_feat"])
        image(f"{index} enhanced map", seen[f"decoder.enhance_layer{level}"])
    image("final map", seen["decoder.conv_final"])
    image("segmentation", seen["decoder.seg"])
    image("dense", seen["decoder.dense"])
    return found


def _of_ours(output: Output, state: Mapping[str, Any]) -> Quantities:
    found = {f"encoder c{index}": state[f"c{index}"][0] for index in range(1, 5)}
    for index, stage in enumerate(output.stages):
        here = state.get(f"stage{index}")
        if here is not None:
            found[f"{index} fused map"] = here["fused"][0]
            found[f"{index} graph network"] = here["joints"]["after_graph"][0]
            found[f"{index} transformer"] = here["joints"]["after_transformer"][0]
        found[f"{index} offset"] = stage.offset
        found |= {f"{index} {field}": getattr(stage, field) for field in STAGE_FIELDS}
        if here is not None:
            found[f"{index} projected map"] = here["projected"][0]
            found[f"{index} enhanced map"] = here["enhanced"][0]
    found["final map"] = state["final_map"][0]
    found |= {"segmentation": output.segmentation, "dense": output.dense}
    return {name: np.asarray(value) for name, value in found.items()}


def infer_reference(network, images: np.ndarray) -> Quantities:
    """Inference of the reference on normalised images (B, 256, 256, 3)."""
    import torch

    network.eval()
    inputs = {"img": torch.from_numpy(np.moveaxis(images, 3, 1).copy())}
    with torch.no_grad(), _watch(network) as seen:
        network(inputs, None, None)
    return _of_reference(seen)


@functools.partial(jax.jit, static_argnums=0)
def _infer(model: DIR, variables, images):
    return model.apply(variables, images, mutable=["intermediates"])


def infer_ours(model: DIR, variables, images: np.ndarray) -> Quantities:
    """Inference of our network on the same images."""
    output, state = _infer(model, variables, images)
    return _of_ours(output, state["intermediates"])


def train_ours(model: DIR, variables, images, targets: Targets, optimiser) -> tuple:
    """One step of ours: quantities, loss terms, then gradients, statistics, stepped parameters."""

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
    return _of_ours(output, state["intermediates"]), terms, gradient, statistics, stepped


def train_reference(network, images, targets: tuple, optimiser) -> tuple[Quantities, Quantities]:
    """One step of the reference in place: quantities and loss terms.

    Gradients, statistics and stepped parameters stay in the network.
    """
    import torch

    network.train()
    inputs = {"img": torch.from_numpy(np.moveaxis(images, 3, 1).copy())}
    with _watch(network) as seen:
        _, terms = network(inputs, *targets)
    optimiser.zero_grad()
    sum(terms.values()).backward()
    found = _of_reference(seen)
    losses = {name: value.detach().numpy() for name, value in terms.items()}
    optimiser.step()
    return found, losses
