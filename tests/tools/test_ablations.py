"""The ablation runner: what it plans, how it resumes, and the figures of its tables."""

import json
import os
import subprocess
import sys
import textwrap
import threading
import time
import types

import numpy as np
import pytest

from configs.ablation import ROWS
from dir_jax.training import run
from dir_jax.training.command import parse
from dir_jax.training.interruptions import StopRequest
from tests import QUICK_XLA
from tests.dir_jax.training_fixtures import QUICK_ENCODER
from tools import ablations

FAKE_TRAINER = """
    import json, pathlib, signal, sys, time
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))
    arguments = sys.argv[1:]
    workdir = pathlib.Path(arguments[arguments.index("--workdir") + 1])
    seed = int([a for a in arguments if a.startswith("--config.seed=")][0].split("=")[1])
    with open(workdir / "calls", "a") as file:
        file.write("x")
    if seed == 66 and (workdir / "calls").read_text() == "x":
        print("warning: before"); print("error: no room for the checkpoint"); sys.exit(1)
    if seed == 77:
        print("working", flush=True)
        try:
            time.sleep(60)
        finally:
            (workdir / "saved").write_text("")
    values = {"mpjpe_mm": 10.0 + seed, "mpvpe_mm": 9.0, "miaa_px": 5.0, "samples": 4}
    (workdir / "evaluation.json").write_text(json.dumps({"wrist_scaled": values}))
"""


@pytest.fixture
def trainer(tmp_path):
    path = tmp_path / "trainer.py"
    path.write_text(textwrap.dedent(FAKE_TRAINER))
    return [sys.executable, str(path)]


def plan_of(tmp_path, *overrides, rows=("t1", "t3"), seeds=(0, 1), small=True):
    return ablations.plan(rows, seeds, tmp_path / "w", overrides, small)


def recipe_of(job):
    config, workdir = parse(job.arguments)
    assert workdir == job.workdir
    return config


class TestPlan:
    def test_equal_recipes_are_trained_once_and_seeds_come_in_turn(self, tmp_path):
        jobs = plan_of(tmp_path, rows=list(ROWS), seeds=[3, 4])
        assert [job.seed for job in jobs] == [3] * 15 + [4] * 15
        assert set(ROWS) - {job.row for job in jobs} == {"t2"}
        (alone,) = plan_of(tmp_path, rows=["t2"], seeds=[0])
        assert alone.workdir == tmp_path / "w/mfp/seed_0"

    def test_all_runs_share_data_and_overrides(self, tmp_path):
        for job in plan_of(tmp_path, "--config.train.steps=700"):
            config = recipe_of(job)
            assert config.data.dir == str(tmp_path / "w" / "data")
            assert (config.train.steps, config.seed) == (700, job.seed)
            assert config.evaluation.pictures == 0
        (full,) = plan_of(tmp_path, "--config.data.dir=D", rows=["t1"], seeds=[0], small=False)
        assert recipe_of(full).data.dir == "D" and recipe_of(full).model.encoder_width == 64

    @pytest.mark.parametrize(
        ("overrides", "changes", "message"),
        [
            (["--config.train.stepz=7"], {}, "stepz"),
            (["--config.train.batch_size=0"], {}, "train.batch_size is 0"),
            (["--config.train.steps=5", "--config.optimizer.warmup_steps=5"], {}, "warmup"),
            (["--config.seed=7"], {}, "each seed once"),
            ([], {"seeds": [1, 1]}, "each seed once"),
            ([], {"rows": ["row9"]}, "no row 'row9'; wanted some of no_refinement"),
        ],
    )
    def test_bad_requests_are_refused_before_anything_runs(
        self, tmp_path, overrides, changes, message
    ):
        with pytest.raises(ValueError, match=message):
            plan_of(tmp_path, *overrides, **changes)

    def test_earlier_runs_with_other_settings_are_refused(self, tmp_path):
        job = plan_of(tmp_path)[0]
        job.workdir.mkdir(parents=True)
        run.write_config(recipe_of(job), job.workdir)
        plan_of(tmp_path)
        with pytest.raises(ValueError, match=r"seed_0 holds .*train.steps: 900 here"):
            plan_of(tmp_path, "--config.train.steps=900")


class TestRuns:
    def test_finished_runs_are_kept_and_a_failed_one_resumes(self, tmp_path, trainer, capsys):
        jobs, stop = plan_of(tmp_path, rows=["t1"], seeds=[0, 66]), StopRequest()
        ablations.run(jobs, stop, trainer)
        assert "t1 seed 66: ended with status 1: error: no room" in capsys.readouterr().out
        assert [job.errors() is None for job in jobs] == [False, True]
        ablations.run(jobs, stop, trainer)
        assert jobs[1].errors()["mpjpe_mm"] == 76.0
        calls = [(job.workdir / "calls").read_text() for job in jobs]
        assert calls == ["x", "xx"]

    def test_stopping_lets_the_run_save(self, tmp_path, trainer):
        (job,), asked = plan_of(tmp_path, rows=["t1"], seeds=[77]), []
        stop = types.SimpleNamespace(on_exit=asked.append, asked=False)
        thread = threading.Thread(target=ablations.run, args=([job], stop, trainer))
        thread.start()
        log = job.workdir / "train.log"
        while not (log.exists() and "working" in log.read_text()):
            time.sleep(0.05)
        asked[0]()
        thread.join(30)
        assert not thread.is_alive() and (job.workdir / "saved").exists()

    @pytest.mark.parametrize("text", ["{", "[]", '{"wrist_scaled": {"mpjpe_mm": null}}'])
    def test_a_damaged_result_is_named(self, tmp_path, text):
        job = plan_of(tmp_path)[0]
        job.workdir.mkdir(parents=True)
        (job.workdir / "evaluation.json").write_text(text)
        with pytest.raises(ValueError, match=r"evaluation.json .*remove it"):
            job.errors()


class TestCommand:
    def test_tables_of_what_is_finished(self, tmp_path, capsys):
        errors = {("t3", 0): 11.0, ("mfp", 0): 12.0, ("mfp", 1): 13.0}
        for job in plan_of(tmp_path, rows=["t2", "t3"]):
            if (job.row, job.seed) in errors:
                job.workdir.mkdir(parents=True)
                values = {"mpjpe_mm": errors[job.row, job.seed], "mpvpe_mm": 9.0, "miaa_px": 5.0}
                (job.workdir / "evaluation.json").write_text(json.dumps({"wrist_scaled": values}))
        arguments = ["--small", "--rows", "mfp", "t1", "t2", "t3", "--seeds", "0", "1"]
        arguments += ["--no_training", "--workdir", str(tmp_path / "w")]
        assert ablations.main(arguments) == 1  # T = 1 is missing
        text = capsys.readouterr().out
        spread = np.std([12, 13], ddof=1)
        assert f"| T = 2 | 2 | 12.50 ± {spread:.2f} | 10.49 | 9.00 ± 0.00 | - |" in text
        assert f"| 8 and feature planes (MFP) | 2 | 12.50 ± {spread:.2f} | 10.49 |" in text
        assert "| T = 1 | 0 | - | 10.95 |" in text
        assert "| T = 3 | 1 | 11.00 | 10.44 |" in text
        assert "Ren et al., ICCV 2023" in text
        assert (tmp_path / "w/ablations.md").read_text().strip() in text
        content = json.loads((tmp_path / "w/ablations.json").read_text())["rows"]
        assert content["t2"]["mpjpe_mm"]["published"] == 10.49
        assert content["t2"]["seeds"]["1"]["mpjpe_mm"] == 13.0

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["--rows", "nothing"], "no row 'nothing'"),
            (["--rows", "t1", "--config.trian.steps=3"], "trian"),
            (["--rows", "t1"], "needs --config.data.dir=DATA"),
        ],
    )
    def test_bad_input_is_one_line(self, tmp_path, capsys, arguments, message):
        assert ablations.main(["--workdir", str(tmp_path / "w"), *arguments]) == 2
        error = capsys.readouterr().err
        assert message in error
        assert (error.count("\n"), error.startswith("error: ")) == (1, True)


@pytest.mark.slow
def test_a_tiny_run_from_nothing_to_the_table(tmp_path):
    fields = {
        "data.synthesize_train": 8, "data.synthesize_val": 4, "data.synthesize_test": 4,
        "train.steps": 2, "train.batch_size": 2, "train.checkpoint_every": 1,
        "optimizer.warmup_steps": 0, "validation.every": 2, "model.encoder": QUICK_ENCODER,
        "evaluation.batch_size": 4, "parallel.compilation_cache": "",
    }  # fmt: skip
    command = [sys.executable, "-m", "tools.ablations", "--small", "--rows", "no_refinement",
               "--seeds", "0", "--workdir", str(tmp_path),
               *(f"--config.{name}={value}" for name, value in fields.items())]  # fmt: skip
    environment = {**os.environ, "XLA_FLAGS": QUICK_XLA}  # and one device: batches of two
    for starts in (1, 0):  # finished runs are kept
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "| 1 no refinement | 1 |" in done.stdout
        assert done.stdout.count(": starts;") == starts
