"""Programs compiled beside other work: the first photo waits for less than the sum of them."""

from __future__ import annotations

import concurrent.futures
from collections.abc import Callable
from typing import TypeVar

Made = TypeVar("Made")

_THREADS = concurrent.futures.ThreadPoolExecutor(2, "compiling")
"""Two: XLA compiles on several cores, but tracing, which comes first, uses one."""


def in_background(make: Callable[..., Made], *arguments) -> concurrent.futures.Future[Made]:
    """Begins to make something; `result()` waits for it, and raises what went wrong."""
    return _THREADS.submit(make, *arguments)
