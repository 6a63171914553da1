"""The benchmark: what it counts, that its variants agree, what it survives, its JSON."""

import json
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mano_jax
from dir_jax.benchmark import __main__ as benchmark
from dir_jax.benchmark import budgets, competitors, gpu_report, hands, measure, programs
from dir_jax.benchmark.programs import VARIANTS, choose
from dir_jax.models.config import TINY
from tests.hands import toy_hands

TINY_FIELDS = ["--set", *(f"{name}={value}".replace(" ", "") for name, value in TINY.items())]


def test_every_run_is_timed_in_turn_and_failures_are_results():
    order = []

    def third_time_lucky():
        order.append("c")
        if len(order) > 5:
            raise RuntimeError("Guard failed\non the same frame")

    runs = {n: (lambda n=n: order.append(n)) for n in "ab"} | {"c": third_time_lucky}
    times = measure.time_in_turn(runs, 3, warm_up=1, may_fail=lambda name: name == "c")
    assert order == [*"abc", *"abc", *"ab", *"ab"]
    assert times["c"]["failed"] == "Guard failed"
    assert times["a"]["runs"] == 3
    assert times["a"]["fastest_s"] <= times["a"]["seconds"] <= times["a"]["slowest_s"]
    with pytest.raises(RuntimeError):
        measure.time_in_turn(runs, 3)


def test_peak_memory_is_that_of_the_run():
    size = 300 * 2**20
    before = measure.peak_resident_bytes(lambda: None)
    if before is None:
        pytest.skip("the system does not say how much memory a process has")
    peak = measure.peak_resident_bytes(lambda: np.ones(size, np.uint8).sum())
    assert 0.9 * size < peak - before < 1.3 * size
    later = measure.peak_resident_bytes(lambda: None)
    assert later - before < 0.5 * size


def test_xla_counts_a_matrix_product():
    a = jnp.ones((64, 128))
    found = measure.xla_figures(jax.jit(lambda a, b: a @ b).lower(a, a.T).compile())
    assert found["xla_flops"] == pytest.approx(2 * 64 * 64 * 128, rel=0.01)
    assert found["xla_peak_bytes"] >= 4 * (2 * 64 * 128 + 64 * 64)


def test_the_cache_settings_come_back():
    before = jax.config.jax_compilation_cache_dir
    with measure.fresh_cache() as folder:
        assert jax.config.jax_compilation_cache_dir == folder
    assert jax.config.jax_compilation_cache_dir == before


def test_choosing_variants():
    assert list(choose([], "forward")) == ["default"]
    assert "remat" not in choose(["all"], "forward")
    assert list(choose(["remat"], "train_step")) == ["default", "remat"]
    with pytest.raises(ValueError, match="variant 'fast' is unknown"):
        choose(["fast"], "forward")


@pytest.mark.slow
def test_a_projection_and_a_sampler_agree_with_the_defaults_with_hands_in_view():
    """In float64. (Every form by itself: tests/dir_jax/models/test_projection.py.)"""
    found = {}
    for name in ("default", "onehot", "onehot_matmul"):
        model = programs.variant_model({"preset": "released", **TINY}, toy_hands(), VARIANTS[name])
        single = programs.pseudo_variables(model)
        with jax.enable_x64(True):
            double = jax.tree.map(lambda a: np.asarray(a, np.float64), single)
            found[name] = programs.build(model, double, VARIANTS[name], "forward", 1).result
        assert programs.difference(found[name], found["default"]) < 1e-9, name
    assert 0.05 < np.abs(found["default"]["vertices_uv"]).mean() < 2


def test_hand_layers_give_the_same_vertices_and_gradients(monkeypatch):
    broken = lambda *_: (_ for _ in ()).throw(ValueError("no\nsuch op"))  # noqa: E731
    monkeypatch.setattr(hands, "manopth", lambda *_, **__: broken)
    rows = hands.compare(mano_jax.open_hands(), "checkout", 2, repeats=1)
    assert {row["mode"] for row in rows} == {"forward", "gradient"}
    assert rows[0]["layer"] == "ours" and rows[0]["times_ours"] == 1
    for row in rows:
        if row["layer"] == "manopth":
            assert row["failed"] == "no"
        else:
            assert row["difference"] < 1e-5, row
    text = benchmark.hands_table(rows)
    assert "times ours" in text and "failed: no" in text


@pytest.mark.slow
def test_the_command_writes_the_promised_json_whatever_the_competitor_does(
    tmp_path, capsys, monkeypatch
):
    """PyTorch forms that cannot be built, fail at once, or fail later, are rows with the reason."""
    file, calls = tmp_path / "figures.json", []

    def forms(*_):
        def fails_later():
            calls.append(1)
            if len(calls) > 2:
                raise RuntimeError("Guard failed on the same frame it was created\nmore")
            return {}

        return {
            "eager contiguous": ImportError("no module named mano"),
            "compile contiguous": lambda: 1 / 0,
            "compile channels_last": fails_later,
        }

    monkeypatch.setattr(benchmark.checkout, "usable", lambda folder: folder)
    monkeypatch.setattr(competitors, "prepare", forms)
    monkeypatch.setattr(programs, "difference", lambda *_: 0.0)
    monkeypatch.setattr(benchmark, "PRESETS", ["released"])
    flags = ["--batch", "1", "--repeats", "2", "--modes", "forward", "--json", str(file)]
    arguments = benchmark._parser().parse_args([*flags, "--reference", "x"])
    tiny = types.SimpleNamespace(**{**vars(arguments), "set": TINY_FIELDS[1:]})
    benchmark.benchmark(tiny)
    found = json.loads(file.read_text())
    for name in ("jax_s", "jax_gflop_per_image", "jax_compile_s"):
        assert found["forward"][name] > 0
    assert found["variants"]["default"]["forward"]["runs"] == 2
    assert found["forward"]["torch_eager_failed"] == "no module named mano"
    assert "torch_compile_s" not in found["forward"]
    printed = capsys.readouterr().out
    assert "roofline" in printed and "failed: Guard failed on the same frame" in printed
    assert "failed: division by zero" in printed


def test_torch_entries_are_the_better_of_two_formats():
    default = dict.fromkeys(("seconds", "compile_s", "peak_bytes"), 1.0)
    reference = {
        "eager contiguous": {"seconds": 3.0, "peak_bytes": 7},
        "eager channels_last": {"seconds": 2.0, "peak_bytes": 9},
        "compile contiguous": {"failed": "no compiler"},
    }
    found = {"variants": {"default": default}, "reference": reference, "gflop_per_image": 21.9}
    short = benchmark.contract(found)
    assert short["torch_eager_s"] == 2.0 and short["torch_eager_peak_bytes"] == 9
    assert "torch_compile_s" not in short and short["torch_compile_failed"] == "no compiler"


@pytest.mark.slow
@pytest.mark.parametrize(("name", "mode"), budgets.programs())
def test_programs_have_not_grown(name, mode):
    stored = json.loads(budgets.FILE.read_text())
    if stored["jax"] != jax.__version__:
        pytest.skip(f"the budgets are of jax {stored['jax']}")
    found = budgets.measured(name, mode)
    grown = budgets.grown(stored["budgets"][f"{name}/{mode}"], found)
    assert not grown, "python -m dir_jax.benchmark --update_budgets stores new ones"


def test_what_grew_is_named():
    stored = dict.fromkeys(budgets.FIGURES, 1000.0)
    assert budgets.grown(stored, dict.fromkeys(budgets.FIGURES, 1029.0)) == []
    assert budgets.grown(stored, {**stored, "xla_fusions": 1031.0}) == [
        "xla_fusions grew from 1,000 to 1,031"
    ]


def test_the_gpu_report_survives_what_does_not_fit(tmp_path, monkeypatch):
    def figures(config, pair, repeats, mode, batch, *_):
        if batch == 64:
            raise MemoryError("RESOURCE_EXHAUSTED: out of memory\nlong report")
        return {"seconds": 0.5, "per_s": 2.0 * batch}

    monkeypatch.setattr(gpu_report, "_network", figures)
    monkeypatch.setattr(gpu_report, "_hands", lambda pair, mode: {"per_s": 1e6})
    monkeypatch.setattr(gpu_report, "pipeline_rate", lambda batch: 100.0)
    assert benchmark.main(["--gpu_report", str(tmp_path / "report")]) == 0
    rows = json.loads((tmp_path / "report.json").read_text())["rows"]
    found = {row["what"]: row for row in rows}
    assert found["inference, batch 8, bfloat16"]["per_s"] == 16
    assert found["training step, batch 64, TF32"]["failed"] == "RESOURCE_EXHAUSTED: out of memory"
    assert found["one picture at a time, T = 2, TF32"]["paper_per_s"] == 31
    text = (tmp_path / "report.md").read_text()
    assert text.count("\n| ") == len(rows) + 2 and "16,384 hands" in text
