"""What a tensor is and where: dtypes, devices, memory, and new tensors of its kind."""

from __future__ import annotations

import builtins
from typing import Any

import numpy as np

from fathom.engine.errors import ArgumentError, DtypeError, ShapeError
from fathom.engine.tensor import Tensor
from fathom.ops import create
from fathom.ops import elementwise as e
from fathom.ops.axes import one_axis

__all__: list[str] = []


class Device(str):
    """Where a tensor lives: always "cpu"."""

    @property
    def type(self) -> str:
        """PyTorch's `device.type`."""
        return str(self)


CPU = Device("cpu")


def _on_cpu(device: Any) -> None:
    if device is not None and str(device).partition(":")[0] != "cpu":
        raise ArgumentError(
            f"to: there is no device {str(device)!r}; Fathom computes on the processor",
            fix='leave the device out, or give "cpu"',
        )


def _target(target: Any) -> tuple[Any, Any]:
    """What `to` was given, as a dtype and a device."""
    if isinstance(target, (Tensor, np.ndarray)):
        return target.dtype, None
    if isinstance(target, str):
        try:
            return np.dtype(target), None
        except TypeError:
            return None, target
    try:
        return (None if target is None else np.dtype(target)), None
    except TypeError:
        raise DtypeError(
            f"to: {target!r} is neither a dtype, nor a device, nor a tensor",
            fix="x.to(fathom.float64)",
        ) from None


class Handling:
    """The methods of `Tensor` that say what it is, or make another of its kind."""

    def __pos__(self: Any) -> Tensor:
        out: Tensor = self
        return out

    def __format__(self: Any, spec: str) -> str:
        """A single number like a number: f"{loss:.3f}"."""
        if not self.ndim and spec:
            return format(self.item(), spec)
        if spec:
            raise ShapeError(
                f"format {spec!r} is for a single number; this tensor has shape {self.shape}",
                fix="reduce it first, or format the elements of x.tolist()",
            )
        return str(self)

    @property
    def device(self) -> Device:
        """Always "cpu"."""
        return CPU

    @property
    def itemsize(self: Any) -> builtins.int:
        """Bytes of one element."""
        size: builtins.int = self.dtype.itemsize
        return size

    def element_size(self: Any) -> builtins.int:
        """Bytes of one element."""
        size: builtins.int = self.dtype.itemsize
        return size

    def dim(self: Any) -> builtins.int:
        """The number of axes."""
        count: builtins.int = self.ndim
        return count

    ndimension = dim

    def stride(self: Any, dim: builtins.int | None = None) -> Any:
        """How many elements apart neighbours along each axis (or one) lie in memory."""
        steps = tuple(s // self.dtype.itemsize for s in self.value().strides)
        return steps if dim is None else steps[one_axis(dim, self.ndim, "stride")]

    def is_contiguous(self: Any) -> builtins.bool:
        """Whether the elements lie in memory in order, without gaps."""
        return builtins.bool(self.value().flags.c_contiguous)

    def contiguous(self: Any) -> Tensor:
        """Itself if its memory is in order, else a copy that is."""
        return self if self.value().flags.c_contiguous else create.clone(self)

    # -- dtypes and devices

    def to(
        self: Any, target: Any = None, dtype: Any = None, *, device: Any = None,
        non_blocking: builtins.bool = False, copy: builtins.bool = False,
    ) -> Tensor:  # fmt: skip
        """This tensor in another dtype: `x.to(fathom.float64)`, or in that of another tensor.

        The only device is "cpu". Without a change the tensor itself comes back, unless `copy`.
        """
        found, place = _target(target)
        _on_cpu(place)
        _on_cpu(device)
        wanted = self.dtype if found is None and dtype is None else np.dtype(dtype or found)
        if wanted != self.dtype:
            return e.astype(self, wanted)
        return create.clone(self) if copy else self

    def cpu(self: Any) -> Tensor:
        """Itself: it is there already."""
        out: Tensor = self
        return out

    def half(self: Any) -> Tensor:
        return e.astype(self, np.float16)

    def float(self: Any) -> Tensor:
        return e.astype(self, np.float32)

    def double(self: Any) -> Tensor:
        return e.astype(self, np.float64)

    def int(self: Any) -> Tensor:
        return e.astype(self, np.int32)

    def long(self: Any) -> Tensor:
        return e.astype(self, np.int64)

    def bool(self: Any) -> Tensor:
        return e.astype(self, np.bool_)

    def type_as(self: Any, other: Tensor) -> Tensor:
        """This tensor in the dtype of another."""
        return e.astype(self, other.dtype)

    # -- new tensors of this dtype

    def new_tensor(
        self: Any, data: Any, dtype: Any = None, requires_grad: builtins.bool = False
    ) -> Tensor:
        """`data` as a tensor of this dtype."""
        return create.tensor(data, self.dtype if dtype is None else dtype, requires_grad)

    def new_zeros(
        self: Any, *sizes: Any, dtype: Any = None, requires_grad: builtins.bool = False
    ) -> Tensor:
        """Zeros of this dtype."""
        kind = self.dtype if dtype is None else dtype
        return create.zeros(*sizes, dtype=kind, requires_grad=requires_grad)

    def new_ones(
        self: Any, *sizes: Any, dtype: Any = None, requires_grad: builtins.bool = False
    ) -> Tensor:
        """Ones of this dtype."""
        kind = self.dtype if dtype is None else dtype
        return create.ones(*sizes, dtype=kind, requires_grad=requires_grad)

    def new_empty(
        self: Any, *sizes: Any, dtype: Any = None, requires_grad: builtins.bool = False
    ) -> Tensor:
        """Unwritten memory of this dtype."""
        kind = self.dtype if dtype is None else dtype
        return create.empty(*sizes, dtype=kind, requires_grad=requires_grad)

    def new_full(
        self: Any, sizes: Any, value: Any, dtype: Any = None, requires_grad: builtins.bool = False
    ) -> Tensor:
        """All `value`, of this dtype."""
        return create.full(sizes, value, self.dtype if dtype is None else dtype, requires_grad)
