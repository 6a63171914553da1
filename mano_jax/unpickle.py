"""Official MANO pickles, read by an unpickler that admits only the few expected classes."""

from __future__ import annotations

import os
from typing import Any


class UnpickleError(ValueError):
    """A pickle that is damaged, or that names something outside the list of expected classes."""


def load_official(file: str | os.PathLike) -> dict[str, Any]:
    """Reads an official MANO pickle."""
    raise UnpickleError(f"{file}: reading pickles is not implemented yet; use the npz form")
