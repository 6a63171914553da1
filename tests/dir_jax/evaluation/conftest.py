"""What the tests of evaluation share: toy hands, the reference's numbers, runs of evaluate.py."""

import functools
import json

import numpy as np
import pytest

import mano_jax
from dir_jax.evaluation import command
from mano_jax.constants import SIDES
from tests.hands import toy_hands
from tests.input_pipeline.examples import random_record, write_dataset


@pytest.fixture(scope="session")
def toy_pair():
    return toy_hands()


@pytest.fixture(scope="session")
def golden(golden_dir):
    """evaluation.npz, with the hands of both sides in one array."""
    with np.load(golden_dir / "evaluation.npz") as file:
        data = dict(file)
    for name in ("gt", "pred"):
        data[name] = np.stack([data.pop(f"{name}_vertices_{side}") for side in SIDES], axis=1)
    data["offset"] = 0.15 * data.pop("pred_offset_right_minus_left_over_0.15")
    return data


@pytest.fixture
def arrays(golden):
    """A file of predictions."""
    names = {"vertices_xyz": "pred", "gt_vertices_xyz": "gt", "camera": "camera"}
    return {name: golden[key].copy() for name, key in (names | {"offset": "offset"}).items()}


@pytest.fixture(scope="session")
def run_on(toy_pair, tmp_path_factory):
    """`run_on(folder, *options, **files)` writes the files there and runs evaluate.py on those
    that start with p, with the toy hands and without a page; gives status and result."""
    mano = str(tmp_path_factory.mktemp("mano"))
    mano_jax.save_npz(toy_pair, mano)
    with pytest.MonkeyPatch.context() as patch:
        # The same hands every time, so that nothing is compiled twice.
        patch.setattr(command, "load_hands", functools.cache(mano_jax.load_hands))

        def run(folder, *options, page=False, **files):
            for name, content in files.items():
                np.savez(folder / f"{name}.npz", **content)
            predictions = [str(folder / f"{name}.npz") for name in files if name.startswith("p")]
            output = folder / "evaluation.json"
            arguments = ["--predictions", *predictions, "--mano", mano, "--output", str(output)]
            status = command.main([*arguments, *options, *([] if page else ["--no_report"])])
            return status, json.loads(output.read_text()) if output.exists() else None

        yield run


@pytest.fixture
def run(run_on, tmp_path):
    """`run_on` in the test's own folder."""
    return functools.partial(run_on, tmp_path)


@pytest.fixture
def prepared(tmp_path):
    """Five records, the second without a left hand, which lie prepared in the folder "data"."""
    records = [random_record(n, hand_valid=np.array([n != 1, True])) for n in range(5)]
    write_dataset(tmp_path / "data", {"train": records})
    return records
