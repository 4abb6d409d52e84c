"""The methods and operators of `Tensor`: every one is a function of this package."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from fathom.engine.errors import DtypeError, GraphError, InplaceError, ShapeError
from fathom.engine.tensor import (
    Tensor,
    TensorLike,
    clock,
    is_grad_enabled,
    mark_written,
)
from fathom.ops import elementwise as e
from fathom.ops import index, linalg, loss, reduce, shape


class TensorMethods:
    """Mixed into `Tensor`; see the functions for their documentation."""

    __add__ = e.add
    __sub__ = e.sub
    __mul__ = e.mul
    __truediv__ = e.div
    __pow__ = e.power
    __neg__ = e.neg
    __abs__ = e.abs
    __matmul__ = linalg.matmul
    __getitem__ = index.getitem
    __gt__ = e.greater
    __ge__ = e.greater_equal
    __lt__ = e.less
    __le__ = e.less_equal
    __eq__ = e.equal  # type: ignore[assignment]
    __ne__ = e.not_equal  # type: ignore[assignment]
    __and__ = e.logical_and
    __or__ = e.logical_or
    __invert__ = e.logical_not

    abs = e.abs
    add = e.add
    astype = e.astype
    clamp = e.clip
    clip = e.clip
    div = e.div
    exp = e.exp
    log = e.log
    maximum = e.maximum
    minimum = e.minimum
    mul = e.mul
    neg = e.neg
    pow = e.power
    reciprocal = e.reciprocal
    relu = e.relu
    sigmoid = e.sigmoid
    sign = e.sign
    sqrt = e.sqrt
    square = e.square
    sub = e.sub
    tanh = e.tanh
    isfinite = e.isfinite
    isnan = e.isnan

    argmax = reduce.argmax
    max = reduce.max
    mean = reduce.mean
    min = reduce.min
    std = reduce.std
    sum = reduce.sum
    var = reduce.var

    broadcast_to = shape.broadcast_to
    expand = shape.expand
    flatten = shape.flatten
    permute = shape.permute
    reshape = shape.reshape
    squeeze = shape.squeeze
    transpose = shape.transpose
    unsqueeze = shape.unsqueeze
    view = shape.reshape

    take_along_axis = index.take_along_axis
    matmul = linalg.matmul
    softmax = loss.softmax
    log_softmax = loss.log_softmax

    def __radd__(self, other: TensorLike) -> Tensor:
        return e.add(other, self)  # type: ignore[arg-type]

    def __rsub__(self, other: TensorLike) -> Tensor:
        return e.sub(other, self)  # type: ignore[arg-type]

    def __rmul__(self, other: TensorLike) -> Tensor:
        return e.mul(other, self)  # type: ignore[arg-type]

    def __rtruediv__(self, other: TensorLike) -> Tensor:
        return e.div(other, self)  # type: ignore[arg-type]

    def __rpow__(self, other: TensorLike) -> Tensor:
        return e.power(other, self)  # type: ignore[arg-type]

    def __rmatmul__(self, other: TensorLike) -> Tensor:
        return linalg.matmul(other, self)  # type: ignore[arg-type]

    def __iter__(self: Any) -> Iterator[Tensor]:
        return (self[i] for i in range(len(self)))

    @property
    def T(self) -> Tensor:
        """All axes reversed."""
        return shape.matrix_transpose(self)  # type: ignore[arg-type]

    @property
    def mT(self) -> Tensor:
        """The last two axes swapped."""
        return shape.transpose(self, -2, -1)  # type: ignore[arg-type]

    def numel(self: Any) -> int:
        return int(self.size)

    def dim(self: Any) -> int:
        return int(self.ndim)

    def float(self: Any) -> Tensor:
        return e.astype(self, np.float32)

    def double(self: Any) -> Tensor:
        return e.astype(self, np.float64)

    def clone(self: Any) -> Tensor:
        """A copy that keeps its history."""
        return e.mul(self, 1) if self.requires_grad else Tensor(self.value().copy())

    # -- in place: the trailing underscore of PyTorch

    def __iadd__(self: Any, other: TensorLike) -> Tensor:  # type: ignore[misc]
        return write(self, e.add, other)

    def __isub__(self: Any, other: TensorLike) -> Tensor:  # type: ignore[misc]
        return write(self, e.sub, other)

    def __imul__(self: Any, other: TensorLike) -> Tensor:  # type: ignore[misc]
        return write(self, e.mul, other)

    def __itruediv__(self: Any, other: TensorLike) -> Tensor:  # type: ignore[misc]
        return write(self, e.div, other)

    add_, sub_, mul_, div_ = __iadd__, __isub__, __imul__, __itruediv__

    def copy_(self: Any, other: TensorLike) -> Tensor:
        return write(self, lambda _, y: shape.broadcast_to(y, self.shape), other)

    def zero_(self: Any) -> Tensor:
        return write(self, lambda _, y: np.zeros(self.shape, self.dtype), None)

    def fill_(self: Any, value: TensorLike) -> Tensor:
        return write(self, lambda _, y: np.full(self.shape, float(y)), value)

    def __setitem__(self: Any, where: Any, value: TensorLike) -> None:
        if is_grad_enabled() and (self.requires_grad or getattr(value, "requires_grad", False)):
            raise InplaceError(
                "x[index] = value inside a recorded computation would break its gradient",
                fix="build the result with fathom.where or concatenate, or edit under no_grad()",
            )
        raw = value.value() if isinstance(value, Tensor) else value
        self.value()[index._plain_index(where)] = raw
        mark_written(self)


def write(target: Tensor, operation: Any, other: Any) -> Tensor:
    """`target = operation(target, other)` in the memory of `target`.

    Recorded like any operation when gradients are; refused where PyTorch refuses: on a leaf
    that requires grad, and on views of recorded values.
    """
    recorded = is_grad_enabled() and (
        target.requires_grad or (isinstance(other, Tensor) and other.requires_grad)
    )
    if recorded:
        if target.is_leaf and target.requires_grad:
            raise GraphError(
                "a leaf that requires grad is edited in place while operations are recorded",
                fix="edit it inside `with fathom.no_grad():`, as optimizers do",
            )
        if target.cell is not None and target.cell.shared:
            raise InplaceError(
                "in-place edit of memory that another recorded tensor shares (a view)",
                fix="write it out of place: y = x + 1",
            )
        before = Tensor(target.value().copy())
        before.edge, before.requires_grad = target.edge, target.requires_grad
        result = operation(before, other)
        target.edge, target.requires_grad = result.edge, result.requires_grad
    else:
        result = operation(target.value(), other.value() if isinstance(other, Tensor) else other)
    data = result.value() if isinstance(result, Tensor) else result
    if data.shape != target.shape:
        raise ShapeError(f"an in-place edit cannot change shape {target.shape} to {data.shape}")
    if data.dtype.kind == "f" and target.dtype.kind != "f":
        raise DtypeError(f"floats cannot be written in place into a tensor of {target.dtype}")
    target.value()[...] = data
    mark_written(target)
    if recorded and target.edge is not None:
        target.edge[0].sequence = next(clock)  # the write is part of the operation
    return target


_UFUNCS = {
    np.add: e.add, np.subtract: e.sub, np.multiply: e.mul, np.true_divide: e.div,
    np.negative: e.neg, np.power: e.power, np.exp: e.exp, np.log: e.log, np.sqrt: e.sqrt,
    np.tanh: e.tanh, np.abs: e.abs, np.sign: e.sign, np.square: e.square,
    np.maximum: e.maximum, np.minimum: e.minimum, np.matmul: linalg.matmul,
    np.greater: e.greater, np.greater_equal: e.greater_equal, np.less: e.less,
    np.less_equal: e.less_equal, np.equal: e.equal, np.not_equal: e.not_equal,
    np.isfinite: e.isfinite, np.isnan: e.isnan, np.reciprocal: e.reciprocal,
}  # fmt: skip


def _array_ufunc(self: Tensor, ufunc: Any, method: str, *inputs: Any, **keywords: Any) -> Any:
    """`np.exp(tensor)` and `array * tensor` run our op, so that nothing loses its history."""
    operation = _UFUNCS.get(ufunc)
    if method != "__call__" or operation is None or keywords:
        if any(isinstance(x, Tensor) and x.requires_grad for x in inputs):
            raise GraphError(
                f"np.{ufunc.__name__} cannot be recorded on a tensor that requires grad",
                fix="use the function of fathom, or x.detach().numpy()",
            )
        arrays = [x.value() if isinstance(x, Tensor) else x for x in inputs]
        return getattr(ufunc, method)(*arrays, **keywords)
    function: Any = operation
    return function(*inputs)


def attach() -> None:
    """Give `Tensor` its methods; called once, when `fathom.ops` is imported."""
    for name, member in vars(TensorMethods).items():
        if name not in ("__module__", "__doc__", "__dict__", "__weakref__", "__hash__"):
            setattr(Tensor, name, member)
    Tensor.__array_ufunc__ = _array_ufunc  # type: ignore[attr-defined]
