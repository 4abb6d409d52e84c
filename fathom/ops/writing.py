"""Writing without changing: scatter, masked_fill and `x.at[index].set(v)` return new tensors."""

from __future__ import annotations

from typing import Any

import numpy as np

from fathom.engine.batching import adjacent, spread
from fathom.engine.errors import ArgumentError, DtypeError, FathomError, ShapeError
from fathom.engine.primitive import TABLE, Primitive, apply, general
from fathom.engine.tensor import Tensor, TensorLike
from fathom.ops.axes import one_axis, operand, torch_names
from fathom.ops.elementwise import equal, where
from fathom.ops.index import (
    along,
    check_fit,
    getitem,
    mask_of,
    parts_of,
    picked_shape,
    plain_index,
    refuse_index,
    whole_index,
)
from fathom.ops.shape import broadcast_to, reshape

__all__ = [
    "index_add",
    "index_copy",
    "index_fill",
    "masked_fill",
    "scatter",
    "scatter_add",
]


# -- x.at[index] -----------------------------------------------------------------------------------


def _set_forward(x: Any, value: Any, index: Any) -> Any:
    out = np.array(x)
    out[index] = value
    return out


def _aligned(values: Any, flags: Any, params: Any, size: int) -> tuple[Any, Any, Any]:
    """x and value with a batch axis each, and the index moved behind it."""
    (x, value), index = values, parts_of(params["index"])
    x = spread(x, flags[0], size)
    if flags[1]:
        missing = len(picked_shape(x.shape[1:], index)) - (value.ndim - 1)
        value = reshape(value, (size, *(1,) * missing, *value.shape[1:]))
    return x, value, (slice(None), *index)


def _at_batch(name: str) -> Any:
    def batch(values: Any, flags: Any, params: Any, size: int) -> Any:
        if not adjacent(parts_of(params["index"])):
            return None
        x, value, index = _aligned(values, flags, params, size)
        return apply(TABLE[name], x, value, index=index)

    return batch


def _at_shape(x: Any, value: Any, index: Any) -> tuple[int, ...]:
    taken = picked_shape(x.shape, index)
    try:
        fits = np.broadcast_shapes(taken, np.shape(value)) == taken
    except ValueError:
        fits = False
    if not fits:
        raise ShapeError(
            f"x[index] has shape {taken}; a value of shape {np.shape(value)} does not fit"
        )
    return tuple(x.shape)


def _blank(x: Any) -> Any:
    """Zeros in the place of x, whatever stands there."""
    return where(False, x, 0.0)


_set: Primitive = general(
    "at_set",
    _set_forward,
    vjp=(
        lambda g, out, x, value, index: apply(_set, g, 0.0, index=index),
        lambda g, out, x, value, index: getitem(g, index),
    ),
    jvp=(
        lambda t, out, x, value, index: apply(_set, t, 0.0, index=index),
        lambda t, out, x, value, index: apply(_set, _blank(x), t, index=index),
    ),
    batch=_at_batch("at_set"),
    shape=_at_shape,
)


def _record_of_extreme(name: str, ufunc: Any) -> Primitive:
    """Maximum or minimum at places, which may be named several times; ties share evenly."""

    def forward(x: Any, value: Any, index: Any) -> Any:
        out = np.array(x)
        ufunc.at(out, index, value)
        return out

    def shares(out: Any, x: Any, value: Any, index: Any) -> tuple[Any, Any]:
        kept = equal(x, out).astype(out.dtype)
        written = equal(value, getitem(out, index)).astype(out.dtype)
        claims = kept + TABLE["putitem"](written, index=index, shape=tuple(out.shape))
        return kept / claims, written / getitem(claims, index)

    def given(t: Any, out: Any, index: Any) -> Any:
        return TABLE["putitem"](t, index=index, shape=tuple(out.shape))

    return general(
        name,
        forward,
        vjp=(
            lambda g, out, x, value, index: g * shares(out, x, value, index)[0],
            lambda g, out, x, value, index: getitem(g, index) * shares(out, x, value, index)[1],
        ),
        jvp=(
            lambda t, out, x, value, index: t * shares(out, x, value, index)[0],
            lambda t, out, x, value, index: given(t * shares(out, x, value, index)[1], out, index),
        ),
        saves="in out",
        batch=_at_batch(name),
        shape=_at_shape,
    )


_extremes = {
    "max": _record_of_extreme("at_max", np.maximum),
    "min": _record_of_extreme("at_min", np.minimum),
}


def write_into(array: Any, index: Any, value: TensorLike) -> None:
    """array[index] = value for plain arrays, with errors that teach."""
    raw = value.value() if isinstance(value, Tensor) else np.asarray(value)
    if raw.dtype.kind not in "fiub" or (raw.dtype.kind == "f" and array.dtype.kind != "f"):
        raise DtypeError(f"x[index] = value: {raw.dtype} does not fit into {array.dtype}")
    _at_shape(array, raw, index)
    array[index] = raw


class At:
    """`x.at`: index it, and it offers writes that return a new tensor.

    >>> import fathom
    >>> x = fathom.zeros(3)
    >>> x.at[1].set(5.0)
    tensor([0., 5., 0.])
    >>> x.at[[0, 0]].add(1.0)
    tensor([2., 0., 0.])
    """

    def __init__(self, x: Tensor, index: Any = None) -> None:
        self._x = x
        self._index = index

    def __getitem__(self, index: Any) -> At:
        return At(self._x, plain_index(index, "x.at[index]"))

    def _value(self, name: str, value: TensorLike) -> Any:
        if self._index is None:
            raise ArgumentError(f"x.at.{name}: give an index first: x.at[index].{name}(value)")
        if not isinstance(value, (Tensor, np.ndarray, int, float)):
            value = operand(value, f"at.{name}")
        try:
            _at_shape(self._x, value, self._index)
        except FathomError as error:
            error.message = f"at.{name}: {error.message}"
            raise
        kind = value.dtype.kind if isinstance(value, (Tensor, np.ndarray)) else "b"
        if isinstance(value, float) or kind == "f":
            if self._x.dtype.kind != "f":
                raise DtypeError(f"at.{name}: floats do not fit into a tensor of {self._x.dtype}")
            if kind == "f" and value.dtype != self._x.dtype:  # type: ignore[union-attr]
                value = value.astype(self._x.dtype)  # type: ignore[union-attr]
        return value

    def _full(self, name: str, value: TensorLike) -> Any:
        """The value in the shape of x[index]."""
        value = operand(self._value(name, value), name)
        if value.dtype != self._x.dtype:
            value = value.astype(self._x.dtype)
        return broadcast_to(value, picked_shape(self._x.shape, self._index))

    def get(self) -> Tensor:
        """x[index]."""
        return getitem(self._x, self._index)

    def set(self, value: TensorLike) -> Tensor:
        """x with x[index] = value; of an element named twice the last value stays."""
        return apply(_set, self._x, self._value("set", value), index=self._index)

    def add(self, value: TensorLike) -> Tensor:
        """x with value added at x[index]; an element named twice gets both."""
        full = self._full("add", value)
        return self._x + TABLE["putitem"](full, index=self._index, shape=self._x.shape)

    def mul(self, value: TensorLike) -> Tensor:
        """x with x[index] multiplied by value; no element may be named twice."""
        value = self._value("mul", value)
        ones = np.ones(picked_shape(self._x.shape, self._index), np.int64)
        named = TABLE["putitem"].forward(ones, index=self._index, shape=self._x.shape)
        if (named > 1).any():
            raise ArgumentError(
                "at.mul: the index names an element twice",
                fix="multiply one after the other: x.at[i].mul(v).at[j].mul(w)",
            )
        return self.set(self.get() * value)

    def max(self, value: TensorLike) -> Tensor:
        """x with the larger of x[index] and value; ties share the gradient equally."""
        return apply(_extremes["max"], self._x, self._full("max", value), index=self._index)

    def min(self, value: TensorLike) -> Tensor:
        """x with the smaller of x[index] and value; ties share the gradient equally."""
        return apply(_extremes["min"], self._x, self._full("min", value), index=self._index)


# -- scatter ---------------------------------------------------------------------------------------


def _scatter_forward(x: Any, source: Any, index: Any, axis: int) -> Any:
    out = np.array(x)
    try:
        out[along(index, axis)] = source
    except IndexError:
        raise refuse_index("scatter", index, axis, x.shape) from None
    return out


_scatter: Primitive = general(
    "scatter",
    _scatter_forward,
    vjp=(
        lambda g, out, x, source, index, axis: apply(_scatter, g, 0.0, index, axis=axis),
        lambda g, out, x, source, index, axis: TABLE["take_along_axis"](g, index, axis=axis),
        None,
    ),
    jvp=(
        lambda t, out, x, source, index, axis: apply(_scatter, t, 0.0, index, axis=axis),
        lambda t, out, x, source, index, axis: apply(_scatter, _blank(x), t, index, axis=axis),
        None,
    ),
    saves="other",
    batch="axis",
    shape=lambda x, source, index, axis: x.shape,
)


def prepare(name: str, x: Any, axis: int, index: Any, source: Any) -> tuple[Tensor, int, Any, Any]:
    """Checked arguments of a scatter, the source cut to the shape of the index."""
    x, index = operand(x, name), whole_index(index, name)
    place = one_axis(axis, x.ndim, name)
    check_fit(name, x.shape, index.shape, place)
    if isinstance(source, (int, float)):
        return x, place, index, source
    source = operand(source, name)
    if source.dtype.kind == "f" and x.dtype.kind != "f":
        raise DtypeError(f"{name}: floats do not fit into a tensor of {x.dtype}")
    check_fit(name, source.shape, index.shape, -1)
    if source.shape != index.shape:
        source = getitem(source, tuple(slice(0, n) for n in index.shape))
    return x, place, index, source if source.dtype == x.dtype else source.astype(x.dtype)


@torch_names
def scatter(
    x: TensorLike, axis: int, index: TensorLike, src: TensorLike | None = None, *,
    value: float | None = None,
) -> Tensor:  # fmt: skip
    """x with out[index[i, j], j] = src[i, j] along axis 0, and alike for others.

    The source is a tensor or one number (`value`). Of an element named twice the last stays.

    >>> import fathom
    >>> fathom.scatter(fathom.zeros(2, 3), 1, [[2], [0]], value=1.0)
    tensor([[0., 0., 1.],
            [1., 0., 0.]])
    """
    if (src is None) == (value is None):
        raise ArgumentError("scatter: give src or value")
    given = value if src is None else src
    x, place, chosen, source = prepare("scatter", x, axis, index, given)
    return apply(_scatter, x, source, chosen, axis=place)


@torch_names
def scatter_add(x: TensorLike, axis: int, index: TensorLike, src: TensorLike) -> Tensor:
    """x with src[i, j] added at out[index[i, j], j] along axis 0, and alike for others.

    >>> import fathom
    >>> fathom.scatter_add(fathom.zeros(3), 0, [0, 0, 2], fathom.ones(3))
    tensor([2., 0., 1.])
    """
    x, place, chosen, source = prepare("scatter_add", x, axis, index, src)
    if isinstance(source, (int, float)):
        source = np.full(chosen.shape, source, x.dtype)
    return x + TABLE["put_along_axis"](source, chosen, axis=place, shape=tuple(x.shape))


def _vector(name: str, x: Any, axis: int, index: Any) -> tuple[Tensor, int, Any]:
    x, chosen = operand(x, name), whole_index(index, name)
    if chosen.ndim > 1:
        raise ShapeError(f"{name}: the index is a vector; received shape {chosen.shape}")
    return x, one_axis(axis, x.ndim, name), chosen.reshape((-1,))


def _slices(name: str, x: Any, axis: int, index: Any, source: Any) -> Any:
    """A source with one slice of x for every index."""
    source = operand(source, name)
    wanted = (*x.shape[:axis], index.shape[0], *x.shape[axis + 1 :])
    if source.shape != wanted:
        raise ShapeError(
            f"{name}: {index.shape[0]} indices along axis {axis} of shape {x.shape} need a source "
            f"of shape {wanted}; received {source.shape}"
        )
    if source.dtype.kind == "f" and x.dtype.kind != "f":
        raise DtypeError(f"{name}: floats do not fit into a tensor of {x.dtype}")
    return source if source.dtype == x.dtype else source.astype(x.dtype)


@torch_names
def index_add(
    x: TensorLike, axis: int, index: TensorLike, source: TensorLike, *, alpha: float = 1
) -> Tensor:
    """x with the slices of `source` (times alpha) added at the indices along `axis`.

    >>> import fathom
    >>> fathom.index_add(fathom.zeros(2, 2), 0, [1, 1], fathom.ones(2, 2))
    tensor([[0., 0.],
            [2., 2.]])
    """
    x, place, chosen = _vector("index_add", x, axis, index)
    slices = _slices("index_add", x, place, chosen, source)
    _check_range("index_add", chosen, place, x.shape)
    added = TABLE["put_axis"](slices, chosen, axis=place, shape=tuple(x.shape))
    return x + (added if alpha == 1 else added * alpha)


@torch_names
def index_copy(x: TensorLike, axis: int, index: TensorLike, source: TensorLike) -> Tensor:
    """x with the slices of `source` in place of those at the indices along `axis`."""
    x, place, chosen = _vector("index_copy", x, axis, index)
    slices = _slices("index_copy", x, place, chosen, source)
    return At(x)[(slice(None),) * place + (chosen,)].set(slices)


@torch_names
def index_fill(x: TensorLike, axis: int, index: TensorLike, value: float) -> Tensor:
    """x with one value in all slices at the indices along `axis`."""
    x, place, chosen = _vector("index_fill", x, axis, index)
    return At(x)[(slice(None),) * place + (chosen,)].set(value)


def _check_range(name: str, index: Any, axis: int, shape: Any) -> None:
    array = index.value() if isinstance(index, Tensor) else index
    if array.size and not -shape[axis] <= array.min() <= array.max() < shape[axis]:
        raise refuse_index(name, array, axis, shape)


def masked_fill(x: TensorLike, mask: TensorLike, value: TensorLike) -> Tensor:
    """x with `value` (one number) where the mask holds; the mask broadcasts.

    >>> import fathom
    >>> fathom.masked_fill(fathom.tensor([1.0, 2.0]), [True, False], -1.0)
    tensor([-1.,  2.])
    """
    x, chosen = operand(x, "masked_fill"), mask_of(mask, "masked_fill")
    if np.ndim(value) if not isinstance(value, Tensor) else value.ndim:
        raise ShapeError("masked_fill: the value is one number", fix="use where(mask, value, x)")
    if isinstance(value, (Tensor, np.ndarray)):
        filled = value.astype(x.dtype)
    else:
        if isinstance(value, float) and x.dtype.kind != "f":
            raise DtypeError(f"masked_fill: {value} does not fit into a tensor of {x.dtype}")
        filled = np.asarray(value, x.dtype)
    return where(chosen, filled, x)
