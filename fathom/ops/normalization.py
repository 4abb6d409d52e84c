"""Normalization: subtract a mean, divide by a standard deviation.

One primitive, `standardize`, does it over any axes and gives mean and variance along; batch,
layer, group and instance normalization differ in the axes and in what is learned.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from fathom.engine.errors import ArgumentError, GraphError, ShapeError, mark_axes
from fathom.engine.modes import tracing
from fathom.engine.primitive import apply, general
from fathom.engine.tensor import Tensor, TensorLike, mark_written
from fathom.ops.arguments import number, positive, whole
from fathom.ops.axes import Axis, torch_names
from fathom.ops.checks import floats, memory, on_arrays, operand, raw
from fathom.ops.elementwise import clip, sqrt
from fathom.ops.lengths import vector_norm
from fathom.ops.shape import reshape

__all__ = [
    "batch_norm",
    "group_norm",
    "instance_norm",
    "layer_norm",
    "normalize",
    "rms_norm",
    "standardize",
]


def _forward(x: Any, axis: tuple[int, ...], eps: float) -> Any:
    """(x - mean) / sqrt(var + eps), mean and var; the statistics keep their axes."""
    n = math.prod(x.shape[a] for a in axis)
    mean = np.true_divide(np.add.reduce(x, axis=axis, keepdims=True), n, dtype=x.dtype)
    out = np.subtract(x, mean)
    var = np.true_divide(
        np.add.reduce(np.square(out), axis=axis, keepdims=True),
        n,
        dtype=x.dtype,
    )
    out *= np.reciprocal(np.sqrt(var + x.dtype.type(eps)))
    return out, mean, var


def _share(x: Any, axis: tuple[int, ...]) -> float:
    """One over the number of elements that a statistic is taken of."""
    return 1.0 / max(math.prod(x.shape[a] for a in axis), 1)


def _vjp(g: Any, out: Any, x: Any, axis: tuple[int, ...], eps: float) -> Any:
    """(g - mean g - y mean(g y)) / std, and what mean and variance contribute."""
    (gy, gm, gv), (y, _, var) = g, out
    scale = _share(x, axis)
    std, total = sqrt(var + eps), None
    if gy is not None:
        dot = (gy * y).sum(axis=axis, keepdims=True) * scale
        total = (gy - gy.sum(axis=axis, keepdims=True) * scale - y * dot) / std
    if gv is not None:
        part = y * (gv * std * (2.0 * scale))
        total = part if total is None else total + part
    if gm is not None:
        part = y * 0.0 + gm * scale
        total = part if total is None else total + part
    return total


def _jvp(t: Any, out: Any, x: Any, axis: tuple[int, ...], eps: float) -> Any:
    y, _, var = out
    scale, std = _share(x, axis), sqrt(var + eps)
    mean = t.sum(axis=axis, keepdims=True) * scale
    dot = (t * y).sum(axis=axis, keepdims=True) * scale
    return (t - mean - y * dot) / std, mean, 2.0 * dot * std


_standardize = general("standardize", _forward, vjp=(_vjp,), jvp=(_jvp,), saves="out", batch="axis")


def standardize(x: Any, axis: tuple[int, ...], eps: float = 1e-5) -> tuple[Any, Any, Any]:
    """(x - mean) / sqrt(var + eps) over `axis`, with mean and (biased) var, axes kept."""
    y, mean, var = apply(_standardize, x, axis=axis, eps=float(eps))
    return y, mean, var


def _scaled(y: Any, weight: Any, bias: Any, shape: tuple[int, ...]) -> Any:
    if weight is not None:
        y = y * reshape(weight, shape)
    return y if bias is None else y + reshape(bias, shape)


def _input(name: str, x: TensorLike, least: int, layout: str) -> Any:
    a = operand(x)
    floats(name, a)
    if a.ndim < least:
        raise ShapeError(f"{name}: needs an input {layout}; received shape {a.shape}")
    return a


def _vectors(name: str, channels: int, **values: Any) -> list[Any]:
    """Weights, biases and statistics: one number a channel, or None."""
    found = [None if v is None else operand(v) for v in values.values()]
    for key, v in zip(values, found, strict=True):
        if v is not None and v.shape != (channels,):
            raise ShapeError(
                f"{name}: {key} must have shape ({channels},), one number for each channel of "
                f"the input; received {v.shape}"
            )
    return found


# -- batch normalization ---------------------------------------------------------------------------


def batch_norm(
    input: TensorLike,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: TensorLike | None = None,
    bias: TensorLike | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Each channel standardized over the batch, then scaled and shifted; (n, c, ...).

    Ioffe and Szegedy (2015). While training (or without running statistics) mean and variance
    are those of the batch, and the running ones move towards them by `momentum`, in place; the
    running variance takes n - 1 as divisor, as in PyTorch. Otherwise the running ones are used.

    >>> import fathom
    >>> x = fathom.tensor([[1.0], [3.0]])
    >>> fathom.nn.functional.batch_norm(x, None, None, training=True)
    tensor([[-1.],
            [ 1.]])
    """
    x = _input("batch_norm", input, 2, "(n, c, ...)")
    if tracing() is None:
        number(momentum, "momentum", "batch_norm", 0.0, 1.0)
    number(eps, "eps", "batch_norm", 0.0)
    channels = x.shape[1]
    mean, var, scale, shift = _vectors(
        "batch_norm",
        channels,
        running_mean=running_mean,
        running_var=running_var,
        weight=weight,
        bias=bias,
    )
    shape = (channels, *(1,) * (x.ndim - 2))
    if not training:
        if mean is None or var is None:
            raise ArgumentError(
                "batch_norm: without training, running_mean and running_var are needed",
                fix="pass both, or training=True for the statistics of the batch",
            )
        y = (x - reshape(mean, shape)) / sqrt(reshape(var, shape) + eps)
        return _scaled(y, scale, shift, shape)
    count = x.size // channels if channels else 0
    if count == 1:
        raise ShapeError(
            f"batch_norm: {mark_axes(x.shape, [0])} gives one value for each channel while "
            "training; its variance is 0",
            fix="use a batch of at least 2, or eval() mode",
        )
    y, batch_mean, batch_var = standardize(x, (0, *range(2, x.ndim)), eps)
    for running, batch, factor in ((mean, batch_mean, 1.0), (var, batch_var, _unbiased(count))):
        if running is not None and count:
            move(running, batch, momentum, factor)
    return _scaled(y, scale, shift, shape)


def _unbiased(count: int) -> float:
    return count / (count - 1) if count > 1 else math.nan


def move(running: Any, batch: Any, momentum: float, factor: float = 1.0) -> None:
    """running = (1 - momentum) * running + momentum * factor * batch, in place, not recorded."""
    target, new = memory(running), memory(batch)
    if new.size != target.size:
        raise GraphError(
            "batch_norm: running statistics cannot be updated under vmap: each row has its own",
            fix="pass running_mean=None and running_var=None, or use eval() mode",
        )
    target *= 1.0 - momentum
    target += (momentum * factor) * new.reshape(target.shape)
    if isinstance(running, Tensor):
        mark_written(running)


def instance_norm(
    input: TensorLike,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: TensorLike | None = None,
    bias: TensorLike | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Each channel of each sample standardized by itself; (n, c, ...). Ulyanov et al. (2016)."""
    x = _input("instance_norm", input, 3, "(n, c, ...)")
    if not use_input_stats:
        return batch_norm(x, running_mean, running_var, weight, bias, False, momentum, eps)
    (
        number(momentum, "momentum", "instance_norm", 0.0, 1.0),
        number(eps, "eps", "instance_norm", 0.0),
    )
    n, channels = x.shape[:2]
    mean, var, scale, shift = _vectors(
        "instance_norm",
        channels,
        running_mean=running_mean,
        running_var=running_var,
        weight=weight,
        bias=bias,
    )
    count = math.prod(x.shape[2:])
    if count == 1:
        raise ShapeError(
            f"instance_norm: {x.shape} has one value for each channel of a sample; its variance "
            "is 0"
        )
    y, own_mean, own_var = standardize(x, tuple(range(2, x.ndim)), eps)
    for running, own, factor in ((mean, own_mean, 1.0), (var, own_var, _unbiased(count))):
        if running is not None and n:
            shape = own.shape if tracing() is not None else raw(own).shape
            if shape[0] != n or math.prod(shape) != n * channels:
                move(running, own, momentum)  # says why it cannot
            per_channel = on_arrays(_over_samples, own, n=n, channels=channels)
            move(running, per_channel, momentum, factor)
    return _scaled(y, scale, shift, (channels, *(1,) * (x.ndim - 2)))


def _over_samples(values: Any, n: int, channels: int) -> Any:
    return np.add.reduce(values.reshape(n, channels), axis=0) / n


# -- within a sample -------------------------------------------------------------------------------


def _last_axes(name: str, x: Any, normalized_shape: Any) -> tuple[int, ...]:
    several = isinstance(normalized_shape, list | tuple)
    given = tuple(normalized_shape) if several else (normalized_shape,)
    shape = tuple(whole(n, "normalized_shape", name, 0) for n in given)
    k = len(shape)
    if not k or tuple(x.shape[x.ndim - k :]) != shape or k > x.ndim:
        marked = mark_axes(x.shape, range(-min(k, x.ndim), 0))
        raise ShapeError(
            f"{name}: normalized_shape {shape} must be the last axes of the input {marked}"
        )
    return shape


def _shaped(name: str, shape: tuple[int, ...], **values: Any) -> list[Any]:
    found = [None if v is None else operand(v) for v in values.values()]
    for key, v in zip(values, found, strict=True):
        if v is not None and tuple(v.shape) != shape:
            raise ShapeError(f"{name}: {key} must have shape {shape}; received {v.shape}")
    return found


def layer_norm(
    input: TensorLike,
    normalized_shape: int | Sequence[int],
    weight: TensorLike | None = None,
    bias: TensorLike | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """The last axes of each sample standardized together. Ba, Kiros and Hinton (2016).

    >>> import fathom
    >>> fathom.nn.functional.layer_norm(fathom.tensor([[1.0, 3.0]]), 2)
    tensor([[-1.,  1.]])
    """
    x = _input("layer_norm", input, 1, "(..., *normalized_shape)")
    number(eps, "eps", "layer_norm", 0.0)
    shape = _last_axes("layer_norm", x, normalized_shape)
    scale, shift = _shaped("layer_norm", shape, weight=weight, bias=bias)
    y = standardize(x, tuple(range(x.ndim - len(shape), x.ndim)), eps)[0]
    return _scaled(y, scale, shift, shape)


def group_norm(
    input: TensorLike,
    num_groups: int,
    weight: TensorLike | None = None,
    bias: TensorLike | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """Groups of channels of each sample standardized together; (n, c, ...). Wu and He (2018)."""
    x = _input("group_norm", input, 2, "(n, c, ...)")
    positive(num_groups, "num_groups", "group_norm"), number(eps, "eps", "group_norm", 0.0)
    n, channels = x.shape[:2]
    scale, shift = _vectors("group_norm", channels, weight=weight, bias=bias)
    if channels % num_groups:
        raise ArgumentError(
            f"group_norm: {channels} channels {mark_axes(x.shape, [1])} cannot be split into "
            f"num_groups={num_groups} equal parts"
        )
    size = math.prod(x.shape[1:]) // num_groups
    y = standardize(reshape(x, (n, num_groups, size)), (2,), eps)[0]
    return _scaled(reshape(y, x.shape), scale, shift, (channels, *(1,) * (x.ndim - 2)))


def rms_norm(
    input: TensorLike,
    normalized_shape: int | Sequence[int],
    weight: TensorLike | None = None,
    eps: float | None = None,
) -> Tensor:
    """x / sqrt(mean of x^2 + eps) over the last axes; no mean is taken off.

    Zhang and Sennrich (2019). eps is by default the machine epsilon of the dtype.
    """
    x = _input("rms_norm", input, 1, "(..., *normalized_shape)")
    shape = _last_axes("rms_norm", x, normalized_shape)
    (scale,) = _shaped("rms_norm", shape, weight=weight)
    axes = tuple(range(x.ndim - len(shape), x.ndim))
    machine = float(np.finfo(x.dtype).eps)
    small = machine if eps is None else number(eps, "eps", "rms_norm", 0.0)
    squares = (x * x).sum(axis=axes, keepdims=True) * (1.0 / max(math.prod(shape), 1))
    return _scaled(x / sqrt(squares + small), scale, None, shape)


@torch_names
def normalize(input: TensorLike, p: float = 2.0, axis: Axis = 1, eps: float = 1e-12) -> Tensor:
    """x divided by its p-norm along `axis` (by eps where the norm is smaller).

    >>> import fathom
    >>> fathom.nn.functional.normalize(fathom.tensor([[3.0, 4.0]]))
    tensor([[0.6, 0.8]])
    """
    x: Any = _input("normalize", input, 1, "with axes")
    power = p if p in (math.inf, -math.inf) else number(p, "p", "normalize")
    number(eps, "eps", "normalize", 0.0)
    return x / clip(vector_norm(x, power, axis, True), min=eps)
