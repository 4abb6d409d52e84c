"""Arguments that lie in the memory of what a plan writes: copied before native code begins.

Native code puts new weights where the old ones lie, perhaps before it has read all arguments.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fathom.engine.tensor import Tensor


def owner(array: Any) -> int:
    """Which memory an array shows: the same number for all views of it."""
    return id(array if array.base is None else array.base)


def apart(run: Callable[[list[Any]], Any], written: list[Any]) -> Callable[[list[Any]], Any]:
    """`run(leaves)` with arguments that overlap any of the tensors or arrays replaced by copies."""
    last: dict[int, Any] = {}  # arguments that were found to lie elsewhere

    def call(leaves: list[Any]) -> Any:
        for i, leaf in enumerate(leaves):
            data = leaf if leaf.__class__ is np.ndarray else leaf.data
            if data is last.get(i):
                continue
            own = owner(data)
            if any(own == owner(t.data if isinstance(t, Tensor) else t) for t in written):
                leaves[i] = data.copy()
            else:
                last[i] = data
        return run(leaves)

    return call
