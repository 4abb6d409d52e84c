"""Rounding, remainders, signs and bits: operations whose slope is 0 or 1 wherever they have one."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fathom.engine.errors import ArgumentError, DtypeError
from fathom.engine.primitive import TABLE, broadcast_shape, elementwise, general
from fathom.engine.tensor import Tensor, TensorLike
from fathom.ops.axes import operand
from fathom.ops.elementwise import mul, neg, sign

__all__ = [
    "bitwise_and",
    "bitwise_not",
    "bitwise_or",
    "bitwise_xor",
    "ceil",
    "copysign",
    "fix",
    "floor",
    "floor_divide",
    "fmod",
    "frac",
    "heaviside",
    "remainder",
    "round",
    "trunc",
]

INF = math.inf


@elementwise(np.floor, (0.0,))
def floor(x: TensorLike) -> Tensor:
    """The largest whole number not above x. The slope is 0 everywhere."""


@elementwise(np.ceil, (0.0,))
def ceil(x: TensorLike) -> Tensor:
    """The smallest whole number not below x. The slope is 0 everywhere."""


@elementwise(np.trunc, (0.0,))
def trunc(x: TensorLike) -> Tensor:
    """x without its fraction: rounded towards zero. The slope is 0 everywhere."""


fix = trunc


def _round(x: Any, decimals: int = 0) -> Any:
    x = np.asarray(x)
    if x.dtype.kind != "f":
        return x
    if not decimals:
        return np.rint(x)
    scale = 10.0 ** builtin_abs(decimals)
    return np.rint(x * scale) / scale if decimals > 0 else np.rint(x / scale) * scale


builtin_abs = abs
_rounding = general(
    "round",
    _round,
    vjp=(lambda g, out, x, decimals: g * 0.0,),
    jvp=(lambda t, out, x, decimals: t * 0.0,),
    shape=lambda x, decimals: x.shape,
    batch="elementwise",
)


def round(x: TensorLike, decimals: int = 0) -> Tensor:
    """The nearest number of that many decimals; halves go to the even one. The slope is 0.

    >>> import fathom
    >>> fathom.round(fathom.tensor([0.5, 1.5, 2.6]))
    tensor([0., 2., 3.])
    """
    if not isinstance(decimals, int):
        raise DtypeError(f"round: decimals is a whole number; received {decimals!r}")
    return _rounding(operand(x, "round"), decimals=decimals)


def _frac(x: Any) -> Any:
    return x - np.trunc(x)


@elementwise(_frac, (1,))
def frac(x: TensorLike) -> Tensor:
    """x - trunc(x): the fraction, with the sign of x. The slope is 1."""


# -- division with remainder -------------------------------------------------------------------


def _whole_numbers(*values: Any) -> bool:
    return all(np.asarray(v).dtype.kind != "f" for v in values)


def _check_divisor(name: str, x: Any, y: Any) -> None:
    """Whole numbers have no infinity to answer a division by zero with."""
    if _whole_numbers(x, y) and not np.logical_and.reduce(np.asarray(y), axis=None):
        raise ArgumentError(f"{name}: division of whole numbers by zero")


def _floor_divide(x: Any, y: Any) -> Any:
    _check_divisor("floor_divide", x, y)
    if _whole_numbers(x, y):
        return np.floor_divide(x, y)
    quotient = np.floor_divide(x, y)
    return np.where(np.equal(y, 0), np.true_divide(x, y), quotient)  # 5 // 0 is inf, not nan


@elementwise(_floor_divide, (0.0, 0.0), domain=((-INF, INF), (0.2, 5.0)))
def floor_divide(x: TensorLike, y: TensorLike) -> Tensor:
    """The quotient rounded down, whole for whole numbers. The slope is 0.

    >>> import fathom
    >>> fathom.floor_divide(fathom.tensor([7, -7]), 2)
    tensor([ 3, -4])
    """


def _trunc_divide(x: Any, y: Any) -> Any:
    _check_divisor("div", x, y)
    if _whole_numbers(x, y):
        quotient = np.floor_divide(x, y)
        return quotient + ((quotient < 0) & (quotient * y != x))
    return np.trunc(np.true_divide(x, y))


@elementwise(_trunc_divide, (0.0, 0.0), domain=((-INF, INF), (0.2, 5.0)), name="trunc_divide")
def _truncated(x: TensorLike, y: TensorLike) -> Tensor:
    """The quotient rounded towards zero."""


def _remainder(x: Any, y: Any) -> Any:
    _check_divisor("remainder", x, y)
    return np.remainder(x, y)


@elementwise(
    _remainder,
    (1, lambda z, x, y: neg(floor(x / y))),
    saves="in",
    domain=((-INF, INF), (0.2, 5.0)),
)
def remainder(x: TensorLike, y: TensorLike) -> Tensor:
    """x - y floor(x / y): what division leaves, with the sign of y (Python's x % y).

    >>> import fathom
    >>> fathom.remainder(fathom.tensor([5.0, -5.0]), 3)
    tensor([2., 1.])
    """


def _fmod(x: Any, y: Any) -> Any:
    _check_divisor("fmod", x, y)
    return np.fmod(x, y)


@elementwise(
    _fmod,
    (1, lambda z, x, y: neg(trunc(x / y))),
    saves="in",
    domain=((-INF, INF), (0.2, 5.0)),
)
def fmod(x: TensorLike, y: TensorLike) -> Tensor:
    """x - y trunc(x / y): what division leaves, with the sign of x (C's fmod)."""


# -- bits --------------------------------------------------------------------------------------


@elementwise(np.bitwise_and)
def bitwise_and(x: TensorLike, y: TensorLike) -> Tensor:
    """x & y, bit by bit, of whole numbers or booleans."""


@elementwise(np.bitwise_or)
def bitwise_or(x: TensorLike, y: TensorLike) -> Tensor:
    """x | y, bit by bit, of whole numbers or booleans."""


@elementwise(np.bitwise_xor)
def bitwise_xor(x: TensorLike, y: TensorLike) -> Tensor:
    """x ^ y, bit by bit, of whole numbers or booleans."""


@elementwise(np.invert)
def bitwise_not(x: TensorLike) -> Tensor:
    """~x, bit by bit, of whole numbers or booleans."""


def _bits_shape(*values: Any) -> tuple[int, ...]:
    if not _whole_numbers(*values):
        raise DtypeError(
            "bits are those of whole numbers or booleans; received floats",
            fix="compare first ((x > 0) & (y > 0)), or use logical_and / logical_or",
        )
    return broadcast_shape(*values)


for _name in ("bitwise_and", "bitwise_or", "bitwise_xor", "bitwise_not"):
    TABLE[_name].shape = _bits_shape


# -- signs -----------------------------------------------------------------------------------------


def _same_sign(out: Any, x: Any, y: Any) -> Any:
    return mul(sign(out), sign(x))


@elementwise(np.copysign, (_same_sign, 0.0), saves="in out")
def copysign(x: TensorLike, y: TensorLike) -> Tensor:
    """The size of x with the sign of y (a minus zero has one too). The slope in y is 0."""


def _heaviside(x: Any, values: Any) -> Any:
    kind = np.result_type(x, values)
    return np.where(np.equal(x, 0), values, np.greater(x, 0)).astype(kind)


@elementwise(_heaviside)
def heaviside(x: TensorLike, values: TensorLike) -> Tensor:
    """0 where x is negative, 1 where it is positive, `values` where it is 0; no gradient."""
