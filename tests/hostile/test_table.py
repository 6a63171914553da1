"""Bad and odd commands, one a line of table.txt: how they end, what they say, what they leave."""

from __future__ import annotations

import fnmatch
import pathlib
from typing import NamedTuple

import pytest

TABLE = pathlib.Path(__file__).with_name("table.txt")


class Row(NamedTuple):
    """One line of the table.

    Attributes:
      command: a name of `tests.hostile.conftest`, then the arguments of its block.
      arguments: more of them; a row that begins with "~" is known to fail.
      status: exit status.
      says: what must be said; after "!" what must not.
      leaves: patterns of the files and folders that are new or changed afterwards, all of them.
      fault: what goes wrong meanwhile, and where; "twice": nothing, but the command runs twice.
    """

    command: str
    arguments: str
    status: int
    says: list[str]
    leaves: list[str]
    fault: str


def read_table() -> list[Row]:
    """The rows of table.txt; a line with "=" names command and arguments of those below it."""
    rows, block = [], ""
    for line in TABLE.read_text().splitlines():
        if line.startswith("="):
            block = line[1:].strip()
        elif line.strip() and not line.startswith("#"):
            cells = [cell.strip() for cell in line.split("|")]
            arguments, status, says, leaves, fault = [*cells, "", ""][:5]
            command, _, common = block.partition(" ")
            says = [part.strip() for part in says.split(";;")]
            known = "~" * arguments.startswith("~")
            arguments = f"{known}{common} {arguments.removeprefix('~')}"
            rows.append(Row(command, arguments, int(status), says, leaves.split(), fault))
    return rows


ROWS = read_table()


def case(number: int, row: Row):
    """The row as pytest takes it."""
    known = row.arguments.startswith("~")
    row = row._replace(arguments=row.arguments.removeprefix("~"))
    marks = pytest.mark.xfail(strict=True) if known else ()
    return pytest.param(row, id=f"{number}-{row.command}", marks=marks)


@pytest.mark.parametrize("row", [case(number, row) for number, row in enumerate(ROWS)])
def test_row(row, run):
    twice = row.fault == "twice"
    for _ in range(1 + twice):
        done = run(row.command, row.arguments, "" if twice else row.fault)
        said = f"{done.out}\n{done.err}"
        assert done.status == row.status, said
        assert "Traceback" not in said
        if row.status == 130:
            assert done.err.splitlines()[-1].startswith("stopped"), said
        elif row.status and (row.status, row.command) != (1, "check"):  # it has no error to tell
            lines = done.err.splitlines()
            assert lines and "error: " in lines[-1], said
            said = "\n".join(line for line in lines if "error: " in line)
        for part in row.says:
            if part.startswith("!"):
                assert part[1:] not in f"{done.out}{done.err}"
            else:
                assert part in said, (part, done.out, done.err)
        left = {f for f in done.files if not any(fnmatch.fnmatch(f, p) for p in row.leaves)}
        assert not left, f"left behind: {left}"
    for pattern in row.leaves:
        assert fnmatch.filter(done.files, pattern) or twice, f"{pattern} is not there: {done.files}"


def test_every_command_is_in_the_table():
    from dir_jax.__main__ import COMMANDS
    from tests.hostile.conftest import OTHERS

    assert len(ROWS) >= 150
    assert {*COMMANDS, *OTHERS} <= {row.command for row in ROWS}
