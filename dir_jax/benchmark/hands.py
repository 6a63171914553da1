"""Our hand model beside others: smplx, manopth's form in the reference checkout, body-models.

All get the same right hand, axis-angle rotations and betas, and give vertices and joints. The
gradient is that of the vertices' mean square with respect to all three inputs.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import itertools
import pathlib
import tempfile
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import mano_jax
from dir_jax.benchmark.measure import first_line, time_in_turn
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
    if mode == "forward":
        function = jax.jit(vertices)
    else:

        def loss(*values):
            return jnp.square(vertices(*values)).mean()

        gradient = jax.jit(jax.grad(loss, argnums=(0, 1, 2)))

        def function(*values):
            return gradient(*values)[2]

    return lambda: jax.block_until_ready(function(*values))


def ours(hands: HandPair, values: Inputs, mode: str) -> Run:
    """`mano_jax.pose_hand` under jit."""

    def vertices(orient, pose, betas):
        matrices = mano_jax.matrix_from_axis_angle(orient)
        return mano_jax.pose_hand(hands.right, matrices, pose.reshape(-1, 15, 3), betas).vertices

    return _jax_run(vertices, values, mode)


def body_models(hands: HandPair, values: Inputs, mode: str) -> Run:
    """The package body-models in its JAX form, under jit."""
    from body_models.mano.jax import MANO

    with tempfile.TemporaryDirectory() as folder:
        mano_jax.save_npz(hands, folder)
        model = MANO(model_path=pathlib.Path(folder) / "MANO_RIGHT.npz", flat_hand_mean=True)

    def vertices(orient, pose, betas):
        return model.forward_vertices(pose.reshape(-1, 15, 3), wrist_rotation=orient, shape=betas)

    return _jax_run(vertices, values, mode)


def _torch_run(vertices: Callable, values: Inputs, mode: str) -> Run:
    import torch

    device = "cuda" if jax.default_backend() == "gpu" and torch.cuda.is_available() else "cpu"
    tensors = [torch.from_numpy(v).to(device).requires_grad_(mode == "gradient") for v in values]
    context = torch.no_grad if mode == "forward" else contextlib.nullcontext

    def run():
        with context():
            result = vertices(device, *tensors)
        if mode == "gradient":
            result = torch.autograd.grad(result.square().mean(), tensors)[2]
        if device == "cuda":
            torch.cuda.synchronize()
        return result.cpu().numpy()

    return run


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
    for name, build in (("body_models", body_models), ("smplx", smplx)):
        if importlib.util.find_spec(name):
            layers[name] = functools.partial(build, hands)
    if reference:
        layers["manopth"] = functools.partial(manopth, hands, reference=reference)
    return layers


def compare(
    hands: HandPair, reference: str | None, batches: list[int], repeats: int
) -> list[dict[str, Any]]:
    """Times all layers against each other.

    Returns:
      One row for each batch size, mode and layer: `batch`, `mode`, `layer`, `seconds` (median),
      `times_ours` and `difference` (from ours, relative to ours' largest value); or, instead of
      those, `failed` with the reason.
    """
    rows = []
    for batch, mode in itertools.product(batches, MODES):
        values, runs, results, failed = inputs(batch), {}, {}, {}
        for name, build in _layers(hands, reference).items():
            try:
                runs[name] = build(values, mode)
                results[name] = np.asarray(runs[name]())
            except Exception as error:
                if name == "ours":
                    raise
                failed[name] = first_line(error)
                runs.pop(name, None)
        times = time_in_turn(runs, repeats, warm_up=2)
        for name, timing in times.items():
            apart = np.abs(results[name] - results["ours"]).max()
            figures = {
                "seconds": timing.seconds,
                "times_ours": timing.seconds / times["ours"].seconds,
                "difference": float(apart / np.abs(results["ours"]).max()),
            }
            rows.append({"batch": batch, "mode": mode, "layer": name, **figures})
        for name, reason in failed.items():
            rows.append({"batch": batch, "mode": mode, "layer": name, "failed": reason})
    return rows
