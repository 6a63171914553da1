"""The one place that knows how work is spread over devices.

Two backends with one behaviour (same loss, gradients and statistics for the same global batch):

* "pmap": the step runs once per device on its slice. The model, the losses and the step find the
  axis mapped and form the batch's means over it (`dir_jax.models.layers.across_devices`).
* "jit": the step is written for the whole batch and compiled once; the compiler splits it along
  a `NamedSharding` (mesh axis of type Auto). No axis is mapped.

In both, state is replicated and lives on as ordinary replicated arrays, so saving it needs no
"unreplicate". Every process passes its own share of the global batch.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from ml_collections import ConfigDict

from configs.base import FIELDS
from dir_jax.models.layers import AXIS


@dataclasses.dataclass(frozen=True)
class Parallel:
    """Devices and the way they share a batch.

    Attributes:
      backend: "pmap" or "jit".
      devices: all devices of all processes, or fewer of a single process.
    """

    backend: str = "pmap"
    devices: tuple[jax.Device, ...] = dataclasses.field(
        default_factory=lambda: tuple(jax.devices())
    )

    def __post_init__(self):
        FIELDS["parallel.backend"].check("parallel.backend", self.backend)

    @property
    def mesh(self) -> Mesh:
        """The devices in a row."""
        return Mesh(np.array(self.devices), (AXIS,), axis_types=(AxisType.Auto,))

    @property
    def local_devices(self) -> int:
        """How many of the devices belong to this process."""
        return sum(d.process_index == jax.process_index() for d in self.devices)

    def check_batch_size(self, batch_size: int) -> int:
        """Returns this process's share of a global batch.

        Raises:
          ValueError: the batch cannot be split evenly over the devices.
        """
        if batch_size < 1 or batch_size % len(self.devices):
            raise ValueError(
                f"train.batch_size {batch_size} cannot be split evenly over "
                f"{len(self.devices)} devices; use a multiple of {len(self.devices)}"
            )
        return batch_size // len(self.devices) * self.local_devices

    def replicate(self, tree: Any) -> Any:
        """The tree on every device, copied: the caller's own arrays are never donated."""
        if self.backend == "pmap" and jax.process_count() > 1:
            return jax.tree.map(np.array, tree)  # pmap wants each process's own values
        sharding = NamedSharding(self.mesh, PartitionSpec())

        def place(leaf):
            host = np.array(leaf)
            return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])

        return jax.tree.map(place, tree)

    def shard(self, batch: Mapping[str, np.ndarray]) -> dict[str, jax.Array]:
        """This process's share of a batch, (B_local, ...) numpy arrays, on its devices."""
        sharding = NamedSharding(self.mesh, PartitionSpec(AXIS))
        if self.backend == "jit":
            return {
                name: jax.make_array_from_process_local_data(sharding, np.asarray(value))
                for name, value in batch.items()
            }
        local = self.local_devices
        split = {k: np.asarray(v).reshape(local, -1, *v.shape[1:]) for k, v in batch.items()}
        return split if jax.process_count() > 1 else jax.device_put(split, sharding)

    def step(self, function: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
        """Compiles `function(state, batch) -> (state, metrics)`; the old state is consumed."""
        if self.backend == "jit":
            replicated = NamedSharding(self.mesh, PartitionSpec())
            return jax.jit(function, out_shardings=replicated, donate_argnums=0)
        return jax.pmap(
            function,
            axis_name=AXIS,
            in_axes=(None, 0),
            out_axes=(None, None),
            donate_argnums=0,
            devices=None if jax.process_count() > 1 else self.devices,
        )


def set_up_compiler(parallel: ConfigDict) -> None:
    """Passes flags on to XLA (before its first use) and keeps what it compiles for the next run."""
    if parallel.xla_flags:
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {parallel.xla_flags}".strip()
    if parallel.compilation_cache:
        folder = os.path.expanduser(parallel.compilation_cache)
        jax.config.update("jax_compilation_cache_dir", folder)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 2.0)
