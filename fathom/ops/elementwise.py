"""Elementwise operations: arithmetic, powers, exponentials, comparisons.

Each is one record: the NumPy function, its partial derivatives, what they need to keep.
Where a function has no derivative at a point, the value chosen is in the docstring.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from fathom.engine.errors import ArgumentError, DtypeError, suggest
from fathom.engine.primitive import TABLE, apply, broadcast_shape, elementwise, general
from fathom.engine.tensor import Tensor, TensorLike
from fathom.ops.axes import operand

__all__ = [
    "abs",
    "absolute",
    "add",
    "allclose",
    "astype",
    "clamp",
    "clip",
    "div",
    "divide",
    "eq",
    "equal",
    "exp",
    "exp2",
    "expm1",
    "fmax",
    "fmin",
    "ge",
    "greater",
    "greater_equal",
    "gt",
    "hypot",
    "isclose",
    "isfinite",
    "isinf",
    "isnan",
    "le",
    "lerp",
    "less",
    "less_equal",
    "log",
    "log1p",
    "log2",
    "log10",
    "logical_and",
    "logical_not",
    "logical_or",
    "logical_xor",
    "lt",
    "maximum",
    "minimum",
    "mul",
    "multiply",
    "nan_to_num",
    "ne",
    "neg",
    "negative",
    "not_equal",
    "pow",
    "power",
    "reciprocal",
    "relu",
    "rsqrt",
    "safe_where",
    "sigmoid",
    "sign",
    "sqrt",
    "square",
    "sub",
    "subtract",
    "tanh",
    "true_divide",
    "where",
]


INF, LN2, LN10 = math.inf, math.log(2.0), math.log(10.0)
_ZERO = {np.dtype(k): np.zeros((), k) for k in (np.float16, np.float32, np.float64)}


# -- choice and comparison ---------------------------------------------------------------------


_where = general(
    "where",
    np.where,
    vjp=(
        None,
        lambda g, out, c, x, y: where(c, g, 0.0),
        lambda g, out, c, x, y: where(c, 0.0, g),
    ),
    jvp=(
        None,
        lambda t, out, c, x, y: where(c, t, 0.0),
        lambda t, out, c, x, y: where(c, 0.0, t),
    ),
    saves="in",
    batch="elementwise",
    shape=broadcast_shape,
)


def where(condition: TensorLike, x: TensorLike | None = None, y: TensorLike | None = None) -> Any:
    """x where the condition holds, y elsewhere; all three broadcast.

    With the condition alone, the places where it holds: a tuple of index arrays, one an axis.
    A nan in the derivative of the side that is not taken still reaches its input, as in
    PyTorch; `safe_where` prevents that.

    >>> import fathom
    >>> fathom.where(fathom.tensor([True, False]), 1.0, 0.0)
    tensor([1., 0.])
    >>> fathom.where(fathom.tensor([0, 5, 7]))
    (tensor([1, 2]),)
    """
    if x is None or y is None:
        if x is not y:
            raise ArgumentError("where: give both x and y, or the condition alone")
        from fathom.ops.index import nonzero

        return nonzero(condition, as_tuple=True)
    return apply(_where, condition, x, y)


def safe_where(
    condition: TensorLike,
    function: Callable[[Any], Any],
    x: TensorLike,
    otherwise: TensorLike = 0.0,
    safe: float = 1.0,
) -> Tensor:
    """function(x) where the condition holds, `otherwise` elsewhere, without leaking nan.

    Where the condition fails, the function is worked out at `safe` instead of x, so that
    neither its value nor its derivative there can spoil a gradient.

    >>> import fathom
    >>> x = fathom.tensor([0.0, 4.0], requires_grad=True)
    >>> fathom.safe_where(x > 0, fathom.sqrt, x).sum().backward()
    >>> x.grad
    tensor([0.  , 0.25])
    """
    return where(condition, function(where(condition, x, safe)), otherwise)


@elementwise(np.equal)
def equal(x: TensorLike, y: TensorLike) -> Tensor:
    """x == y, elementwise, as booleans."""


@elementwise(np.not_equal)
def not_equal(x: TensorLike, y: TensorLike) -> Tensor:
    """x != y, elementwise, as booleans."""


@elementwise(np.greater)
def greater(x: TensorLike, y: TensorLike) -> Tensor:
    """x > y, elementwise, as booleans."""


@elementwise(np.greater_equal)
def greater_equal(x: TensorLike, y: TensorLike) -> Tensor:
    """x >= y, elementwise, as booleans."""


@elementwise(np.less)
def less(x: TensorLike, y: TensorLike) -> Tensor:
    """x < y, elementwise, as booleans."""


@elementwise(np.less_equal)
def less_equal(x: TensorLike, y: TensorLike) -> Tensor:
    """x <= y, elementwise, as booleans."""


def _truth(ufunc: Any) -> Callable[..., Any]:
    """A logical function of numbers: NumPy's would take a text or any other object for true."""

    def forward(*values: Any) -> Any:
        for v in values:
            if not isinstance(v, (np.ndarray, np.generic, int, float, list)):
                raise TypeError("not a number")
        return ufunc(*values)

    return forward


@elementwise(_truth(np.logical_and))
def logical_and(x: TensorLike, y: TensorLike) -> Tensor:
    """Both are true (not zero)."""


@elementwise(_truth(np.logical_or))
def logical_or(x: TensorLike, y: TensorLike) -> Tensor:
    """At least one is true (not zero)."""


@elementwise(_truth(np.logical_not))
def logical_not(x: TensorLike) -> Tensor:
    """Is zero."""


@elementwise(_truth(np.logical_xor))
def logical_xor(x: TensorLike, y: TensorLike) -> Tensor:
    """Exactly one is true (not zero)."""


@elementwise(np.isinf)
def isinf(x: TensorLike) -> Tensor:
    """Infinite, of either sign."""


@elementwise(np.isfinite)
def isfinite(x: TensorLike) -> Tensor:
    """Neither infinite nor nan."""


@elementwise(np.isnan)
def isnan(x: TensorLike) -> Tensor:
    """Not a number."""


eq, ne, gt, ge, lt, le = equal, not_equal, greater, greater_equal, less, less_equal


def isclose(
    x: TensorLike,
    y: TensorLike,
    rtol: float = 1e-5,
    atol: float = 1e-8,
    equal_nan: bool = False,
) -> Tensor:
    """|x - y| <= atol + rtol |y|, elementwise; equal infinities are close, nan only on request.

    >>> import fathom
    >>> fathom.isclose(fathom.tensor([1.0, 2.0]), fathom.tensor([1.000001, 2.1]))
    tensor([ True, False])
    """
    near = less_equal(abs(sub(x, y)), add(mul(abs(y), rtol), atol))
    close = logical_or(equal(x, y), logical_and(near, isfinite(y)))
    return logical_or(close, logical_and(isnan(x), isnan(y))) if equal_nan else close


def allclose(
    x: TensorLike,
    y: TensorLike,
    rtol: float = 1e-5,
    atol: float = 1e-8,
    equal_nan: bool = False,
) -> bool:
    """Whether `isclose` holds everywhere, as a Python bool."""
    return bool(np.logical_and.reduce(np.asarray(isclose(x, y, rtol, atol, equal_nan)), axis=None))


def _nan_to_num(x: Any, nan: float, posinf: float | None, neginf: float | None) -> Any:
    x = np.asarray(x)
    if x.dtype.kind != "f":
        return x
    limits = np.finfo(x.dtype)
    high = float(limits.max) if posinf is None else posinf
    low = float(limits.min) if neginf is None else neginf
    return np.where(
        np.isnan(x), x.dtype.type(nan),
        np.where(x == INF, x.dtype.type(high), np.where(x == -INF, x.dtype.type(low), x)),
    )  # fmt: skip


_clean = general(
    "nan_to_num",
    _nan_to_num,
    vjp=(lambda g, out, x, **limits: where(isfinite(x), g, 0.0),),
    jvp=(lambda t, out, x, **limits: where(isfinite(x), t, 0.0),),
    saves="in",
    batch="elementwise",
    shape=lambda x, **limits: x.shape,
)


def nan_to_num(
    x: TensorLike,
    nan: float = 0.0,
    posinf: float | None = None,
    neginf: float | None = None,
) -> Tensor:
    """x with nan and the infinities replaced (by default 0 and the largest finite numbers).

    The slope is 1 at finite elements and 0 at those replaced.

    >>> import fathom
    >>> fathom.nan_to_num(fathom.tensor([1.0, float("nan"), float("inf")]), posinf=9.0)
    tensor([1., 0., 9.])
    """
    x = operand(x, "nan_to_num")
    return apply(_clean, x, nan=nan, posinf=posinf, neginf=neginf)


# -- arithmetic --------------------------------------------------------------------------------


@elementwise(np.add, (1, 1))
def add(x: TensorLike, y: TensorLike) -> Tensor:
    """x + y, elementwise with broadcasting."""


@elementwise(np.subtract, (1, -1))
def sub(x: TensorLike, y: TensorLike) -> Tensor:
    """x - y, elementwise with broadcasting."""


@elementwise(np.multiply, (lambda z, x, y: y, lambda z, x, y: x), saves="other")
def mul(x: TensorLike, y: TensorLike) -> Tensor:
    """x * y, elementwise with broadcasting."""


@elementwise(
    np.true_divide,
    (lambda z, x, y: 1.0 / y, lambda z, x, y: -x / (y * y)),
    saves="in",
    domain=((-INF, INF), (0.2, 5.0)),
    name="div",
)
def true_divide(x: TensorLike, y: TensorLike) -> Tensor:
    """x / y, elementwise with broadcasting; division by zero gives inf or nan."""


def div(x: TensorLike, y: TensorLike, rounding_mode: str | None = None) -> Tensor:
    """x / y; with `rounding_mode` "floor" or "trunc" the quotient rounded down or towards zero.

    Rounded quotients of whole numbers are whole numbers; their slope is 0.

    >>> import fathom
    >>> fathom.div(fathom.tensor([7, -7]), 2, rounding_mode="trunc")
    tensor([ 3, -3])
    """
    if rounding_mode is None:
        return true_divide(x, y)
    if rounding_mode not in ("floor", "trunc"):
        raise ArgumentError(
            f"div: unknown rounding_mode {rounding_mode!r}",
            fix=suggest(str(rounding_mode), ("floor", "trunc")),
        )
    return apply(TABLE["floor_divide" if rounding_mode == "floor" else "trunc_divide"], x, y)


@elementwise(np.negative, (-1,))
def neg(x: TensorLike) -> Tensor:
    """-x."""


def _reciprocal(x: Any) -> Any:
    return np.true_divide(1.0, x)


@elementwise(_reciprocal, (lambda z, x: -z * z,), saves="out", domain=((0.2, 5.0),))
def reciprocal(x: TensorLike) -> Tensor:
    """1 / x."""


@elementwise(np.square, (lambda z, x: 2.0 * x,), saves="in")
def square(x: TensorLike) -> Tensor:
    """x * x."""


def _pow_base(z: Any, x: Any, y: Any) -> Any:
    if not isinstance(y, Tensor) and np.ndim(y) == 0:  # a constant exponent: exact at x = 0
        return 0.0 * x if y == 0 else y * power(x, y - 1)
    return where(equal(y, 0.0), 0.0, y * power(x, where(equal(y, 0.0), 1.0, y) - 1))


def _pow_exponent(z: Any, x: Any, y: Any) -> Any:
    positive = greater(x, 0.0)
    return z * where(positive, log(where(positive, x, 1.0)), where(equal(x, 0.0), -INF, np.nan))


def _power_slope_exponent(z: Any, x: Any, y: Any) -> Any:
    # 0 ** y is flat in y for y >= 0 (as in PyTorch)
    flat = logical_and(equal(x, 0.0), greater_equal(y, 0.0))
    return where(flat, 0.0, _pow_exponent(z, where(flat, 1.0, x), y))


@elementwise(
    np.power,
    (_pow_base, _power_slope_exponent),
    saves="in out",
    domain=((0.2, 3.0), (-2.0, 2.0)),
)
def power(x: TensorLike, y: TensorLike) -> Tensor:
    """x to the power y. The slope in y at x = 0 is 0 for y >= 0; 0 ** 0 is 1, its slopes 0."""


def _power_shape(x: Any, y: Any) -> tuple[int, ...]:
    if np.asarray(x).dtype.kind != "f" and np.asarray(y).dtype.kind != "f":
        raise DtypeError(
            "power: whole numbers to a negative power are not whole",
            fix="make one of them float: x.float() ** y",
        )
    return broadcast_shape(x, y)


TABLE["power"].shape = _power_shape
pow = power
subtract, multiply, divide, negative = sub, mul, div, neg


# -- exponentials and roots --------------------------------------------------------------------


@elementwise(np.exp, (lambda z, x: z,), saves="out", domain=((-3.0, 3.0),), cost=8.0)
def exp(x: TensorLike) -> Tensor:
    """e to the power x.

    >>> import fathom
    >>> fathom.exp(fathom.tensor([0.0, 1.0]))
    tensor([1.    , 2.7183])
    """


@elementwise(np.log, (lambda z, x: 1.0 / x,), saves="in", domain=((0.1, 5.0),))
def log(x: TensorLike) -> Tensor:
    """Natural logarithm; -inf at 0, nan below."""


@elementwise(np.exp2, (lambda z, x: z * LN2,), saves="out", domain=((-3.0, 3.0),), cost=8.0)
def exp2(x: TensorLike) -> Tensor:
    """2 to the power x."""


@elementwise(np.expm1, (lambda z, x: z + 1.0,), saves="out", domain=((-3.0, 3.0),), cost=8.0)
def expm1(x: TensorLike) -> Tensor:
    """exp(x) - 1, exact near 0."""


@elementwise(np.log1p, (lambda z, x: 1.0 / (x + 1.0),), saves="in", domain=((-0.8, 5.0),), cost=8.0)
def log1p(x: TensorLike) -> Tensor:
    """log(1 + x), exact near 0; -inf at -1, nan below."""


@elementwise(np.log2, (lambda z, x: 1.0 / (x * LN2),), saves="in", domain=((0.1, 5.0),), cost=8.0)
def log2(x: TensorLike) -> Tensor:
    """Logarithm to base 2."""


@elementwise(np.log10, (lambda z, x: 1.0 / (x * LN10),), saves="in", domain=((0.1, 5.0),), cost=8.0)
def log10(x: TensorLike) -> Tensor:
    """Logarithm to base 10."""


@elementwise(np.sqrt, (lambda z, x: 0.5 / z,), saves="out", domain=((0.1, 5.0),))
def sqrt(x: TensorLike) -> Tensor:
    """Square root; nan below 0. The slope at 0 is inf."""


def _rsqrt(x: Any) -> Any:
    return np.true_divide(1.0, np.sqrt(x))


@elementwise(_rsqrt, (lambda z, x: -0.5 * z * z * z,), saves="out", domain=((0.1, 5.0),))
def rsqrt(x: TensorLike) -> Tensor:
    """1 / sqrt(x); inf at 0, where the slope is -inf."""


def _sign(x: Any) -> Any:
    x = np.asarray(x)
    if x.dtype.kind == "b":
        return x
    return np.greater(x, 0).astype(x.dtype) - np.less(x, 0).astype(x.dtype)


@elementwise(_sign, (0.0,))
def sign(x: TensorLike) -> Tensor:
    """-1, 0 or 1; 0 for nan, as in PyTorch. The slope is 0 everywhere."""


@elementwise(np.abs, (lambda z, x: sign(x),), saves="in")
def abs(x: TensorLike) -> Tensor:
    """|x|. The slope at 0 is 0."""


absolute = abs


@elementwise(
    np.hypot,
    (lambda z, x, y: x / z, lambda z, x, y: y / z),
    saves="in out",
    domain=((0.2, 3.0), (0.2, 3.0)),
    cost=8.0,
)
def hypot(x: TensorLike, y: TensorLike) -> Tensor:
    """sqrt(x^2 + y^2) without overflow. The slope at (0, 0) is nan, as in PyTorch."""


def _lerp(x: Any, y: Any, weight: Any) -> Any:
    near = np.less(np.abs(weight), 0.5)
    step = np.subtract(y, x)
    return np.where(near, x + weight * step, y - step * (1.0 - np.asarray(weight)[()]))


@elementwise(
    _lerp,
    (lambda z, x, y, w: 1.0 - w, lambda z, x, y, w: w, lambda z, x, y, w: y - x),
    saves="in",
)
def lerp(x: TensorLike, y: TensorLike, weight: TensorLike) -> Tensor:
    """x + weight (y - x): x at weight 0, y at weight 1, both exactly.

    >>> import fathom
    >>> fathom.lerp(fathom.tensor([0.0, 10.0]), fathom.tensor([4.0, 20.0]), 0.25)
    tensor([ 1. , 12.5])
    """


# -- squashing functions -----------------------------------------------------------------------


@elementwise(np.tanh, (lambda z, x: 1.0 - z * z,), saves="out", cost=8.0)
def tanh(x: TensorLike) -> Tensor:
    """Hyperbolic tangent."""


def as_float(x: Any) -> Any:
    """The value as an array of floats; whole numbers and booleans become float64."""
    x = np.asarray(x)
    return x if x.dtype.kind == "f" else x.astype(np.float64)


def _sigmoid(x: Any) -> Any:
    x = as_float(x)
    return np.exp(np.minimum(x, 0)) / (1.0 + np.exp(-np.abs(x)))  # neither exp overflows


@elementwise(_sigmoid, (lambda z, x: z * (1.0 - z),), saves="out", cost=8.0)
def sigmoid(x: TensorLike) -> Tensor:
    """1 / (1 + exp(-x)), without overflow at either end."""


def _relu(x: Any) -> Any:
    return np.maximum(x, _ZERO.get(x.dtype, 0) if isinstance(x, np.ndarray) else 0)


def _relu_slope(z: Any, x: Any) -> Any:
    # comparing with an array of the same dtype spares NumPy the conversion of the number 0
    return np.greater(z, _ZERO[z.dtype]) if z.__class__ is np.ndarray else z > 0


@elementwise(_relu, (_relu_slope,), saves="out")
def relu(x: TensorLike) -> Tensor:
    """max(x, 0). The slope at 0 is 0.

    >>> import fathom
    >>> fathom.relu(fathom.tensor([-1.0, 2.0]))
    tensor([0., 2.])
    """


# -- extremes ----------------------------------------------------------------------------------


def _share(x: Any, y: Any) -> Any:
    return where(equal(x, y), 0.5, where(less(x, y), 0.0, 1.0))  # a nan takes all, on both sides


@elementwise(np.maximum, (lambda z, x, y: _share(x, y), lambda z, x, y: _share(y, x)), saves="in")
def maximum(x: TensorLike, y: TensorLike) -> Tensor:
    """The larger of x and y; a tie shares the gradient equally."""


@elementwise(np.minimum, (lambda z, x, y: _share(y, x), lambda z, x, y: _share(x, y)), saves="in")
def minimum(x: TensorLike, y: TensorLike) -> Tensor:
    """The smaller of x and y; a tie shares the gradient equally."""


@elementwise(
    np.fmax,
    (
        lambda z, x, y: logical_or(greater_equal(x, y), y != y),
        lambda z, x, y: logical_not(logical_or(greater_equal(x, y), y != y)),
    ),
    saves="in",
)
def fmax(x: TensorLike, y: TensorLike) -> Tensor:
    """The larger of x and y, the number where one is nan; a tie gives x the gradient."""


@elementwise(
    np.fmin,
    (
        lambda z, x, y: logical_or(less_equal(x, y), y != y),
        lambda z, x, y: logical_not(logical_or(less_equal(x, y), y != y)),
    ),
    saves="in",
)
def fmin(x: TensorLike, y: TensorLike) -> Tensor:
    """The smaller of x and y, the number where one is nan; a tie gives x the gradient."""


@elementwise(
    np.maximum,
    (lambda z, x, low: greater_equal(x, low), lambda z, x, low: less(x, low)),
    saves="in",
    name="clip_low",
)
def _clip_low(x: TensorLike, low: TensorLike) -> Tensor:
    """max(x, low); the slope in x is 1 at x = low."""


@elementwise(
    np.minimum,
    (lambda z, x, high: less_equal(x, high), lambda z, x, high: greater(x, high)),
    saves="in",
    name="clip_high",
)
def _clip_high(x: TensorLike, high: TensorLike) -> Tensor:
    """min(x, high); the slope in x is 1 at x = high."""


def _clip_both(x: Any, low: Any, high: Any) -> Any:
    return np.minimum(np.maximum(x, low), high)


@elementwise(
    _clip_both,
    (
        lambda z, x, low, high: logical_and(greater_equal(x, low), less_equal(x, high)),
        lambda z, x, low, high: logical_and(less(x, low), less(low, high)),
        lambda z, x, low, high: logical_or(greater(x, high), less(high, low)),
    ),
    saves="in",
    name="clip",
)
def _clip(x: TensorLike, low: TensorLike, high: TensorLike) -> Tensor:
    """min(max(x, low), high)."""


def clip(x: TensorLike, min: TensorLike | None = None, max: TensorLike | None = None) -> Tensor:
    """x limited to [min, max]: numbers or tensors that broadcast, or None for no limit.

    The slope at the ends is 1. Where min > max the result is max, as in PyTorch.

    >>> import fathom
    >>> fathom.clip(fathom.tensor([-2.0, 0.5, 2.0]), -1, 1)
    tensor([-1. ,  0.5,  1. ])
    """
    if min is not None and max is not None:
        return _clip(x, min, max)
    if min is None and max is None:
        raise ArgumentError("clip: give min, max or both")
    return _clip_high(x, max) if min is None else _clip_low(x, min)  # type: ignore[arg-type]


clamp = clip


# -- dtype -------------------------------------------------------------------------------------


def _astype(x: Any, dtype: Any) -> Any:
    return np.asarray(x).astype(dtype)


_cast = general(
    "astype",
    _astype,
    vjp=(lambda g, out, x, dtype: g.astype(x.dtype),),
    jvp=(lambda t, out, x, dtype: t.astype(dtype),),
    shape=lambda x, dtype: x.shape,
    casts=True,
    batch="elementwise",
)


def astype(x: TensorLike, dtype: Any) -> Tensor:
    """x with another element type; the gradient comes back in the old one."""
    try:
        wanted = np.dtype(dtype)
    except TypeError:
        raise DtypeError(f"astype: {dtype!r} is not an element type") from None
    if wanted.kind not in "fiub" or wanted.itemsize > 8:
        raise DtypeError(f"astype: a tensor holds floats, whole numbers or booleans, not {wanted}")
    return apply(_cast, operand(x, "astype"), dtype=wanted)


def floating(x: Any, name: str) -> Any:
    """An argument as a tensor of floats; whole numbers and booleans become float32."""
    x = operand(x, name)
    return x if x.dtype.kind == "f" else astype(x, np.float32)
