"""Loads the public PyTorch code of DIR from a folder, unedited, on any machine.

The code imports packages that the network never uses or that no longer install (imgaug, yacs,
torchvision, timm, einops, chumpy behind manopth) and moves tensors to a GPU. Stand-ins take the
packages' place while it is imported, and `.cuda()` stays on the CPU while it runs.
"""

from __future__ import annotations

import contextlib
import pathlib
import sys
import types
import warnings
from collections.abc import Iterator, Mapping
from typing import Any
from unittest import mock

import numpy as np

from mano_jax import Hand, HandPair

NEEDED = ("models/dir.py", "manopth/manopth/manolayer.py", "SemGCN/p_gcn.py")
STAND_INS = (
    "imgaug imgaug.augmenters yacs yacs.config torchvision torchvision.models timm timm.models "
    "timm.models.layers einops mano mano.webuser"
).split()
WRAPPER = "mano.webuser.smpl_handpca_wrapper_HAND_only"
OWN_MODULES = ("models", "utils", "SemGCN", "transformer", "manopth", "mano", "dataset", "config")


class ReferenceError(ValueError):
    """The folder is not a usable checkout; the message says what is missing."""


def _hand_file(hand: Hand) -> dict[str, Any]:
    """A hand as manopth's loader returns it from an official file."""

    def chumpy(value):  # manopth takes the value from under `.r`
        return types.SimpleNamespace(r=value)

    return {
        "betas": chumpy(np.zeros(10)),
        "shapedirs": chumpy(hand.shapedirs),
        "posedirs": chumpy(hand.posedirs),
        "v_template": chumpy(hand.v_template),
        "weights": chumpy(hand.lbs_weights),
        "J_regressor": types.SimpleNamespace(toarray=lambda: hand.J_regressor),
        "hands_components": hand.hands_components,
        "hands_mean": hand.hands_mean,
        "f": hand.faces,
        "kintree_table": np.array([[-1, 0, 1, 2, 0, 4, 5, 0, 7, 8, 0, 10, 11, 0, 13, 14]]),
    }


def _is_own(name: str) -> bool:
    return name.split(".")[0] in OWN_MODULES


@contextlib.contextmanager
def _imports(folder: pathlib.Path, hands: HandPair) -> Iterator[None]:
    """The checkout first on the path, stand-ins in place; everything put back afterwards."""
    kept = {name: module for name, module in sys.modules.items() if _is_own(name)}
    for name in kept:
        del sys.modules[name]
    stand_ins = {name: mock.MagicMock(name=name) for name in STAND_INS}
    wrapper = mock.MagicMock(name=WRAPPER)
    wrapper.ready_arguments = lambda path: _hand_file(hands["left" if "LEFT" in path else "right"])
    stand_ins[WRAPPER] = wrapper
    path = list(sys.path)
    sys.path[:0] = [str(folder / "manopth"), str(folder)]
    try:
        with mock.patch.dict(sys.modules, stand_ins):
            try:
                yield
            except Exception as error:  # the folder's own code, whatever it raises
                reason = f"{type(error).__name__}: {error}".splitlines()[0]
                raise ReferenceError(f"{folder} cannot be used ({reason})") from error
            # Other packages stay: some (numpy.fft) cannot be imported twice.
            imported = {
                name: module
                for name, module in sys.modules.items()
                if name not in stand_ins and not _is_own(name)
            }
        sys.modules.update(imported)
    finally:
        sys.path[:] = path
        sys.modules.update(kept)


@contextlib.contextmanager
def on_cpu() -> Iterator[None]:
    """`.cuda()` does nothing and `.float()` means the default dtype, so float64 stays float64.

    The reference's warnings about its own age are silenced.
    """
    import torch

    def same(self, *_, **__):
        return self

    def default(self, *_, **__):
        return self.to(torch.get_default_dtype())

    with (
        warnings.catch_warnings(action="ignore"),
        mock.patch.object(torch.Tensor, "cuda", same),
        mock.patch.object(torch.nn.Module, "cuda", same),
        mock.patch.object(torch.Tensor, "float", default),
    ):
        yield


def build(checkout: str | pathlib.Path, hands: HandPair):
    """The reference's network with given hands, in inference mode, float32, on the CPU.

    Args:
      checkout: folder of the public PyTorch code.
      hands: given to its hand layers as if read from the official files.

    Returns:
      A torch module.

    Raises:
      ReferenceError: the folder lacks the code or cannot be imported, or torch is not installed.
    """
    folder = usable(checkout)
    with _imports(folder, hands), on_cpu(), contextlib.redirect_stdout(None):
        from models.dir import DIR as ReferenceNetwork

        network = ReferenceNetwork(21, "hands", root_joint=0)
        own = {name: module for name, module in sys.modules.items() if _is_own(name)}
    network.checkout_modules = own  # for `own_modules`
    return network.eval()


@contextlib.contextmanager
def own_modules(network) -> Iterator[None]:
    """In this block the checkout's modules can be imported: torch.compile asks for them by name."""
    own = network.checkout_modules
    before = {name: sys.modules[name] for name in own if name in sys.modules}
    sys.modules.update(own)
    try:
        yield
    finally:
        for name in own:
            sys.modules.pop(name, None)
        sys.modules.update(before)


def usable(checkout: str | pathlib.Path) -> pathlib.Path:
    """The checkout's folder.

    Raises:
      ReferenceError: the folder lacks the code, or torch is not installed.
    """
    folder = pathlib.Path(checkout).resolve()
    missing = [name for name in NEEDED if not (folder / name).is_file()]
    if missing:
        raise ReferenceError(
            f"{folder} is not a checkout of the PyTorch code: {missing[0]} is missing; "
            "clone github.com/PengfeiRen96/DIR and give its folder"
        )
    try:
        import torch  # noqa: F401
    except ImportError:
        raise ReferenceError(
            "torch is not installed; pip install -r requirements-reference.txt"
        ) from None
    return folder


def build_hand_layer(checkout: str | pathlib.Path, hands: HandPair):
    """The reference's layer of the right hand, without principal components or mean pose.

    Raises:
      ReferenceError: the folder lacks the code, or torch is not installed.
    """
    folder = usable(checkout)
    with _imports(folder, hands), on_cpu(), contextlib.redirect_stdout(None):
        from manopth.manolayer import ManoLayer

        return ManoLayer(side="right", mano_root="hands", use_pca=False, flat_hand_mean=True)


def load_weights(network, state: Mapping[str, np.ndarray]) -> None:
    """Fills every learnable tensor and statistic; buffers of the hand model keep their values.

    Raises:
      ReferenceError: names that the network does not have, or that stay unfilled.
    """
    import torch

    tensors = {name: torch.from_numpy(np.array(value)) for name, value in state.items()}
    result = network.load_state_dict(tensors, strict=False)
    buffers = (".th_", "img_gird", "seg_loss.weight", "num_batches_tracked")
    unfilled = [n for n in result.missing_keys if not any(part in n for part in buffers)]
    unfilled = [n for n in unfilled if "STEblocks.0." not in n and "backbone.fc." not in n]
    if unfilled or result.unexpected_keys:
        names = (unfilled + list(result.unexpected_keys))[:5]
        raise ReferenceError(f"weights and reference network disagree on {', '.join(names)}")


def to_float64(network) -> None:
    """The whole network in float64, its plain-attribute adjacency matrices included."""
    network.double()
    for module in network.modules():
        for name in ("adj_0", "adj_1"):
            if hasattr(module, name):
                setattr(module, name, getattr(module, name).double())
