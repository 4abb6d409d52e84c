"""Rows of a table by their number, and the transpose: rows added into a table."""

from __future__ import annotations

from typing import Any

import numpy as np

from fathom.engine.errors import ArgumentError, AxisError, DtypeError, ShapeError
from fathom.engine.modes import tracing
from fathom.engine.primitive import TABLE, apply, general, linear
from fathom.engine.tensor import Tensor, TensorLike, mark_written
from fathom.ops.checks import by_value, memory, need_axes, on_arrays, one_of, operand, raw
from fathom.ops.elementwise import equal, where
from fathom.ops.reduce import max as max_
from fathom.ops.shape import reshape, stack

__all__ = ["embedding", "embedding_bag", "one_hot"]


def _take(table: Any, index: Any) -> Any:
    return table[index]


def _add_rows(g: Any, index: Any, rows: int) -> Any:
    """Rows that go to one place are sorted side by side and added in one pass."""
    width = g.shape[index.ndim :]
    out = np.zeros((rows, *width), g.dtype)
    flat, parts = index.reshape(-1), g.reshape(index.size, *width)
    if flat.size:
        order = np.argsort(flat, kind="stable")
        ordered = flat[order]
        start = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
        out[ordered[start]] = np.add.reduceat(parts[order], start, axis=0)
    return out


def _batch_take(values: Any, flags: Any, params: Any, size: int) -> Any:
    """One table for all rows, or one each: then the tables stand below each other."""
    (table, index), (own, several) = values, flags
    if not own:
        return apply(TABLE["take_rows"], table, index)
    count = table.shape[1]
    flat = reshape(table, (size * count, *table.shape[2:]))
    shift = np.arange(size).reshape(size, *(1,) * (index.ndim - several)) * count
    return apply(TABLE["take_rows"], flat, index + shift)


def _batch_add(values: Any, flags: Any, params: Any, size: int) -> Any:
    (g, index), (own, several) = values, flags
    rows = params["rows"]
    if not own:
        return None
    shift = np.arange(size).reshape(size, *(1,) * (index.ndim - several)) * rows
    out = apply(TABLE["add_rows"], g, index + shift, rows=size * rows)
    return reshape(out, (size, rows, *out.shape[1:]))


linear(
    "take_rows",
    _take,
    (lambda g, out, table, index: apply(TABLE["add_rows"], g, index, rows=table.shape[0]), None),
    saves="other",
    shape=lambda table, index: (*index.shape, *table.shape[1:]),
    batch=_batch_take,
)
linear(
    "add_rows",
    _add_rows,
    (lambda g, out, parts, index, rows: apply(TABLE["take_rows"], g, index), None),
    saves="other",
    shape=lambda g, index, rows: (rows, *g.shape[len(index.shape) :]),
    batch=_batch_add,
)
_constant = general("constant_of", lambda x: x.copy(), batch="native")


def _indices(name: str, input: Any, rows: int) -> Any:
    index = operand(input)
    if index.dtype.kind not in "iu":
        if index.size:
            raise DtypeError(
                f"{name}: row numbers must be whole numbers; received {index.dtype}",
                fix="ids.astype(int)",
            )
        index = index.astype(np.int64)
    checked = on_arrays(_check_rows, index, name=name, rows=rows)
    return index if isinstance(index, Tensor) and index.level else checked


def _check_rows(values: Any, name: str, rows: int) -> Any:
    bad = (values < 0) | (values >= rows)
    if bad.any():
        position = tuple(int(i) for i in np.unravel_index(int(np.argmax(bad)), values.shape))
        raise AxisError(
            f"{name}: row {values[position]} at position {position} is out of range: the table "
            f"has {rows} rows, numbered from 0 to {rows - 1}",
            fix="make the table larger, or check the vocabulary",
        )
    return values


def embedding(
    input: TensorLike,
    weight: TensorLike,
    padding_idx: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
) -> Tensor:
    """Rows of `weight` (rows, width) by number: (...) -> (..., width).

    padding_idx : the row that gets no gradient.
    max_norm : rows that are used and longer than this are shortened first, in place.
    scale_grad_by_freq : each gradient is divided by how often its row occurs in `input`.

    >>> import fathom
    >>> table = fathom.tensor([[1.0, 1.0], [2.0, 2.0]])
    >>> fathom.nn.functional.embedding([1, 0, 1], table)
    tensor([[2., 2.],
            [1., 1.],
            [2., 2.]])
    """
    table = operand(weight)
    need_axes("embedding", "the table", table, (2,), "(rows, width)")
    rows = table.shape[0]
    index = _indices("embedding", input, rows)
    padding = _padding_row("embedding", padding_idx, rows)
    if max_norm is not None:
        _shorten(table, index, max_norm, norm_type)
    out = apply(TABLE["take_rows"], table, index)
    if scale_grad_by_freq:
        share = on_arrays(_frequency, index, rows=rows, dtype=table.dtype)
        still: Any = apply(_constant, out)
        out = still + (out - still) * share[..., None]
    if padding is not None:
        hit: Any = equal(index, padding)
        out = where(reshape(hit, (*hit.shape, 1)), apply(_constant, out), out)
    return out


def _frequency(index: Any, rows: int, dtype: Any) -> Any:
    """1 / how often each row occurs."""
    counts = np.bincount(index.reshape(-1), minlength=rows)
    return (1.0 / np.maximum(counts, 1)).astype(dtype)[index]


def _padding_row(name: str, padding_idx: int | None, rows: int) -> int | None:
    if padding_idx is None:
        return None
    if not -rows <= padding_idx < rows:
        raise ArgumentError(f"{name}: padding_idx {padding_idx} is outside of the {rows} rows")
    return padding_idx % rows


def _shorten(table: Any, index: Any, limit: float, p: float) -> None:
    """Rows longer than `limit` cut down to it, as PyTorch does before looking them up."""
    target = memory(table)
    if tracing() is None:
        _cut(target, raw(index), limit, p)
    else:
        target.assign(on_arrays(_shortened, target, index, limit=limit, p=p))
    if isinstance(table, Tensor):
        mark_written(table)


def _cut(values: Any, index: Any, limit: float, p: float) -> None:
    used = np.unique(index)
    length = np.power(np.add.reduce(np.power(np.abs(values[used]), p), axis=1), 1.0 / p)
    long = length > limit
    values[used[long]] *= (limit / (length[long, None] + 1e-7)).astype(values.dtype)


def _shortened(values: Any, index: Any, limit: float, p: float) -> Any:
    out = values.copy()
    _cut(out, index, limit, p)
    return out


def embedding_bag(
    input: TensorLike,
    weight: TensorLike,
    offsets: TensorLike | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    mode: str = "mean",
    per_sample_weights: TensorLike | None = None,
    include_last_offset: bool = False,
    padding_idx: int | None = None,
) -> Tensor:
    """The sum, mean or maximum of bags of rows.

    `input` is (bags, n), or (n,) with the start of each bag in `offsets`; rows `padding_idx` do
    not count. Empty bags give zeros. `per_sample_weights` goes with mode="sum".
    """
    one_of("embedding_bag", "mode", mode, ("sum", "mean", "max"))
    table = operand(weight)
    index = _indices("embedding_bag", input, table.shape[0])
    if max_norm is not None and tracing() is not None:
        _shorten(table, index, max_norm, norm_type)
        max_norm = None
    given: Any = [None if v is None else operand(v) for v in (offsets, per_sample_weights)]
    options: dict[str, Any] = {
        "max_norm": max_norm, "norm_type": norm_type, "scale_grad_by_freq": scale_grad_by_freq,
        "mode": mode, "include_last": include_last_offset, "padding_idx": padding_idx,
    }  # fmt: skip
    if mode == "max" or include_last_offset:
        return by_value(_sums_of_bags, index, table, *given, **options)
    return _sums_of_bags(index, table, *given, **options)


def _sums_of_bags(
    index: Any, table: Any, offsets: Any, per_sample_weights: Any, max_norm: float | None,
    norm_type: float, scale_grad_by_freq: bool, mode: str, include_last: bool,
    padding_idx: int | None,
) -> Any:  # fmt: skip
    flat, bag, count = _bags(index, offsets, include_last)
    rows: Any = embedding(flat, table, None, max_norm, norm_type, scale_grad_by_freq)
    if per_sample_weights is not None:
        if mode != "sum":
            raise ArgumentError(
                f"embedding_bag: per_sample_weights go with mode='sum'; received {mode!r}"
            )
        weights = operand(per_sample_weights)
        if weights.shape != index.shape:
            raise ShapeError(
                f"embedding_bag: per_sample_weights {weights.shape} and input {index.shape} must "
                "have one shape"
            )
        rows = rows * reshape(weights, (-1, 1))[: flat.shape[0]]
    skip = _padding_row("embedding_bag", padding_idx, table.shape[0])
    if skip is not None:
        bag = on_arrays(_without, bag, flat, skip=skip, count=count)
    if mode == "max":
        return _largest(rows, bag, count)
    out: Any = apply(TABLE["add_rows"], rows, bag, rows=count + (skip is not None))
    out = out if skip is None else out[:count]
    if mode == "sum":
        return out
    return out * on_arrays(_shares, bag, count=count, dtype=table.dtype)[:, None]


def _without(bag: Any, flat: Any, skip: int, count: int) -> Any:
    """The bag of each row; rows `skip` go into one more, behind all others."""
    return np.where(flat == skip, count, bag)


def _shares(bag: Any, count: int, dtype: Any) -> Any:
    """1 / how many rows each bag has."""
    counts = np.bincount(bag, minlength=count)[:count]
    return (1.0 / np.maximum(counts, 1)).astype(dtype)


def _bags(index: Any, offsets: Any, include_last: bool) -> tuple[Any, Any, int]:
    """All row numbers in one line, the bag of each, and how many bags there are."""
    if index.ndim == 2:
        if offsets is not None:
            raise ArgumentError("embedding_bag: offsets go with an input of one axis")
        bags, n = index.shape
        return reshape(index, -1), np.repeat(np.arange(bags), n), bags
    need_axes("embedding_bag", "the input", index, (1,), "(n,) or (bags, n)")
    if offsets is None:
        raise ArgumentError("embedding_bag: an input of one axis needs offsets")
    n = index.shape[0]
    if include_last:  # how many rows there are goes by values
        ends = _check_starts(raw(operand(offsets)), n)
        offsets, n = ends[:-1], int(ends[-1])
        index = raw(index)[:n]
    starts: Any = on_arrays(_check_starts, offsets, n=n)
    return index, on_arrays(_bag_of, starts, n=n), starts.shape[0]


def _check_starts(starts: Any, n: int) -> Any:
    """Where bags begin among n rows, as whole numbers."""
    found = np.append(np.asarray(starts).astype(np.int64), n)
    if found[0] != 0 or (np.diff(found) < 0).any():
        raise ArgumentError(
            f"embedding_bag: offsets must rise from 0 to at most {n}; received "
            f"{found[:-1].tolist()}"
        )
    return found[:-1]


def _bag_of(starts: Any, n: int) -> Any:
    """The number of the bag that each of n rows lies in: the last that begins there or before."""
    return np.searchsorted(starts, np.arange(n), side="right") - 1


def _largest(rows: Any, bag: Any, count: int) -> Any:
    empty = Tensor(np.zeros(rows.shape[1:], rows.dtype))
    parts = [np.flatnonzero(bag == i) for i in range(count)]
    return stack([max_(rows[p], axis=0) if len(p) else empty for p in parts])


def one_hot(input: TensorLike, num_classes: int = -1) -> Tensor:
    """Whole numbers as rows of one 1 and zeros: (...) -> (..., num_classes), int64.

    >>> import fathom
    >>> fathom.nn.functional.one_hot([0, 2])
    tensor([[1, 0, 0],
            [0, 0, 1]])
    """
    index = operand(input)
    if index.dtype.kind not in "iu":
        raise DtypeError(f"one_hot: needs whole numbers; received {index.dtype}")
    values = raw(index)
    if num_classes == -1:
        if not values.size:
            raise ArgumentError("one_hot: without values, num_classes is needed")
        num_classes = int(values.max()) + 1
    if values.size and not 0 <= values.min() <= values.max() < num_classes:
        raise AxisError(
            f"one_hot: values from {values.min()} to {values.max()} do not fit num_classes="
            f"{num_classes}"
        )
    hit: Any = equal(reshape(index, (*index.shape, 1)), np.arange(num_classes))
    return hit.astype(np.int64)
