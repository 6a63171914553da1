"""The soak notices what it is there for, with a stand-in for train.py that loses things."""

import json
import random

import pytest

from tools import soak

TRAIN = """
import json, os, pathlib, signal, sys, time
workdir = pathlib.Path([a for a in sys.argv if a.startswith("--workdir=")][0][10:])
fault = workdir.parent.parent.name
checkpoints = workdir / "checkpoints"
checkpoints.mkdir(parents=True, exist_ok=True)
for name in sorted(checkpoints.iterdir()):
    if "tmp" in name.name:
        (name / "variables" / "w").unlink(missing_ok=True)
        (name / "variables").rmdir()
        name.rmdir()
def whole(step):
    data = (checkpoints / str(step) / "variables" / "w").read_bytes()
    return data == bytes([step % 7]) * 400
steps = sorted(int(p.name) for p in checkpoints.iterdir())
while steps and not whole(steps[-1]) and fault != "blind":
    (workdir / "damaged_checkpoints").mkdir(exist_ok=True)
    os.replace(checkpoints / str(steps[-1]), workdir / "damaged_checkpoints" / str(time.time()))
    steps.pop()
if fault == "forgets" and len(steps) > 1:
    steps.pop()
start = steps[-1] if steps else 0
print(f"steps       1000 of 4 images, {start} done", flush=True)
metrics = workdir / "metrics.jsonl"
lines = metrics.read_text().splitlines(True) if metrics.exists() else []
(workdir / "new").write_text("".join(l for l in lines if json.loads(l)["step"] <= start))
os.replace(workdir / "new", metrics)
asked = []
signal.signal(signal.SIGTERM, lambda *_: asked.append(1))
def save(step):
    if (checkpoints / str(step)).exists():
        return
    (checkpoints / f"{step}.orbax-checkpoint-tmp" / "variables").mkdir(parents=True)
    (checkpoints / f"{step}.orbax-checkpoint-tmp" / "variables" / "w").write_bytes(
        bytes([step % 7]) * 400)
    time.sleep(0.01)
    os.replace(checkpoints / f"{step}.orbax-checkpoint-tmp", checkpoints / str(step))
for step in range(start + 1, 10**6):
    loss = 1 / step + (fault == "drifts" and 1e-12 * start)
    with open(metrics, "a") as file:
        file.write(json.dumps({"step": step, "loss": loss, "examples_per_second": start}) + "\\n")
    time.sleep(0.004)
    if step % 5 == 0:
        save(step)
    if asked and not (fault == "careless" and step % 5 == 0):
        if fault != "careless":
            save(step)
        sys.exit(75)
"""


@pytest.fixture
def run_soak(tmp_path, monkeypatch):
    """run(fault) -> (problems, summary, segments) of a soak of seconds."""

    def run(fault, segments=8, kinds=("SIGKILL", "SIGKILL in write", "SIGTERM")):
        folder = tmp_path / fault / "soak"
        folder.mkdir(parents=True)
        (tmp_path / "train.py").write_text(TRAIN)
        monkeypatch.setattr(soak, "TRAIN", tmp_path / "train.py")
        rng = random.Random(3)
        running = soak.Soak(folder, [], 5, rng)
        for number in range(segments):
            running.segment(kinds[number % len(kinds)], rng.uniform(0.2, 0.5), True, 20.0)
        content = json.loads((folder / "soak.json").read_text())
        return running.lines.problems, content["summary"], content["segments"]

    return run


def test_a_sound_run_passes(run_soak, monkeypatch, capsys):
    monkeypatch.setattr(soak, "DAMAGED_SHARE", 0.4)
    problems, found, segments = run_soak("sound")
    assert problems == []
    assert found["segments"] == 8 and found["killed"] == 6 and found["terminated"] == 2
    assert found["steps_repeated"] > 0 and found["checkpoints_lost"] == 0
    assert found["checkpoints_damaged_on_purpose"] > 0
    assert segments[2]["exit_code"] == 75 and segments[0]["exit_code"] == -9
    assert all(segment["peak_memory_mb"] > 1 for segment in segments)
    assert capsys.readouterr().out.count("\n") == 8


@pytest.mark.parametrize(
    ("fault", "kinds", "problem"),
    [
        ("forgets", ("SIGKILL",), "began at step"),
        ("drifts", ("SIGKILL",), "differs at step"),
        ("careless", ("SIGTERM",), "SIGTERM left step"),
    ],
)
def test_what_is_lost_is_noticed(run_soak, monkeypatch, fault, kinds, problem):
    monkeypatch.setattr(soak, "DAMAGED_SHARE", 0.0)
    problems, found, _ = run_soak(fault, 3, kinds)
    assert any(problem in text for text in problems), problems
    assert (found["checkpoints_lost"] > 0) == (fault == "forgets")


def test_damage_that_is_not_noticed_is_noticed(run_soak, monkeypatch):
    monkeypatch.setattr(soak, "DAMAGED_SHARE", 1.0)
    problems, _, _ = run_soak("blind", 3, ("SIGKILL",))
    assert any("missed the damaged one" in text for text in problems), problems


def test_gaps_and_doubles_are_found(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"step": 3, "examples_per_second": 2}\n{"step": 4, "lo')
    assert soak.read_lines(path) == {1: '{"step": 1}', 3: '{"step": 3}'}
    written = soak.Lines()
    written.compare(tmp_path, "first", 0)
    assert written.problems == ["first: metrics.jsonl has gaps"]
    path.write_text('{"step": 1}\n{"step": 1}\n')
    with pytest.raises(ValueError, match="step 1 twice"):
        soak.read_lines(path)
