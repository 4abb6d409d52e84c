"""Arguments may lie in the memory of what a plan writes; they are copied before it begins.

Native code puts new weights where the old ones lie, perhaps before it has read all arguments.
"""

from __future__ import annotations

from typing import Any


def owner(array: Any) -> int:
    """Which memory an array shows: the same number for all views of it."""
    return id(array if array.base is None else array.base)
