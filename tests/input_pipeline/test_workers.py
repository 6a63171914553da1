import pathlib
import signal
import subprocess
import sys
import time

import pytest

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
