"""What may end a run early: signals and lost processes."""

import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import pytest

from dir_jax.training import interruptions
from dir_jax.training.interruptions import STOPPED
from input_pipeline.commands import FAILED

# --- A process that is lost ends the others with a plain message instead of a hang --------------

ROOT = pathlib.Path(__file__).parents[3]

# train.py itself, but for the training: a sum over all processes, again and again.
PROGRAM = """
import os, sys, time
import jax, numpy as np
from dir_jax.models.layers import across_devices
from dir_jax.training import command, run
from dir_jax.training.devices import Parallel
from dir_jax.training.interruptions import connect, raise_on_lost_peer

def endless(config, workdir):
    connect(config.parallel)
    parallel = Parallel(config.parallel.backend)
    def add(state, batch):
        mean = batch["x"].mean()
        return state + across_devices(mean), mean
    step, state = parallel.step(add), parallel.replicate(np.float32(0))
    with raise_on_lost_peer():
        for number in range(10**6):
            state, mean = step(state, parallel.shard({"x": np.ones(4, np.float32)}))
            assert float(mean) == 1
            if number == 3:
                print("ready", os.getpid(), flush=True)
            time.sleep(0.02)

run.train = endless
sys.exit(command.main(sys.argv[1:]))
"""


def start(process, port, backend, heartbeat=10):
    settings = {
        "backend": backend, "coordinator": f"127.0.0.1:{port}", "processes": 2, "process": process,
        "heartbeat_seconds": heartbeat,
    }  # fmt: skip
    arguments = [f"--config.parallel.{name}={value}" for name, value in settings.items()]
    arguments = [f"--config={ROOT}/configs/smoke.py", "--workdir=unused", *arguments]
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": "", "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment,
    )  # fmt: skip


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def worker(child):
    """The process that trains; `child` only watches over it."""
    for line in child.stdout:
        if line.startswith("ready"):
            return int(line.split()[1])
    raise AssertionError(f"ended with {child.wait()} before it was ready")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("backend", "lost", "number"),
    [("pmap", 1, signal.SIGKILL), ("jit", 0, signal.SIGSTOP)],  # gone; silent
)
def test_a_lost_process_ends_the_other_with_a_plain_last_line(backend, lost, number):
    port = free_port()
    children = [start(process, port, backend) for process in range(2)]
    try:
        workers = [worker(child) for child in children]
        begin = time.monotonic()
        os.kill(workers[lost], number)
        output, _ = children[1 - lost].communicate(timeout=100)
        assert time.monotonic() - begin < 60
        assert children[1 - lost].returncode == FAILED
        last = output.strip().splitlines()[-1]
        assert last.startswith("error: another process of this run was lost")
        assert "start the same command on all machines again" in last
        if number == signal.SIGKILL:
            output, _ = children[lost].communicate(timeout=30)
            assert children[lost].returncode == FAILED
            assert "error: this process was ended by SIGKILL" in output
    finally:
        for child in children:
            child.kill()  # its worker dies with it, stopped or not
            child.communicate()


@pytest.mark.slow
def test_who_never_comes_is_told(monkeypatch, capfd):
    program = (
        "import sys; from dir_jax.training import interruptions; "
        "from configs.base import get_config; "
        "interruptions.JOIN_SECONDS = 3; config = get_config(); "
        f"config.parallel.coordinator = '127.0.0.1:{free_port()}'; config.parallel.processes = 2\n"
        "try: interruptions.connect(config.parallel)\n"
        "except interruptions.RunError as error: sys.exit(f'error: {error}')"
    )
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    code = interruptions.watch_over([sys.executable, "-c", program])
    last = capfd.readouterr().err.strip().splitlines()[-1]
    assert code == FAILED
    assert last.startswith("error: ") and "process" in last


def test_signals_and_exit_codes_pass_through():
    program = (
        "import sys; from dir_jax.training.interruptions import watch_over; "
        "sys.exit(watch_over([sys.executable, '-c', sys.argv[1]]))"
    )
    child = (
        "import signal, sys, time\n"
        f"signal.signal(signal.SIGTERM, lambda *_: sys.exit({STOPPED}))\n"
        "print('ready', flush=True)\n"
        "time.sleep(60)"
    )
    watching = subprocess.Popen(
        [sys.executable, "-c", program, child],
        stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert watching.stdout.readline() == "ready\n"
    watching.send_signal(signal.SIGTERM)
    watching.communicate(timeout=30)
    assert watching.returncode == STOPPED


# --- Real signals to real processes -------------------------------------------------------------

SIGNALLED = """
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
        [sys.executable, "-c", SIGNALLED.format(setup=setup, work=work)],
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
