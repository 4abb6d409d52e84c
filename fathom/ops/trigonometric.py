"""Trigonometric and hyperbolic functions and their inverses."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fathom.engine.primitive import elementwise
from fathom.engine.tensor import Tensor, TensorLike
from fathom.ops.elementwise import equal, neg, rsqrt, where

__all__ = [
    "acos",
    "acosh",
    "arccos",
    "arccosh",
    "arcsin",
    "arcsinh",
    "arctan",
    "arctan2",
    "arctanh",
    "asin",
    "asinh",
    "atan",
    "atan2",
    "atanh",
    "cos",
    "cosh",
    "deg2rad",
    "rad2deg",
    "sin",
    "sinh",
    "tan",
]


def _cos_of(z: Any, x: Any) -> Any:
    return cos(x)


def _cosh_of(z: Any, x: Any) -> Any:
    return cosh(x)


@elementwise(np.sin, (_cos_of,), saves="in", domain=((-3.0, 3.0),), cost=8.0)
def sin(x: TensorLike) -> Tensor:
    """Sine of x in radians.

    >>> import fathom
    >>> x = fathom.tensor(0.0, requires_grad=True)
    >>> fathom.sin(x).backward()
    >>> x.grad
    tensor(1.)
    """


@elementwise(np.cos, (lambda z, x: neg(sin(x)),), saves="in", domain=((-3.0, 3.0),), cost=8.0)
def cos(x: TensorLike) -> Tensor:
    """Cosine of x in radians."""


@elementwise(np.tan, (lambda z, x: 1.0 + z * z,), saves="out", domain=((-1.2, 1.2),), cost=8.0)
def tan(x: TensorLike) -> Tensor:
    """Tangent of x in radians."""


@elementwise(
    np.arcsin, (lambda z, x: rsqrt(1.0 - x * x),), saves="in", domain=((-0.9, 0.9),), cost=8.0
)
def asin(x: TensorLike) -> Tensor:
    """Inverse sine, in [-pi/2, pi/2]; nan outside [-1, 1], slope inf at both ends."""


@elementwise(
    np.arccos, (lambda z, x: neg(rsqrt(1.0 - x * x)),), saves="in", domain=((-0.9, 0.9),), cost=8.0
)
def acos(x: TensorLike) -> Tensor:
    """Inverse cosine, in [0, pi]; nan outside [-1, 1], slope -inf at both ends."""


@elementwise(
    np.arctan, (lambda z, x: 1.0 / (1.0 + x * x),), saves="in", domain=((-3.0, 3.0),), cost=8.0
)
def atan(x: TensorLike) -> Tensor:
    """Inverse tangent, in [-pi/2, pi/2]."""


def _around_origin(part: Any, y: Any, x: Any) -> Any:
    """part / (x^2 + y^2), and 0 at the origin, where the angle has no slope."""
    squared = x * x + y * y
    origin = equal(squared, 0.0)
    return where(origin, 0.0, part / where(origin, 1.0, squared))


@elementwise(
    np.arctan2,
    (lambda z, y, x: _around_origin(x, y, x), lambda z, y, x: -_around_origin(y, y, x)),
    saves="in",
    domain=((0.2, 3.0), (0.2, 3.0)),
    cost=8.0,
)
def atan2(y: TensorLike, x: TensorLike) -> Tensor:
    """The angle of the point (x, y), in [-pi, pi]. Its slopes at (0, 0) are 0, as in PyTorch."""


@elementwise(np.sinh, (_cosh_of,), saves="in", domain=((-3.0, 3.0),), cost=8.0)
def sinh(x: TensorLike) -> Tensor:
    """Hyperbolic sine."""


@elementwise(np.cosh, (lambda z, x: sinh(x),), saves="in", domain=((-3.0, 3.0),), cost=8.0)
def cosh(x: TensorLike) -> Tensor:
    """Hyperbolic cosine."""


@elementwise(
    np.arcsinh, (lambda z, x: rsqrt(1.0 + x * x),), saves="in", domain=((-3.0, 3.0),), cost=8.0
)
def asinh(x: TensorLike) -> Tensor:
    """Inverse hyperbolic sine."""


@elementwise(
    np.arccosh, (lambda z, x: rsqrt(x * x - 1.0),), saves="in", domain=((1.1, 5.0),), cost=8.0
)
def acosh(x: TensorLike) -> Tensor:
    """Inverse hyperbolic cosine; nan below 1, slope inf at 1."""


@elementwise(
    np.arctanh, (lambda z, x: 1.0 / (1.0 - x * x),), saves="in", domain=((-0.9, 0.9),), cost=8.0
)
def atanh(x: TensorLike) -> Tensor:
    """Inverse hyperbolic tangent; infinite at -1 and 1, nan outside."""


@elementwise(np.deg2rad, (math.pi / 180.0,))
def deg2rad(x: TensorLike) -> Tensor:
    """Degrees to radians."""


@elementwise(np.rad2deg, (180.0 / math.pi,))
def rad2deg(x: TensorLike) -> Tensor:
    """Radians to degrees."""


arcsin, arccos, arctan, arctan2 = asin, acos, atan, atan2
arcsinh, arccosh, arctanh = asinh, acosh, atanh
