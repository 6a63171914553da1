"""What a model is made of: every architectural switch, the two published presets and our own.

"Released" is the authors' public code and checkpoint, "paper" the published text (Ren et al.,
ICCV 2023). They differ in the attention, the depth of the transformer and in what is projected
back to the image. The paper cites SemGCN, whose weights are shared over the joints, yet its 55.1 M
weights are only reached with the released code's weights per joint (53.5 M here, 55.6 M with the
unused 1000-class layer; 43.0 M when shared), so the preset keeps those; graph="shared" is a field.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from dir_jax.models import parts

CHOICES = {
    "attention": ("convolution", "light", "none"),
    "planes": ("bone", "joint", "sum", "heatmap", "none"),
    "precision": ("float32", "bfloat16"),
    "tips": ("manopth", "intaghand", "smplx"),
    "rotations": ("exact", "manopth"),
}
RANGES = {
    "encoder_width": (1, 4096),
    "image_stride": (1, 2),
    "stages": (0, 3),
    "feature_width": (2, 4096),
    "joint_width": (1, 4096),
    "plane_width": (1, 4096),
    "graph_layers": (0, 100),
    "transformer_blocks": (0, 100),
    "transformer_heads": (1, 4096),
    "root_joint": (0, 20),
}
"""Whole numbers, from and to."""
SERIES = {"encoder_blocks": (4, 1), "landmark_widths": (4, 0), "bone_distance": (3, 0)}
"""How many numbers, none below."""


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """Architecture of one network; `PRESETS` holds the published ones.

    `encoder`, `graph`, `transformer`, `projection` and `sampling` name parts: registered ones
    (`dir_jax.models.parts`), or one's own as "package.module:Class".

    Attributes:
      encoder: "resnet50", or "landmark": MediaPipe's hand landmark network.
      landmark_widths: channels to which the landmark network's maps are brought; 0: as they are
        (144, 240, 672, 1152). The first map is looked at by a third refinement only.
      landmark_blocks: trained residual blocks on the last of them.
      train_encoder: whether the landmark network is trained too, or stays as it is.
      encoder_blocks: bottlenecks in each of the ResNet's four groups (ResNet-50: 3, 4, 6, 3).
      encoder_width: channels of the ResNet's stem; the groups give 4, 8, 16 and 32 times as many.
      image_stride: 1, or 2: the encoder sees the photograph at half size. A quarter of its
        arithmetic, for small networks; the refinements keep their 16x16 and 32x32 maps.
      attention: per-hand attention over the last map. "convolution": 3x3 to half the width, then
        1x1 (released); "light": one 1x1 convolution (paper); "none": mean pooling (ablation).
      stages: number of refinements T, 0 to 3.
      feature_width: channels of the fused and enhanced maps.
      joint_width: channels of a joint's feature inside graph network and transformer.
      plane_width: channels of a joint's feature when regressed from and projected back.
      graph: "per_joint" weights (released), weights "shared" over joints (SemGCN), or "none".
      graph_layers: graph convolutions per refinement.
      transformer: "pre_norm" blocks over the joints of both hands.
      transformer_blocks: blocks in use: 3 (released: a fourth exists but is idle), 4 (paper), or 0:
        each joint for itself, hands not brought into one space.
      transformer_heads: attention heads.
      planes: what is drawn on the image plane: one plane per "bone" (released), per "joint"
        (paper), all joints' features "sum"med on one plane (SFP), one "heatmap" per joint without
        features (MHP), or "none".
      bone_distance: reach of a bone (or the heat-map's sigma) in pixels of each stage's map.
      projection: how the planes meet the convolution behind them. "factored" never builds the
        planes; "onehot" builds them by one-hot products, "scatter" by scatter-add (joints only).
        All give the same result.
      sampling: how features are read at the joints: "gather", "onehot_matmul" or
        "map_coordinates". All give the same result.
      precision: "float32", or "bfloat16" arithmetic over float32 parameters and statistics.
      remat: recompute each refinement in the backward pass instead of keeping its activations.
      root_joint: joint at the origin of the predicted meshes.
      tips: fingertip convention of the predicted joints.
      rotations: finger rotations "exact", or off by 2e-8 as the released code's ("manopth").
    """

    encoder: str = "resnet50"
    landmark_widths: tuple[int, ...] = (0, 64, 128, 256)
    landmark_blocks: int = 3
    train_encoder: bool = False
    encoder_blocks: tuple[int, ...] = (3, 4, 6, 3)
    encoder_width: int = 64
    image_stride: int = 1
    attention: str = "convolution"
    stages: int = 2
    feature_width: int = 256
    joint_width: int = 128
    plane_width: int = 64
    graph: str = "per_joint"
    graph_layers: int = 4
    transformer: str = "pre_norm"
    transformer_blocks: int = 3
    transformer_heads: int = 4
    planes: str = "bone"
    bone_distance: tuple[float, ...] = (1.0, 2.0, 2.0)
    projection: str = "factored"
    sampling: str = "gather"
    precision: str = "float32"
    remat: bool = False
    root_joint: int = 0
    tips: str = "manopth"
    rotations: str = "exact"

    def __post_init__(self):
        for name, allowed in CHOICES.items():
            value = getattr(self, name)
            if value not in allowed:
                raise ValueError(f"model.{name} is {value!r}; wanted one of {', '.join(allowed)}")
        for kind in parts.PARTS:
            parts.check(kind, getattr(self, kind))
        for name, (low, high) in RANGES.items():
            value = getattr(self, name)
            if not isinstance(value, int) or not low <= value <= high:
                raise ValueError(f"model.{name} is {value!r}; wanted {low} to {high}")
        for name, (count, low) in SERIES.items():
            value = getattr(self, name)
            numbers = isinstance(value, tuple) and all(isinstance(v, int | float) for v in value)
            if not numbers or len(value) != count or not all(low <= v < math.inf for v in value):
                raise ValueError(f"model.{name} is {value!r}; wanted {count} numbers from {low}")
        if self.projection == "scatter" and self.planes not in ("joint", "sum", "none"):
            raise ValueError(
                f"model.projection 'scatter' writes single pixels and cannot draw {self.planes!r} "
                "planes; use 'factored' or 'onehot'"
            )
        if self.joint_width % self.transformer_heads:
            raise ValueError(
                f"model.joint_width {self.joint_width} cannot be split into "
                f"{self.transformer_heads} heads"
            )


PRESETS = {
    "released": ModelConfig(),
    "paper": ModelConfig(attention="light", transformer_blocks=4, planes="joint"),
    "open_hands": ModelConfig(
        encoder="landmark",
        attention="light",
        planes="joint",
        feature_width=48,
        joint_width=64,
        plane_width=32,
        graph_layers=3,
    ),
}

TINY = {
    "encoder_blocks": (1, 1, 1, 1),
    "encoder_width": 8,
    "feature_width": 16,
    "joint_width": 16,
    "plane_width": 8,
    "graph_layers": 2,
    "transformer_heads": 2,
}
"""Widths for tests: same structure and image size, about a thousandth of the arithmetic."""


def model_config(config: str | ModelConfig | Mapping[str, Any]) -> ModelConfig:
    """A `ModelConfig` from a preset's name, or a mapping of fields over `preset` (if named).

    Raises:
      ValueError: an unknown preset, field or value.
    """
    if isinstance(config, ModelConfig):
        return config
    if isinstance(config, str):
        config = {"preset": config}
    fields = dict(config)
    preset = fields.pop("preset", "released")
    if preset not in PRESETS:
        raise ValueError(f"model preset is {preset!r}; wanted one of {', '.join(PRESETS)}")
    known = {field.name for field in dataclasses.fields(ModelConfig)}
    if unknown := sorted(set(fields) - known):
        raise ValueError(f"unknown model field {unknown[0]!r}; known: {', '.join(sorted(known))}")
    fields = {k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()}
    return dataclasses.replace(PRESETS[preset], **fields)
