"""How long it takes until the first training step is done, from nothing and with the cache.

    python -m tools.start_up [--batch 2] [--model released] [--set stages=3 ...]

Each measurement is a process of its own, as a user would start it.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from typing import Any

from input_pipeline.commands import command

PHASES = ("import", "initial weights", "trace", "compile", "first step", "second step")
"""In order; `process` is all of them and Python's own start."""


def measure(model: str, fields: list[str], batch: int) -> dict[str, dict[str, float]]:
    """Seconds of each phase of a training step with labels made on the device.

    Returns:
      "cold" and "cached" (the same again with the persistent compilation cache filled).

    Raises:
      ValueError: the process failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder) / "request.json"
        file.write_text(json.dumps({"model": model, "set": fields, "batch": batch}))
        cache = pathlib.Path(folder) / "cache"
        return {name: _one(file, cache) for name in ("cold", "cached")}


def _one(file: pathlib.Path, cache: pathlib.Path) -> dict[str, float]:
    environment = os.environ | {"JAX_COMPILATION_CACHE_DIR": str(cache)}
    begin = time.perf_counter()
    result = subprocess.run(
        [sys.executable, "-m", "tools.start_up", "--request", str(file)],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    total = time.perf_counter() - begin
    if result.returncode:
        last = (result.stderr.strip().splitlines() or ["no message"])[-1]
        raise ValueError(f"the start-up could not be measured: {last}")
    return json.loads(result.stdout.splitlines()[-1]) | {"process": total}


def _phases(request: dict[str, Any]) -> dict[str, float]:
    marks = [time.perf_counter()]

    def mark():
        marks.append(time.perf_counter())

    import jax

    from dir_jax.benchmark.programs import raw_batch
    from dir_jax.benchmark.summary import network
    from dir_jax.models.network import initial_variables
    from dir_jax.training.step import adamw, create_train_state, make_loss, make_train_step
    from mano_jax import open_hands

    mark()
    model = network(request["model"], request["set"], open_hands())
    optimizer = adamw(lambda step: 3e-4)
    state = create_train_state(initial_variables(model, seed=0), optimizer)
    batch = jax.block_until_ready(raw_batch(request["batch"]))
    jax.block_until_ready(state)
    mark()
    loss = make_loss(model, model.hands, "released")
    step = make_train_step(loss, optimizer, lambda step: 3e-4)
    lowered = jax.jit(step, donate_argnums=0).lower(state, batch)
    mark()
    compiled = lowered.compile()
    mark()
    for _ in range(2):
        state, metrics = compiled(state, batch)
        jax.block_until_ready((state, metrics))
        mark()
    spans = (end - begin for begin, end in itertools.pairwise(marks))
    return dict(zip(PHASES, spans, strict=True))


@command
def main(argv: list[str]) -> int:
    """The command; returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m tools.start_up", description=__doc__)
    parser.add_argument("--model", default="released")
    parser.add_argument("--set", nargs="*", default=[], metavar="FIELD=VALUE", help="of the model")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--request", type=pathlib.Path, help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.request:
        print(json.dumps(_phases(json.loads(options.request.read_text()))))
        return 0
    found = measure(options.model, options.set, options.batch)
    print(f"{'start-up, seconds':<18}" + "".join(f"{kind:>8}" for kind in found))
    for name in [*PHASES, "process"]:
        print(f"{name:<18}" + "".join(f"{found[kind][name]:8.1f}" for kind in found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
