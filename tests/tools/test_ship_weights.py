import jax
import numpy as np
import pytest

import mano_jax
from dir_jax.models.config import TINY, model_config
from dir_jax.models.network import create_model, initial_variables
from dir_jax.weights.loading import load_weights, save_weights
from tools import ship_weights

CONFIG = {**TINY, "preset": "open_hands", "landmark_widths": (0, 8, 8, 8), "landmark_blocks": 1}


@pytest.mark.parametrize(("size", "kind"), [(1.0, "float16"), (3e4, "float32")])
def test_weights_are_shipped_in_half_where_that_costs_nothing(tmp_path, capsys, size, kind):
    config = model_config(CONFIG)
    variables = initial_variables(create_model(config, mano_jax.open_hands()), 0)
    variables = jax.tree.map(np.asarray, variables)
    params = variables["params"]["initial"]["params"]
    params["bias"] = params["bias"] * size  # metres and radians that need more than three digits
    variance = variables["batch_stats"]["final"]["norm"]["var"]
    variables["batch_stats"]["final"]["norm"]["var"] = variance * 1e6  # beyond the half's range
    save_weights(tmp_path / "run.safetensors", variables, config.__dict__, hands="open hand")
    output = tmp_path / "shipped.safetensors"
    arguments = ["--workdir", str(tmp_path / "run.safetensors"), "--output", str(output)]
    assert ship_weights.main(arguments) == 0
    assert f"{kind}, " in capsys.readouterr().out
    shipped, same = load_weights(output)
    assert model_config(same) == config
    dtype = np.dtype(kind)
    found = (
        shipped["batch_stats"]["final"].pop("norm"),
        variables["batch_stats"]["final"].pop("norm"),
    )
    np.testing.assert_array_equal(found[0]["var"], found[1]["var"])
    jax.tree.map(
        lambda a, b: np.testing.assert_array_equal(a.astype(dtype), b.astype(dtype)),
        variables,
        shipped,
    )
