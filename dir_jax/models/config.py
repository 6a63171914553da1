"""What a model is made of: every architectural switch, the two published presets and our own.

"Released" is the authors' public code and checkpoint, "paper" the published text (Ren et al.,
ICCV 2023). They differ in the attention, the depth of the transformer and in what is projected
back to the image. The paper cites SemGCN, whose weights are shared over the joints, yet its 55.1 M
weights are only reached with the released code's weights per joint (53.5 M here, 55.6 M with the
unused 1000-class layer; 43.0 M when shared), so the preset keeps those; graph="shared" is a field.
"""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Mapping
from typing import Any

from flax import linen as nn

# --- Fields of a recipe -------------------------------------------------------------------------

LARGEST = 2**31 - 1


@dataclasses.dataclass(frozen=True)
class Field:
    """One field of a recipe. Its type is its default's, and so is the number of a tuple's entries.

    Attributes:
      default: a value that suits most.
      meaning: what it decides, in a few words.
      low: the smallest number it may be.
      high: the largest.
      choices: the texts it may be; empty: any.
    """

    default: Any
    meaning: str
    low: float = 0
    high: float = LARGEST
    choices: tuple[str, ...] = ()

    @property
    def wanted(self) -> str:
        """What it may be, in words."""
        several = isinstance(self.default, tuple)
        kind = type(self.default[0] if several else self.default)
        if kind is bool:
            return "True or False"
        if kind is str:
            return f"one of {', '.join(self.choices)}" if self.choices else "a text"
        word = {int: "integer", float: "number"}[kind]
        word = f"{len(self.default)} {word}s" if several else word
        most = f"to {self.high}" if self.high < LARGEST else "or more"
        return f"{self.low} {most} ({word})"

    def check(self, name: str, value: Any) -> None:
        """Refuses what is not of its type or not in its range.

        Raises:
          ValueError: what came and what was wanted.
        """
        if isinstance(self.default, tuple):
            fits = isinstance(value, tuple) and len(value) == len(self.default)
            fits = fits and all(self._is_one(v, type(self.default[0])) for v in value)
        else:
            fits = self._is_one(value, type(self.default))
        if not fits:
            shown = repr(value)
            shown = shown if len(shown) <= 80 else f"{shown[:80]} ..."
            raise ValueError(f"{name} is {shown}; wanted {self.wanted}")

    def _is_one(self, value: Any, kind: type) -> bool:
        if kind is str:
            return isinstance(value, str) and (not self.choices or value in self.choices)
        if kind is bool or isinstance(value, bool):
            return kind is type(value)
        return isinstance(value, int | kind) and self.low <= value <= self.high


def _field(default: Any, meaning: str, **limits: Any) -> Any:
    """A dataclass's field with the `Field` that describes it."""
    return dataclasses.field(default=default, metadata={"field": Field(default, meaning, **limits)})


def _width(default: int, meaning: str, low: int = 1) -> Any:
    return _field(default, f"channels {meaning}", low=low, high=4096)


def _choice(default: str, meaning: str, *others: str) -> Any:
    return _field(default, meaning, choices=(default, *others))


# --- Parts by name ------------------------------------------------------------------------------

PARTS: dict[str, dict[str, str | None]] = {
    # Encoder and initial estimate: (images, train) -> four maps
    "encoder": {
        "resnet50": "dir_jax.models.encoders:ResNet",
        "landmark": "dir_jax.models.encoders:LandmarkEncoder",
    },
    # Graph network: (x, train) -> x, each hand for itself; None: left out
    "graph": {
        "per_joint": "dir_jax.models.joints:PerJointGraph",
        "shared": "dir_jax.models.joints:SharedGraph",
        "none": None,
    },
    # Transformer: (x, train) -> x, both hands' joints together
    "transformer": {"pre_norm": "dir_jax.models.joints:Transformer"},
    # Projection to the image: (joints_uv, vectors, size, train) -> map
    "projection": {
        "factored": "dir_jax.models.projection:FactoredProjection",
        "onehot": "dir_jax.models.projection:OnehotProjection",
        "scatter": "dir_jax.models.projection:ScatterProjection",
    },
    # Joint features: (features, uv) -> vectors
    "sampling": {
        "gather": "dir_jax.models.projection:sample_gather",
        "onehot_matmul": "dir_jax.models.projection:sample_onehot_matmul",
        "map_coordinates": "dir_jax.models.projection:sample_map_coordinates",
    },
}
"""Kind (a field of `ModelConfig`), name, and where the part is; imported when it is used."""


def find_part(kind: str, name: str) -> Any:
    """The class or function of a part; None where the part is left out.

    Args:
      kind: a key of `PARTS`.
      name: a registered name, or "package.module:Class".

    Raises:
      ValueError: no such part, its module cannot be imported, or it is none.
    """
    place = PARTS[kind].get(str(name), name)
    if place is None:
        return None
    part = _import(kind, place)
    module = isinstance(part, type) and issubclass(part, nn.Module)
    if not (callable(part) if kind == "sampling" else module):
        wanted = "a function" if kind == "sampling" else "a Flax module's class"
        raise ValueError(f"model.{kind} is {name!r}, a {type(part).__name__}; wanted {wanted}")
    return part


def _import(kind: str, place: Any) -> Any:
    module, colon, attribute = str(place).partition(":")
    if not (module and colon and attribute):
        raise ValueError(
            f"model.{kind} is {place!r}; wanted one of {', '.join(PARTS[kind])}, "
            "or your own as 'package.module:Class'"
        )
    try:
        return getattr(importlib.import_module(module), attribute)
    except AttributeError:
        raise ValueError(f"model.{kind} is {place!r}; {module} has no {attribute}") from None
    except Exception as error:  # whatever a module of the user's raises while it is imported
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise ValueError(
            f"model.{kind} is {place!r}; {module} cannot be imported ({reason})"
        ) from error


# --- The network --------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """Architecture of one network; `PRESETS` holds the published ones.

    A part is named: a registered one, or one's own as "package.module:Class". More about every
    field is in docs/variants.md.
    """

    encoder: str = _field("resnet50", "part: resnet50; landmark: MediaPipe's hand landmarks")
    landmark_widths: tuple[int, ...] = _field(
        (0, 64, 128, 256), "channels of the landmark maps; 0: as they are (144, 240, 672, 1152)"
    )
    landmark_blocks: int = _field(3, "trained residual blocks on the last of them", high=100)
    train_encoder: bool = _field(False, "train the landmark network too, or leave it as it is")
    encoder_blocks: tuple[int, ...] = _field(
        (3, 4, 6, 3), "bottlenecks in each of the ResNet's four groups", low=1, high=100
    )
    encoder_width: int = _width(64, "of the ResNet's stem; its groups have 4, 8, 16, 32 times it")
    image_stride: int = _field(
        1, "2: the encoder sees half the photograph's size, a quarter of its work", low=1, high=2
    )
    attention: str = _choice(
        "convolution", "of each hand: 3x3 then 1x1 (released); light: 1x1 (paper)", "light", "none"
    )
    stages: int = _field(2, "number of refinements T", high=3)
    feature_width: int = _width(256, "of the fused and enhanced maps", low=2)
    joint_width: int = _width(128, "of a joint's feature in graph network and transformer")
    plane_width: int = _width(64, "of a joint's feature when regressed from and projected back")
    graph: str = _field("per_joint", "part: weights per_joint (released), shared (SemGCN), or none")
    graph_layers: int = _field(4, "graph convolutions per refinement", high=100)
    transformer: str = _field("pre_norm", "part: pre_norm blocks over the joints of both hands")
    transformer_blocks: int = _field(
        3,
        "3 (released: a fourth exists but is idle), 4 (paper), 0: each joint for itself",
        high=100,
    )
    transformer_heads: int = _field(4, "attention heads; they divide joint_width", low=1, high=4096)
    planes: str = _choice(
        "bone", "per bone (released), per joint (paper), their sum (SFP), a heatmap each (MHP)",
        "joint", "sum", "heatmap", "none",
    )  # fmt: skip
    bone_distance: tuple[float, ...] = _field(
        (1.0, 2.0, 2.0), "reach of a bone (or the heat-map's sigma), pixels of each stage's map"
    )
    projection: str = _field(
        "factored", "part: factored builds no planes; onehot; scatter (joints); the same result"
    )
    sampling: str = _field(
        "gather", "part: gather, onehot_matmul or map_coordinates; the same result"
    )
    precision: str = _choice("float32", "of the arithmetic; parameters stay float32", "bfloat16")
    remat: bool = _field(False, "compute refinements again backwards, instead of keeping them")
    root_joint: int = _field(0, "joint at the origin of the predicted meshes", high=20)
    tips: str = _choice("manopth", "convention of the predicted tips", "intaghand", "smplx")
    rotations: str = _choice("exact", "of fingers; manopth: off by 2e-8, as released", "manopth")

    def __post_init__(self):
        for kind, names in PARTS.items():
            if str(getattr(self, kind)) not in names:  # a part of one's own is imported
                find_part(kind, getattr(self, kind))
        for name, field in MODEL_FIELDS.items():
            field.check(f"model.{name}", getattr(self, name))
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


MODEL_FIELDS: dict[str, Field] = {
    field.name: field.metadata["field"] for field in dataclasses.fields(ModelConfig)
}
"""What each field of the network may be and means, by name."""

PRESETS = {
    "released": ModelConfig(),
    "paper": ModelConfig(attention="light", transformer_blocks=4, planes="joint"),
    "open_hands": ModelConfig(
        encoder="landmark",
        train_encoder=True,
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
    "stages": 1,
    "graph_layers": 1,
    "transformer_blocks": 1,
    "transformer_heads": 2,
}
"""For tests: every part once and quick to compile, about a thousandth of the arithmetic."""


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
    if unknown := sorted(set(fields) - set(MODEL_FIELDS)):
        known = ", ".join(sorted(MODEL_FIELDS))
        raise ValueError(f"unknown model field {unknown[0]!r}; known: {known}")
    fields = {k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()}
    return dataclasses.replace(PRESETS[preset], **fields)
