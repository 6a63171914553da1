"""Weights between PyTorch and Flax, exactly, both ways: the table of names, and what follows it.

Names on the PyTorch side are those of the released checkpoint (github.com/PengfeiRen96/DIR). Its
tensors of each hand are joined in the order left, right.
"""

from __future__ import annotations

import dataclasses
import fnmatch
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from flax import traverse_util

from dir_jax.models.config import PARTS, ModelConfig
from dir_jax.models.network import DIR, variable_shapes
from dir_jax.weights import WeightsError, fill, raise_if
from dir_jax.weights.torch_files import read_state_dict
from mano_jax.constants import SIDES

UNUSED = (
    "backbone.fc.*",  # the 1000 ImageNet classes
    "*.interaction.STEblocks.0.*",  # the idle transformer block
    "*.num_batches_tracked",
    "*.mano_layer_left.th_*",
    "*.mano_layer_right.th_*",
    "*.img_gird",
    "seg_loss.weight",
)
"""Tensors of a checkpoint that are knowingly left out (shell patterns)."""

LAYOUTS = {
    # name: (torch to flax, flax to torch)
    "same": (lambda a: a, lambda a: a),
    "conv": (lambda a: a.transpose(2, 3, 1, 0), lambda a: a.transpose(3, 2, 0, 1)),
    "linear": (lambda a: a.T, lambda a: a.T),
    "conv1d": (lambda a: a[..., 0].T, lambda a: a.T[..., None]),
    "conv1x1": (lambda a: a[..., 0, 0].T, lambda a: a.T[..., None, None]),
    "row": (lambda a: a.reshape(-1), lambda a: a.reshape(1, -1, 1, 1)),
    "scalar": (lambda a: a.reshape(()), lambda a: a.reshape(1)),
    "edges": (lambda a: a[0], lambda a: a[None]),
}
DIMENSIONS = {"conv": 4, "linear": 2, "conv1d": 3, "conv1x1": 4, "row": 4, "scalar": 1, "edges": 2}

# --- The table ----------------------------------------------------------------------------------
# Our module within a part (a regular expression), theirs, and how its kernel lies.

_HEAD = {"conv1(/conv)?": ("0", "conv"), "norm": ("1", ""), "conv2/dense": ("3", "conv1x1")}
_RESIDUAL = {
    r"norm(\d)": (r"bn\1", ""),
    r"conv(\d)/dense": (r"conv\1.conv", "conv1x1"),
    r"conv(\d)/conv": (r"conv\1.conv", "conv"),
    "skip": ("skip_layer.conv", "conv1x1"),
}
_POINTS = {"linear1": ("0", "conv1d"), "norm": ("1", ""), "linear2": ("3", "conv1d")}
_ENCODER = {
    "stem/conv": ("conv1", "conv"),
    "stem_norm": ("bn1", ""),
    r"group(\d)_block(\d+)/conv(\d)/dense": (r"layer\1.\2.conv\3", "conv1x1"),
    r"group(\d)_block(\d+)/conv(\d)/conv": (r"layer\1.\2.conv\3", "conv"),
    r"group(\d)_block(\d+)/norm(\d)": (r"layer\1.\2.bn\3", ""),
    r"group(\d)_block(\d+)/conv_skip/dense": (r"layer\1.\2.downsample.0", "conv1x1"),
    r"group(\d)_block(\d+)/norm_skip": (r"layer\1.\2.downsample.1", ""),
}
_INITIAL = {
    "attention/conv1/conv": ("attention_{side}.0", "conv"),
    "attention/norm": ("attention_{side}.1", ""),
    "attention": ("attention_{side}.3", "row"),
    "params": ("mano_{side}", "linear"),
    "offset": ("offset", "linear"),
}
_GRAPH = {
    r"layer(\d+)": (r"gconv_layers.\1.gconv", "same"),
    r"layer(\d+)/norm": (r"gconv_layers.\1.bn", ""),
}
_TRANSFORMER = {
    "": ("", ""),
    "norm": ("spatial_norm", ""),
    r"block(\d+)/norm(\d)": (r"STEblocks.\1.norm\2", ""),
    r"block(\d+)/(qkv|proj)": (r"STEblocks.\1.attn.\2", "linear"),
    r"block(\d+)/mlp(\d)": (r"STEblocks.\1.mlp.fc\2", "linear"),
    "head_norm": ("head.0", ""),
    "head": ("head.1", "linear"),
}
_REGRESSION = {"params": ("mano_{side}", "linear"), "offset": ("offset", "linear")}
_TABLE = {
    # our part, with the encoder's level in a stage's place: theirs, and what is in it
    "encoder": ("backbone", _ENCODER),
    "initial": ("init_regressor", _INITIAL),
    r"level(\d)/fusion/skip": (r"decoder.skip_layer\1", _RESIDUAL),
    r"level(\d)/fusion/fuse": (r"decoder.fusion_layer\1", _RESIDUAL),
    r"level(\d)/joints/visual": (r"decoder.projecter_\1.img2joint_{side}.filters", _POINTS),
    r"level(\d)/joints/position": (r"decoder.projecter_\1.pos_emb_{side}", _POINTS),
    r"level(\d)/joints/graph": (r"decoder.projecter_\1.gcn_{side}", _GRAPH),
    r"level(\d)/joints/global_position": (r"decoder.projecter_\1.global_pos_emb", _POINTS),
    r"level(\d)/joints/transformer": (r"decoder.projecter_\1.interaction", _TRANSFORMER),
    r"level(\d)/regression": (r"decoder.projecter_\1.regressor", _REGRESSION),
    r"level(\d)/vectors": (r"decoder.projecter_\1.proj_feat_emb", _POINTS),
    r"level(\d)/projection": (r"decoder.projecter_\1.fusion", _HEAD),
    r"level(\d)/enhance": (r"decoder.enhance_layer\1", _RESIDUAL),
    "final": ("decoder.conv_final", _HEAD),
    "segmentation": ("decoder.seg", _HEAD),
    "dense": ("decoder.dense", _HEAD),
}
_LEAVES = {
    "scale": "weight",
    "mean": "running_mean",
    "var": "running_var",
    "edges": "e_1",
    "self_edges": "e_0",
    "positions": "spatial_pos_embed",
}


@dataclasses.dataclass(frozen=True)
class Entry:
    """One Flax variable and where it comes from.

    Attributes:
      path: slash-separated, from "params/" or "batch_stats/".
      sources: one PyTorch name, or the left and the right hand's.
      layout: a key of `LAYOUTS`, applied to each source.
      axis: on which two sources become one: joined on the last, or stacked on a new first one.
    """

    path: str
    sources: tuple[str, ...]
    layout: str = "same"
    axis: int = 0

    def to_flax(self, arrays: list[np.ndarray]) -> np.ndarray:
        """The variable's value from its sources' arrays."""
        parts = [LAYOUTS[self.layout][0](a) for a in arrays]
        if len(parts) > 1:
            parts = [np.concatenate(parts, -1) if self.axis else np.stack(parts)]
        return np.ascontiguousarray(parts[0])

    def to_torch(self, value: np.ndarray) -> list[np.ndarray]:
        """The sources' arrays from the variable's value."""
        parts = [value]
        if len(self.sources) > 1:
            parts = np.split(value, 2, -1) if self.axis else list(value)
        return [np.ascontiguousarray(LAYOUTS[self.layout][1](p)) for p in parts]


def _entry(path: str) -> Entry:
    """The table's line for one variable of a model."""
    _, *modules, leaf = path.split("/")
    name = re.sub(r"^stage(\d)", lambda m: f"level{5 - int(m[1])}", "/".join(modules))
    # The first block of the released transformer is idle.
    name = re.sub(r"transformer/block(\d+)", lambda m: f"transformer/block{int(m[1]) + 1}", name)
    axis = -1 if name in ("initial/attention/conv1/conv", "initial/attention/norm") else 0
    for part, (theirs, inside) in _TABLE.items():
        if not (found := re.match(f"{part}(/|$)", name)):
            continue
        for ours, (module, layout) in inside.items():
            if match := re.fullmatch(ours, name[found.end() :]):
                words = (found.expand(theirs), match.expand(module), _leaf(leaf, layout)[0])
                source = ".".join(filter(None, words))
                sides = dict.fromkeys(source.replace("{side}", side) for side in SIDES)
                return Entry(path, tuple(sides), _leaf(leaf, layout)[1], axis)
    raise AssertionError(f"the conversion table lacks {path}")


def _leaf(leaf: str, layout: str) -> tuple[str, str]:
    """Their name for a variable of a module whose kernel has a layout, and its own layout."""
    if leaf == "kernel":
        return "W" if layout == "same" else "weight", layout  # W of graph networks
    if leaf == "bias":
        return leaf, "scalar" if layout == "row" else "same"
    return _LEAVES[leaf], "edges" if leaf.endswith("edges") else "same"


def table(model: DIR) -> list[Entry]:
    """Every variable of a model of the released structure (any widths), each source once.

    Raises:
      ValueError: the architecture has no counterpart in the released code.
    """
    released = ModelConfig()
    fields = ("encoder", "attention", "stages", "graph", "transformer", "planes")
    fitting: dict[str, tuple[Any, ...]] = {field: (getattr(released, field),) for field in fields}
    fitting |= {field: tuple(PARTS[field]) for field in ("projection", "sampling")}
    for field, names in fitting.items():
        if (value := getattr(model.config, field)) not in names:
            raise ValueError(
                f"model.{field} is {value!r}; the released PyTorch code only has "
                f"{' or '.join(map(str, names))}, so its weights fit the preset 'released' only"
            )
    return [_entry(path) for path in _flat_shapes(model)]


def encoder_table(model: DIR) -> list[Entry]:
    """The encoder's variables under torchvision's names of a ResNet-50."""
    entries = [_entry(path) for path in _flat_shapes(model) if path.split("/")[1] == "encoder"]
    return [
        dataclasses.replace(entry, sources=(entry.sources[0].removeprefix("backbone."),))
        for entry in entries
    ]


def is_unused(name: str) -> bool:
    """Whether a PyTorch tensor is knowingly left out."""
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in UNUSED)


# --- There and back -----------------------------------------------------------------------------


def variables_from_torch(state_dict: Mapping[str, Any], model: DIR) -> dict[str, Any]:
    """Flax variables from the released code's state dict.

    Args:
      state_dict: PyTorch name to array (numpy, or anything `np.asarray` takes). Values keep
        their floating dtype.
      model: of the released structure.

    Returns:
      {"params": ..., "batch_stats": ...}, numpy arrays.

    Raises:
      WeightsError: names every tensor that is missing, left over or of another shape.
    """
    entries = table(model)
    used = {name for entry in entries for name in entry.sources}
    left_over = [n for n in state_dict if n not in used and not is_unused(n)]
    raise_if([f"{n} {np.shape(state_dict[n])}" for n in left_over], "tensors nobody expects")
    values = _fill(entries, state_dict, _flat_shapes(model))
    return traverse_util.unflatten_dict(values, sep="/")


def torch_from_variables(variables: Mapping[str, Any], model: DIR) -> dict[str, np.ndarray]:
    """The released code's state dict from Flax variables; the inverse of `variables_from_torch`.

    Tensors that the network does not use (see `UNUSED`) are not made up: load the result with
    `strict=False`.

    Raises:
      WeightsError: variables that are missing, left over or of another shape.
    """
    entries = table(model)
    variables = fill(variable_shapes(model), variables, "the variables")
    flat = traverse_util.flatten_dict(variables, sep="/")
    state: dict[str, np.ndarray] = {}
    for entry in entries:
        value = np.asarray(flat[entry.path])
        state.update(zip(entry.sources, entry.to_torch(value), strict=True))
    return state


def load_imagenet_encoder(path: str, variables: Mapping[str, Any], model: DIR) -> dict[str, Any]:
    """Variables whose encoder is replaced by a torchvision ResNet-50 file's.

    Args:
      path: `.pth` or `.safetensors` of torchvision's names (`conv1.weight`, `layer1.0...`).
      variables: of `model.init`.
      model: its encoder must be a ResNet-50.

    Raises:
      WeightsError: unreadable file, or tensors that are missing or of another shape.
    """
    if model.config.encoder != "resnet50":
        raise WeightsError(f"{path} is for the encoder resnet50, not {model.config.encoder!r}")
    values = _fill(encoder_table(model), read_state_dict(path), _flat_shapes(model))
    flat = traverse_util.flatten_dict(dict(variables), sep="/")
    flat |= {name: np.asarray(value, np.float32) for name, value in values.items()}
    return traverse_util.unflatten_dict(flat, sep="/")


def _flat_shapes(model: DIR) -> dict[str, Any]:
    return traverse_util.flatten_dict(variable_shapes(model), sep="/")


def _fill(entries: list[Entry], state: Mapping[str, np.ndarray], shapes) -> dict[str, np.ndarray]:
    """Flat variables from the entries' sources, every shape checked."""
    values: dict[str, np.ndarray] = {}
    problems: list[str] = []
    for entry in entries:
        missing = [name for name in entry.sources if name not in state]
        problems += [f"{name} is missing" for name in missing]
        if missing:
            continue
        arrays = [np.asarray(state[name]) for name in entry.sources]
        got = " and ".join(str(shape) for shape in dict.fromkeys(a.shape for a in arrays))
        wanted = entry.to_torch(np.zeros(shapes[entry.path].shape, np.int8))[0].shape
        dimensions = DIMENSIONS.get(entry.layout, len(wanted))
        fits = all(a.shape == arrays[0].shape and a.ndim == dimensions for a in arrays)
        value = entry.to_flax(arrays) if fits else None
        if value is not None and value.shape == shapes[entry.path].shape:
            values[entry.path] = value
        else:
            problems.append(f"{' and '.join(entry.sources)} has shape {got}, wanted {wanted}")
    raise_if(problems, "the weights do not fit the model")
    return values
