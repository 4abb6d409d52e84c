"""Convolutions of one, two and three dimensions, and the transposed ones.

Three primitives carry them, each the transpose of the others in one argument: `conv` (input and
weight to output), `conv_input` (gradient and weight to input; the transposed convolution) and
`conv_weight` (gradient and input to weight). So derivatives of every order are convolutions.

Forward, windows are copied side by side (im2col; Chellapilla et al., 2006) for as many samples
as the cache holds, and multiplied with the weight.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from fathom.engine.batching import spread
from fathom.engine.errors import ArgumentError, ShapeError, mark_axes
from fathom.engine.primitive import Primitive, apply, general, linear
from fathom.engine.tensor import TensorLike
from fathom.ops.arguments import positive
from fathom.ops.checks import floats, need_axes, one_of, operand, sizes
from fathom.ops.shape import broadcast_to, permute, reshape
from fathom.ops.window import (
    Pads,
    Sizes,
    blocks,
    padded,
    reach,
    scatter_windows,
    volume,
    window_counts,
    windows,
)

__all__ = [
    "conv_nd",
    "conv_transpose_nd",
]


# -- computing -----------------------------------------------------------------------------------


def _columns(
    x: Any, groups: int, kernel: Sizes, stride: Sizes, dilation: Sizes, counts: Sizes, size: int
) -> Iterator[tuple[slice, Any]]:
    """Windows of padded x (n, c, *spatial) as (samples, groups, c/groups * kernel, positions).

    Block by block, all of them in one piece of memory.
    """
    n, channels = x.shape[:2]
    shape = (groups, channels // groups * volume(kernel), volume(counts))
    if volume(kernel) == 1 and all(s == 1 for s in stride):
        yield slice(0, n), x.reshape(n, *shape)
        return
    view, buffer = windows(x, kernel, stride, dilation, counts), None
    for rows in blocks(n, size):
        count = rows.stop - rows.start
        if buffer is None:
            buffer = np.empty((count, *view.shape[1:]), x.dtype)
        np.copyto(buffer[:count], view[rows])
        yield rows, buffer[:count].reshape(count, *shape)


def _conv_forward(
    x: Any, weight: Any, bias: Any, stride: Sizes, padding: Pads, dilation: Sizes, groups: int
) -> Any:
    counts = _conv_shape(x, weight, bias, stride, padding, dilation, groups)[2:]
    kernel, (n, channels) = weight.shape[2:], x.shape[:2]
    x, out_channels = padded(x, padding), weight.shape[0]
    matrix = weight.reshape(groups, out_channels // groups, volume(weight.shape[1:]))
    out = np.empty((n, *matrix.shape[:2], volume(counts)), np.result_type(x, weight))
    size = channels * volume(kernel) * volume(counts)
    for rows, columns in _columns(x, groups, kernel, stride, dilation, counts, size):
        np.matmul(matrix, columns, out=out[rows])
    out = out.reshape(n, out_channels, *counts)
    if bias is not None:
        out += bias.reshape(-1, *(1,) * len(counts))
    return out


def _input_forward(
    g: Any, weight: Any, stride: Sizes, padding: Pads, dilation: Sizes, groups: int, spatial: Sizes
) -> Any:
    n, out_channels, *counts = g.shape
    kernel, channels = weight.shape[2:], weight.shape[1] * groups
    matrix = weight.reshape(groups, out_channels // groups, volume(weight.shape[1:]))
    matrix = matrix.swapaxes(-1, -2)
    g = g.reshape(n, groups, out_channels // groups, volume(counts))
    out = np.empty((n, channels, *spatial), np.result_type(g, weight))
    for rows in blocks(n, channels * volume(kernel) * volume(counts)):
        part = g[rows]
        if counts[-1] <= 16 <= len(part):  # short rows: samples last make longer ones
            part = np.ascontiguousarray(part.transpose(1, 2, 3, 0))
            columns = np.matmul(matrix, part.reshape(*part.shape[:2], part[0, 0].size))
            columns = columns.reshape(channels, *kernel, 1, *counts, part.shape[-1])
            sums = scatter_windows(
                columns, (*spatial, part.shape[-1]), (*kernel, 1), (*stride, 1),
                (*padding, (0, 0)), (*dilation, 1),
            )  # fmt: skip
            out[rows] = np.moveaxis(sums, -1, 0)
        else:
            columns = np.matmul(matrix, part).reshape(len(part), channels, *kernel, *counts)
            out[rows] = scatter_windows(columns, spatial, kernel, stride, padding, dilation)
    return out


def _weight_forward(
    g: Any, x: Any, stride: Sizes, padding: Pads, dilation: Sizes, groups: int, kernel: Sizes
) -> Any:
    n, out_channels, *counts = g.shape
    channels = x.shape[1]
    x = padded(x, padding)
    g = g.reshape(n, groups, out_channels // groups, volume(counts))
    shape = (groups, out_channels // groups, channels // groups * volume(kernel))
    out = np.zeros(shape, np.result_type(g, x))
    size = max(channels * volume(kernel) * volume(counts), volume(shape))
    for rows, columns in _columns(x, groups, kernel, stride, dilation, tuple(counts), size):
        out += np.add.reduce(np.matmul(g[rows], columns.swapaxes(-1, -2)), axis=0)
    return out.reshape(out_channels, channels // groups, *kernel)


# -- shapes --------------------------------------------------------------------------------------


def _name(weight: Any, prefix: str = "conv") -> str:
    return f"{prefix}{len(weight.shape) - 2}d"


def _conv_shape(
    x: Any, weight: Any, bias: Any, stride: Sizes, padding: Pads, dilation: Sizes, groups: int
) -> Sizes:
    name, (out_channels, per_group) = _name(weight), weight.shape[:2]
    if x.shape[1] != per_group * groups:
        fix = f"the input needs {per_group * groups} channels (axis 1)"
        if x.shape[-1] == per_group * groups:
            fix += "; channels come before height and width: x.permute(0, -1, ...)"
        raise ShapeError(
            f"{name}: input {mark_axes(x.shape, [1])} has {x.shape[1]} channels; weight "
            f"{mark_axes(weight.shape, [1])} with groups={groups} takes {per_group * groups}",
            fix=fix,
        )
    _check_groups(name, out_channels, groups, weight.shape, 0)
    _check_bias(name, bias, out_channels)
    counts = window_counts(name, x.shape, weight.shape[2:], stride, padding, dilation)
    return (x.shape[0], out_channels, *counts)


def _check_groups(name: str, channels: int, groups: int, shape: Any, axis: int) -> None:
    if groups < 1 or channels % groups:
        raise ArgumentError(
            f"{name}: {channels} channels of the weight {mark_axes(shape, [axis])} cannot be "
            f"split into groups={groups} equal parts"
        )


def _check_bias(name: str, bias: Any, channels: int) -> None:
    if bias is not None and bias.shape != (channels,):
        raise ShapeError(f"{name}: bias must have shape ({channels},); received {bias.shape}")


def _cost(x: Any, weight: Any, bias: Any = (), **params: Any) -> int:
    """Multiply-adds of a convolution."""
    if params["groups"] < 1 or len(x) != len(weight):
        return 0
    counts = window_counts("conv", x, weight[2:], params["stride"], params["padding"],
                           params["dilation"])  # fmt: skip
    return int(x[0] * volume(counts) * volume(weight))


# -- vmap: samples join the samples, weights of their own become groups ----------------------------


def _merge(x: Any, axis: int) -> Any:
    """(batch, n, c, ...) to (batch * n, c, ...), or to (n, batch * c, ...) for axis 1."""
    if axis == 1:
        x = permute(x, (1, 0, *range(2, x.ndim)))
    return reshape(x, (x.shape[0] * x.shape[1], *x.shape[2:]) if axis == 0
                   else (x.shape[0], x.shape[1] * x.shape[2], *x.shape[3:]))  # fmt: skip


def _split(x: Any, size: int, axis: int) -> Any:
    """The way back."""
    if axis == 0:
        return reshape(x, (size, x.shape[0] // size, *x.shape[1:]))
    x = reshape(x, (x.shape[0], size, x.shape[1] // size, *x.shape[2:]))
    return permute(x, (1, 0, *range(2, x.ndim)))


def _batch_samples(primitive: str) -> Any:
    """The rule of `conv` and `conv_input`: (samples, weight, bias or nothing)."""

    def rule(values: Any, flags: Any, params: Any, size: int) -> Any:
        from fathom.engine.primitive import TABLE

        if not any(flags[1:]):
            out = apply(TABLE[primitive], _merge(values[0], 0), *values[1:], **params)
            return _split(out, size, 0)
        rows = [spread(v, f, size) for v, f in zip(values, flags, strict=True)]
        rest = [None if v is None else _merge(v, 0) for v in rows[1:]]
        grouped = {**params, "groups": params["groups"] * size}
        return _split(apply(TABLE[primitive], _merge(rows[0], 1), *rest, **grouped), size, 1)

    return rule


def _batch_weight(values: Any, flags: Any, params: Any, size: int) -> Any:
    g, x = (_merge(spread(v, f, size), 1) for v, f in zip(values, flags, strict=True))
    grouped = {**params, "groups": params["groups"] * size}
    return _split(apply(_conv_weight, g, x, **grouped), size, 0)


# -- the three primitives --------------------------------------------------------------------------


def _but(params: dict[str, Any], *names: str) -> dict[str, Any]:
    return {k: v for k, v in params.items() if k not in names}


def _bias_tangent(t: Any, out: Any) -> Any:
    return broadcast_to(reshape(t, (-1, *(1,) * (out.ndim - 2))), out.shape)


_conv: Primitive = general(
    "conv",
    _conv_forward,
    vjp=(
        lambda g, out, x, w, b, **p: apply(_conv_input, g, w, spatial=tuple(x.shape[2:]), **p),
        lambda g, out, x, w, b, **p: apply(_conv_weight, g, x, kernel=tuple(w.shape[2:]), **p),
        lambda g, out, x, w, b, **p: g.sum(axis=(0, *range(2, g.ndim))),
    ),
    jvp=(
        lambda t, out, x, w, b, **p: apply(_conv, t, w, None, **p),
        lambda t, out, x, w, b, **p: apply(_conv, x, t, None, **p),
        lambda t, out, x, w, b, **p: _bias_tangent(t, out),
    ),
    saves="other",
    shape=_conv_shape,
    batch=_batch_samples("conv"),
    cost=_cost,
)
_conv_input: Primitive = linear(
    "conv_input",
    _input_forward,
    (
        lambda g, out, y, w, **p: apply(_conv, g, w, None, **_but(p, "spatial")),
        lambda g, out, y, w, **p: apply(
            _conv_weight, y, g, kernel=tuple(w.shape[2:]), **_but(p, "spatial")
        ),
    ),
    saves="other",
    shape=lambda g, w, **p: (g.shape[0], w.shape[1] * p["groups"], *p["spatial"]),
    batch=_batch_samples("conv_input"),
    cost=lambda g, w, **p: volume(g) * volume(w[1:]),
)
_conv_weight: Primitive = linear(
    "conv_weight",
    _weight_forward,
    (
        lambda g, out, y, x, **p: apply(_conv, x, g, None, **_but(p, "kernel")),
        lambda g, out, y, x, **p: apply(
            _conv_input, y, g, spatial=tuple(x.shape[2:]), **_but(p, "kernel")
        ),
    ),
    saves="other",
    shape=lambda g, x, **p: (g.shape[1], x.shape[1] // p["groups"], *p["kernel"]),
    batch=_batch_weight,
    cost=lambda g, x, **p: volume(g) * x[1] // p["groups"] * volume(p["kernel"]),
)


# -- what `fathom.nn.functional` is made of --------------------------------------------------------


def _samples(name: str, x: Any, rank: int) -> tuple[Any, bool]:
    """Input (n, c, *spatial); a single (c, *spatial) gets a batch axis for the time being."""
    space = ", ".join("dhw"[3 - rank :] if rank > 1 else "l")
    need_axes(name, "the input", x, (rank + 1, rank + 2), f"(n, c, {space}) or (c, {space})")
    if x.ndim == rank + 2:
        return x, False
    return reshape(x, (1, *x.shape)), True


def _first(x: Any, single: bool) -> Any:
    return reshape(x, x.shape[1:]) if single else x


def _padding(name: str, padding: Any, kernel: Sizes, stride: Sizes, dilation: Sizes) -> Pads:
    """Borders for numbers, "valid" (none) or "same" (the output as large as the input)."""
    rank = len(kernel)
    if not isinstance(padding, str):
        return tuple((p, p) for p in sizes(name, "padding", padding, rank, 0))
    one_of(name, "padding", padding, ("same", "valid"))
    if padding == "valid":
        return ((0, 0),) * rank
    if any(s != 1 for s in stride):
        raise ArgumentError(
            f"{name}: padding='same' needs stride 1; received {stride}", fix="give numbers"
        )
    return tuple(((r - 1) // 2, r // 2) for r in reach(kernel, dilation))


def conv_nd(
    rank: int,
    input: TensorLike,
    weight: TensorLike,
    bias: TensorLike | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Any:
    """Every window of the input times the weight, summed (LeCun et al., 1989).

    input : (n, in, *spatial), or (in, *spatial) without a batch axis.
    weight : (out, in/groups, *kernel); bias : (out,).
    stride : how far windows lie apart. padding : zeros around the input: a number, one for each
    axis, "valid" (none) or "same" (output as large as the input; stride 1). dilation : how far
    the elements of a window lie apart. groups : channels fall into as many separate parts.

    The output has floor((size + 2 padding - dilation (kernel - 1) - 1) / stride) + 1 elements
    on each axis.
    """
    name = f"conv{rank}d"
    x, single = _samples(name, operand(input), rank)
    w = operand(weight)
    b = None if bias is None else operand(bias)
    floats(name, x, w, b)
    need_axes(name, "the weight", w, (rank + 2,), "(out, in/groups, *kernel)")
    step, spread_ = sizes(name, "stride", stride, rank), sizes(name, "dilation", dilation, rank)
    pads = _padding(name, padding, tuple(w.shape[2:]), step, spread_)
    positive(groups, "groups", name)
    options = {"stride": step, "padding": pads, "dilation": spread_, "groups": groups}
    _conv_shape(x, w, b, **options)  # type: ignore[arg-type]
    return _first(apply(_conv, x, w, b, **options), single)


def conv_transpose_nd(
    rank: int,
    input: TensorLike,
    weight: TensorLike,
    bias: TensorLike | None = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Any:
    """The transpose of a convolution: its input gradient as a layer (Zeiler et al., 2010).

    input : (n, in, *spatial), or (in, *spatial) without a batch axis.
    weight : (in, out/groups, *kernel); bias : (out,).
    output_padding : added to one end of the output, of which stride > 1 leaves the size open.

    The output has (size - 1) stride - 2 padding + dilation (kernel - 1) + output_padding + 1
    elements on each axis.
    """
    name = f"conv_transpose{rank}d"
    x, single = _samples(name, operand(input), rank)
    w = operand(weight)
    b = None if bias is None else operand(bias)
    floats(name, x, w, b)
    need_axes(name, "the weight", w, (rank + 2,), "(in, out/groups, *kernel)")
    if x.shape[1] != w.shape[0]:
        raise ShapeError(
            f"{name}: input {mark_axes(x.shape, [1])} has {x.shape[1]} channels; weight "
            f"{mark_axes(w.shape, [0])} takes {w.shape[0]}",
            fix="the weight of a transposed convolution is (in, out/groups, *kernel)",
        )
    positive(groups, "groups", name)
    _check_groups(name, w.shape[0], groups, w.shape, 0)
    _check_bias(name, b, w.shape[1] * groups)
    step, spread_ = sizes(name, "stride", stride, rank), sizes(name, "dilation", dilation, rank)
    pad = sizes(name, "padding", padding, rank, 0)
    extra = sizes(name, "output_padding", output_padding, rank, 0)
    if any(e >= max(s, d) for e, s, d in zip(extra, step, spread_, strict=True)):
        raise ArgumentError(
            f"{name}: output_padding {extra} must be smaller than stride {step} or dilation "
            f"{spread_}"
        )
    need = reach(tuple(w.shape[2:]), spread_)
    spatial = tuple(
        (n - 1) * s - 2 * p + k + e
        for n, s, p, k, e in zip(x.shape[2:], step, pad, need, extra, strict=True)
    )
    if any(n < 1 for n in spatial):
        raise ShapeError(
            f"{name}: input {x.shape} with kernel {tuple(w.shape[2:])} and padding {pad} would "
            f"give an output of size {spatial}",
            fix="use less padding or a larger input",
        )
    borders = tuple((p, p - e) for p, e in zip(pad, extra, strict=True))  # windows fit exactly
    out = apply(
        _conv_input, x, w, stride=step, padding=borders, dilation=spread_, groups=groups,
        spatial=spatial,
    )  # fmt: skip
    if b is not None:
        out = out + reshape(b, (-1, *(1,) * rank))
    return _first(out, single)
