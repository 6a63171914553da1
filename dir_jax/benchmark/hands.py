"""Our hand model beside others: smplx, manopth's form in the reference checkout, body-models.

All get the same right hand, axis-angle rotations and betas, and give vertices and joints. The
gradient is that of the vertices' mean square with respect to all three inputs.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import pathlib
import tempfile
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

import mano_jax
from dir_jax.benchmark.competitors import device, synchronized
from dir_jax.benchmark.measure import Figures, attempt, bytes_of_a_call, time_in_turn
from dir_jax.compare import checkout
from mano_jax import HandPair
from mano_jax.constants import PARENTS

Inputs = tuple[np.ndarray, np.ndarray, np.ndarray]
Run = Callable[[], np.ndarray]
"""Runs once and returns vertices (B, 778, 3), or the betas' gradient (B, 10)."""

MODES = ("forward", "gradient")


def inputs(batch: int) -> Inputs:
    """Random rotations (B, 3), finger poses (B, 45) and betas (B, 10), float32."""
    generator = np.random.default_rng(0)
    sizes = ((3, 1.0), (45, 0.4), (10, 1.0))
    return tuple(
        (scale * generator.normal(size=(batch, n))).astype(np.float32) for n, scale in sizes
    )


def _jax_run(vertices: Callable, values: Inputs, mode: str) -> Run:
    values = jax.device_put(values)

    def gradient(*values):
        return jax.grad(lambda *v: jnp.square(vertices(*v)).mean(), argnums=(0, 1, 2))(*values)

    function = jax.jit(vertices if mode == "forward" else gradient)

    def run():
        result = jax.block_until_ready(function(*values))
        return result if mode == "forward" else result[2]

    return run


def ours(hands: HandPair, values: Inputs, mode: str) -> Run:
    """`mano_jax.pose_hand` under jit."""

    def vertices(orient, pose, betas):
        matrices = mano_jax.matrix_from_axis_angle(orient)
        return mano_jax.pose_hand(hands.right, matrices, pose.reshape(-1, 15, 3), betas).vertices

    return _jax_run(vertices, values, mode)


def _torch_run(vertices: Callable, values: Inputs, mode: str) -> Run:
    import torch

    learns, where = mode == "gradient", device()
    tensors = [torch.from_numpy(value).to(where).requires_grad_(learns) for value in values]

    def run():
        with torch.set_grad_enabled(learns):
            result = vertices(where, *tensors)
        if learns:
            result = torch.autograd.grad(result.square().mean(), tensors)[2]
        return synchronized(result).cpu().numpy()

    return run


def body_models(hands: HandPair, values: Inputs, mode: str, form: str) -> Run:
    """The package body-models in one of its forms: JAX under jit, torch eager, or numpy."""
    model_class = importlib.import_module(f"body_models.mano.{form}").MANO
    with tempfile.TemporaryDirectory() as folder:
        mano_jax.save_npz(hands, folder)
        model = model_class(model_path=pathlib.Path(folder) / "MANO_RIGHT.npz", flat_hand_mean=True)

    def vertices(orient, pose, betas):
        return model.forward_vertices(pose.reshape(-1, 15, 3), wrist_rotation=orient, shape=betas)

    def on_device(device, *values):
        model.to(device)
        return vertices(*values)

    if form == "jax":
        return _jax_run(vertices, values, mode)
    if form == "torch":
        return _torch_run(on_device, values, mode)
    if mode == "gradient":
        raise ValueError("numpy has no gradients")
    return functools.partial(vertices, *values)


def smplx(hands: HandPair, values: Inputs, mode: str) -> Run:
    """smplx's MANO, eager."""
    from smplx.body_models import MANO
    from smplx.utils import Struct

    hand = hands.right
    tree = np.array([PARENTS, range(len(PARENTS))])
    arrays = {
        name: getattr(hand, name)
        for name in ("v_template", "shapedirs", "posedirs", "J_regressor", "hands_components")
    }
    arrays |= {"hands_mean": hand.hands_mean, "weights": hand.lbs_weights, "f": hand.faces}
    with contextlib.redirect_stdout(None):
        model = MANO(
            "",
            is_rhand=True,
            data_struct=Struct(kintree_table=tree, **arrays),
            use_pca=False,
            flat_hand_mean=True,
            batch_size=len(values[0]),
        )

    def vertices(device, orient, pose, betas):
        model.to(device)
        return model(betas=betas, global_orient=orient, hand_pose=pose).vertices

    return _torch_run(vertices, values, mode)


def manopth(hands: HandPair, values: Inputs, mode: str, reference: str) -> Run:
    """The hand layer of the reference checkout, eager."""
    layer = checkout.build_hand_layer(reference, hands)

    def vertices(device, orient, pose, betas):
        import torch

        layer.to(device)
        with contextlib.nullcontext() if device == "cuda" else checkout.on_cpu():
            return layer(torch.cat([orient, pose], 1), betas)[0]

    return _torch_run(vertices, values, mode)


def _layers(hands: HandPair, reference: str | None) -> dict[str, Callable[..., Run]]:
    """Every layer that is installed, ours first: name to a function of inputs and mode."""
    layers: dict[str, Callable[..., Run]] = {"ours": functools.partial(ours, hands)}
    installed = importlib.util.find_spec
    if installed("body_models"):
        forms = ("jax", "torch", "numpy") if installed("torch") else ("jax", "numpy")
        for form in forms:
            layers[f"body_models, {form}"] = functools.partial(body_models, hands, form=form)
    if installed("smplx"):
        layers["smplx"] = functools.partial(smplx, hands)
    if reference:
        layers["manopth"] = functools.partial(manopth, hands, reference=reference)
    return layers


def compare(hands: HandPair, reference: str | None, batch: int, repeats: int) -> list[Figures]:
    """Times all layers against each other, `batch` hands at a time.

    Returns:
      One row for each mode and layer: `batch`, `mode`, `layer`, `seconds` (median),
      `times_ours`, `difference` (from ours, relative to ours' largest value) and `bytes` (memory
      that a call takes and gives back, on a CPU); or, instead of those, `failed` with the reason.
    """
    rows, values = [], inputs(batch)
    for mode in MODES:
        runs = {
            name: attempt(functools.partial(build, values=values, mode=mode))
            for name, build in _layers(hands, reference).items()
        }
        times = time_in_turn(runs, repeats, warm_up=2, may_fail=lambda name: name != "ours")
        expected, seconds = np.asarray(times["ours"]["result"]), times["ours"]["seconds"]
        for name, found in times.items():
            if "failed" not in found:
                apart = np.abs(np.asarray(found["result"]) - expected).max()
                found = {
                    "seconds": found["seconds"],
                    "times_ours": found["seconds"] / seconds,
                    "difference": float(apart / np.abs(expected).max()),
                    "bytes": bytes_of_a_call(runs[name]),
                }
            rows.append({"batch": batch, "mode": mode, "layer": name, **found})
    return rows
