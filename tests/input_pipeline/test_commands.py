"""Commands end in one line, with a status that says which way."""

import os
import pathlib
import re

from input_pipeline.commands import command


def ending(error: BaseException, capsys, *arguments: str):
    """Status and standard error of a command that ends with this exception."""

    @command
    def main(arguments):
        raise error

    status = main(list(arguments))
    return status, capsys.readouterr().err


def test_a_fault_of_our_own_names_the_file_with_its_traceback(capsys):
    status, said = ending(KeyError("weight"), capsys)
    assert status == 70
    assert said.count("\n") == 1 and "Traceback" not in said
    path = pathlib.Path(re.search(r"in (\S+)$", said).group(1))
    text = path.read_text()
    os.unlink(path)
    assert "Traceback" in text and "KeyError: 'weight'" in text


def test_traceback_prints_it(capsys):
    status, said = ending(ValueError("bad"), capsys, "--traceback")
    assert status == 2
    assert "Traceback" in said and said.endswith("error: bad\n")


def test_arguments_reach_the_command_without_the_switch():
    seen = []

    @command
    def main(arguments):
        seen.extend(arguments)
        return 0

    assert main(["--a", "--traceback", "b"]) == 0
    assert seen == ["--a", "b"]


def test_an_optional_package_that_is_missing_is_named_with_the_extra_that_brings_it(capsys):
    missing = ModuleNotFoundError("No module named 'plotly.io'", name="plotly.io")
    status, said = ending(missing, capsys)
    assert status == 2
    assert said == (
        'error: this needs plotly.io, which is not installed: pip install "dir-jax[pages]"\n'
    )
    assert ending(ModuleNotFoundError("No module named 'nowhere'", name="nowhere"), capsys)[0] == 70
