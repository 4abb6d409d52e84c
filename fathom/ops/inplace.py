"""Operations in place: the trailing underscore of PyTorch, `x += y` and `x[index] = value`."""

from __future__ import annotations

from typing import Any, cast

from fathom.engine.errors import ArgumentError, DtypeError, GraphError, InplaceError, ShapeError
from fathom.engine.modes import is_grad_enabled, tracing
from fathom.engine.tensor import (
    Tensor,
    TensorLike,
    clock,
    mark_written,
)
from fathom.ops import create, index, scattering, writing
from fathom.ops import elementwise as e

__all__: list[str] = []


class InPlace:
    """The methods of `Tensor` that write into its memory."""

    # -- in place: the trailing underscore of PyTorch

    def __iadd__(self: Any, other: TensorLike) -> Tensor:
        return write(self, e.add, other)

    def __isub__(self: Any, other: TensorLike) -> Tensor:
        return write(self, e.sub, other)

    def __imul__(self: Any, other: TensorLike) -> Tensor:
        return write(self, e.mul, other)

    def __itruediv__(self: Any, other: TensorLike) -> Tensor:
        return write(self, e.div, other)

    add_, sub_, mul_, div_ = __iadd__, __isub__, __imul__, __itruediv__

    def copy_(self: Any, other: TensorLike) -> Tensor:
        return write(self, lambda x, y: writing.At(x)[...].set(y), other)

    def zero_(self: Any) -> Tensor:
        return write(self, lambda x, _: writing.At(x)[...].set(0), None)

    def fill_(self: Any, value: TensorLike) -> Tensor:
        return write(self, lambda x, y: writing.At(x)[...].set(y), value)

    def clamp_(self: Any, min: TensorLike | None = None, max: TensorLike | None = None) -> Tensor:
        return write(self, lambda x, _: e.clip(x, min, max), None)

    clip_ = clamp_

    def neg_(self: Any) -> Tensor:
        return write(self, lambda x, _: e.neg(x), None)

    def exp_(self: Any) -> Tensor:
        return write(self, lambda x, _: e.exp(x), None)

    def sqrt_(self: Any) -> Tensor:
        return write(self, lambda x, _: e.sqrt(x), None)

    def pow_(self: Any, exponent: TensorLike) -> Tensor:
        return write(self, e.power, exponent)

    def masked_fill_(self: Any, mask: TensorLike, value: TensorLike) -> Tensor:
        return write(self, lambda x, v: writing.masked_fill(x, mask, v), value)

    def index_add_(self: Any, dim: Any, index: TensorLike, source: TensorLike) -> Tensor:
        return write(self, lambda x, v: writing.index_add(x, dim, index, v), source)

    def scatter_(self: Any, dim: Any, index: TensorLike, src: TensorLike) -> Tensor:
        return write(self, lambda x, v: writing.scatter(x, dim, index, v), src)

    def scatter_add_(self: Any, dim: Any, index: TensorLike, src: TensorLike) -> Tensor:
        return write(self, lambda x, v: writing.scatter_add(x, dim, index, v), src)

    def index_put_(self: Any, indices: Any, values: TensorLike, accumulate: bool = False) -> Tensor:
        def put(x: Any, v: Any) -> Any:
            return scattering.index_put(x, indices, v, accumulate)

        return write(self, put, values)

    def sigmoid_(self: Any) -> Tensor:
        return write(self, lambda x, _: e.sigmoid(x), None)

    def tanh_(self: Any) -> Tensor:
        return write(self, lambda x, _: e.tanh(x), None)

    def relu_(self: Any) -> Tensor:
        return write(self, lambda x, _: e.relu(x), None)

    def uniform_(self: Any, low: float = 0.0, high: float = 1.0) -> Tensor:
        """Numbers spread evenly over [low, high), from the stream "sample"."""
        if not low <= high:
            raise ArgumentError(f"uniform_: low {low} lies above high {high}")
        drawn = create.rand(self.shape, dtype=self.dtype).data * (high - low) + low
        return self.copy_(drawn.astype(self.dtype))

    def normal_(self: Any, mean: float = 0.0, std: float = 1.0) -> Tensor:
        """Normally distributed numbers, from the stream "sample"."""
        if not std >= 0:
            raise ArgumentError(f"normal_: the deviation is 0 or more; received {std}")
        drawn = create.randn(self.shape, dtype=self.dtype).data * std + mean
        return self.copy_(drawn.astype(self.dtype))

    def __setitem__(self: Any, where: Any, value: TensorLike) -> None:
        """x[where] = value, in the memory of x; recorded like any other in-place edit."""
        place = index.plain_index(where)
        recorded = self.requires_grad or getattr(value, "requires_grad", False)
        wrapped = self.level or getattr(value, "level", 0) or tracing() is not None
        if wrapped or (is_grad_enabled() and recorded):
            write(self, lambda x, v: writing.At(x)[place].set(v), value)
            return
        writing.write_into(self.value(), place, value)
        mark_written(self)


def write(target: Tensor, operation: Any, other: Any) -> Tensor:
    """`target = operation(target, other)` in the memory of `target`.

    Recorded like any operation when gradients are; refused where PyTorch refuses: on a leaf
    that requires grad, and on views of recorded values.
    """
    level = getattr(other, "level", 0)
    if (tracer := tracing()) is not None:
        tracer.adopt(target)
    if target.level or level:
        return _write_wrapped(target, operation, other, level)
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
        before = Tensor(target.storage().copy())
        before.edge, before.requires_grad = target.edge, target.requires_grad
        result = operation(before, before if other is target else other)
        target.edge, target.requires_grad = result.edge, result.requires_grad
    else:
        given = other.storage() if isinstance(other, Tensor) else other
        result = operation(target.storage(), given)
    data = result.storage() if isinstance(result, Tensor) else result
    if data.shape != target.shape:
        raise ShapeError(f"an in-place edit cannot change shape {target.shape} to {data.shape}")
    if data.dtype.kind == "f" and target.dtype.kind != "f":
        raise DtypeError(f"floats cannot be written in place into a tensor of {target.dtype}")
    memory = target.storage()
    if tracer is None:
        memory[...] = data
    else:
        memory.assign(data)
    mark_written(target)
    if recorded and target.edge is not None:
        target.edge[0].sequence = next(clock)  # the write is part of the operation
    return target


def _write_wrapped(target: Any, operation: Any, other: Any, level: int) -> Tensor:
    """An in-place edit inside a transform: the wrapper takes over what the result holds."""
    if level > target.level:
        raise GraphError(
            "an in-place edit of a tensor from outside a transform with a value from inside it",
            fix="make the tensor inside the function you transform, or write out of place",
        )
    before = object.__new__(type(target))
    before.__dict__.update(target.__dict__)
    result = operation(before, before if other is target else other)
    if result.shape != target.shape:
        raise ShapeError(f"an in-place edit cannot change shape {target.shape} to {result.shape}")
    target.__dict__.update(result.__dict__)
    return cast(Tensor, target)
