"""Arguments and inputs of layers, checked where they come in."""

from __future__ import annotations

from typing import Any

import numpy as np

from fathom.engine.errors import DtypeError
from fathom.engine.tensor import Tensor, to_array
from fathom.ops.arguments import flag, number, positive, title, whole, whole_numbers

__all__ = [
    "alike",
    "flag",
    "floating",
    "number",
    "positive",
    "title",
    "whole",
    "whole_numbers",
]


def floating(layer: Any, x: Any) -> Any:
    """An input as a tensor or array of floats."""
    if not isinstance(x, (Tensor, np.ndarray)):
        x = Tensor(to_array(x))
    if x.dtype.kind != "f":
        raise DtypeError(
            f"{title(layer)}: needs floats; received {x.dtype}", fix="convert: x.float()"
        )
    return x


def alike(layer: Any, x: Any, weight: Any) -> Any:
    """The input as a tensor or array of the float type of the layer: nothing is cast silently."""
    if not isinstance(x, (Tensor, np.ndarray)):
        x = Tensor(to_array(x, None))
    if x.dtype != weight.dtype:
        name = title(layer)
        if x.dtype.kind != "f":
            raise DtypeError(f"{name}: needs floats; received {x.dtype}", fix="convert: x.float()")
        raise DtypeError(
            f"{name}: the layer holds {weight.dtype}, the input {x.dtype}",
            fix=f"x.astype({str(weight.dtype)!r}) converts the input, layer.to({str(x.dtype)!r}) "
            "the layer",
        )
    return x
