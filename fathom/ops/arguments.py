"""Arguments that are plain numbers or flags, checked where they come in.

`owner` begins the message: the name of a function, or a layer, which goes by its class.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from fathom.engine.errors import ArgumentError

__all__ = ["flag", "number", "positive", "title", "whole", "whole_numbers"]


def title(owner: Any) -> str:
    """What a message begins with: a name, or the class of a layer."""
    return owner if isinstance(owner, str) else type(owner).__name__


def whole(value: Any, name: str, owner: Any, least: int | None = None) -> int:
    """A whole number, not below `least`; True is none, and neither is 2.0."""
    fits = not isinstance(value, bool) and isinstance(value, (int, np.integer))
    if not fits or (least is not None and value < least):
        limit = "" if least is None else f" >= {least}"
        raise ArgumentError(
            f"{title(owner)}: {name} must be a whole number{limit}; received {value!r}"
        )
    return int(value)


def positive(value: Any, name: str, owner: Any) -> int:
    """A size: a whole number of at least 1."""
    return whole(value, name, owner, 1)


def number(
    value: Any, name: str, owner: Any, low: float = -math.inf, high: float = math.inf,
    *, above: bool = False,
) -> float:  # fmt: skip
    """A finite number from low to high; with `above`, low itself is refused."""
    real = isinstance(value, (int, float, np.integer, np.floating))
    fits = real and not isinstance(value, bool) and math.isfinite(value)
    if not fits or not (low < value if above else low <= value) or value > high:
        raise ArgumentError(
            f"{title(owner)}: {name} must {_range(low, high, above)}; received {value!r}"
        )
    return float(value)


def _range(low: float, high: float, above: bool) -> str:
    """The range in words."""
    if low == -math.inf and high == math.inf:
        return "be a finite number"
    if high == math.inf:
        return f"be {'>' if above else '>='} {low:g} (and finite)"
    return f"lie in {'(' if above else '['}{low:g}, {high:g}]"


def flag(value: Any, name: str, owner: Any) -> bool:
    """True or False, and nothing that merely counts as one of them."""
    if not isinstance(value, (bool, np.bool_)):
        raise ArgumentError(f"{title(owner)}: {name} must be True or False; received {value!r}")
    return bool(value)


def whole_numbers(value: Any, name: str, owner: Any) -> tuple[int, ...]:
    """A sequence of whole numbers."""
    if isinstance(value, str) or not isinstance(value, (Sequence, np.ndarray)):
        raise ArgumentError(
            f"{title(owner)}: {name} must be a tuple of whole numbers; received {value!r}"
        )
    return tuple(whole(v, name, owner) for v in value)
