"""How train.py ends, and the errors that end it.

Exit codes: 0 finished; 1 failed (a loss that is not finite, a disk that takes no checkpoint, too
many unreadable examples); 2 bad input (recipe, files, a work folder of another run); 75 stopped by
SIGTERM or SIGINT with everything saved - start the same command again to go on.
"""

from __future__ import annotations

FINISHED = 0
FAILED = 1
BAD_INPUT = 2
STOPPED = 75  # sysexits' EX_TEMPFAIL: nothing is wrong, come back later


class RunError(RuntimeError):
    """The run cannot go on; its message says why and what to do."""


class BadInputError(ValueError):
    """What the user gave does not work; the message says what was wanted."""
