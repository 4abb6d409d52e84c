"""Padding: a border of constants, mirrored, repeated or wrapped around."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fathom.engine.errors import ArgumentError, DtypeError, ShapeError, suggest
from fathom.engine.primitive import Primitive, apply, general
from fathom.engine.tensor import Tensor, TensorLike
from fathom.ops.axes import operand, sizes_of
from fathom.ops.index import getitem, take

__all__ = [
    "pad",
]

MODES = ("constant", "reflect", "replicate", "circular")


def _inside(shape: tuple[int, ...], widths: Any) -> tuple[slice, ...]:
    return tuple(slice(low, low + n) for n, (low, _) in zip(shape, widths, strict=True))


def _pad_forward(x: Any, widths: Any, value: float) -> Any:
    shape = _pad_shape(x, widths, value)
    out = np.full(shape, value, x.dtype)
    out[_inside(x.shape, widths)] = x
    return out


def _pad_shape(x: Any, widths: Any, value: float) -> tuple[int, ...]:
    return tuple(n + low + high for n, (low, high) in zip(x.shape, widths, strict=True))


_pad: Primitive = general(
    "pad",
    _pad_forward,
    vjp=(lambda g, out, x, widths, value: getitem(g, _inside(x.shape, widths)),),
    jvp=(lambda t, out, x, widths, value: apply(_pad, t, widths=widths, value=0.0),),
    fresh=False,
    batch="axis",
    shape=_pad_shape,
)


def _source(n: int, low: int, high: int, mode: str) -> Any:
    """Which place of an axis of n each place of the padded axis is taken from."""
    place = np.arange(-low, n + high)
    if mode == "replicate":
        return place.clip(0, n - 1)
    if mode == "circular":
        return place % n
    period = 2 * (n - 1)
    place = place % period if period else place * 0
    return np.minimum(place, period - place)


def _check(shape: tuple[int, ...], axis: int, low: int, high: int, mode: str) -> None:
    n = shape[axis]
    most = {"reflect": n - 1, "circular": n}.get(mode)
    if most is not None and max(low, high) > most:
        raise ShapeError(
            f"pad: {mode} padding of axis {axis} of shape {shape} can be {most} at most; received "
            f"({low}, {high})"
        )
    if n == 0 and max(low, high) > 0 and mode != "constant":
        raise ShapeError(f"pad: there is nothing to {mode} in axis {axis} of shape {shape}")


def pad(
    x: TensorLike, pad: Sequence[int], mode: str = "constant", value: float | None = None
) -> Tensor:
    """x with a border. `pad` gives pairs of widths from the last axis on, as in PyTorch.

    `(left, right)` widens the last axis, `(left, right, top, bottom)` the last two, and so on;
    negative widths take away.

    Parameters
    ----------
    mode : "constant" (filled with `value`, 0 by default), "reflect" (mirrored, without the edge
        itself; less than the size of the axis), "replicate" (the edge repeated) or "circular"
        (from the other end; at most the size of the axis).

    >>> import fathom
    >>> fathom.pad(fathom.tensor([1.0, 2.0, 3.0]), (1, 2))
    tensor([0., 1., 2., 3., 0., 0.])
    >>> fathom.pad(fathom.tensor([1.0, 2.0, 3.0]), (2, 1), mode="reflect")
    tensor([3., 2., 1., 2., 3., 2.])
    """
    x, flat = operand(x, "pad"), sizes_of((pad,), "pad")
    if mode not in MODES:
        raise ArgumentError(f"pad: unknown mode {mode!r}", fix=suggest(str(mode), MODES))
    if len(flat) % 2 or len(flat) > 2 * x.ndim:
        raise ShapeError(
            f"pad: expects pairs of widths for up to {x.ndim} axes of shape {x.shape}; received "
            f"{flat}",
            fix="(left, right) for the last axis, (left, right, top, bottom) for the last two",
        )
    if value is not None and mode != "constant":
        raise ArgumentError(f"pad: mode {mode!r} takes no value")
    if isinstance(value, float) and not value.is_integer() and x.dtype.kind != "f":
        raise DtypeError(f"pad: {value} does not fit into a tensor of {x.dtype}")
    widths = [(0, 0)] * x.ndim
    for k in range(len(flat) // 2):
        widths[x.ndim - 1 - k] = (flat[2 * k], flat[2 * k + 1])
    x, widths = _taken_away(x, widths)
    for axis, (low, high) in enumerate(widths):
        _check(x.shape, axis, low, high, mode)
    if mode == "constant":
        return apply(_pad, x, widths=tuple(widths), value=value or 0)
    for axis, (low, high) in enumerate(widths):
        if low or high:
            x = take(x, _source(x.shape[axis], low, high, mode), axis)
    return x


def _taken_away(x: Any, widths: list[tuple[int, int]]) -> tuple[Tensor, list[tuple[int, int]]]:
    """Negative widths carried out; what is left of the others comes next."""
    if all(w >= 0 for pair in widths for w in pair):
        return x, widths
    for axis, (low, high) in enumerate(widths):
        if x.shape[axis] + min(low, 0) + min(high, 0) < 0:
            raise ShapeError(
                f"pad: ({low}, {high}) takes more than axis {axis} of shape {x.shape} has"
            )
    inside = tuple(
        slice(max(-low, 0), n + min(high, 0))
        for n, (low, high) in zip(x.shape, widths, strict=True)
    )
    return getitem(x, inside), [(max(low, 0), max(high, 0)) for low, high in widths]
