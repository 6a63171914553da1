"""Which PyTorch tensor becomes which Flax variable: the explicit table, both ways.

Names on the left are those of the released checkpoint (github.com/PengfeiRen96/DIR). Per-hand
tensors of the checkpoint are joined in the order left, right.
"""

from __future__ import annotations

import dataclasses
import fnmatch
from collections.abc import Iterator
from typing import Any

import numpy as np

from dir_jax.models.config import PARTS, ModelConfig
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


@dataclasses.dataclass(frozen=True)
class Entry:
    """One Flax variable and where it comes from.

    Attributes:
      path: slash-separated, from "params/" or "batch_stats/".
      sources: one PyTorch name, or the left and the right hand's.
      layout: a key of `LAYOUTS`, applied to each source.
      join: how two sources become one: "stack" (leading axis) or "concat" (last axis).
    """

    path: str
    sources: tuple[str, ...]
    layout: str = "same"
    join: str = "stack"

    def to_flax(self, arrays: list[np.ndarray]) -> np.ndarray:
        """The variable's value from its sources' arrays."""
        parts = [LAYOUTS[self.layout][0](a) for a in arrays]
        if len(parts) == 1:
            value = parts[0]
        elif self.join == "stack":
            value = np.stack(parts)
        else:
            value = np.concatenate(parts, -1)
        return np.ascontiguousarray(value)

    def to_torch(self, value: np.ndarray) -> list[np.ndarray]:
        """The sources' arrays from the variable's value."""
        if len(self.sources) == 1:
            parts = [value]
        elif self.join == "stack":
            parts = list(value)
        else:
            parts = np.split(value, 2, -1)
        return [np.ascontiguousarray(LAYOUTS[self.layout][1](p)) for p in parts]


def _sides(name: str) -> tuple[str, ...]:
    """Both hands' names where "{side}" stands in the name."""
    return tuple(name.format(side=s) for s in SIDES) if "{side}" in name else (name,)


def _weights(path, name, layout, bias=True, join="stack") -> Iterator[Entry]:
    yield Entry(f"params/{path}/kernel", _sides(f"{name}.weight"), layout, join)
    if bias:
        yield Entry(f"params/{path}/bias", _sides(f"{name}.bias"), "same", join)


def _conv(path, name, kernel_size=1, bias=True, join="stack") -> Iterator[Entry]:
    if kernel_size == 1:
        yield from _weights(f"{path}/dense", name, "conv1x1", bias, join)
    else:
        yield from _weights(f"{path}/conv", name, "conv", bias, join)


def _norm(path, name, join="stack") -> Iterator[Entry]:
    yield Entry(f"params/{path}/scale", _sides(f"{name}.weight"), join=join)
    yield Entry(f"params/{path}/bias", _sides(f"{name}.bias"), join=join)
    yield Entry(f"batch_stats/{path}/mean", _sides(f"{name}.running_mean"), join=join)
    yield Entry(f"batch_stats/{path}/var", _sides(f"{name}.running_var"), join=join)


def _layer_norm(path, name) -> Iterator[Entry]:
    yield Entry(f"params/{path}/scale", (f"{name}.weight",))
    yield Entry(f"params/{path}/bias", (f"{name}.bias",))


def encoder_entries(config: ModelConfig, prefix: str = "backbone.") -> Iterator[Entry]:
    """The encoder; with an empty prefix the names are torchvision's ResNet-50."""
    yield from _conv("encoder/stem", f"{prefix}conv1", 7, bias=False)
    yield from _norm("encoder/stem_norm", f"{prefix}bn1")
    for group, blocks in enumerate(config.encoder_blocks, 1):
        for block in range(blocks):
            path = f"encoder/group{group}_block{block}"
            name = f"{prefix}layer{group}.{block}"
            for index, kernel_size in enumerate((1, 3, 1), 1):
                yield from _conv(f"{path}/conv{index}", f"{name}.conv{index}", kernel_size, False)
                yield from _norm(f"{path}/norm{index}", f"{name}.bn{index}")
            if block == 0:
                yield from _conv(f"{path}/conv_skip", f"{name}.downsample.0", bias=False)
                yield from _norm(f"{path}/norm_skip", f"{name}.downsample.1")


def _initial_entries() -> Iterator[Entry]:
    name = "init_regressor.attention_{side}"
    path = "initial/attention"
    yield from _conv(f"{path}/conv1", f"{name}.0", 3, join="concat")
    yield from _norm(f"{path}/norm", f"{name}.1", join="concat")
    yield Entry(f"params/{path}/kernel", _sides(f"{name}.3.weight"), "row")
    yield Entry(f"params/{path}/bias", _sides(f"{name}.3.bias"), "scalar")
    yield from _weights("initial/params", "init_regressor.mano_{side}", "linear")
    yield from _weights("initial/offset", "init_regressor.offset", "linear")


def _residual(path, name) -> Iterator[Entry]:
    for index, kernel_size in enumerate((1, 3, 1), 1):
        yield from _norm(f"{path}/norm{index}", f"{name}.bn{index}")
        yield from _conv(f"{path}/conv{index}", f"{name}.conv{index}.conv", kernel_size)
    yield from _weights(f"{path}/skip", f"{name}.skip_layer.conv", "conv1x1")


def _point_map(path, name) -> Iterator[Entry]:
    yield from _weights(f"{path}/linear1", f"{name}.0", "conv1d")
    yield from _norm(f"{path}/norm", f"{name}.1")
    yield from _weights(f"{path}/linear2", f"{name}.3", "conv1d")


def _graph(path, name, layers) -> Iterator[Entry]:
    for layer in range(layers):
        here, there = f"{path}/layer{layer}", f"{name}.gconv_layers.{layer}"
        yield Entry(f"params/{here}/kernel", _sides(f"{there}.gconv.W"))
        yield Entry(f"params/{here}/bias", _sides(f"{there}.gconv.bias"))
        yield Entry(f"params/{here}/edges", _sides(f"{there}.gconv.e_1"), "edges")
        yield Entry(f"params/{here}/self_edges", _sides(f"{there}.gconv.e_0"), "edges")
        yield from _norm(f"{here}/norm", f"{there}.bn")


def _transformer(path, name, blocks) -> Iterator[Entry]:
    if blocks:
        yield Entry(f"params/{path}/positions", (f"{name}.spatial_pos_embed",))
        yield from _layer_norm(f"{path}/norm", f"{name}.spatial_norm")
    for block in range(blocks):
        here, there = f"{path}/block{block}", f"{name}.STEblocks.{block + 1}"
        yield from _layer_norm(f"{here}/norm1", f"{there}.norm1")
        yield from _weights(f"{here}/qkv", f"{there}.attn.qkv", "linear")
        yield from _weights(f"{here}/proj", f"{there}.attn.proj", "linear")
        yield from _layer_norm(f"{here}/norm2", f"{there}.norm2")
        yield from _weights(f"{here}/mlp1", f"{there}.mlp.fc1", "linear")
        yield from _weights(f"{here}/mlp2", f"{there}.mlp.fc2", "linear")
    yield from _layer_norm(f"{path}/head_norm", f"{name}.head.0")
    yield from _weights(f"{path}/head", f"{name}.head.1", "linear")


def _stage_entries(config: ModelConfig, index: int) -> Iterator[Entry]:
    path, level = f"stage{index + 1}", 4 - index
    name = f"decoder.projecter_{level}"
    yield from _residual(f"{path}/fusion/skip", f"decoder.skip_layer{level}")
    yield from _residual(f"{path}/fusion/fuse", f"decoder.fusion_layer{level}")
    joints = f"{path}/joints"
    yield from _point_map(f"{joints}/visual", f"{name}.img2joint_{{side}}.filters")
    yield from _point_map(f"{joints}/position", f"{name}.pos_emb_{{side}}")
    yield from _graph(f"{joints}/graph", f"{name}.gcn_{{side}}", config.graph_layers)
    if config.transformer_blocks:
        yield from _point_map(f"{joints}/global_position", f"{name}.global_pos_emb")
    yield from _transformer(
        f"{joints}/transformer", f"{name}.interaction", config.transformer_blocks
    )
    yield from _weights(f"{path}/regression/params", f"{name}.regressor.mano_{{side}}", "linear")
    yield from _weights(f"{path}/regression/offset", f"{name}.regressor.offset", "linear")
    yield from _point_map(f"{path}/vectors", f"{name}.proj_feat_emb")
    yield from _weights(f"{path}/projection/conv1", f"{name}.fusion.0", "conv")
    yield from _norm(f"{path}/projection/norm", f"{name}.fusion.1")
    yield from _conv(f"{path}/projection/conv2", f"{name}.fusion.3")
    yield from _residual(f"{path}/enhance", f"decoder.enhance_layer{level}")


def _head_entries() -> Iterator[Entry]:
    heads = (("final", "conv_final"), ("segmentation", "seg"), ("dense", "dense"))
    for path, name in ((path, f"decoder.{name}") for path, name in heads):
        yield from _conv(f"{path}/conv1", f"{name}.0", 3, bias=path != "final")
        yield from _norm(f"{path}/norm", f"{name}.1")
        yield from _conv(f"{path}/conv2", f"{name}.3")


def table(config: ModelConfig) -> list[Entry]:
    """Every variable of a model of the released structure (any widths).

    Raises:
      ValueError: the architecture has no counterpart in the released code.
    """
    released = ModelConfig()
    fields = ("encoder", "attention", "stages", "graph", "transformer", "planes")
    fitting: dict[str, tuple[Any, ...]] = {field: (getattr(released, field),) for field in fields}
    fitting |= {field: tuple(PARTS[field]) for field in ("projection", "sampling")}
    for field, names in fitting.items():
        if (value := getattr(config, field)) not in names:
            raise ValueError(
                f"model.{field} is {value!r}; the released PyTorch code only has "
                f"{' or '.join(map(str, names))}, so its weights fit the preset 'released' only"
            )
    entries = [*encoder_entries(config), *_initial_entries()]
    for index in range(config.stages):
        entries += _stage_entries(config, index)
    return entries + list(_head_entries())


def is_unused(name: str) -> bool:
    """Whether a PyTorch tensor is knowingly left out."""
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in UNUSED)
