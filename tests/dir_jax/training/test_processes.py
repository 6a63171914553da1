"""Two processes joined over the loopback address train as one does."""

import json
import os
import pathlib
import socket
import subprocess
import sys

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).parents[3]

PROGRAM = """
import json, sys
import jax, jax.numpy as jnp, numpy as np
process, processes, port, folder = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
if processes > 1:
    jax.distributed.initialize(f"127.0.0.1:{port}", processes, process)
from dir_jax.weights.checkpoints import Checkpoints
from dir_jax.models.layers import across_devices
from dir_jax.training.devices import Parallel
from dir_jax.training.step import adamw, cosine_schedule
from dir_jax.training.step import (create_train_state, make_train_step, optimizer_state_dict,
                                   restore_train_state)

schedule = cosine_schedule(0.1, 10)
optimizer = adamw(schedule)
results = {}
for backend in ("pmap", "jit"):
    parallel = Parallel(backend)

    def loss(params, batch_stats, batch):
        y = batch["x"] @ params["w"]
        mean = across_devices(y.mean())
        whole = across_devices(y, jax.lax.all_gather).reshape(-1)
        ranked = (jnp.sort(whole) * jnp.arange(whole.size)).mean() ** 2
        terms = {"spread": jnp.mean((y - mean) ** 2), "ranked": 0.1 * ranked}
        return sum(terms.values()), (terms, {"mean": mean})

    step = parallel.step(make_train_step(loss, optimizer, schedule))
    w = jnp.asarray(np.random.default_rng(0).normal(size=5), jnp.float32)
    state = create_train_state({"params": {"w": w}, "batch_stats": {"mean": w[0]}}, optimizer)
    checkpoints = Checkpoints(f"{folder}/{backend}/checkpoints")
    placed = parallel.replicate(state)
    share = parallel.check_batch_size(8)
    losses = []
    for number in range(6):
        x = np.random.default_rng(number).normal(size=(8, 5)).astype(np.float32)
        batch = parallel.shard({"x": x[process * share : (process + 1) * share]})
        placed, metrics = step(placed, batch)
        losses.append(float(metrics["loss"]))
        if number == 2:  # through a checkpoint and back
            host = jax.device_get(placed)
            checkpoints.save(3, host.variables, optimizer_state_dict(host), {})
            found = restore_train_state(host.variables, optimizer, checkpoints.restore_latest())
            placed = parallel.replicate(found)
    checkpoints.close()
    results[backend] = {"losses": losses, "w": np.asarray(placed.params["w"]).tolist()}
if process == 0:
    open(f"{folder}/results.json", "w").write(json.dumps(results))
"""


def train_in_two_processes(folder):
    """Runs the program in two processes with two virtual devices each."""
    folder.mkdir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {
        **os.environ,
        "XLA_FLAGS": "--xla_force_host_platform_device_count=2",
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": str(ROOT),
    }
    children = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(process), "2", str(port), str(folder)],
            env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for process in range(2)
    ]  # fmt: skip
    outputs = [child.communicate(timeout=240)[0] for child in children]
    assert [child.returncode for child in children] == [0, 0], outputs
    return json.loads((folder / "results.json").read_text())


@pytest.mark.slow
def test_two_processes_train_as_one(tmp_path, monkeypatch):
    both = train_in_two_processes(tmp_path / "both")
    monkeypatch.setattr(sys, "argv", ["", "0", "1", "", str(tmp_path)])
    exec(PROGRAM, {})
    alone = json.loads((tmp_path / "results.json").read_text())
    for backend in ("pmap", "jit"):
        for name in ("losses", "w"):
            np.testing.assert_allclose(both[backend][name], alone["jit"][name], rtol=2e-4)
