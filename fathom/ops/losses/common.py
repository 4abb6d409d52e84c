"""What all losses share: arguments, weights, reductions."""

from __future__ import annotations

import math
from typing import Any

from fathom.engine.errors import DtypeError, ShapeError
from fathom.ops.checks import floats, one_of, operand, same_shape
from fathom.ops.loss import REDUCTIONS, reduce_loss

__all__: list[str] = []


def pair(name: str, input: Any, target: Any) -> tuple[Any, Any]:
    """Input and target as tensors of one shape; nothing is broadcast."""
    x, y = operand(input), operand(target)
    floats(name, x)
    same_shape(name, input=x, target=y)
    if y.dtype.kind != "f":
        y = y.astype(x.dtype)
    same_dtype(name, input=x, target=y)
    return x, y


def same_dtype(name: str, **values: Any) -> None:
    """Float32 and float64 do not mix: a loss in float64 is seldom what was meant."""
    (first, x), *others = values.items()
    for other, y in others:
        if x.dtype != y.dtype:
            raise DtypeError(
                f"{name}: {first} is {x.dtype} and {other} {y.dtype}",
                fix=f"convert one of them: {other}.astype({str(x.dtype)!r})",
            )


def finish(name: str, loss: Any, reduction: str) -> Any:
    """The mean, the sum, or the losses themselves."""
    one_of(name, "reduction", reduction, REDUCTIONS)
    if reduction == "mean" and loss.size == 0:
        return loss.sum() * math.nan  # as PyTorch: the mean of nothing
    return reduce_loss(loss, reduction)


def weighted(name: str, loss: Any, weight: Any, reduction: str) -> Any:
    """`finish` with a weight for each element; the mean is divided by the sum of the weights."""
    if weight is None:
        return finish(name, loss, reduction)
    w = operand(weight)
    if w.shape != loss.shape:
        raise ShapeError(
            f"{name}: weight {tuple(w.shape)} and input {tuple(loss.shape)} must have one shape"
        )
    if reduction == "mean":
        return (loss * w).sum() / w.sum()
    return finish(name, loss * w, reduction)
