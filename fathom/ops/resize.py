"""Windows as columns (unfold, fold), and images in another size (interpolate, pixel_shuffle)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fathom.engine.errors import ArgumentError, ShapeError, mark_axes
from fathom.engine.primitive import Primitive, apply, linear
from fathom.engine.tensor import Tensor, TensorLike
from fathom.ops.arguments import number
from fathom.ops.checks import floats, need_axes, one_of, operand, sizes
from fathom.ops.pool import adaptive_avg_pool_nd, along
from fathom.ops.shape import permute, reshape
from fathom.ops.window import (
    Pads,
    Sizes,
    padded,
    scatter_windows,
    volume,
    window_counts,
    windows,
)

__all__ = [
    "channel_shuffle",
    "fold",
    "interpolate",
    "pixel_shuffle",
    "pixel_unshuffle",
    "unfold",
]


# -- unfold and fold ---------------------------------------------------------------------------


def _unfold_forward(
    x: Any, kernel: Sizes, stride: Sizes, padding: Pads, dilation: Sizes, spatial: Sizes
) -> Any:
    counts = window_counts("unfold", x.shape, kernel, stride, padding, dilation)
    view = windows(padded(x, padding), kernel, stride, dilation, counts)
    out = view.reshape(*x.shape[:-3], x.shape[-3] * volume(kernel), volume(counts))
    return out.copy() if np.may_share_memory(out, x) else out


def _fold_forward(
    x: Any, kernel: Sizes, stride: Sizes, padding: Pads, dilation: Sizes, spatial: Sizes
) -> Any:
    counts = window_counts("fold", spatial, kernel, stride, padding, dilation)
    parts = x.reshape(*x.shape[:-2], x.shape[-2] // volume(kernel), *kernel, *counts)
    return scatter_windows(parts, spatial, kernel, stride, padding, dilation)


_unfold: Primitive = linear(
    "unfold", _unfold_forward, (lambda g, out, x, **p: apply(_fold, g, **p),), batch="native"
)
_fold: Primitive = linear(
    "fold", _fold_forward, (lambda g, out, x, **p: apply(_unfold, g, **p),), batch="native"
)


def _window_options(
    name: str, kernel_size: Any, dilation: Any, padding: Any, stride: Any
) -> dict[str, Any]:
    return {
        "kernel": sizes(name, "kernel_size", kernel_size, 2),
        "stride": sizes(name, "stride", stride, 2),
        "padding": tuple((p, p) for p in sizes(name, "padding", padding, 2, 0)),
        "dilation": sizes(name, "dilation", dilation, 2),
    }


def unfold(
    input: TensorLike, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1
) -> Tensor:
    """Every window as a column: (n, c, h, w) -> (n, c * kernel, windows) (im2col).

    >>> import fathom
    >>> fathom.nn.functional.unfold(fathom.ones(1, 2, 4, 4), 2, stride=2).shape
    (1, 8, 4)
    """
    x = operand(input)
    floats("unfold", x)
    need_axes("unfold", "the input", x, (3, 4), "(n, c, h, w) or (c, h, w)")
    options = _window_options("unfold", kernel_size, dilation, padding, stride)
    window_counts("unfold", x.shape, **options)
    return apply(_unfold, x, spatial=tuple(x.shape[-2:]), **options)


def fold(
    input: TensorLike,
    output_size: Any,
    kernel_size: Any,
    dilation: Any = 1,
    padding: Any = 0,
    stride: Any = 1,
) -> Tensor:
    """Columns added up into an image: (n, c * kernel, windows) -> (n, c, h, w) (col2im)."""
    x = operand(input)
    floats("fold", x)
    need_axes("fold", "the input", x, (2, 3), "(n, c * kernel, windows)")
    options = _window_options("fold", kernel_size, dilation, padding, stride)
    spatial = sizes("fold", "output_size", output_size, 2)
    count = volume(window_counts("fold", spatial, **options))
    if x.shape[-2] % volume(options["kernel"]) or x.shape[-1] != count:
        raise ShapeError(
            f"fold: received {mark_axes(x.shape, [-1, -2])}; output_size {spatial} with kernel "
            f"{options['kernel']} needs a multiple of {volume(options['kernel'])} rows and "
            f"{count} columns"
        )
    return apply(_fold, x, spatial=spatial, **options)


# -- interpolation -----------------------------------------------------------------------------

_LINEAR = {"linear": 1, "bilinear": 2, "trilinear": 3}
_MODES = ("nearest", "nearest-exact", "linear", "bilinear", "trilinear", "bicubic", "area")


def _linear_weights(size: int, target: int, scale: float, corners: bool) -> Any:
    """The matrix (target, size) of linear interpolation."""
    at = _places(size, target, scale, corners)
    at = np.maximum(at, 0)
    low = np.minimum(at.astype(np.int64), size - 1)
    high, share = np.minimum(low + 1, size - 1), np.clip(at - low, 0, 1)
    out = np.zeros((target, size))
    rows = np.arange(target)
    np.add.at(out, (rows, low), 1 - share)
    np.add.at(out, (rows, high), share)
    return out


def _cubic_weights(size: int, target: int, scale: float, corners: bool) -> Any:
    """The matrix of cubic convolution with a = -0.75 (Keys, 1981)."""
    at, a = _places(size, target, scale, corners), -0.75
    low = np.floor(at).astype(np.int64)
    out = np.zeros((target, size))
    for k in range(-1, 3):
        d = np.abs(at - low - k)
        near, far = ((a + 2) * d - (a + 3)) * d * d + 1, ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
        share = np.where(d <= 1, near, np.where(d < 2, far, 0.0))
        np.add.at(out, (np.arange(target), np.clip(low + k, 0, size - 1)), share)
    return out


def _places(size: int, target: int, scale: float, corners: bool) -> Any:
    """Where the points of the output lie on the input."""
    i = np.arange(target)
    if corners:
        return i * ((size - 1) / (target - 1) if target > 1 else 0.0)
    return (i + 0.5) * scale - 0.5


def _nearest_weights(size: int, target: int, scale: float, exact: bool) -> Any:
    shift = 0.5 if exact else 0.0
    return np.minimum(((np.arange(target) + shift) * scale).astype(np.int64), size - 1)


def interpolate(
    input: TensorLike,
    size: Any = None,
    scale_factor: Any = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
) -> Tensor:
    """(n, c, *spatial) in another size: give `size`, or `scale_factor`.

    Modes: nearest, nearest-exact, linear (3 axes), bilinear and bicubic (4), trilinear (5),
    area.

    >>> import fathom
    >>> fathom.nn.functional.interpolate(fathom.ones(1, 2, 4, 4), scale_factor=2).shape
    (1, 2, 8, 8)
    """
    x: Any = operand(input)
    floats("interpolate", x)
    need_axes("interpolate", "the input", x, (3, 4, 5), "(n, c, *spatial)")
    one_of("interpolate", "mode", mode, _MODES)
    rank = x.ndim - 2
    if {**_LINEAR, "bicubic": 2}.get(mode, rank) != rank:
        names = {1: "linear", 2: "bilinear", 3: "trilinear"}
        raise ArgumentError(
            f"interpolate: mode {mode!r} does not fit an input of shape {x.shape}",
            fix=f"mode={names[rank]!r}",
        )
    if align_corners is not None and mode in ("nearest", "nearest-exact", "area"):
        raise ArgumentError(f"interpolate: align_corners has no meaning with mode {mode!r}")
    targets, scales = _resized(x, rank, size, scale_factor, bool(recompute_scale_factor))
    if mode == "area":
        return adaptive_avg_pool_nd(rank, x, targets)
    for a, (n, t, s) in enumerate(zip(x.shape[2:], targets, scales, strict=True)):
        if n == t and s == 1:
            continue
        if mode.startswith("nearest"):
            where = _nearest_weights(n, t, s, mode == "nearest-exact")
            x = x[(slice(None),) * (a + 2) + (where,)]
        else:
            weights = _cubic_weights if mode == "bicubic" else _linear_weights
            x = along(x, weights(n, t, s, bool(align_corners)).astype(x.dtype), a - rank)
    return x


def _resized(
    x: Any, rank: int, size: Any, factor: Any, recompute: bool
) -> tuple[Sizes, tuple[float, ...]]:
    """The size asked for, and how far apart its points lie on the input."""
    if (size is None) == (factor is None):
        raise ArgumentError("interpolate: give size or scale_factor, one of them")
    spatial = x.shape[2:]
    if size is not None:
        targets = sizes("interpolate", "size", size, rank)
        return targets, tuple(n / t for n, t in zip(spatial, targets, strict=True))
    factors = tuple(factor) if isinstance(factor, list | tuple) else (factor,) * rank
    if len(factors) != rank:
        raise ArgumentError(f"interpolate: scale_factor needs {rank} numbers > 0; got {factor!r}")
    for f in factors:
        number(f, "scale_factor", "interpolate", 0.0, above=True)
    targets = tuple(math.floor(n * f) for n, f in zip(spatial, factors, strict=True))
    if any(t < 1 for t in targets):
        raise ShapeError(f"interpolate: {spatial} times {factor} leaves nothing")
    if recompute:
        return targets, tuple(n / t for n, t in zip(spatial, targets, strict=True))
    return targets, tuple(1.0 / f for f in factors)


# -- pixels from channels ----------------------------------------------------------------------


def pixel_shuffle(input: TensorLike, upscale_factor: int) -> Tensor:
    """Channels spread over the plane: (..., c * r^2, h, w) -> (..., c, h * r, w * r).

    Shi et al. (2016).
    """
    x = operand(input)
    (r,) = sizes("pixel_shuffle", "upscale_factor", upscale_factor, 1)
    if x.ndim < 3 or x.shape[-3] % (r * r):
        raise ShapeError(f"pixel_shuffle: needs (..., c * {r * r}, h, w); received shape {x.shape}")
    *lead, c, h, w = x.shape
    n = len(lead)
    x = reshape(x, (*lead, c // (r * r), r, r, h, w))
    x = permute(x, (*range(n), n, n + 3, n + 1, n + 4, n + 2))
    return reshape(x, (*lead, c // (r * r), h * r, w * r))


def pixel_unshuffle(input: TensorLike, downscale_factor: int) -> Tensor:
    """The way back of `pixel_shuffle`: (..., c, h * r, w * r) -> (..., c * r^2, h, w)."""
    x = operand(input)
    (r,) = sizes("pixel_unshuffle", "downscale_factor", downscale_factor, 1)
    if x.ndim < 3 or x.shape[-1] % r or x.shape[-2] % r:
        raise ShapeError(
            f"pixel_unshuffle: needs (..., c, h * {r}, w * {r}); received shape {x.shape}"
        )
    *lead, c, h, w = x.shape
    n = len(lead)
    x = reshape(x, (*lead, c, h // r, r, w // r, r))
    x = permute(x, (*range(n), n, n + 2, n + 4, n + 1, n + 3))
    return reshape(x, (*lead, c * r * r, h // r, w // r))


def channel_shuffle(input: TensorLike, groups: int) -> Tensor:
    """Channels of (n, c, ...) dealt out anew: one from each group in turn (Zhang et al., 2018).

    >>> import fathom
    >>> channel_shuffle(fathom.arange(6.0).reshape(1, 6), 2)
    tensor([[0., 3., 1., 4., 2., 5.]])
    """
    x = operand(input)
    (g,) = sizes("channel_shuffle", "groups", groups, 1)
    if x.ndim < 2 or x.shape[1] % g:
        raise ShapeError(
            f"channel_shuffle: needs (n, c, ...) with c a multiple of {g}; received shape "
            f"{mark_axes(x.shape, [1]) if x.ndim > 1 else x.shape}"
        )
    n, c, *rest = x.shape
    x = reshape(x, (n, g, c // g, *rest))
    return reshape(permute(x, (0, 2, 1, *range(3, len(rest) + 3))), (n, c, *rest))
