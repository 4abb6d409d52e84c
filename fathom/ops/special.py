"""Special functions: the error function, the gamma family, sums of exponentials.

NumPy has none of the first two, so they are computed here: erf and erfc by rational
approximations as Cody (1969) made them, the gamma family by its asymptotic series after a shift.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fathom.engine.errors import DtypeError
from fathom.engine.primitive import apply, elementwise, general
from fathom.engine.tensor import Array, Tensor, TensorLike
from fathom.ops.axes import operand
from fathom.ops.elementwise import abs as abs_
from fathom.ops.elementwise import (
    as_float,
    clip,
    div,
    equal,
    exp,
    floating,
    greater,
    log,
    log1p,
    logical_not,
    mul,
    neg,
    safe_where,
    sigmoid,
    square,
    sub,
    where,
)
from fathom.ops.trigonometric import sin

__all__ = [
    "digamma",
    "erf",
    "erfc",
    "erfinv",
    "lgamma",
    "logaddexp",
    "logaddexp2",
    "logit",
    "logsigmoid",
    "polygamma",
    "sinc",
    "softplus",
    "xlogy",
]


# -- the error function ------------------------------------------------------------------------
# erfc(a) = exp(-a^2) P(a) / Q(a) for a >= 0. The ratios are minimax fits of exp(a^2) erfc(a) by
# scripts/fit_error_function.py: relative error 5.6e-9 for a <= 10 (float32) and 5.0e-17 for
# a <= 27.3 (float64), beyond which erfc is 0. Highest powers first; all are positive, so that
# Horner's scheme loses nothing.

_SINGLE = (
    (0.03270210465870486, 0.22876975285621504, 0.7306629474300381, 1.2375128076503674,
     1.0000000056355847),
    (0.05796225707394353, 0.4055106730164557, 1.3236114765451887, 2.40027762813057,
     2.3658925420352963, 1.0),
)  # fmt: skip
_DOUBLE = (
    (6.251013080974368e-05, 0.0011889631296581815, 0.011072189899571726, 0.06530825889674689,
     0.26685507258658403, 0.7806636756917216, 1.6352450962992418, 2.374731826115279,
     2.190964928726777, 1.0),
    (0.00011079632207467989, 0.002107382277697482, 0.019680343789764625, 0.1168095659869107,
     0.482745379159404, 1.4405145172668985, 3.125217630231599, 4.845692696845932,
     5.12021055226326, 3.3193440958222755, 1.0),
)  # fmt: skip
_ROOT_PI = math.sqrt(math.pi)
_NEAR_ZERO = 0.5  # up to here erf is summed as a series
_SERIES = [
    2.0 / _ROOT_PI * (-1) ** k / (math.factorial(k) * (2 * k + 1)) for k in reversed(range(13))
]
_CHUNK = 1 << 16  # bytes worked on at a time: the temporaries stay in the cache


def _polynomial(coefficients: Sequence[float], x: Array) -> Array:
    """Horner's scheme, highest power first."""
    out = x * coefficients[0]
    out += coefficients[1]
    for c in coefficients[2:]:
        out *= x
        out += c
    return out


def _decay(a: Array) -> Array:
    """exp(-a^2), with the rounding of the square made good: it would grow with a."""
    bits, mask = (np.int32, -1 << 12) if a.dtype == np.float32 else (np.int64, -1 << 27)
    head: Array = np.bitwise_and(a.view(bits), mask).view(a.dtype)  # its square is exact
    square = a * a
    rest = (a - head) * (a + head)
    head *= head
    rest += head - square  # a^2 - square
    out = np.exp(np.negative(square, out=square))
    rest *= out
    out -= rest
    return out


def _upper(a: Array) -> Array:
    """erfc(a) for a >= 0."""
    single = a.dtype == np.float32
    above, below = _SINGLE if single else _DOUBLE
    a = np.clip(a, 0.0, 11.0 if single else 28.0)  # 0 from there on
    out = _polynomial(above, a)
    out /= _polynomial(below, a)
    out *= _decay(a)
    return out


# np.where on signs at random waits for the branch predictor; sums with factors 0 and 1 do not.


def _erfc_chunk(x: Array) -> Array:
    out, below = _upper(np.abs(x)), (x < 0).astype(x.dtype)
    below *= 2.0
    out *= 1.0 - below
    out += below
    return out


def _erf_chunk(x: Array) -> Array:
    a = np.abs(x)
    near, close = np.clip(a, 0.0, _NEAR_ZERO), (a <= _NEAR_ZERO).astype(x.dtype)
    near *= _polynomial(_SERIES[6:] if x.dtype == np.float32 else _SERIES, near * near)
    near *= close
    near += (1.0 - close) * (1.0 - _upper(a))
    return np.copysign(near, x)


def _in_chunks(function: Callable[[Array], Array], x: Any) -> Array:
    """A function of an array, a cacheful at a time; float16 is worked out in float32."""
    given = as_float(x)
    flat = given.reshape(-1)
    flat = flat.astype(np.float32) if flat.dtype == np.float16 else flat
    out, step = np.empty(flat.shape, given.dtype), _CHUNK // flat.itemsize
    for start in range(0, flat.size, step):
        out[start : start + step] = function(flat[start : start + step])
    return out.reshape(given.shape)


def _erf(x: Any) -> Array:
    return _in_chunks(_erf_chunk, x)


def _erfc(x: Any) -> Array:
    return _in_chunks(_erfc_chunk, x)


@elementwise(
    _erf, (lambda z, x: 2.0 / _ROOT_PI * exp(-x * x),), saves="in", domain=((-3.0, 3.0),), cost=16.0
)
def erf(x: TensorLike) -> Tensor:
    """The error function, 2/sqrt(pi) times the integral of exp(-t^2) from 0 to x.

    >>> import fathom
    >>> fathom.erf(fathom.tensor([0.0, 1.0]))
    tensor([0.    , 0.8427])
    """


@elementwise(
    _erfc,
    (lambda z, x: -2.0 / _ROOT_PI * exp(-x * x),),
    saves="in",
    domain=((-3.0, 3.0),),
    cost=16.0,
)
def erfc(x: TensorLike) -> Tensor:
    """1 - erf(x), exact where erf rounds to 1."""


def _erfinv(x: Any) -> Array:
    """Giles (2010), "Approximating the erfinv function", then Halley steps on erf itself."""
    given = as_float(x)
    x = given.astype(np.float64)
    w = -np.log((1.0 - x) * (1.0 + x))
    near = _polynomial(
        (2.81022636e-08, 3.43273939e-07, -3.5233877e-06, -4.39150654e-06, 0.00021858087,
         -0.00125372503, -0.00417768164, 0.246640727, 1.50140941), w - 2.5)  # fmt: skip
    root = np.sqrt(np.maximum(w, 5.0)) - 3.0
    far = _polynomial(
        (-0.000200214257, 0.000100950558, 0.00134934322, -0.00367342844, 0.00573950773,
         -0.0076224613, 0.00943887047, 1.00167406, 2.83297682), root)  # fmt: skip
    rest = 1.0 - np.abs(x)  # near the ends, erfc of the result must be this
    end = np.sqrt(np.maximum(w, 5.0))
    for _ in range(3):  # erfc(y) = exp(-y^2) / (y sqrt(pi)), nearly
        end = np.sqrt(np.maximum(-np.log(rest * end * _ROOT_PI), 1.0))
    y = np.where(w < 5.0, near * x, np.where(w < 16.0, far * x, np.copysign(end, x)))
    for _ in range(3):
        error = np.where(np.abs(x) < 0.5, _erf(y) - x, np.sign(x) * (rest - _erfc(np.abs(y))))
        step = error / (2.0 / _ROOT_PI * np.exp(-y * y))
        y = y - step / (1.0 + y * step)
    y = np.where(rest == 0.0, np.copysign(np.inf, x), np.where(rest < 0.0, np.nan, y))
    return y.astype(given.dtype)


@elementwise(
    _erfinv,
    (lambda z, x: 0.5 * _ROOT_PI * exp(z * z),),
    saves="out",
    domain=((-0.9, 0.9),),
    cost=64.0,
)
def erfinv(x: TensorLike) -> Tensor:
    """The inverse of erf; infinite at -1 and 1, nan outside."""


# -- the gamma family --------------------------------------------------------------------------

_BERNOULLI = (1 / 6, -1 / 30, 1 / 42, -1 / 30, 5 / 66, -691 / 2730, 7 / 6, -3617 / 510)
_SHIFT = 12  # the series is used above this


def _lgamma(x: Any) -> Array:
    """Stirling's series above `_SHIFT`, the recurrence below it, reflection below 0."""
    given = as_float(x)
    x = given.astype(np.float64)
    a = np.where(x < 0.5, 1.0 - x, x)
    product, shifted = np.ones_like(a), a.copy()
    for _ in range(_SHIFT):
        low = shifted < _SHIFT
        product = np.where(low, product * shifted, product)
        shifted = np.where(low, shifted + 1.0, shifted)
    inverse = 1.0 / shifted
    series = sum(
        b / (2 * k * (2 * k - 1)) * inverse ** (2 * k - 1) for k, b in enumerate(_BERNOULLI, 1)
    )
    out = (shifted - 0.5) * np.log(shifted) - shifted + 0.5 * math.log(2 * math.pi) + series
    out = out - np.log(product)
    fraction = x - np.floor(x)
    reflected = math.log(math.pi) - np.log(np.sin(math.pi * np.minimum(fraction, 1.0 - fraction)))
    out = np.where(x < 0.5, reflected - out, out)
    pole = (x <= 0) & (fraction == 0)
    out = np.where(pole | np.isinf(x), np.inf, np.where((x == 1.0) | (x == 2.0), 0.0, out))
    return np.where(np.isnan(x), x, out).astype(given.dtype)


@elementwise(_lgamma, (lambda z, x: digamma(x),), saves="in", domain=((0.2, 5.0),), cost=64.0)
def lgamma(x: TensorLike) -> Tensor:
    """Logarithm of |gamma(x)|; inf at 0, -1, -2, ..."""


def _zeta(s: int, x: Array) -> Array:
    """sum of (x + k)^-s over k >= 0: terms one by one to `_SHIFT`, the rest by Euler-Maclaurin."""
    total, shifted = np.zeros_like(x), x.copy()
    lowest = float(np.minimum.reduce(x[np.isfinite(x)], initial=float(_SHIFT)))
    for _ in range(_SHIFT - math.floor(lowest)):
        low = shifted < _SHIFT
        total = np.where(low, total + shifted**-s, total)
        shifted = np.where(low, shifted + 1.0, shifted)
    out = total + shifted ** (1 - s) / (s - 1) + 0.5 * shifted**-s
    factor, power = float(s), shifted ** -(s + 1)
    for k, b in enumerate(_BERNOULLI, 1):
        out = out + b / math.factorial(2 * k) * factor * power
        factor *= (s + 2 * k - 1) * (s + 2 * k)
        power = power / (shifted * shifted)
    return out


def _polygamma(x: Any, n: int) -> Array:
    given = as_float(x)
    x = given.astype(np.float64)
    sign = -1.0 if n % 2 == 0 else 1.0
    a = np.where((x < 0.5) & (n < 2), 1.0 - x, x)
    if n:
        out = sign * math.factorial(n) * _zeta(n + 1, np.atleast_1d(a)).reshape(a.shape)
    else:
        out = _digamma(a)
    if n < 2:  # reflection
        angle = math.pi * (x - np.floor(x))
        mirror = -math.pi / np.tan(angle) if n == 0 else (math.pi / np.sin(angle)) ** 2
        out = np.where(x < 0.5, mirror - out if n else mirror + out, out)
    pole = (x <= 0) & (x == np.floor(x))
    at_pole = np.where(x == 0, np.copysign(np.inf, -x), np.nan) if n == 0 else np.inf
    return np.where(pole, at_pole, out).astype(given.dtype)


def _digamma(a: Array) -> Array:
    """psi(a) for a >= 0.5."""
    total, shifted = np.zeros_like(a), a.copy()
    for _ in range(_SHIFT):
        low = shifted < _SHIFT
        total = np.where(low, total - 1.0 / shifted, total)
        shifted = np.where(low, shifted + 1.0, shifted)
    series = sum(b / (2 * k) * shifted ** (-2 * k) for k, b in enumerate(_BERNOULLI, 1))
    return total + np.log(shifted) - 0.5 / shifted - series


_polygamma_record = general(
    "polygamma",
    _polygamma,
    vjp=(lambda g, out, x, n: g * polygamma(n + 1, x),),
    jvp=(lambda t, out, x, n: t * polygamma(n + 1, x),),
    saves="in",
    batch="elementwise",
    shape=lambda x, n: x.shape,
    domain=((0.2, 5.0),),
    cost=64.0,
)


def polygamma(n: int, x: TensorLike) -> Tensor:
    """Derivative n + 1 of `lgamma`: digamma for n = 0, trigamma for n = 1, ...

    >>> import fathom
    >>> fathom.polygamma(1, fathom.tensor(1.0))
    tensor(1.6449)
    """
    if isinstance(n, bool) or not isinstance(n, int) or n < 0:
        raise DtypeError(f"polygamma: n is a whole number from 0; received {n!r}")
    return apply(_polygamma_record, operand(x, "polygamma"), n=n)


def digamma(x: TensorLike) -> Tensor:
    """Derivative of `lgamma`; -inf at 0, nan at -1, -2, ..."""
    return polygamma(0, x)


# -- sums of exponentials ----------------------------------------------------------------------


@elementwise(
    np.logaddexp,
    (lambda z, x, y: exp(x - z), lambda z, x, y: exp(y - z)),
    saves="in out",
    cost=16.0,
)
def logaddexp(x: TensorLike, y: TensorLike) -> Tensor:
    """log(exp(x) + exp(y)) without overflow; the slopes are nan where both are -inf.

    >>> import fathom
    >>> fathom.logaddexp(fathom.tensor(1000.0), 1000.0)
    tensor(1000.6932)
    """


@elementwise(
    np.logaddexp2,
    (lambda z, x, y: exp((x - z) * math.log(2.0)), lambda z, x, y: exp((y - z) * math.log(2.0))),
    saves="in out",
    cost=16.0,
)
def logaddexp2(x: TensorLike, y: TensorLike) -> Tensor:
    """log2(2^x + 2^y) without overflow."""


def _softplus(x: Any) -> Array:
    x = as_float(x)
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


@elementwise(
    _softplus,
    (lambda z, x: sigmoid(x),),
    saves="in",
    domain=((-3.0, 3.0),),
    cost=16.0,
    name="softplus",
)
def _plain_softplus(x: TensorLike) -> Tensor:
    """log(1 + exp(x))."""


def softplus(x: TensorLike, beta: float = 1.0, threshold: float | None = None) -> Tensor:
    """log(1 + exp(beta x)) / beta, without overflow and exact at both ends.

    PyTorch returns x itself where beta x > threshold (20 by default), which differs by at most
    2.1e-9; give `threshold` to get that too.

    >>> import fathom
    >>> fathom.softplus(fathom.tensor([0.0, 10.0]))
    tensor([ 0.6931, 10.    ])
    """
    scaled = x if beta == 1.0 else mul(x, beta)
    out = _plain_softplus(scaled)
    if beta != 1.0:
        out = div(out, beta)
    return out if threshold is None else where(greater(scaled, threshold), x, out)


def _logsigmoid(x: Any) -> Array:
    x = as_float(x)
    return np.minimum(x, 0) - np.log1p(np.exp(-np.abs(x)))


@elementwise(
    _logsigmoid, (lambda z, x: sigmoid(neg(x)),), saves="in", domain=((-3.0, 3.0),), cost=16.0
)
def logsigmoid(x: TensorLike) -> Tensor:
    """log(sigmoid(x)), exact where the sigmoid underflows."""


def _xlogy(x: Any, y: Any) -> Array:
    zero = np.equal(x, 0) & ~np.isnan(y)
    return np.where(zero, np.multiply(x, 0), np.multiply(x, np.log(np.where(zero, 1, y))))


def _log_or_zero(x: Any, y: Any) -> Any:
    zero = equal(x, 0.0) & (y <= 0)
    return where(zero, 0.0, log(where(zero, 1.0, y)))


@elementwise(
    _xlogy,
    (lambda z, x, y: _log_or_zero(x, y), lambda z, x, y: x / y),
    saves="in",
    domain=((-3.0, 3.0), (0.2, 5.0)),
    cost=8.0,
)
def xlogy(x: TensorLike, y: TensorLike) -> Tensor:
    """x log(y), and 0 where x is 0."""


# -- logit and sinc ------------------------------------------------------------------------------


def logit(x: TensorLike, eps: float | None = None) -> Tensor:
    """log(x / (1 - x)), the inverse of `sigmoid`; with `eps`, of x held to [eps, 1 - eps].

    >>> import fathom
    >>> fathom.logit(fathom.tensor([0.5, 0.0]), eps=0.5)
    tensor([0., 0.])
    """
    a: Any = floating(x, "logit")
    if eps is not None:
        a = clip(a, eps, 1.0 - eps)
    return sub(log(a), log1p(neg(a)))


_NEAR = 0.3  # below it the series of sinc to the tenth power is exact in float64


def _near_zero(y: Any) -> Any:
    """sin(y) / y by its series, whose derivatives are exact at 0."""
    z: Any = square(y)
    return 1 - z * (1 - z * (1 - z * (1 - z * (1 - z / 110) / 72) / 42) / 20) / 6


def sinc(x: TensorLike) -> Tensor:
    """sin(pi x) / (pi x), and 1 at 0, where the derivatives of all orders are right too.

    >>> import fathom
    >>> fathom.sinc(fathom.tensor([0.0, 0.5]))
    tensor([1.    , 0.6366])
    """
    y: Any = mul(floating(x, "sinc"), math.pi)
    far: Any = greater(abs_(y), _NEAR)
    near = safe_where(logical_not(far), _near_zero, y, safe=0.0)
    return safe_where(far, lambda v: sin(v) / v, y, near)
