"""Where arrays lie, found fast."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import numpy as np

HEAD = object.__basicsize__  # bytes before the first field of an object, which is the address


def slow(array: Any) -> int:
    """Where an array's first element lies, as NumPy says."""
    return int(array.__array_interface__["data"][0])


def fast(array: Any) -> int:
    """The same, read from the array object itself."""
    found: int = _pointer(id(array) + HEAD).value or 0
    return found


_pointer = ctypes.c_void_p.from_address


def _choose() -> Callable[[Any], int]:
    samples = [np.empty(3), np.empty((2, 2), np.float32)[1:], np.empty((), np.int64)]
    return fast if all(fast(s) == slow(s) for s in samples) else slow


address = _choose()
