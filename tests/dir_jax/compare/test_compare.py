"""The comparison's own arithmetic, and its honesty when the two sides differ."""

from __future__ import annotations

import contextlib
import os
import sys

import numpy as np
import pytest

from dir_jax.compare import __main__ as compare
from dir_jax.compare import checkout, quantities
from dir_jax.compare.samples import maps_as_the_reference
from dir_jax.losses.terms import RECIPES, loss_config


def test_a_row_measures_against_the_largest_reference_value():
    row = compare.difference("s", "q", [1.0, 2.0], [1.0, -4.0], 1e-3)
    assert (row.absolute, row.relative) == (6.0, 1.5)
    assert not row.agrees
    assert compare.difference("s", "q", [1.0], [1.0 + 1e-9], 1e-7).agrees


def test_shapes_and_nans_never_agree():
    assert not compare.difference("s", "q", np.zeros(2), np.zeros(3), 1.0).agrees
    assert not compare.difference("s", "q", [np.nan], [1.0], 1.0).agrees
    assert not compare.difference("s", "q", [1.0], [np.nan], 1.0).agrees


def test_the_report_names_the_first_difference():
    rows = [
        compare.difference("inference", "c1", [1.0], [1.0], 1e-7),
        compare.difference("inference", "c2", [1.0], [1.1], 1e-7),
        compare.difference("loss", "dense", [1.0], [2.0], 1e-7),
    ]
    text = compare.report(rows)
    assert "2 of 3 quantities differ; first in inference: c2" in text
    assert "all 1 quantities agree" in compare.report(rows[:1])


def test_maps_are_brought_down_as_torch_does():
    generator = np.random.default_rng(0)
    segmentation = generator.integers(0, 3, (1, 256, 256))
    dense = generator.uniform(size=(1, 256, 256, 3))
    small, small_dense = maps_as_the_reference(segmentation, dense)
    assert small[0, 3, 5] == segmentation[0, 24, 40]
    np.testing.assert_allclose(small_dense[0, 2, 7], dense[0, 19:21, 59:61].mean((0, 1)))


@pytest.mark.slow
@pytest.mark.skipif("DIR_CHECKOUT" not in os.environ, reason="DIR_CHECKOUT names no PyTorch code")
def test_a_real_checkout_agrees():
    assert compare.main(["--reference", os.environ["DIR_CHECKOUT"], "--salt", "5"]) == 0


def test_a_checkout_that_cannot_be_imported_is_refused_in_one_line(tmp_path, monkeypatch):
    """The folder has the files, but its code raises; what it left in `sys.modules` goes."""
    for name in checkout.NEEDED:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("raise SyntaxError('two\\nlines')")
    monkeypatch.setattr(checkout, "on_cpu", contextlib.nullcontext)
    monkeypatch.setitem(sys.modules, "torch", object())
    path, modules = list(sys.path), set(sys.modules)
    with pytest.raises(checkout.ReferenceError, match=r"cannot be used \(SyntaxError: two\)"):
        checkout.build(tmp_path, None)
    assert sys.path == path and not {"models", "models.dir"} & (set(sys.modules) - modules)


def test_terms_that_the_reference_does_not_have_are_left_out():
    assert quantities.reference_loss_name("joints_xyz_left_0") == "joint_left_xyz_0"
    assert quantities.reference_loss_name("offset_2") == "offset_2"
    assert quantities.reference_loss_name("segmentation") == "seg"
    recipe = loss_config(quantities.REFERENCE_RECIPE)
    assert recipe == RECIPES["released"]
