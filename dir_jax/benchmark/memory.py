"""Peak memory of one network's run, measured in a process of its own.

    python -m dir_jax.benchmark.memory REQUEST.json

On a GPU the device's own counter is read; on a CPU, the process's largest resident size during a
run after the first (so that compiling does not count), less its size once everything is imported.
"""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
import tempfile
from typing import Any

import jax

from dir_jax.benchmark.timing import peak_resident_bytes, resident_bytes


def measure(request: dict[str, Any]) -> int | None:
    """Peak bytes of what a request names, in a fresh process; None when that cannot be known.

    Args:
      request: `config` (fields of the model), `variant`, `mode`, `batch`, `mano` (folder or
        None), `cache` (folder of compiled programs) and `reference` (a checkout, or None for our
        own network), `memory_format` (of the reference).
    """
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder) / "request.json"
        file.write_text(json.dumps(request))
        environment = os.environ | {
            "JAX_COMPILATION_CACHE_DIR": request["cache"],
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        }
        result = subprocess.run(
            [sys.executable, "-m", "dir_jax.benchmark.memory", str(file)],
            capture_output=True,
            text=True,
            env=environment,
            check=False,
        )
    if result.returncode:
        last = (result.stderr.strip().splitlines() or ["no message"])[-1]
        print(f"warning: peak memory was not measured: {last}", file=sys.stderr)
        return None
    return json.loads(result.stdout.splitlines()[-1])


def _peak(request: dict[str, Any]) -> int | None:
    from dir_jax.benchmark import examples, programs
    from dir_jax.benchmark.variants import VARIANTS
    from dir_jax.models.network import create_model
    from dir_jax.weights.loading import load_hands

    jax.numpy.zeros(1).block_until_ready()
    if request["reference"]:
        import torch  # noqa: F401  (its size is no part of the network's)
    imported = resident_bytes()
    hands, _ = load_hands(request["mano"])
    variant = VARIANTS[request["variant"]]
    model = programs.with_fields(create_model(request["config"], hands), variant)
    if request["reference"]:
        return _of_reference(request, model, examples.pseudo_state(model), imported)
    variables = examples.pseudo_variables(model)
    program = programs.build(model, variables, variant, request["mode"], request["batch"])
    if request["mode"] == "train_step":
        del variables  # the training state holds its own
    return _largest(program.run, imported, _jax_counter)


def _of_reference(request, model, state, imported) -> int | None:
    from dir_jax.benchmark import torch_programs

    reference = torch_programs.load(request["reference"], model, state, request["memory_format"])
    del state
    run = getattr(torch_programs, request["mode"])(reference, request["batch"])
    run()
    counter = _torch_counter if reference.device == "cuda" else (lambda: None)
    return _largest(run, imported, counter)


def _largest(run, imported, counter) -> int | None:
    resident = peak_resident_bytes(run)
    on_device = counter()
    if on_device is not None:
        return on_device
    return None if resident is None or imported is None else resident - imported


def _jax_counter() -> int | None:
    statistics = jax.devices()[0].memory_stats()
    return statistics.get("peak_bytes_in_use") if statistics else None


def _torch_counter() -> int:
    import torch

    return torch.cuda.max_memory_allocated()


if __name__ == "__main__":
    print(json.dumps(_peak(json.loads(pathlib.Path(sys.argv[1]).read_text()))))
