"""Arguments of layers, checked where they come in."""

from __future__ import annotations

from typing import Any

import numpy as np

from fathom.engine.errors import ArgumentError


def positive(value: Any, name: str, owner: str) -> int:
    """A size: a whole number of at least 1."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise ArgumentError(f"{owner}: {name} must be a whole number >= 1; received {value!r}")
    return int(value)
