"""The network's parts by name: every registered one, and one's own as "package.module:Class".

`ModelConfig` names a part of each kind. A registered name is looked up here; any other is a module
to import and what to take from it, so that a part of one's own needs no change to this package
(docs/variants.md has each kind's contract: shapes in, shapes out).
"""

from __future__ import annotations

import importlib
from typing import Any

PARTS: dict[str, dict[str, str | None]] = {
    # Encoder and initial estimate: (images, train) -> four maps
    "encoder": {
        "resnet50": "dir_jax.models.resnet:ResNet",
        "landmark": "dir_jax.models.landmark:LandmarkEncoder",
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
        "gather": "dir_jax.models.sampling:sample_gather",
        "onehot_matmul": "dir_jax.models.sampling:sample_onehot_matmul",
        "map_coordinates": "dir_jax.models.sampling:sample_map_coordinates",
    },
}
"""Kind (a field of `ModelConfig`), name, and where the part is; imported when it is used."""


def check(kind: str, name: Any) -> None:
    """Checks that a part can be had; parts of one's own are imported for that.

    Raises:
      ValueError: what came, what was wanted.
    """
    if name not in PARTS[kind]:
        _import(kind, name)


def find(kind: str, name: str) -> Any:
    """The class or function of a part; None where the part is left out.

    Args:
      kind: a key of `PARTS`.
      name: a registered name, or "package.module:Class".

    Raises:
      ValueError: no such part, or its module cannot be imported.
    """
    place = PARTS[kind].get(name, name)
    return None if place is None else _import(kind, place)


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
