"""Trains on photographs that lie in the accelerator's memory and are still being drawn.

    python -m tools.train_resident draw --photographs FOLDER --workers 14 --seconds 600 &
    python -m tools.train_resident train --photographs FOLDER --seconds 500 --output OUT.safetensors

`train.py` reads a prepared data set through TensorFlow, as fast as the host's cores decode. A
machine with one fast GPU for a short while does better the other way round: its cores draw
photographs, and the GPU crops and changes them itself, as `input_pipeline.augment` would, so that
every photograph serves many times. The recipe is `configs/open_hands.py`; the learning rate falls
along a cosine of the time that has passed. Neither TensorFlow nor a prepared data set is needed.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import json
import math
import os
import pathlib
import sys
import tempfile
import time
from typing import Any

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import optax

from configs import open_hands as recipe
from dir_jax.evaluation.runner import Evaluation, validation_figures
from dir_jax.models.network import create_model, initial_variables
from dir_jax.training.step import adamw, create_train_state, make_loss, make_train_step
from dir_jax.weights import fill
from dir_jax.weights.loading import load_weights, save_weights
from input_pipeline.commands import command
from input_pipeline.crop import (
    CROP_SIZE,
    JPEG_QUALITIES,
    MARGIN,
    PATCH,
    STORED_SIZE,
    crop_image,
)
from input_pipeline.dataset import FIELDS, LABELS, as_batch
from input_pipeline.files import whole_file
from input_pipeline.image_files import read_photo
from input_pipeline.shards import plan_records
from input_pipeline.sources import open_split
from input_pipeline.synthesize import synthesize
from input_pipeline.synthetic.studio import VARIETIES
from input_pipeline.workers import ahead, in_order, pool
from mano_jax import open_hands

PHOTOGRAPHS = 240
"""In one file of the folder, all of one seed."""
VALIDATION = "val"
"""How the files begin whose photographs are measured with and never trained on."""
READERS = 8
"""Threads that read files."""
VALIDATION_FILES = 5
VALIDATION_PHOTOGRAPHS = 60

# --- Drawing ------------------------------------------------------------------------------------


def draw(folder: pathlib.Path, split: str, seed: int, count: int, until: float) -> None:
    """Leaves photographs of one seed, their windows and labels, as one file of the folder."""
    path = folder / f"{split}_{seed:06d}.npz"
    if path.exists() or time.time() > until:
        return
    hands, variety = open_hands(), VARIETIES[recipe.get_config().data.synthesize_variety]
    with tempfile.TemporaryDirectory(dir=folder, prefix=".raw-") as scratch:
        raw = pathlib.Path(scratch) / "raw"
        synthesize(
            raw, {split: count}, seed=seed, variety=variety, workers=1, pair=hands, progress=False
        )
        reader = open_split(raw, split)
        records, _ = plan_records(reader, reader.select("all").kept, "all", hands)
        images = pathlib.Path(reader.images_folder)
        windows = [
            crop_image(read_photo(images / record.file_name), record.source_square, MARGIN)
            for record in records
        ]
    arrays = {
        name: np.array([getattr(record, name) for record in records], FIELDS[name].dtype)
        for name in LABELS
    }
    with whole_file(path) as temporary, open(temporary, "wb") as file:
        np.savez(file, image=np.stack(windows), **arrays)


def _one_core() -> None:
    """A drawing process's share of the machine."""
    cv2.setNumThreads(1)
    os.nice(10)


def draw_all(options: argparse.Namespace) -> None:
    """Draws until the time is over; the files for validation come first."""
    # Read by the drawing processes when they start.
    for library in ("OPENBLAS", "OMP", "MKL"):
        os.environ[f"{library}_NUM_THREADS"] = "1"
    os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false"
    os.environ["JAX_PLATFORMS"] = "cpu"
    options.photographs.mkdir(parents=True, exist_ok=True)
    until = time.time() + options.seconds
    seeds = itertools.takewhile(lambda _: time.time() < until, itertools.count(options.seed))
    tasks = itertools.chain(
        ((VALIDATION, seed, VALIDATION_PHOTOGRAPHS) for seed in range(VALIDATION_FILES)),
        (("train", seed, PHOTOGRAPHS) for seed in seeds),
    )
    with pool(options.workers, _one_core) as submit:

        def start(task):
            return submit(draw, options.photographs, *task, until)

        for _ in ahead(start, tasks, 2 * options.workers):
            pass


def read(path: pathlib.Path) -> dict[str, np.ndarray]:
    """A file's photographs as `input_pipeline.batches` names and shapes them."""
    with np.load(path) as file:
        return as_batch(dict(file))


# --- Crops, changed on the device ---------------------------------------------------------------


def _uniform(key, *shape):
    return jax.random.uniform(key, shape, minval=-1.0, maxval=1.0)


BLUR_SAMPLES = 5
"""Places along a blur's path whose mean a pixel is."""


def changed_crop(window, camera, key, ranges):
    """One crop and where it shows things: `input_pipeline.augment`, in jax.

    Args:
      window: (440, 440, 3) uint8.
      camera: (3, 3) intrinsics of its central crop.
      key: of the draws.
      ranges: a recipe's `data.augmentation`.

    Returns:
      image (256, 256, 3) uint8, motion (3, 3), camera (3, 3), flip.
    """
    keys = jax.random.split(key, 8)
    turn, scale, *shift = _uniform(keys[0], 4)
    chance = jax.random.uniform(keys[1], (4,))
    angle = turn * math.radians(ranges.rotation_degrees)
    scale = 1 + scale * ranges.scale
    flip = chance[0] < ranges.flip
    sign, edge = jnp.where(flip, -1.0, 1.0), jnp.where(flip, CROP_SIZE - 1.0, 0.0)
    cos, sin, centre = scale * jnp.cos(angle), scale * jnp.sin(angle), CROP_SIZE / 2
    x, y = (centre + ranges.translation_px * value for value in shift)
    one, zero = jnp.ones(()), jnp.zeros(())

    def matrix(*rows):
        return jnp.stack([jnp.stack([jnp.asarray(v) for v in row]) for row in rows])

    bottom = (zero, zero, one)
    mirror = matrix((sign, zero, edge), (zero, one, zero), bottom)
    turned = matrix(
        (cos, -sin, x - centre * (cos - sin)), (sin, cos, y - centre * (sin + cos)), bottom
    )
    affine = turned @ mirror
    mirrored = mirror @ camera @ jnp.diag(jnp.stack([sign, one, one]))
    motion = jnp.linalg.inv(mirrored) @ affine @ camera
    inverse = jnp.linalg.inv(affine)

    shortest, longest = ranges.blur_lengths
    blurs, length, direction = jax.random.uniform(keys[2], (3,))
    length = shortest + (longest - shortest) * length
    length = jnp.where(blurs < ranges.blur, length, 0.0)
    along = length * jnp.linspace(-0.5, 0.5, BLUR_SAMPLES)
    grid = jnp.arange(CROP_SIZE, dtype=jnp.float32)
    columns, rows = jnp.meshgrid(grid, grid)
    pixels = window.reshape(-1, 3)

    def level(row, column):
        inside = (row >= 0) & (row < STORED_SIZE) & (column >= 0) & (column < STORED_SIZE)
        place = jnp.clip(row, 0, STORED_SIZE - 1) * STORED_SIZE
        place = place + jnp.clip(column, 0, STORED_SIZE - 1)
        return jnp.where(inside[..., None], pixels[place].astype(jnp.float32), 0.0)

    def sample(total, step):
        column = columns + step * jnp.cos(2 * math.pi * direction)
        row = rows + step * jnp.sin(2 * math.pi * direction)
        x = inverse[0, 0] * column + inverse[0, 1] * row + inverse[0, 2] + MARGIN
        y = inverse[1, 0] * column + inverse[1, 1] * row + inverse[1, 2] + MARGIN
        left, top = jnp.floor(x), jnp.floor(y)
        right_share, low_share = (x - left)[..., None], (y - top)[..., None]
        column, row = left.astype(jnp.int32), top.astype(jnp.int32)
        upper = level(row, column) * (1 - right_share) + level(row, column + 1) * right_share
        lower = level(row + 1, column) * (1 - right_share)
        lower = lower + level(row + 1, column + 1) * right_share
        return total + upper * (1 - low_share) + lower * low_share, None

    image, _ = jax.lax.scan(sample, jnp.zeros((CROP_SIZE, CROP_SIZE, 3)), along)
    image = image / BLUR_SAMPLES
    image = _occluded(image, chance[1] < ranges.occlusion, keys[3])
    gain = 1 + ranges.gain * _uniform(keys[4], 3)
    brightness = 255 * ranges.brightness * _uniform(keys[5], 1)
    noise = 255 * ranges.noise * jax.random.normal(keys[6], image.shape)
    image = jnp.clip(jnp.round(image * gain + brightness + noise), 0, 255)
    image = _compressed(image, chance[2] < ranges.jpeg, chance[3])
    return image.astype(jnp.uint8), motion, mirrored, flip


def _occluded(image, wanted, key):
    """The picture with a rectangle or an ellipse of one colour, as `augment.occlude` has it."""
    unit = jax.random.uniform(key, (8,))
    grid = (jnp.arange(CROP_SIZE) + 0.5) / CROP_SIZE
    half = PATCH[0] + unit[:2] * (PATCH[1] - PATCH[0])
    x, y = jnp.abs(grid - unit[2])[None] / half[0], jnp.abs(grid - unit[3])[:, None] / half[1]
    inside = jnp.where(unit[4] < 0.5, jnp.maximum(x, y), jnp.hypot(x, y)) < 1
    return jnp.where((inside & wanted)[..., None], 255 * unit[5:8], image)


LUMINANCE = np.array([
    [16, 11, 10, 16, 24, 40, 51, 61], [12, 12, 14, 19, 26, 58, 60, 55],
    [14, 13, 16, 24, 40, 57, 69, 56], [14, 17, 22, 29, 51, 87, 80, 62],
    [18, 22, 37, 56, 68, 109, 103, 77], [24, 35, 55, 64, 81, 104, 113, 92],
    [49, 64, 78, 87, 103, 121, 120, 101], [72, 92, 95, 98, 112, 100, 103, 99],
])  # fmt: skip
"""JPEG's table of quality 50 (ITU T.81, annex K)."""
TO_YCC = np.array([[0.299, 0.587, 0.114], [-0.1687, -0.3313, 0.5], [0.5, -0.4187, -0.0813]])


def _compressed(image, wanted, quality):
    """What a JPEG file keeps of (256, 256, 3) grey levels; `quality` in 0..1."""
    place = np.arange(8)
    cosines = np.cos((2 * place[None] + 1) * place[:, None] * np.pi / 16) / 2
    cosines[0] /= math.sqrt(2)
    lowest, highest = JPEG_QUALITIES
    quality = lowest + (highest - lowest) * quality
    factor = jnp.where(quality < 50, 50 / quality, 2 - quality / 50)
    table = jnp.maximum(jnp.round(LUMINANCE * factor), 1)
    blocks = (image @ TO_YCC.T.astype(np.float32)).reshape(32, 8, 32, 8, 3)
    waves = jnp.einsum("iy,aybxc,jx->abijc", cosines, blocks, cosines)
    waves = jnp.round(waves / table[..., None]) * table[..., None]
    blocks = jnp.einsum("iy,abijc,jx->aybxc", cosines, waves, cosines)
    kept = blocks.reshape(image.shape) @ np.linalg.inv(TO_YCC).T.astype(np.float32)
    return jnp.where(wanted, jnp.clip(jnp.round(kept), 0, 255), image)


def batch_of(photographs, key, count, size: int, ranges):
    """A batch of changed crops of the first `count` photographs, drawn with repetition."""
    chosen, *keys = jax.random.split(key, size + 1)
    index = jax.random.randint(chosen, (size,), 0, count)
    batch = {name: values[index] for name, values in photographs.items()}
    change = jax.vmap(functools.partial(changed_crop, ranges=ranges))
    with jax.default_matmul_precision("highest"):  # TF32 would move points by a pixel
        shown = change(batch["image"], batch["camera"], jnp.stack(keys))
    return batch | dict(zip(("image", "motion", "camera", "flip"), shown, strict=True))


# --- Training -----------------------------------------------------------------------------------


class Photographs:
    """The photographs on the device; new files of the folder join them.

    Attributes:
      arrays: by name, (capacity, ...).
      count: how many of them are there.
    """

    def __init__(self, folder: pathlib.Path, capacity: int):
        self._folder, self._capacity = folder, capacity
        self._seen: set[pathlib.Path] = set()
        self.arrays: dict[str, Any] = {}
        self.count = 0

    def update(self) -> None:
        """Takes in what has been drawn meanwhile."""
        new = sorted(set(self._folder.glob("train_*.npz")) - self._seen)
        for path, found in zip(new, in_order(read, new, READERS), strict=True):
            self._seen.add(path)
            count = len(found["image"])
            if self.count + count > self._capacity:
                return
            if not self.arrays:
                self.arrays = {
                    name: jnp.zeros((self._capacity, *values.shape[1:]), values.dtype)
                    for name, values in found.items()
                }
            self.arrays = _put(self.arrays, found, self.count)
            self.count += count


@functools.partial(jax.jit, donate_argnums=0)
def _put(arrays, values, start):
    """The arrays with values from a place on."""
    return {
        name: jax.lax.dynamic_update_slice_in_dim(array, values[name], start, 0)
        for name, array in arrays.items()
    }


def validate(model, variables, folder: pathlib.Path) -> dict[str, float]:
    """Figures of the photographs kept for validation."""
    evaluation = Evaluation(model, variables, model.hands, volumes=False)
    for path in sorted(folder.glob(f"{VALIDATION}_*.npz"))[:VALIDATION_FILES]:
        found = read(path)
        size = VALIDATION_PHOTOGRAPHS
        if len(found["image"]) != size:
            continue
        found["image"] = found["image"][:, MARGIN:-MARGIN, MARGIN:-MARGIN]
        found |= {"motion": np.tile(np.eye(3, dtype=np.float32), (size, 1, 1))}
        found |= {"flip": np.zeros(size, bool), "mask": np.ones(size, np.float32)}
        evaluation.add(found | {"index": np.arange(size)})
    return validation_figures(evaluation.result())


def training(options: argparse.Namespace, config):
    """The network, its state, and steps of it.

    Returns:
      model; (state, average of its variables); `run(carry, photographs, count, key, rate)` ->
      (carry, mean loss).
    """
    model = create_model(config.model.to_dict(), open_hands())
    variables = initial_variables(model, config.seed)
    if options.initial:
        known, _ = load_weights(options.initial)
        variables = jax.device_put(fill(variables, known, f"the weights of {options.initial}"))
    optimizer = optax.inject_hyperparams(
        lambda learning_rate: adamw(
            lambda _: learning_rate,
            encoder_factor=config.optimizer.encoder_factor,
            weight_decay=config.optimizer.weight_decay,
        )
    )(learning_rate=0.0)
    loss = make_loss(
        model, model.hands, config.loss.to_dict(), config.model.root_joint,
        frozen=config.optimizer.encoder_factor == 0,
    )  # fmt: skip
    step = make_train_step(loss, optimizer, lambda _: jnp.zeros(()))
    ranges, size = config.data.augmentation, options.batch

    @functools.partial(jax.jit, donate_argnums=0)
    def run(carry, photographs, count, key, rate):
        state, average = carry
        state.opt_state.hyperparams["learning_rate"] = rate

        def one(carry, key):
            state, average = carry
            state, metrics = step(state, batch_of(photographs, key, count, size, ranges))
            average = jax.tree.map(
                lambda a, v: a + (1 - options.decay) * (v - a), average, state.variables
            )
            return (state, average), metrics["loss"]

        keys = jax.random.split(key, options.steps)
        (state, average), losses = jax.lax.scan(one, (state, average), keys)
        return (state, average), losses.mean()

    state = create_train_state(variables, optimizer)
    return model, (state, jax.tree.map(jnp.copy, state.variables)), run


def train(options: argparse.Namespace) -> None:
    """Trains until the time is over; the averaged weights are written again and again."""
    begin = time.time()
    config = recipe.get_config()
    config.model.precision = options.precision
    model, carry, run = training(options, config)
    photographs = Photographs(options.photographs, options.capacity)
    while not photographs.count:
        photographs.update()
        time.sleep(0.2)
    steps = 0

    def say(**values):
        line = {"seconds": round(time.time() - begin, 1), "steps": steps} | values
        print(json.dumps(line), flush=True)

    def keep(last: bool):
        values = jax.device_get(carry[1])
        save_weights(
            options.output, values, {**config.model.to_dict(), "precision": "float32"},
            np.float16, hands=model.hands.name, licence="Apache-2.0",
        )  # fmt: skip
        if last or options.validate:
            say(**{k: v for k, v in validate(model, values, options.photographs).items() if v})

    # Compiled first, at a learning rate at which nothing is learnt.
    key = jax.random.key(config.seed)
    carry, loss = run(carry, photographs.arrays, photographs.count, key, 0.0)
    say(compiled=True, loss=round(float(loss), 4), photographs=photographs.count)
    first = shown = saved = time.time()
    until = begin + options.seconds
    while (now := time.time()) < until:
        rate = options.learning_rate * (1 + math.cos(math.pi * (now - first) / (until - first))) / 2
        rate *= min(1.0, (steps + options.steps) / options.warmup)
        key, own = jax.random.split(key)
        carry, loss = run(carry, photographs.arrays, photographs.count, own, rate)
        loss = float(loss)
        steps += options.steps
        spent = time.time() - now
        if time.time() - shown > options.every:
            shown = time.time()
            photographs.update()
            say(loss=round(loss, 4), rate=round(rate, 7), photographs=photographs.count,
                crops_per_s=round(options.steps * options.batch / spent))  # fmt: skip
        if time.time() - saved > options.save_every:
            saved = time.time()
            keep(False)
    say(skipped=int(carry[0].skipped))
    keep(True)


@command
def main(arguments: list[str]) -> int:
    """The command; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.train_resident", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    add = parser.add_argument
    add("what", choices=("draw", "train"))
    add("--photographs", type=pathlib.Path, required=True, help="folder of drawn files")
    add("--seconds", type=float, required=True, help="to draw or to train for")
    add("--workers", type=int, default=os.cpu_count(), help="drawing processes")
    add("--seed", type=int, default=1000, help="of the first file drawn; the next has the next")
    add("--output", type=pathlib.Path, default="resident.safetensors", help="weights")
    add("--initial", default="", help="weights to start with, name or file")
    add("--batch", type=int, default=64, help="crops a step")
    add("--steps", type=int, default=50, help="in one program, between looks at the clock")
    add("--learning_rate", type=float, default=2e-3)
    add("--warmup", type=int, default=500, help="steps")
    add("--decay", type=float, default=0.999, help="of the weights' average, a step")
    add("--precision", default="float32", choices=("float32", "bfloat16"))
    add("--capacity", type=int, default=30_000, help="photographs on the device, at most")
    add("--every", type=float, default=10, help="seconds between lines")
    add("--save_every", type=float, default=60, help="seconds between files")
    add("--validate", action="store_true", help="each time")
    options = parser.parse_args(arguments)
    (draw_all if options.what == "draw" else train)(options)
    return 0


if __name__ == "__main__":
    sys.exit(main())
