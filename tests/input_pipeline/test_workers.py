import pathlib
import signal
import subprocess
import sys
import threading
import time

import pytest

from input_pipeline.workers import in_order

ROOT = pathlib.Path(__file__).parent.parent.parent


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_no_worker_outlives_the_command(tmp_path, number):
    """Every process of the command has its standard output open: the end of it is theirs."""
    flags = ["--output", tmp_path / "raw", "--train", "2000", "--workers", "2"]
    command = subprocess.Popen(
        [sys.executable, "-m", "input_pipeline.synthesize", *map(str, flags)],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    deadline = time.monotonic() + 100
    while len(list(tmp_path.rglob("*.jpg"))) < 6 and time.monotonic() < deadline:
        assert command.poll() is None
        time.sleep(0.05)
    command.send_signal(number)
    command.communicate(timeout=30)
    if number == signal.SIGTERM:
        assert command.returncode == 130
        assert not list(tmp_path.iterdir())
    else:
        assert command.returncode == -signal.SIGKILL
        assert not (tmp_path / "raw").exists()


def test_an_iteration_that_is_given_up_waits_for_nothing():
    """Else the garbage collector, ending it in a thread that is being started, waits for ever."""
    finish = threading.Event()

    def work(task):
        if task:
            finish.wait(60)
        return task

    results = in_order(work, range(100), 2)
    assert next(results) == 0
    closing = threading.Thread(target=results.close)
    closing.start()
    closing.join(20)
    stuck = closing.is_alive()
    finish.set()
    assert not stuck


def test_results_come_in_order_and_the_first_error_ends_them():
    def work(task):
        if task == 30:
            raise ValueError("thirty")
        return task * task

    assert list(in_order(work, range(20), 3)) == [i * i for i in range(20)]
    seen = []
    with pytest.raises(ValueError, match="thirty"):
        for value in in_order(work, range(100), 3):
            seen.append(value)
    assert seen == [i * i for i in range(30)]
