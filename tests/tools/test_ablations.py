"""The ablation runner: what it plans, how it goes on, and the figures of its tables."""

import json
import os
import subprocess
import sys
import textwrap
import threading
import time

import numpy as np
import pytest
from scipy import stats

from configs import ablation_small
from dir_jax.evaluation.published import ABLATIONS
from dir_jax.training import settings
from dir_jax.training.exits import BadInputError
from tools.ablations import report, runs
from tools.ablations.__main__ import collect, main
from tools.ablations.comparison import (
    LEANS,
    LEANS_AGAINST,
    REVERSED,
    SHOWS,
    gap_interval,
    mean_and_spread,
    orderings,
    verdict,
)
from tools.ablations.plan import make_plan, recipe_names

FAKE_TRAINER = """
    import json, os, pathlib, sys, time
    arguments = sys.argv[1:]
    workdir = pathlib.Path(arguments[arguments.index("--workdir") + 1])
    seed = int([a for a in arguments if a.startswith("--config.seed=")][0].split("=")[1])
    with open(workdir / "calls", "a") as file:
        file.write(os.environ.get("CUDA_VISIBLE_DEVICES", "none") + "\\n")
    if seed == 66 and not (workdir / "config.json").exists():
        (workdir / "config.json").write_text("{}")
        print("warning: before"); print("error: no room for the checkpoint"); sys.exit(1)
    if seed == 77:
        print("working", flush=True)
        try:
            time.sleep(60)
        finally:
            (workdir / "saved").write_text("")
    time.sleep(0.2)
    values = {"mpjpe_mm": 10.0 + seed, "mpvpe_mm": 9.0, "miaa_px": 5.0, "samples": 4}
    (workdir / "evaluation.json").write_text(json.dumps({"wrist_scaled": values}))
"""


@pytest.fixture
def trainer(tmp_path):
    path = tmp_path / "trainer.py"
    path.write_text(
        "import signal; signal.signal(signal.SIGTERM, lambda *_: (_ for _ in ()).throw("
        "SystemExit(75)))\n" + textwrap.dedent(FAKE_TRAINER)
    )
    return [sys.executable, str(path)]


def plan_of(tmp_path, *overrides, recipes=("ablation_t1", "ablation_t3"), seeds=(0, 1)):
    return make_plan(recipes, seeds, tmp_path / "w", overrides, small=True)


class TestPlan:
    def test_tables_and_names(self):
        everything = recipe_names([])
        assert set(everything) == {row.recipe for row in ABLATIONS}
        assert recipe_names(["stages", "smoke"]) == [
            "ablation_t1", "ablation_t2", "ablation_t3", "smoke"
        ]  # fmt: skip
        with pytest.raises(BadInputError, match=r"no recipe 'row9'.*ablation_6_sfp.*stages"):
            recipe_names(["row9"])

    def test_equal_recipes_are_trained_once_and_seeds_come_in_turn(self, tmp_path):
        plan = make_plan(recipe_names([]), [3, 4], tmp_path, small=True)
        assert plan.trained_as["ablation_t2"] == "ablation_8_mfp"
        others = {name: stand_in for name, stand_in in plan.trained_as.items() if name != stand_in}
        assert others == {"ablation_t2": "ablation_8_mfp"}
        assert [job.seed for job in plan.jobs] == [3] * 15 + [4] * 15
        assert plan.workdirs("ablation_t2")[4] == tmp_path / "runs/ablation_8_mfp/seed_4"

    def test_the_same_folder_whatever_else_was_asked_for(self, tmp_path):
        alone = make_plan(["ablation_t2"], [0], tmp_path, small=True)
        assert alone.jobs[0].workdir == tmp_path / "runs/ablation_8_mfp/seed_0"

    def test_all_runs_share_data_and_overrides(self, tmp_path):
        plan = plan_of(tmp_path, "--config.train.steps=700")
        for job in plan.jobs:
            assert job.config["data"]["dir"] == str(tmp_path / "w" / "data")
            assert (job.config["train"]["steps"], job.config["seed"]) == (700, job.seed)
            assert job.config["evaluation"]["pictures"] == 0
        assert plan.config.seed == 0  # of the synthesised photographs, for all runs

    @pytest.mark.parametrize(
        ("overrides", "seeds", "message"),
        [
            (["--config.train.stepz=7"], [0], "stepz"),
            (["--config.train.batch_size=0"], [0], "train.batch_size is 0"),
            (["--config.train.steps=5", "--config.optimizer.warmup_steps=5"], [0], "warmup"),
            (["--config.seed=7"], [0], "set by --seeds"),
            ([], [1, 1], "names one twice"),
        ],
    )
    def test_bad_requests_are_refused_before_anything_runs(
        self, tmp_path, overrides, seeds, message
    ):
        with pytest.raises(BadInputError, match=message):
            plan_of(tmp_path, *overrides, seeds=seeds)

    def test_recipes_with_other_data_are_refused(self, tmp_path):
        with pytest.raises(BadInputError, match=r"cannot share .*data\.synthesize_"):
            make_plan(["smoke", "quickstart"], [0], tmp_path)

    def test_earlier_runs_with_other_settings_are_refused(self, tmp_path):
        job = plan_of(tmp_path).jobs[0]
        settings.write_config(settings_config(job), job.workdir)
        plan_of(tmp_path)
        with pytest.raises(BadInputError, match=r"seed_0 holds .*train.steps: 900 here"):
            plan_of(tmp_path, "--config.train.steps=900")


def settings_config(job):
    job.workdir.mkdir(parents=True)
    return job.config


class TestSmall:
    def test_rows_differ_as_the_full_recipes_do(self):
        names = list(dict.fromkeys(row.recipe for row in ABLATIONS))
        small = {name: settings.flat(settings.plain(ablation_small.get_config(name)))
                 for name in names}  # fmt: skip
        full = {name: settings.flat(settings.plain(full_recipe(name))) for name in names}
        for first in names:
            for second in names:
                changed, wanted = (
                    {field for field in set_[first] if set_[first][field] != set_[second][field]}
                    for set_ in (small, full)
                )
                assert changed == wanted, (first, second)
                assert changed <= {*ablation_small.VARIED, "optimizer.learning_rate"}

    def test_it_is_the_quick_start_s_size(self):
        from configs import quickstart

        small, model = ablation_small.get_config("ablation_1_none"), quickstart.get_config()
        for name in ("encoder_width", "feature_width", "joint_width", "graph_layers"):
            assert small.model[name] == model.model[name]
        assert small.train.steps == model.train.steps
        assert small.data.synthesize
        assert small.model.stages == 0
        np.testing.assert_allclose(small.optimizer.learning_rate, model.optimizer.learning_rate / 3)


def full_recipe(name):
    import importlib

    return importlib.import_module(f"configs.{name}").get_config()


class TestRunner:
    def run(self, plan, trainer, devices=()):
        lines = []
        runner = runs.Runner(devices, lines.append, trainer)
        return runner.run(plan.jobs), lines

    def test_finished_runs_are_kept_and_a_failed_one_goes_on(self, tmp_path, trainer):
        plan = plan_of(tmp_path, recipes=["ablation_t1"], seeds=[0, 66])
        failures, lines = self.run(plan, trainer)
        assert list(failures.values()) == ["no room for the checkpoint"]
        assert any("not finished (status 1): no room" in line for line in lines)
        assert any("[1/2] ablation_t1 seed 0: finished" in line for line in lines)
        failures, lines = self.run(plan, trainer)
        assert not failures
        assert lines[0] == "1 of 2 runs are finished already"
        assert "goes on" in lines[1]
        calls = [(job.workdir / "calls").read_text().count("\n") for job in plan.jobs]
        assert calls == [1, 2]

    def test_one_run_on_each_device_at_a_time(self, tmp_path, trainer):
        plan = plan_of(tmp_path, seeds=[0, 1, 2, 3])
        begin = time.monotonic()
        failures, _ = self.run(plan, trainer, devices=["4", "7"])
        assert not failures
        assert time.monotonic() - begin < 30
        used = [(job.workdir / "calls").read_text().strip() for job in plan.jobs]
        assert set(used) == {"4", "7"}
        with pytest.raises(BadInputError, match="--devices gpu"):
            runs.device_environment("gpu")
        assert runs.device_environment("cpu") == {"JAX_PLATFORMS": "cpu"}

    def test_stopping_lets_the_runs_save(self, tmp_path, trainer):
        plan = plan_of(tmp_path, recipes=["ablation_t1"], seeds=[77, 5])
        lines = []
        runner = runs.Runner((), lines.append, trainer)
        thread = threading.Thread(target=runner.run, args=(plan.jobs,))
        thread.start()
        log = plan.jobs[0].workdir / runs.LOG_FILE
        deadline = time.monotonic() + 30
        while "working" not in (log.read_text() if log.exists() else ""):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        runner.stop()
        thread.join(30)
        assert (plan.jobs[0].workdir / "saved").exists()
        assert not plan.jobs[1].workdir.exists()

    def test_a_damaged_result_is_named(self, tmp_path):
        job = plan_of(tmp_path).jobs[0]
        job.workdir.mkdir(parents=True)
        assert runs.evaluation(job) is None
        for text in ("{", "[]", '{"wrist_scaled": {"mpjpe_mm": null}}'):
            (job.workdir / "evaluation.json").write_text(text)
            with pytest.raises(BadInputError, match=r"evaluation.json .*remove it"):
                runs.evaluation(job)


class TestFigures:
    def test_mean_and_spread(self):
        values = {s: {"mpjpe_mm": v} for s, v in enumerate([1.0, 2.0, 4.0])}
        assert mean_and_spread(values, "mpjpe_mm") == pytest.approx(
            (7 / 3, np.std([1, 2, 4], ddof=1))
        )
        assert mean_and_spread({0: {"mpjpe_mm": 3.0}}, "mpjpe_mm") == (3.0, None)
        assert mean_and_spread({}, "mpjpe_mm") == (None, None)

    @pytest.mark.parametrize("seed", range(5))
    def test_interval_is_welch_s(self, seed):
        rng = np.random.default_rng(seed)
        a, b = rng.normal(2, 1, 3), rng.normal(0, 2 * rng.random(), 5)
        expected = stats.ttest_ind(a, b, equal_var=False)
        freedom = np.floor(expected.df)  # whole degrees of freedom: never too narrow
        error = abs((a.mean() - b.mean()) / expected.statistic)
        assert gap_interval(a, b) == pytest.approx(error * stats.t.ppf(0.975, freedom), rel=1e-3)

    def test_few_or_equal_values(self):
        assert gap_interval([1.0], [2.0, 3.0]) is None
        assert gap_interval([1.0, 1.0], [3.0, 3.0]) == 0.0

    def test_verdicts(self):
        assert verdict(1.0, 0.5) == SHOWS
        assert verdict(1.0, 1.5) == LEANS
        assert verdict(1.0, None) == LEANS
        assert verdict(-1.0, 1.5) == LEANS_AGAINST
        assert verdict(-1.0, 0.5) == REVERSED
        assert verdict(0.0, None) == LEANS_AGAINST

    def test_orderings_of_the_paper(self):
        """Figures equal to the published ones show all orderings; mirrored ones reverse them."""
        published = {row.recipe: row.values["mpjpe_mm"] for row in reversed(ABLATIONS)}
        near = {s: 1e-4 * s for s in range(3)}
        for sign, expected in ((1, SHOWS), (-1, REVERSED)):
            values = {
                name: {s: {"mpjpe_mm": sign * v + d} for s, d in near.items()}
                for name, v in published.items()
            }
            found = orderings(values)
            assert {o.verdict for o in found} == {expected}
            assert {o.agreeing for o in found} == {3 if sign == 1 else 0}
            # 28 pairs of eight rows, 15 of six, 3 of three.
            assert len(found) == 28 + 15 + 3
        best = [o for o in found if o.better == "8 and feature planes (MFP)"]
        assert len(best) == 7
        assert max(o.published_gap for o in best) == pytest.approx(12.44 - 10.49)

    def test_rows_with_equal_published_figures_are_no_ordering(self):
        values = {
            name: {0: {"miaa_px": value}}
            for name, value in (("ablation_6_sfp", 6.0), ("ablation_7_mhp", 7.0))
        }
        assert orderings(values) == []

    def test_table(self):
        values = {
            "ablation_1_no_refinement": {0: {"mpjpe_mm": 20.0, "mpvpe_mm": 19.0, "miaa_px": 9.0},
                                         1: {"mpjpe_mm": 21.0, "mpvpe_mm": 19.0, "miaa_px": 9.0}},
            "ablation_8_mfp": {0: {"mpjpe_mm": 18.0, "mpvpe_mm": 17.0, "miaa_px": 8.0}},
            "mine": {0: {"mpjpe_mm": 1.5}},
        }  # fmt: skip
        text = report.markdown(values, {"seeds": "0 1"}, ["ablation_8_mfp seed 1"])
        row = next(line for line in text.splitlines() if line.startswith("| 1 no refinement"))
        cells = [cell.strip() for cell in row.strip("| ").split("|")]
        assert cells == ["1 no refinement", "2", "20.50 ± 0.71", "12.44", "19.00 ± 0.00", "12.11",
                         "9.00 ± 0.00", "7.41"]  # fmt: skip
        assert "Ren et al., ICCV 2023" in text
        assert "1 runs are missing:** ablation_8_mfp seed 1" in text
        assert "1 leans" in text
        assert "## Other recipes" in text
        widths = {len(line) for line in text.split("\n\n")[3].splitlines() if line[:1] == "|"}
        assert len(widths) <= 1
        content = json.loads(json.dumps(report.as_json(values, {}, [])))
        assert content["recipes"]["ablation_8_mfp"]["published"]["mpjpe_mm"] == 10.49
        assert content["recipes"]["ablation_1_no_refinement"]["mpjpe_mm"]["mean"] == 20.5
        assert {o["verdict"] for o in content["orderings"]} == {LEANS}


class TestCommand:
    def test_tables_of_what_is_finished(self, tmp_path, capsys):
        plan = plan_of(tmp_path, recipes=["ablation_t2", "ablation_t3"], seeds=[0])
        for job, error in zip(plan.jobs, (12.0, 11.0), strict=True):
            job.workdir.mkdir(parents=True)
            result = {"wrist_scaled": {"mpjpe_mm": error, "samples": 8}, "hands": "open hand",
                      "baseline_mean_hand": {"wrist_scaled": {"mpjpe_mm": 30.0}}}  # fmt: skip
            (job.workdir / "evaluation.json").write_text(json.dumps(result))
        arguments = ["--small", "--recipes", "stages", "--no_training", "--workdir"]
        assert main([*arguments, str(tmp_path / "w")]) == 1  # T = 1 is missing
        text = capsys.readouterr().out
        assert "ablation_t2 is ablation_8_mfp with these settings" in text
        assert "1 runs are missing:** ablation_t1 seed 0" in text
        assert "| T = 3" in text
        assert "always the mean hand: MPJPE 30.00 mm" in text
        assert "8 samples" in text
        assert (tmp_path / "w/ablations.md").read_text().strip() in text
        content = json.loads((tmp_path / "w/ablations.json").read_text())
        assert [o["verdict"] for o in content["orderings"]] == [LEANS]
        assert collect(plan, ["ablation_t3"])[0] == {"ablation_t3": {0: {"mpjpe_mm": 11.0}}}

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["--recipes", "nothing"], "no recipe 'nothing'"),
            (["--devices", "tpu"], "--devices tpu"),
            (["--recipes", "ablation_t1", "--config.trian.steps=3"], "trian"),
            (["--recipes", "ablation_t1"], "needs --config.data.dir=DATA"),
        ],
    )
    def test_bad_input_is_one_line(self, tmp_path, capsys, arguments, message):
        assert main(["--workdir", str(tmp_path / "w"), *arguments]) == 2
        error = capsys.readouterr().err
        assert message in error
        assert (error.count("\n"), error.startswith("error: ")) == (1, True)


@pytest.mark.slow
def test_two_tiny_runs_from_nothing_to_the_table(tmp_path):
    fields = [
        "data.synthesize_train=8",
        "data.synthesize_val=4",
        "data.synthesize_test=4",
        "train.steps=2",
        "train.batch_size=2",
        "train.checkpoint_every=1",
        "optimizer.warmup_steps=0",
        "validation.every=2",
        "model.encoder_width=4",
        "evaluation.batch_size=4",
    ]
    command = [sys.executable, "-m", "tools.ablations", "--small", "--recipes",
               "ablation_1_no_refinement", "--seeds", "0", "1", "--workdir", str(tmp_path),
               *(f"--config.{field}" for field in fields)]  # fmt: skip
    environment = {**os.environ, "XLA_FLAGS": ""}  # one device: batches of two
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "| 1 no refinement" in done.stdout
    assert "1 no refinement" in (tmp_path / "ablations.md").read_text()
    again = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert again.returncode == 0
    assert "2 of 2 runs are finished already" in again.stdout
