"""Random choices without a gradient, and random operations with a defined one.

All numbers come from the named streams of the current `Random` (`fathom.seed`): the same seed
draws the same numbers. Masks are constants of the derivative; `normal` is reparameterized, so
that mean and standard deviation get gradients (Kingma and Welling, 2014).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from fathom.engine.errors import ArgumentError, ShapeError
from fathom.engine.random import current
from fathom.engine.tensor import Tensor, TensorLike
from fathom.ops.axes import one_axis, torch_names
from fathom.ops.checks import floats, need_axes, operand, raw
from fathom.ops.elementwise import mul
from fathom.ops.elementwise import where as where_
from fathom.ops.loss import softmax

__all__ = [
    "bernoulli",
    "multinomial",
    "normal",
]

STREAM = "sample"


# -- without gradient ------------------------------------------------------------------------------


def bernoulli(p: TensorLike) -> Tensor:
    """1 with probability p, else 0, in the shape and dtype of p; no gradient.

    >>> import fathom
    >>> fathom.bernoulli(fathom.tensor([0.0, 1.0]))
    tensor([0., 1.])
    """
    a = operand(p)
    floats("bernoulli", a)
    values = raw(a)
    _probabilities("bernoulli", values)
    draw = current().stream(STREAM).uniform(values.shape, dtype=np.float64)
    return Tensor((draw < values).astype(a.dtype))


def _probabilities(name: str, values: Any) -> None:
    bad = ~((values >= 0) & (values <= 1))
    if bad.any():
        raise ArgumentError(f"{name}: probabilities lie in [0, 1]; received {values[bad][0]}")


def multinomial(weights: TensorLike, num_samples: int, replacement: bool = False) -> Tensor:
    """Indices drawn in proportion to weights (n,) or (rows, n); no gradient."""
    w = raw(operand(weights)).astype(np.float64)
    need_axes("multinomial", "the weights", w, (1, 2), "(n,) or (rows, n)")
    if not (np.isfinite(w) & (w >= 0)).all() or not (np.add.reduce(w, axis=-1) > 0).all():
        raise ArgumentError("multinomial: weights must be >= 0, finite and not all 0")
    if not replacement and ((w > 0).sum(axis=-1) < num_samples).any():
        raise ArgumentError(
            f"multinomial: {num_samples} different samples need as many weights > 0",
            fix="replacement=True",
        )
    shape = (*w.shape[:-1], num_samples)
    stream = current().stream(STREAM)
    if replacement:
        edges = np.add.accumulate(w, axis=-1)
        draw = stream.uniform(shape, dtype=np.float64) * edges[..., -1:]
        index = (draw[..., None] >= edges[..., None, :]).sum(axis=-1)
        return Tensor(np.minimum(index, w.shape[-1] - 1))
    # the k smallest of independent exponential waiting times (Efraimidis and Spirakis, 2006)
    waiting = -np.log1p(-stream.uniform(w.shape, dtype=np.float64))
    waiting = np.divide(waiting, w, out=np.full(w.shape, np.inf), where=w > 0)
    return Tensor(np.argsort(waiting, axis=-1, kind="stable")[..., :num_samples])


# -- with gradient ---------------------------------------------------------------------------------


def normal(
    mean: TensorLike = 0.0, std: TensorLike = 1.0, size: Sequence[int] | None = None
) -> Tensor:
    """mean + std * noise: normally distributed, with gradients to mean and std.

    >>> import fathom
    >>> std = fathom.tensor([1.0, 1.0], requires_grad=True)
    >>> fathom.normal(5.0, std).requires_grad
    True
    """
    m, s = operand(mean), operand(std)
    floats("normal", *(v for v in (m, s) if v.ndim))
    if (raw(s) < 0).any():
        raise ArgumentError("normal: std must be >= 0")
    try:
        shape = np.broadcast_shapes(m.shape, s.shape, () if size is None else tuple(size))
    except ValueError:
        raise ShapeError(
            f"normal: mean {m.shape}, std {s.shape} and size {size} do not broadcast"
        ) from None
    kinds = [v.dtype for v in (m, s) if v.ndim] or [v.dtype for v in (m, s) if v.dtype.kind == "f"]
    dtype = np.result_type(*kinds) if kinds else np.dtype(np.float32)
    noise = current().stream(STREAM).normal(shape, dtype=dtype)
    return m + s * Tensor(noise)


def _keep(name: str, p: float, shape: Sequence[int]) -> Any:
    """True where an element stays."""
    if not 0.0 <= p <= 1.0:
        raise ArgumentError(f"{name}: p is a probability in [0, 1]; received {p!r}")
    return current().stream("dropout").bernoulli(1.0 - p, shape)


def dropout(x: TensorLike, p: float = 0.5, training: bool = True) -> Tensor:
    """x with a share p of its elements zeroed and the rest scaled by 1/(1-p).

    Srivastava et al. (2014). The mask comes from the stream "dropout" of the current `Random`.
    """
    return _dropped("dropout", operand(x), p, training, ())


def _dropped(name: str, x: Any, p: float, training: bool, shared: Sequence[int]) -> Any:
    """Dropout with one draw for all elements along the axes `shared`."""
    if not 0.0 <= p <= 1.0:
        raise ArgumentError(f"{name}: p is a probability in [0, 1]; received {p!r}")
    if not training or p == 0.0:
        return x
    floats(name, x)
    shape = tuple(1 if i in shared else n for i, n in enumerate(x.shape))
    scale = 0.0 if p == 1.0 else 1.0 / (1.0 - p)
    return mul(x, _keep(name, p, shape) * x.dtype.type(scale))


def dropout_channels(rank: int, x: TensorLike, p: float = 0.5, training: bool = True) -> Any:
    """Whole channels dropped: (n, c, *spatial) or (c, *spatial). Tompson et al. (2015)."""
    name, a = f"dropout{rank}d", operand(x)
    need_axes(name, "the input", a, (rank + 1, rank + 2), "(n, c, *spatial) or (c, *spatial)")
    return _dropped(name, a, p, training, range(a.ndim - rank, a.ndim))


def alpha_dropout(x: TensorLike, p: float = 0.5, training: bool = False) -> Tensor:
    """Dropout to SELU's lower limit that keeps mean 0 and variance 1. Klambauer et al. (2017)."""
    return _alpha("alpha_dropout", operand(x), p, training, ())


def feature_alpha_dropout(x: TensorLike, p: float = 0.5, training: bool = False) -> Tensor:
    """`alpha_dropout` of whole channels; (n, c, ...)."""
    a = operand(x)
    return _alpha("feature_alpha_dropout", a, p, training, range(2, a.ndim))


def _alpha(name: str, x: Any, p: float, training: bool, shared: Sequence[int]) -> Any:
    if not 0.0 <= p <= 1.0:
        raise ArgumentError(f"{name}: p is a probability in [0, 1]; received {p!r}")
    if not training or p == 0.0:
        return x
    if p == 1.0:
        return x * 0.0
    floats(name, x)
    low = -1.7580993408473766  # -scale * alpha of SELU
    a = 1.0 / math.sqrt((low * low * p + 1.0) * (1.0 - p))
    shape = tuple(1 if i in shared else n for i, n in enumerate(x.shape))
    keep = _keep(name, p, shape)
    kind = x.dtype.type
    shift = where_(keep, kind(0), kind(low * a)) + kind(-low * p * a)
    return x * (keep * kind(a)) + shift


@torch_names
def gumbel_softmax(
    logits: TensorLike, tau: float = 1.0, hard: bool = False, axis: int = -1
) -> Tensor:
    """A differentiable draw from a categorical distribution (Jang, Gu and Poole, 2017).

    softmax((logits + Gumbel noise) / tau); with hard=True one-hot forward, with the gradient of
    the soft values. The noise comes from the stream "gumbel".
    """
    x: Any = operand(logits)
    floats("gumbel_softmax", x)
    if not tau > 0:
        raise ArgumentError(f"gumbel_softmax: tau must be > 0; received {tau!r}")
    where = one_axis(axis, x.ndim, "gumbel_softmax")
    draw = current().stream("gumbel").uniform(x.shape, dtype=np.float64)
    noise = -np.log(-np.log(np.maximum(draw, np.finfo(np.float64).tiny)))
    soft: Any = softmax((x + noise.astype(x.dtype)) * (1.0 / tau), where)
    if not hard:
        return soft
    from fathom.engine.primitive import TABLE, apply

    winner: Any = soft.argmax(axis=where, keepdims=True)
    numbers = np.arange(x.shape[where]).reshape([-1 if i == where else 1 for i in range(x.ndim)])
    still: Any = apply(TABLE["constant_of"], soft)
    return (winner == numbers).astype(x.dtype) + (soft - still)
