"""Losses on real numbers, and the likelihoods behind them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fathom.engine.errors import ArgumentError, ShapeError
from fathom.engine.hearing import loss_heard
from fathom.engine.modes import tracing
from fathom.engine.primitive import apply, elementwise
from fathom.engine.tensor import Tensor, TensorLike
from fathom.ops.arguments import number
from fathom.ops.checks import floats, on_arrays, operand, raw
from fathom.ops.elementwise import abs as abs_
from fathom.ops.elementwise import exp, greater, less, log, square, sub, where
from fathom.ops.losses.common import finish, pair, same_dtype, weighted
from fathom.ops.shape import reshape

__all__ = [
    "gaussian_nll_loss",
    "huber_loss",
    "kl_div",
    "l1_loss",
    "mse_loss",
    "poisson_nll_loss",
    "smooth_l1_loss",
]


@loss_heard
def mse_loss(
    input: TensorLike, target: TensorLike, reduction: str = "mean", weight: TensorLike | None = None
) -> Tensor:
    """(input - target)^2, averaged; the shapes must be equal (nothing is broadcast).

    >>> import fathom
    >>> mse_loss(fathom.tensor([1.0, 2.0]), fathom.tensor([0.0, 0.0]))
    tensor(2.5)
    """
    x, y = pair("mse_loss", input, target)
    return weighted("mse_loss", square(sub(x, y)), weight, reduction)


@loss_heard
def l1_loss(
    input: TensorLike, target: TensorLike, reduction: str = "mean", weight: TensorLike | None = None
) -> Tensor:
    """|input - target|, averaged.

    >>> import fathom
    >>> l1_loss(fathom.tensor([1.0, 2.0]), fathom.tensor([0.0, 0.0]))
    tensor(1.5)
    """
    x, y = pair("l1_loss", input, target)
    return weighted("l1_loss", abs_(sub(x, y)), weight, reduction)


@loss_heard
def smooth_l1_loss(
    input: TensorLike, target: TensorLike, reduction: str = "mean", beta: float = 1.0
) -> Tensor:
    """d^2 / (2 beta) where |d| < beta, |d| - beta/2 beyond (Girshick, 2015); beta 0 is `l1_loss`."""  # noqa: E501
    number(beta, "beta", "smooth_l1_loss", 0.0)
    if beta == 0:
        return l1_loss(input, target, reduction)
    x, y = pair("smooth_l1_loss", input, target)
    d = sub(x, y)
    size: Any = abs_(d)
    loss = where(less(size, beta), square(d) * (0.5 / beta), size - 0.5 * beta)
    return finish("smooth_l1_loss", loss, reduction)


@loss_heard
def huber_loss(
    input: TensorLike,
    target: TensorLike,
    reduction: str = "mean",
    delta: float = 1.0,
    weight: TensorLike | None = None,
) -> Tensor:
    """d^2 / 2 where |d| <= delta, delta * (|d| - delta/2) beyond (Huber, 1964).

    With weights the mean is divided by the number of elements, as in PyTorch.
    """
    number(delta, "delta", "huber_loss", 0.0, above=True)
    x, y = pair("huber_loss", input, target)
    d = sub(x, y)
    size: Any = abs_(d)
    far = greater(size, delta)
    loss = where(far, (size - 0.5 * delta) * delta, square(d) * 0.5)
    if weight is not None:
        loss = weighted("huber_loss", loss, weight, "none")
    return finish("huber_loss", loss, reduction)


@loss_heard
def poisson_nll_loss(
    input: TensorLike,
    target: TensorLike,
    log_input: bool = True,
    full: bool = False,
    eps: float = 1e-8,
    reduction: str = "mean",
) -> Tensor:
    """The negative log-likelihood of counts under a Poisson distribution.

    `input` is the logarithm of the rate (log_input=True) or the rate. full=True adds Stirling's
    approximation of log(target!) where target > 1.
    """
    x, y = pair("poisson_nll_loss", input, target)
    number(eps, "eps", "poisson_nll_loss", 0.0)
    loss: Any = exp(x) - y * x if log_input else x - y * log(x + eps)
    if full:
        large = greater(y, 1.0)
        t: Any = where(large, y, 1.0)
        stirling = t * log(t) - t + log(t * (2.0 * math.pi)) * 0.5
        loss = loss + where(large, stirling, 0.0)
    return finish("poisson_nll_loss", loss, reduction)


def _variance(x: Any, var: Any) -> Any:
    """The variance in a shape that broadcasts on purpose: one for each row or channel."""
    if isinstance(var, (int, float)):
        return Tensor(np.full(x.shape, var, x.dtype))
    v = operand(var)
    floats("gaussian_nll_loss", v)
    same_dtype("gaussian_nll_loss", input=x, var=v)
    if v.shape == x.shape:
        return v
    if v.shape == x.shape[:-1]:
        return reshape(v, (*v.shape, 1))
    ones = [n for n, m in zip(v.shape, x.shape, strict=False) if n != m]
    if v.ndim == x.ndim and ones == [1]:
        return v
    raise ShapeError(
        f"gaussian_nll_loss: var {tuple(v.shape)} does not fit input {tuple(x.shape)}",
        fix="give the shape of the input, or 1 in place of one axis",
    )


@loss_heard
def gaussian_nll_loss(
    input: TensorLike,
    target: TensorLike,
    var: TensorLike,
    full: bool = False,
    eps: float = 1e-6,
    reduction: str = "mean",
) -> Tensor:
    """(log var + (input - target)^2 / var) / 2: the likelihood of a normal distribution.

    Nix and Weigend (1994). `var` has the shape of `input`, or lacks its last axis, or has one
    axis of size 1. Variances below eps count as eps; their gradient passes as if they did not.
    """
    x, y = pair("gaussian_nll_loss", input, target)
    v = _variance(x, var)
    on_arrays(_check_variance, v)
    number(eps, "eps", "gaussian_nll_loss", 0.0, above=True)
    small = less(v, eps)
    if tracing() is not None or raw(small).any():
        from fathom.engine.primitive import TABLE

        v = where(small, (v - apply(TABLE["constant_of"], v)) + eps, v)
    loss = (log(v) + square(sub(x, y)) / v) * 0.5
    if full:
        loss = loss + 0.5 * math.log(2.0 * math.pi)
    return finish("gaussian_nll_loss", loss, reduction)


# -- Kullback-Leibler --------------------------------------------------------------------------


def _check_variance(values: Any) -> Any:
    if (values < 0).any():
        raise ArgumentError("gaussian_nll_loss: var has negative elements")
    return values


def _x_log_x(x: Any) -> Any:
    zero = np.equal(x, 0)
    one = np.asarray(x).dtype.type(1)
    return np.where(zero, one * 0, x * np.log(np.where(zero, one, x)))


@elementwise(
    _x_log_x, (lambda z, x: log(x) + 1.0,), saves="in", domain=((0.1, 5.0),), name="x_log_x"
)
def x_log_x(x: TensorLike) -> Tensor:
    """x * log(x), 0 at 0."""


@loss_heard
def kl_div(
    input: TensorLike, target: TensorLike, reduction: str = "mean", log_target: bool = False
) -> Tensor:
    """target * (log target - input): `input` holds logarithms of probabilities.

    Kullback and Leibler (1951). reduction="batchmean" divides the sum by the length of the
    first axis and is the divergence; "mean" divides by the number of elements. With
    log_target=True the target holds logarithms, too.

    >>> import fathom
    >>> p = fathom.tensor([[0.5, 0.5]])
    >>> kl_div(fathom.log(p), p, reduction="batchmean")
    tensor(0.)
    """
    x, y = pair("kl_div", input, target)
    loss: Any = exp(y) * (y - x) if log_target else x_log_x(y) - y * x
    if reduction == "batchmean":
        if not x.ndim:
            raise ShapeError("kl_div: batchmean needs a batch axis; received a single number")
        return loss.sum() / x.shape[0] if x.shape[0] else loss.sum() * math.nan
    return finish("kl_div", loss, reduction)
