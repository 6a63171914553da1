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
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from dir_jax.models.layers import AXIS

BACKENDS = ("pmap", "jit")


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
        if self.backend not in BACKENDS:
            raise ValueError(
                f"parallel.backend is {self.backend!r}; wanted one of {', '.join(BACKENDS)}"
            )

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
        return self._compile(function, donate=True)

    def map(self, function: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
        """Compiles `function(variables, batch) -> tree` whose leaves keep the batch axis.

        The returned function takes what `replicate` and `shard` give, and returns numpy arrays
        (B_local, ...).
        """
        if self.backend == "jit":
            sharding = NamedSharding(self.mesh, PartitionSpec(AXIS))
            compiled = jax.jit(function, out_shardings=sharding)
            return lambda state, batch: jax.tree.map(_local_rows, compiled(state, batch))
        mapped = jax.pmap(function, axis_name=AXIS, in_axes=(None, 0), devices=self._pmap_devices())

        def run(state, batch):
            output = jax.tree.map(_local_rows, mapped(state, batch))
            return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), output)

        return run

    def _compile(self, function, donate):
        donated = (0,) if donate else ()
        if self.backend == "jit":
            replicated = NamedSharding(self.mesh, PartitionSpec())
            return jax.jit(function, out_shardings=replicated, donate_argnums=donated)
        return jax.pmap(
            function,
            axis_name=AXIS,
            in_axes=(None, 0),
            out_axes=(None, None),
            donate_argnums=donated,
            devices=self._pmap_devices(),
        )

    def _pmap_devices(self):
        return None if jax.process_count() > 1 else self.devices


def _local_rows(array: jax.Array) -> np.ndarray:
    """This process's rows of an array sharded along its first axis."""
    if array.is_fully_addressable:
        return np.asarray(array)
    shards = sorted(array.addressable_shards, key=lambda s: s.index[0].start or 0)
    return np.concatenate([np.asarray(shard.data) for shard in shards])
