"""One training step under JAX's profiler: where its time goes.

python -m docs.tutorials.profile_a_step --output trace

Open the trace in TensorBoard (with tensorboard-plugin-profile) or at ui.perfetto.dev.
"""

import argparse
import collections
import gzip
import json
import pathlib
import re
import time

import jax

import dir_jax
import mano_jax
from dir_jax.benchmark.programs import raw_batch
from dir_jax.models.config import TINY
from dir_jax.models.network import initial_variables
from dir_jax.training.step import (
    adamw,
    cosine_schedule,
    create_train_state,
    make_loss,
    make_train_step,
)

parser = argparse.ArgumentParser(description="Profiles one step of a tiny network.")
parser.add_argument("--output", type=pathlib.Path, default="trace", help="folder for the trace")
parser.add_argument("--batch", type=int, default=4)
parser.add_argument("--released", action="store_true", help="the full-size network")
options = parser.parse_args()

hands = mano_jax.open_hands()
model = dir_jax.create_model({"preset": "released", **({} if options.released else TINY)}, hands)
schedule = cosine_schedule(3e-4, 1000)
optimiser = adamw(schedule)
step = jax.jit(make_train_step(make_loss(model, hands, "released"), optimiser, schedule))
state = create_train_state(initial_variables(model, seed=0), optimiser)

batch = raw_batch(options.batch)  # photographs and parameters, as the data pipeline gives them

begin = time.perf_counter()
state, _ = jax.block_until_ready(step(state, batch))  # compiles; never measure this one
print(f"first call, compilation included: {time.perf_counter() - begin:.1f} s")

with jax.profiler.trace(str(options.output)):
    begin = time.perf_counter()
    state, metrics = jax.block_until_ready(step(state, batch))
    seconds = time.perf_counter() - begin
print(f"one step: {seconds:.3f} s, loss {float(metrics['loss']):.4f}")

# The newest trace: events with a start and a duration; XLA's own name the operation they run.
newest = max(options.output.rglob("*.trace.json.gz"), key=lambda path: path.stat().st_mtime)
events = json.loads(gzip.decompress(newest.read_bytes()))["traceEvents"]
spent, calls = collections.Counter(), collections.Counter()
for event in events:
    operation = event.get("args", {}).get("hlo_op")
    if operation and event.get("ph") == "X":
        kind = re.sub(r"[.\d]+(clone)?$", "", operation)
        spent[kind] += event["dur"] / 1000
        calls[kind] += 1
total = sum(spent.values())
print(f"\n{'operation':44s} {'calls':>6s} {'ms':>8s} {'share':>6s}   (summed over threads)")
for kind, milliseconds in spent.most_common(12):
    share = milliseconds / total
    print(f"{kind[:44]:44s} {calls[kind]:6d} {milliseconds:8.1f} {share:6.1%}")
print(f"\n{newest}")
