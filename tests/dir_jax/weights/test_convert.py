"""Weights there and back, strictly."""

from __future__ import annotations

import argparse
import dataclasses
import fnmatch
import functools
import re
import sys

import chex
import jax
import numpy as np
import pytest
from flax import traverse_util

import dir_jax
from dir_jax import convert
from dir_jax.models.config import TINY
from dir_jax.models.network import variable_shapes
from dir_jax.weights import WeightsError, loading
from dir_jax.weights.checkpoints import save_variables
from dir_jax.weights.conversion import (
    UNUSED,
    encoder_table,
    is_unused,
    load_imagenet_encoder,
    table,
)
from dir_jax.weights.torch_files import read_state_dict
from tests.dir_jax import torch_zip
from tests.golden import pseudo_weights
from tests.hands import toy_hands

RELEASED = {**TINY, "stages": 2}
"""The released structure, as the PyTorch code has it, and tiny."""


@pytest.fixture(scope="module")
def model():
    return dir_jax.create_model(RELEASED, toy_hands())


@pytest.fixture(scope="module")
def variables(model):
    generator = np.random.default_rng(0)
    shapes = traverse_util.flatten_dict(variable_shapes(model), sep="/")
    flat = {path: generator.normal(size=s.shape).astype(np.float32) for path, s in shapes.items()}
    return traverse_util.unflatten_dict(flat, sep="/")


_assert_same = functools.partial(chex.assert_trees_all_equal, strict=True)


def test_there_and_back_is_exact_to_the_bit(model, variables):
    state = dir_jax.torch_from_variables(variables, model)
    _assert_same(dir_jax.variables_from_torch(state, model), variables)


@pytest.mark.parametrize("fields", [{"transformer_blocks": 0}, {"graph_layers": 0}])
def test_fewer_layers_convert_too(model, fields):
    fewer = dir_jax.create_model({**RELEASED, **fields}, model.hands)
    variables = jax.tree.map(lambda s: np.ones(s.shape, s.dtype), variable_shapes(fewer))
    state = dir_jax.torch_from_variables(variables, fewer)
    _assert_same(dir_jax.variables_from_torch(state, fewer), variables)


def test_every_wrong_tensor_is_named(model, variables):
    state = dir_jax.torch_from_variables(variables, model)
    with pytest.raises(WeightsError, match=r"backbone.conv1.weight is missing"):
        dir_jax.variables_from_torch(
            {n: v for n, v in state.items() if n != "backbone.conv1.weight"}, model
        )
    with pytest.raises(WeightsError, match=r"tensors nobody expects: extra.weight \(3,\)"):
        dir_jax.variables_from_torch({**state, "extra.weight": np.zeros(3)}, model)
    bad = {**state, "decoder.seg.3.bias": np.zeros(4, np.float32)}
    with pytest.raises(WeightsError, match=r"decoder.seg.3.bias has shape \(4,\), wanted \(3,\)"):
        dir_jax.variables_from_torch(bad, model)
    name = "init_regressor.mano_left.weight"
    with pytest.raises(WeightsError, match=name):
        dir_jax.variables_from_torch({**state, name: state[name].T}, model)


def test_every_wrong_variable_is_named(model, variables):
    params = {n: v for n, v in variables["params"].items() if n != "dense"}
    with pytest.raises(WeightsError, match=r"params/dense/conv1/conv/bias is missing"):
        dir_jax.torch_from_variables({**variables, "params": params}, model)
    with pytest.raises(WeightsError, match="params/more is left over"):
        more = {**variables["params"], "more": np.zeros(2)}
        dir_jax.torch_from_variables({**variables, "params": more}, model)


def test_other_architectures_are_refused():
    model = dir_jax.create_model({**RELEASED, "planes": "joint"}, toy_hands())
    with pytest.raises(ValueError, match=r"model\.planes is 'joint'; the released PyTorch code"):
        dir_jax.variables_from_torch({}, model)


def test_imagenet_weights_fill_the_encoder_only(tmp_path, model, variables):
    shapes = traverse_util.flatten_dict(variable_shapes(model), sep="/")
    generator = np.random.default_rng(1)
    state = {}
    for entry in encoder_table(model):
        value = generator.normal(size=shapes[entry.path].shape).astype(np.float32)
        state[entry.sources[0]] = entry.to_torch(value)[0]
    state["fc.weight"] = np.zeros((1000, 4), np.float32)  # torchvision's classes, not wanted
    torch_zip.save(tmp_path / "resnet.pth", state, wrap=None)
    found = load_imagenet_encoder(tmp_path / "resnet.pth", variables, model)
    stem = found["params"]["encoder"]["stem"]["conv"]["kernel"]
    np.testing.assert_array_equal(stem, state["conv1.weight"].transpose(2, 3, 1, 0))
    _assert_same(found["params"]["stage1"], variables["params"]["stage1"])


def test_every_tensor_is_used_once(model):
    sources = [name for entry in table(model) for name in entry.sources]
    assert len(set(sources)) == len(sources)


@pytest.mark.parametrize("output", ["folder", "file.safetensors"])
def test_the_command_there_and_back(tmp_path, capsys, monkeypatch, output):
    """A full synthetic checkpoint through the command line, both ways; files without orbax."""
    if output != "folder":
        monkeypatch.setitem(sys.modules, "dir_jax.weights.checkpoints", None)
    state = pseudo_weights.pseudo_state_dict()
    torch_zip.save(tmp_path / "DIR.pth", state)
    folder, back = tmp_path / output, tmp_path / "back.safetensors"
    command = ["--torch_checkpoint", str(tmp_path / "DIR.pth"), "--output", str(folder)]
    assert convert.main(command) == 0
    assert "90,411,059 weights" in capsys.readouterr().out
    assert convert.main(command) == 2
    assert "exists already" in capsys.readouterr().err
    assert convert.main(["--checkpoint", str(folder), "--to_torch", str(back)]) == 0
    found = read_state_dict(back)
    assert found.keys() == {n for n in state if not is_unused(n)}
    for name, value in found.items():
        np.testing.assert_array_equal(value, state[name])
    unused = state.keys() - found.keys()
    kinds = {p for p in UNUSED if any(fnmatch.fnmatchcase(name, p) for name in unused)}
    assert kinds == {"backbone.fc.*", "*.interaction.STEblocks.0.*", "*.num_batches_tracked"}


def test_a_stopped_conversion_leaves_nothing(tmp_path, monkeypatch, capsys):
    (tmp_path / "DIR.pth").write_text("")

    def stopped(path, *_):
        path.mkdir()
        raise KeyboardInterrupt

    monkeypatch.setattr(convert, "read_state_dict", lambda path: {})
    monkeypatch.setattr(convert, "variables_from_torch", lambda state, model: {})
    monkeypatch.setattr("dir_jax.weights.checkpoints.save_variables", stopped)
    command = ["--torch_checkpoint", str(tmp_path / "DIR.pth"), "--output", str(tmp_path / "out")]
    assert convert.main(command) == 130
    assert [path.name for path in tmp_path.iterdir()] == ["DIR.pth"]


def test_one_file_holds_weights_and_config(tmp_path, model, variables):
    path = tmp_path / "own.safetensors"
    config = dataclasses.asdict(model.config)
    loading.save_weights(path, variables, config, hands="open hand")
    found, fields = dir_jax.load_weights(path)
    assert dir_jax.create_model(fields, model.hands).config == model.config
    _assert_same(found, variables)
    loading.save_weights(path, variables, config, np.float16)
    rounded = jax.tree.map(lambda a: a.astype(np.float16).astype(np.float32), variables)
    loaded = loading.load_model(path, hands=model.hands)
    _assert_same(loaded.variables, rounded)
    assert loaded.model.config == model.config


def test_weights_are_shipped_by_name(tmp_path, monkeypatch, model, variables):
    monkeypatch.setattr(loading, "SHIPPED", tmp_path)
    loading.save_weights(tmp_path / "tiny.safetensors", variables, RELEASED)
    found, _ = dir_jax.load_weights("tiny")
    _assert_same(found, variables)
    for name in ("tinny", "../tiny"):
        with pytest.raises(WeightsError, match=r"no such file or folder.*shipped weights: tiny"):
            dir_jax.load_weights(name)


def test_commands_use_shipped_weights_when_none_are_named(
    tmp_path, monkeypatch, capsys, model, variables
):
    parser = argparse.ArgumentParser()
    loading.add_model_arguments(parser)
    monkeypatch.setattr(loading, "SHIPPED", tmp_path)
    with pytest.raises(ValueError, match="No model given"):  # nothing is shipped
        loading.load_named_model(parser.parse_args([]))
    config = dataclasses.asdict(model.config)
    loading.save_weights(tmp_path / "open_hands.safetensors", variables, config, hands="open hand")
    loaded = loading.load_named_model(parser.parse_args([]))
    _assert_same(loaded.variables, variables)
    assert capsys.readouterr().out == "note: no weights named; using the shipped open_hands\n"
    with pytest.raises(ValueError, match="/no/such"):
        loading.load_named_model(parser.parse_args(["--weights", "/no/such"]))


def test_files_of_weights_are_checked(tmp_path, model, variables):
    path = tmp_path / "own.safetensors"
    loading.save_weights(path, variables, {**RELEASED, "stages": 1})
    with pytest.raises(WeightsError, match=r"fusion2/\S+ is missing"):
        dir_jax.load_weights(path)
    loading.save_weights(path, variables, {**RELEASED, "graph": "this:Graph"})
    with pytest.raises(WeightsError, match="needs the part 'this:Graph'; import this first"):
        dir_jax.load_weights(path)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(WeightsError, match="cannot be read as weights"):
        dir_jax.load_weights(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"variables": "params/dense"}, "params/dense/conv1/conv/bias is missing"),
        ({"config": {"model": {**RELEASED, "joint_width": 8}}}, r"has shape .*, wanted"),
        ({"config": {"model": {"depth": 3}}}, "no network .*unknown model field .depth."),
        ({"config": {"model": [1]}}, "is of no network that this version of the code knows"),
        ({"config": "old"}, "is of no network that this version of the code knows"),
    ],
)
def test_a_checkpoint_of_another_layout_ends_in_one_line(
    tmp_path, capsys, variables, change, message
):
    kept = dict(variables)
    if "variables" in change:
        kept["params"] = {k: v for k, v in kept["params"].items() if k != "dense"}
    save_variables(tmp_path / "old", kept, {"config": change.get("config", {"model": RELEASED})})
    command = ["--checkpoint", str(tmp_path / "old"), "--to_torch", str(tmp_path / "w.pth")]
    assert convert.main(command) == 2
    error = capsys.readouterr().err
    assert re.search(message, error) and error.count("\n") == 1


def test_the_shipped_model_is_whole_and_says_what_it_is():
    variables, _ = dir_jax.load_weights("open_hands")
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(variables))
    file = loading.shipped("open_hands")
    assert file.stat().st_size < 16e6
    loaded = loading.load_model("open_hands")
    assert loaded.meta["licence"] == "Apache-2.0" and loaded.meta["hands"] == loaded.hands.name
