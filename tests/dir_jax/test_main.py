"""`dir-jax COMMAND`: every command is found, and none is imported before it is called."""

import importlib
import subprocess
import sys

import pytest

from dir_jax import __main__ as dir_jax_main


@pytest.mark.parametrize("name", dir_jax_main.COMMANDS)
def test_every_command_has_a_main(name):
    assert callable(importlib.import_module(dir_jax_main.COMMANDS[name][0]).main)


def test_help_names_all_commands_and_imports_none(tmp_path):
    script = (
        "import sys; from dir_jax.__main__ import main; status = main(['--help']);"
        "print('jax' in sys.modules, 'tensorflow' in sys.modules); sys.exit(status)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("False False\n")
    assert all(name in done.stdout for name in dir_jax_main.COMMANDS)


def test_traceback_reaches_the_command(monkeypatch, capsys):
    given = ["--torch_checkpoint", "/no/such.pth", "--output", "/no/such", "--traceback"]
    monkeypatch.setattr(sys, "argv", ["dir-jax", "convert", *given])
    assert dir_jax_main.main() == 2
    said = capsys.readouterr().err
    assert "Traceback" in said and said.splitlines()[-1].startswith("error: /no/such.pth")


def test_an_unknown_command_is_one_line(capsys):
    assert dir_jax_main.main(["evalute"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: unknown command 'evalute'; wanted one of train, ")
    assert said.count("\n") == 1
