"""Making tensors from data, filled with one value, in steps, or at random."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from fathom.engine.errors import ArgumentError, DtypeError
from fathom.engine.primitive import elementwise
from fathom.engine.random import Stream, current
from fathom.engine.tensor import Array, Tensor, TensorLike, to_array
from fathom.ops.axes import operand, shape_of, whole

__all__ = [
    "arange",
    "as_tensor",
    "clone",
    "empty",
    "empty_like",
    "eye",
    "from_numpy",
    "full",
    "full_like",
    "is_floating_point",
    "is_tensor",
    "linspace",
    "logspace",
    "numel",
    "ones",
    "ones_like",
    "rand",
    "rand_like",
    "randint",
    "randn",
    "randn_like",
    "randperm",
    "tensor",
    "zeros",
    "zeros_like",
]


def tensor(data: Any, dtype: DTypeLike | None = None, requires_grad: bool = False) -> Tensor:
    """A tensor with a copy of `data`; lists of floats become float32, arrays keep their dtype.

    >>> tensor([[1, 2], [3, 4]]).shape
    (2, 2)
    """
    return Tensor(np.array(to_array(data, dtype)), requires_grad)


def as_tensor(data: Any, dtype: DTypeLike | None = None) -> Tensor:
    """`data` itself if it is a tensor of that dtype, else a tensor that shares memory if it can."""
    if isinstance(data, Tensor) and dtype in (None, data.dtype):
        return data
    return Tensor(data, dtype=dtype)


def from_numpy(array: Array) -> Tensor:
    """A tensor that shares memory with the array."""
    if not isinstance(array, np.ndarray):
        raise DtypeError(
            f"from_numpy: expects an array; received {type(array).__name__}",
            fix="fathom.tensor(data) copies lists and numbers",
        )
    return Tensor(array)


@elementwise(lambda x: np.array(x, order="C"), (1.0,))
def clone(x: TensorLike) -> Tensor:
    """A copy with memory of its own, in order, that keeps its history."""


def is_tensor(x: Any) -> bool:
    """Whether x is a tensor."""
    return isinstance(x, Tensor)


def is_floating_point(x: TensorLike) -> bool:
    """Whether x holds floats."""
    return operand(x, "is_floating_point").dtype.kind == "f"


def numel(x: TensorLike) -> int:
    """How many elements x has."""
    return operand(x, "numel").size


def _type(dtype: DTypeLike, name: str) -> np.dtype[Any]:
    try:
        return np.dtype(dtype)
    except TypeError:
        raise DtypeError(f"{name}: {dtype!r} is not an element type") from None


def _number(value: Any, name: str, what: str) -> Any:
    """One number: a Python number, or the element of a tensor."""
    if isinstance(value, (Tensor, np.ndarray, np.generic)) and value.size == 1:
        return value.item()
    if not isinstance(value, (int, float)):
        raise DtypeError(f"{name}: {what} is a number; received {value!r}")
    return value


# -- filled --------------------------------------------------------------------------------------


def zeros(*shape: Any, dtype: DTypeLike = np.float32, requires_grad: bool = False) -> Tensor:
    """All zeros: `zeros(2, 3)` or `zeros((2, 3))`."""
    return Tensor(np.zeros(shape_of(shape, "zeros"), _type(dtype, "zeros")), requires_grad)


def ones(*shape: Any, dtype: DTypeLike = np.float32, requires_grad: bool = False) -> Tensor:
    """All ones."""
    return Tensor(np.ones(shape_of(shape, "ones"), _type(dtype, "ones")), requires_grad)


def empty(*shape: Any, dtype: DTypeLike = np.float32, requires_grad: bool = False) -> Tensor:
    """Memory that nobody has written to: any numbers may stand in it."""
    return Tensor(np.empty(shape_of(shape, "empty"), _type(dtype, "empty")), requires_grad)


def full(
    shape: Any, value: Any, dtype: DTypeLike | None = None, requires_grad: bool = False
) -> Tensor:
    """All `value`; of its kind (float32, int64 or bool) unless a dtype is given.

    >>> full((2,), 7.0)
    tensor([7., 7.])
    """
    number = _number(value, "full", "value")
    if dtype is None:
        dtype = np.float32 if isinstance(number, float) else np.asarray(number).dtype
    return Tensor(np.full(shape_of((shape,), "full"), number, _type(dtype, "full")), requires_grad)


def zeros_like(
    x: TensorLike, dtype: DTypeLike | None = None, requires_grad: bool = False
) -> Tensor:
    """All zeros, in the shape and dtype of x."""
    return full_like(x, 0, dtype, requires_grad)


def ones_like(x: TensorLike, dtype: DTypeLike | None = None, requires_grad: bool = False) -> Tensor:
    """All ones, in the shape and dtype of x."""
    return full_like(x, 1, dtype, requires_grad)


def full_like(
    x: TensorLike, value: Any, dtype: DTypeLike | None = None, requires_grad: bool = False
) -> Tensor:
    """All `value`, in the shape and dtype of x."""
    x = operand(x, "full_like")
    return full(x.shape, value, x.dtype if dtype is None else dtype, requires_grad)


def empty_like(
    x: TensorLike, dtype: DTypeLike | None = None, requires_grad: bool = False
) -> Tensor:
    """Unwritten memory, in the shape and dtype of x."""
    x = operand(x, "empty_like")
    return empty(x.shape, dtype=x.dtype if dtype is None else dtype, requires_grad=requires_grad)


def eye(
    n: int, m: int | None = None, dtype: DTypeLike = np.float32, requires_grad: bool = False
) -> Tensor:
    """The identity matrix: ones on the diagonal of (n, m), m = n by default."""
    rows, columns = shape_of((n, n if m is None else m), "eye")
    return Tensor(np.eye(rows, columns, dtype=_type(dtype, "eye")), requires_grad)


# -- in steps ------------------------------------------------------------------------------------


def arange(
    start: Any, end: Any = None, step: Any = 1, dtype: DTypeLike | None = None,
    requires_grad: bool = False,
) -> Tensor:  # fmt: skip
    """start, start + step, ... up to but without `end`; `arange(n)` counts from 0.

    int64 if all arguments are whole numbers, float32 otherwise.

    >>> arange(3), arange(1, 2, 0.5)
    (tensor([0, 1, 2]), tensor([1. , 1.5]))
    """
    first, last = (0, start) if end is None else (start, end)
    low, high, width = (
        _number(v, "arange", w) for v, w in ((first, "start"), (last, "end"), (step, "step"))
    )
    if width == 0 or (high - low) / width < 0 or not math.isfinite((high - low) / width):
        raise ArgumentError(f"arange: steps of {width} do not lead from {low} to {high}")
    if dtype is None:
        floats = any(isinstance(v, float) for v in (low, high, width))
        dtype = np.float32 if floats else np.int64
    count = math.ceil((high - low) / width)
    return Tensor((low + width * np.arange(count)).astype(_type(dtype, "arange")), requires_grad)


def linspace(
    start: Any, end: Any, steps: int, dtype: DTypeLike = np.float32, requires_grad: bool = False
) -> Tensor:
    """`steps` numbers from start to end, both included, evenly spaced.

    >>> linspace(0, 1, 3)
    tensor([0. , 0.5, 1. ])
    """
    low, high = _number(start, "linspace", "start"), _number(end, "linspace", "end")
    count = shape_of((steps,), "linspace")[0]
    values = np.linspace(low, high, count, dtype=_type(dtype, "linspace"))
    return Tensor(values, requires_grad)


def logspace(
    start: Any, end: Any, steps: int, base: float = 10.0, dtype: DTypeLike = np.float32,
    requires_grad: bool = False,
) -> Tensor:  # fmt: skip
    """`steps` numbers from base^start to base^end, in equal ratios."""
    exponents = linspace(start, end, steps, np.float64).data
    return Tensor((float(base) ** exponents).astype(_type(dtype, "logspace")), requires_grad)


# -- at random -----------------------------------------------------------------------------------


def _stream() -> Stream:
    return current().stream("sample")


def _floats(dtype: DTypeLike, name: str) -> np.dtype[Any]:
    kind = _type(dtype, name)
    if kind.kind != "f":
        raise DtypeError(f"{name}: draws floats, not {kind}", fix="use randint")
    return kind


def rand(*shape: Any, dtype: DTypeLike = np.float32, requires_grad: bool = False) -> Tensor:
    """Numbers spread evenly over [0, 1), from the stream "sample" of the current `Random`.

    >>> import fathom
    >>> with fathom.seed(0):
    ...     x = rand(2, 3)
    >>> x.shape, bool((x >= 0).all()), bool((x < 1).all())
    ((2, 3), True, True)
    """
    sizes = shape_of(shape, "rand")
    return Tensor(_stream().uniform(sizes, dtype=_floats(dtype, "rand")), requires_grad)


def randn(*shape: Any, dtype: DTypeLike = np.float32, requires_grad: bool = False) -> Tensor:
    """Normally distributed numbers, mean 0 and deviation 1, from the stream "sample"."""
    sizes = shape_of(shape, "randn")
    return Tensor(_stream().normal(sizes, dtype=_floats(dtype, "randn")), requires_grad)


def rand_like(x: TensorLike, requires_grad: bool = False) -> Tensor:
    """`rand` in the shape and dtype of x."""
    x = operand(x, "rand_like")
    return rand(x.shape, dtype=x.dtype, requires_grad=requires_grad)


def randn_like(x: TensorLike, requires_grad: bool = False) -> Tensor:
    """`randn` in the shape and dtype of x."""
    x = operand(x, "randn_like")
    return randn(x.shape, dtype=x.dtype, requires_grad=requires_grad)


def randint(low: int, high: Any = None, size: Any = None, dtype: DTypeLike = np.int64) -> Tensor:
    """Whole numbers from low (included) to high (excluded), from the stream "sample".

    `randint(10, (2, 3))` counts from 0, as in PyTorch.

    >>> import fathom
    >>> with fathom.seed(0):
    ...     fathom.randint(5, 6, (3,))
    tensor([5, 5, 5])
    """
    if size is None:
        low, high, size = 0, low, high
    if size is None:
        raise ArgumentError("randint: give the size: randint(10, (2, 3))")
    first, last = whole(low, "randint", "low"), whole(high, "randint", "high")
    if last <= first:
        raise ArgumentError(f"randint: nothing lies from {first} (included) to {last} (excluded)")
    drawn = _stream().integers(first, last, shape_of((size,), "randint"))
    return Tensor(drawn.astype(_type(dtype, "randint")))


def randperm(n: int, dtype: DTypeLike = np.int64) -> Tensor:
    """The numbers 0 ... n-1 in random order, from the stream "sample"."""
    count = shape_of((n,), "randperm")[0]
    return Tensor(_stream().permutation(count).astype(_type(dtype, "randperm")))
