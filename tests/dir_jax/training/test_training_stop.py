"""Real signals to real processes."""

import os
import signal
import subprocess
import sys
import time

import pytest

from dir_jax.training.interruptions import STOPPED

PROGRAM = """
import sys, time
from dir_jax.training.interruptions import StopRequest
with StopRequest() as stop:
    stop.on_exit(lambda: print("cleaned", flush=True))
    {setup}
    print("ready", flush=True)
    {work}
print("regular end", flush=True)
"""
# One long call outside Python, as a compilation is: ordinary handlers would wait for its end.
IN_C = "import hashlib; hashlib.pbkdf2_hmac('sha256', b'a', b'b', 10**8)"
LOOP = "while not stop.asked: time.sleep(0.01)"


def run(setup, work, *signals):
    """Starts the program, sends the signals once it is ready; (exit code, output, seconds)."""
    child = subprocess.Popen(
        [sys.executable, "-c", PROGRAM.format(setup=setup, work=work)],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
    )  # fmt: skip
    assert child.stdout.readline() == "ready\n"
    begin = time.monotonic()
    for number in signals:
        child.send_signal(number)
        time.sleep(0.2)
    output, _ = child.communicate(timeout=30)
    return child.returncode, output, time.monotonic() - begin


@pytest.mark.slow
def test_with_nothing_to_save_it_leaves_at_once_even_from_inside_a_long_call():
    code, output, seconds = run("pass", IN_C, signal.SIGTERM)
    assert code == STOPPED
    assert "cleaned" in output and "regular end" not in output
    assert seconds < 5


@pytest.mark.slow
def test_with_something_to_save_it_only_asks():
    code, output, _ = run("stop.protect(True)", LOOP, signal.SIGTERM)
    assert code == 0
    assert "saving after this step" in output and "regular end" in output


@pytest.mark.slow
def test_a_second_interrupt_leaves_without_saving():
    code, output, _ = run("stop.protect(True)", IN_C, signal.SIGINT, signal.SIGINT)
    assert code == STOPPED
    assert "regular end" not in output
