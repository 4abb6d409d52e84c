"""`shift_response`: what a layer makes of a moved input."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fathom.doctor.probes.running import untouched
from fathom.doctor.table import Result
from fathom.engine.errors import ArgumentError, ShapeError
from fathom.engine.modes import no_grad
from fathom.engine.tensor import Array, Tensor, to_array
from fathom.nn.module import Module


@dataclass(frozen=True, repr=False)
class ShiftResponse(Result):
    """Largest absolute differences on one batch; `scale` is the largest |f(x)|.

    equivariance_error : of f(shift x) and shift f(x), nan where the output has no such axes.
    invariance_error : of f(shift x) and f(x). shift : of the input, output_shift : of the output.
    """

    shift: tuple[int, ...]
    output_shift: tuple[int, ...] | None
    equivariance_error: float
    invariance_error: float
    scale: float


def shift_response(
    layer: Module | Callable[[Any], Any], x: Any, shift: int | Sequence[int] = 1, *,
    margin: int = 0,
) -> ShiftResponse:  # fmt: skip
    """Whether moving the input moves the output along (equivariance) or not at all (invariance).

    x : (n, channels, ...); shift : cells along the last axes, circular. A layer that makes the
    image smaller by a whole factor (stride, pooling) has its output moved by shift / factor; if
    that is no whole number there is no output to compare with, and the error is that of the
    nearest one, which is what aliasing means (Zhang, 2019).
    margin : cells at every edge of the output left out of the comparisons. A circular
    convolution needs none; zero padding, or none, needs those that the edge reaches: kernel // 2
    plus the shift.

    A model runs in eval mode, and nothing of it is changed.

    >>> from fathom import nn
    >>> x = np.arange(25.0).reshape(1, 1, 5, 5) % 7
    >>> conv = nn.Conv2d(1, 2, 3, padding=1, padding_mode="circular").double()
    >>> shift_response(conv, x, (2, 3)).equivariance_error < 1e-12
    True
    >>> shift_response(nn.GlobalAvgPool(), x, (2, 3)).invariance_error < 1e-12
    True
    """
    a = to_array(x)
    moves = (shift,) if isinstance(shift, int | np.integer) else tuple(shift)
    if a.ndim < 2 + len(moves) or not moves:
        raise ShapeError(
            f"x must be (n, channels, ...) with an axis for each shift {moves}; received {a.shape}"
        )
    if margin < 0:
        raise ArgumentError(f"margin must be >= 0; received {margin!r}")
    axes = tuple(range(-len(moves), 0))
    plain, moved = _outputs(layer, a, np.roll(a, moves, axes))
    along, error = None, float("nan")
    if plain.ndim == a.ndim:
        along = tuple(
            _moved(m, a.shape[i], plain.shape[i]) for m, i in zip(moves, axes, strict=True)
        )
        error = _distance(moved, np.roll(plain, along, axes), axes, margin)
    inner = axes if plain.ndim == a.ndim else ()
    return ShiftResponse(
        tuple(int(m) for m in moves), along, error, _distance(moved, plain, inner, margin),
        float(np.abs(plain).max()),
    )  # fmt: skip


def _moved(shift: int, cells: int, out: int) -> int:
    """The shift in cells of an output that is a whole factor smaller or larger."""
    scaled = cells % out == 0 or out % cells == 0
    return round(shift * out / cells) if scaled else int(shift)


def _outputs(layer: Any, *inputs: Array) -> list[Array]:
    def run() -> list[Array]:
        with no_grad():
            return [to_array(layer(Tensor(a))) for a in inputs]

    if not isinstance(layer, Module):
        return run()
    with untouched(layer, training=False):
        return run()


def _distance(a: Array, b: Array, axes: tuple[int, ...], margin: int) -> float:
    apart = np.abs(a.astype(np.float64) - b)
    for axis in axes:
        if apart.shape[axis] <= 2 * margin:
            raise ArgumentError(
                f"margin {margin} leaves nothing of an output of shape {apart.shape}"
            )
        apart = np.take(apart, range(margin, apart.shape[axis] - margin), axis)
    return float(apart.max())


__all__ = ["ShiftResponse", "shift_response"]
