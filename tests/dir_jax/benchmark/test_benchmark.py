"""The benchmark: what it counts, that its variants agree, and the form of its JSON."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mano_jax
from dir_jax.benchmark import __main__ as benchmark
from dir_jax.benchmark import analysis, examples, hand_layers, programs, report, timing
from dir_jax.benchmark.summary import operations
from dir_jax.benchmark.variants import VARIANTS, choose
from dir_jax.models.config import TINY
from tests.dir_jax.training_fixtures import tiny_model, toy_hands


@pytest.fixture(scope="module")
def model():
    return tiny_model(toy_hands())


def _flags(tmp_path, *flags):
    fields = [f"{name}={value}".replace(" ", "") for name, value in TINY.items()]
    return ["--set", *fields, "--batch", "1", "--repeats", "2", *flags]


def test_every_run_is_timed_in_turn():
    order = []
    times = timing.time_in_turn(
        {"a": lambda: order.append("a"), "b": lambda: order.append("b")}, 3, warm_up=1
    )
    assert order == ["a", "b"] * 4
    assert times["a"].runs == 3
    assert times["a"].low <= times["a"].median <= times["a"].high


def test_peak_memory_is_that_of_the_run():
    size = 300 * 2**20
    before = timing.peak_resident_bytes(lambda: None)
    if before is None:
        pytest.skip("the system does not say how much memory a process has")
    peak = timing.peak_resident_bytes(lambda: np.ones(size, np.uint8).sum())
    assert 0.9 * size < peak - before < 1.3 * size
    later = timing.peak_resident_bytes(lambda: None)
    assert later - before < 0.5 * size


def test_xla_counts_a_matrix_product():
    a = jnp.ones((64, 128))
    program = jax.jit(lambda a, b: a @ b).lower(a, a.T).compile()
    found = analysis.analyse((program, program))
    assert found.flops == pytest.approx(2 * 2 * 64 * 64 * 128, rel=0.01)
    assert found.peak_bytes >= 4 * (2 * 64 * 128 + 64 * 64)


def test_the_cache_settings_come_back():
    before = jax.config.jax_compilation_cache_dir
    with analysis.fresh_cache() as folder:
        assert jax.config.jax_compilation_cache_dir == folder
        cold, cached, built = analysis.compile_twice(lambda: jax.jit(jnp.sin)(1.0))
        assert cold > 0 and cached > 0 and float(built) == pytest.approx(np.sin(1.0))
    assert jax.config.jax_compilation_cache_dir == before


def test_choosing_variants():
    assert list(choose([], "forward")) == ["default"]
    assert "remat" not in choose(["all"], "forward")
    assert list(choose(["remat"], "train_step")) == ["default", "remat"]
    with pytest.raises(ValueError, match="variant 'fast' is unknown"):
        choose(["fast"], "forward")


def test_examples_have_hands_in_view(model):
    variables = examples.pseudo_variables(model)
    images, targets = examples.images_and_targets(model, 2)
    assert images.shape == (2, 256, 256, 3) and targets.segmentation.shape == (2, 32, 32)
    output = jax.jit(model.apply)(variables, images)
    assert np.abs(np.asarray(output.stages[-1].joints_uv)).mean() < 2


def test_architectures_without_a_checkpoint_have_hands_in_view_too(model):
    other = tiny_model(model.hands, planes="joint", attention="light")
    images, _ = examples.images_and_targets(other, 1)
    output = jax.jit(other.apply)(examples.pseudo_variables(other), images)
    joints = np.asarray(output.stages[-1].joints_uv)
    assert 0.05 < np.abs(joints).mean() < 2


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n, v in VARIANTS.items() if v.tolerance is not None])
def test_every_variant_of_inference_agrees_in_float64(model, name):
    """Against what it stands for; training differs from inference by batch statistics only."""
    variant = VARIANTS[name]
    if "forward" not in variant.modes:
        pytest.skip("a way to train")
    with jax.enable_x64(True):
        wanted = programs.with_fields(model, VARIANTS["default"])
        if variant.against:
            wanted = tiny_model(model.hands, **variant.against)
        double = jax.tree.map(lambda a: a.astype(np.float64), examples.pseudo_variables(wanted))
        plain = programs.build(wanted, double, VARIANTS["default"], "forward", 1)
        other = programs.with_fields(wanted, variant)
        found = programs.build(other, double, variant, "forward", 1)
    assert programs.difference(found.result, plain.result) < 1e-9


def test_applying_the_kernel_before_enlarging_saves_arithmetic():
    full = sum(operations(benchmark.create_model("released", mano_jax.open_hands())).values())
    assert full < 22e9


def test_hand_layers_give_the_same_vertices_and_gradients():
    hands = mano_jax.open_hands()
    rows = hand_layers.compare(hands, None, [2], repeats=1)
    assert {row["mode"] for row in rows} == {"forward", "gradient"}
    assert rows[0]["layer"] == "ours" and rows[0]["times_ours"] == 1
    for row in rows:
        assert row["difference"] < 1e-5, row
    assert "times ours" in report.hands_table(rows)


@pytest.mark.slow
def test_the_command_writes_the_promised_json(tmp_path, capsys):
    file = tmp_path / "figures.json"
    flags = _flags(tmp_path, "--variants", "stages", "--modes", "forward", "--json", str(file))
    assert benchmark.main(flags) == 0
    found = json.loads(file.read_text())
    forward = found["forward"]
    for name in ("jax_s", "jax_gflop_per_image", "jax_compile_s", "jax_compile_cached_s"):
        assert forward[name] > 0
    assert forward["jax_compile_cached_s"] < forward["jax_compile_s"]
    assert found["variants"]["stages"]["forward"]["difference"] < 1e-4
    assert "roofline" in capsys.readouterr().out


def test_torch_entries_are_the_better_of_two_formats():
    default = dict.fromkeys(("seconds", "compile_s", "compile_cached_s", "peak_bytes"), 1.0)
    reference = {
        "eager contiguous": {"seconds": 3.0, "peak_bytes": 7},
        "eager channels_last": {"seconds": 2.0, "peak_bytes": 9},
    }
    found = {"variants": {"default": default}, "reference": reference, "gflop_per_image": 21.9}
    short = report.contract(found)
    assert short["torch_eager_s"] == 2.0 and short["torch_eager_peak_bytes"] == 9
    assert "torch_compile_s" not in short


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--variants", "fast"], "variant 'fast' is unknown"),
        (["--repeats", "0"], "--repeats is 0"),
        (["--batch", "0"], "--batch is"),
        (["--json", "/nowhere/at/all.json"], "there is no folder /nowhere/at"),
        (["--set", "stages"], "wanted FIELD=VALUE"),
        (["--reference", "x", "--set", "stages=1"], "--reference runs the released network"),
    ],
)
def test_bad_input_is_one_line(flags, message, capsys):
    assert benchmark.main(flags) == 2
    error = capsys.readouterr().err
    assert message in error and error.startswith("error: ") and error.count("\n") == 1
