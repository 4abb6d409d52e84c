"""Examples of a trace that nobody has looked into: arrays of the right shape, without values.

Most operations go by the shapes, dtypes and memory of their arguments alone. Their results are
left blank, and worked out only when something needs the values: NumPy code that is run as it is,
an index, an operation with a shape of its own.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from fathom.compile.plan import walk
from fathom.engine.primitive import Extra, Primitive, settle

# of a float dtype: one new array of theirs, of a shape that the primitive's rule tells
ALONE = frozenset((
    "matmul", "linear", "sum", "mean", "amax", "softmax", "log_softmax", "putitem",
    "conv", "conv_weight", "conv_input", "window_sum", "window_spread",
))  # fmt: skip
FLOATS = (np.dtype(np.float32), np.dtype(np.float64))


class Pending(NamedTuple):
    """How blank arrays are worked out."""

    number: int
    arrays: Sequence[Any]
    primitive: Primitive
    examples: Sequence[Any]
    settings: dict[str, Any]


class Blanks:
    """The blank arrays of one trace."""

    def __init__(self) -> None:
        self.pending: dict[int, Pending] = {}  # by the id of who owns the memory
        self.count = itertools.count()
        self.dtypes: dict[Any, Any] = {}

    def made(self, primitive: Primitive, examples: list[Any], settings: dict[str, Any]) -> Any:
        """The result of an operation without its values; None if they are needed.

        A view shows its argument's memory. Errors are left to the operation itself.
        """
        if settings and any(map(_is_array, walk(settings))):
            return None
        try:
            if primitive.view:
                return self._viewed(primitive, examples, settings)
            out = self._new(primitive, examples, settings)
        except (ValueError, TypeError, IndexError, AttributeError):
            return None
        return out if out is None else self._blank(out, primitive, examples, settings)

    def _new(self, primitive: Primitive, examples: list[Any], settings: dict[str, Any]) -> Any:
        name, shape = primitive.name, primitive.shape
        if primitive.form == "elementwise" and not settings:
            dtype = self._dtype(primitive, examples)
            return None if dtype is None else _like(primitive.forward, examples, dtype)
        if not primitive.listed or _common(examples) not in FLOATS:
            return None
        if not all(map(LAYOUTS.get(name, _in_one_piece), examples)):
            return None
        if name in ALONE and shape is not None:
            return np.empty(shape(*examples, **settings), examples[0].dtype)
        return SEVERAL[name](*examples, **settings) if name in SEVERAL else None

    def _blank(self, out: Any, primitive: Primitive, examples: Any, settings: Any) -> Any:
        arrays = list(_arrays(out))
        found = Pending(next(self.count), arrays, primitive, examples, settings)
        self.pending.update((id(_owner(a)), found) for a in arrays)
        return out

    def _viewed(self, primitive: Primitive, examples: list[Any], settings: dict[str, Any]) -> Any:
        if any(map(_is_array, examples[1:])):
            return None
        if id(_owner(examples[0])) not in self.pending:
            return primitive.forward(*examples, **settings)
        if primitive.name == "reshape":
            out = _reshaped(examples[0], settings["shape"])
        else:
            out = primitive.forward(*examples, **settings)
        if all(np.may_share_memory(a, examples[0]) for a in _arrays(out)):
            return out
        return self._blank(out, primitive, examples, settings) if _is_array(out) else None  # copies

    def _dtype(self, primitive: Primitive, examples: list[Any]) -> Any:
        """What an elementwise operation makes of arguments of these kinds."""
        key = (primitive, *[_kind(e) for e in examples])
        if key not in self.dtypes:
            probes = [np.ones((1,) * e.ndim, e.dtype) if _is_array(e) else e for e in examples]
            out = primitive.forward(*probes) if any(map(_is_array, probes)) else None
            if isinstance(out, (np.ndarray, np.generic)):
                out = out if primitive.casts else settle(np.asarray(out), probes)
                self.dtypes[key] = out.dtype
            else:
                self.dtypes[key] = None
        return self.dtypes[key]

    def fill(self, *trees: Any) -> None:
        """Work out the values of all arrays in a nest, and of what they are made of."""
        wanted: dict[int, Pending] = {}
        waiting = [a for a in walk(trees) if _is_array(a)]
        while waiting:
            found = self.pending.get(id(_owner(waiting.pop())))
            if found is not None and found.number not in wanted:
                wanted[found.number] = found
                waiting.extend(filter(_is_array, found.examples))
        for _, found in sorted(wanted.items()):
            out = found.primitive.forward(*found.examples, **found.settings)
            for array, values in zip(found.arrays, _arrays(out), strict=True):
                array[...] = values
                del self.pending[id(_owner(array))]


def _reshaped(array: Any, shape: Sequence[int]) -> Any:
    """The same memory in another shape, or blank memory."""
    try:
        return np.reshape(array, shape, copy=False)
    except ValueError:
        return np.empty(array.size, array.dtype).reshape(shape)


def _standardize(x: Any, axis: Sequence[int], eps: float) -> tuple[Any, ...]:
    shape = [1 if i in axis else n for i, n in enumerate(x.shape)]
    return np.empty(x.shape, x.dtype), np.empty(shape, x.dtype), np.empty(shape, x.dtype)


def _cross_entropy(x: Any, target: Any) -> tuple[Any, ...]:
    """`target` has been checked before."""
    return np.empty(len(x), x.dtype), Extra((np.empty(x.shape, x.dtype),))


SEVERAL: dict[str, Callable[..., Any]] = {
    "standardize": _standardize,
    "cross_entropy": _cross_entropy,
}


def _like(forward: Any, examples: list[Any], dtype: Any) -> Any:
    """A result of NumPy's as it would lay it out; None if that is not known."""
    if all(map(_in_one_piece, examples)):
        return np.empty(np.broadcast(*examples).shape, dtype)
    if not isinstance(forward, np.ufunc):
        return None
    flags: Any = [*[["readonly"]] * len(examples), ["writeonly", "allocate"]]
    dtypes = [*[None] * len(examples), dtype]
    return np.nditer([*examples, None], ["zerosize_ok"], flags, dtypes).operands[-1]


def _in_one_piece(example: Any) -> bool:
    return not isinstance(example, np.ndarray) or example.flags.c_contiguous


def _lies_well(x: Any) -> bool:
    """Whether the matrices of an operand follow each other in the order of their axes."""
    steps = [s for s, n in zip(x.strides[:-2], x.shape, strict=False) if n > 1]
    return steps == sorted(steps, reverse=True)


# what of its arguments' layout an operation needs for a result in one piece
LAYOUTS: dict[str, Callable[[Any], bool]] = {"matmul": _lies_well, "putitem": lambda x: True}


def _is_array(x: Any) -> bool:
    return isinstance(x, np.ndarray)


def _arrays(out: Any) -> Iterator[Any]:
    """What an operation returns, one array after the other."""
    return (np.asarray(a) for a in walk(out) if a is not None)


def _kind(example: Any) -> Any:
    if isinstance(example, np.ndarray):
        return example.dtype, example.ndim
    if isinstance(example, np.generic):
        return example.dtype
    return float if type(example) is float else (type(example), example)


def _common(examples: list[Any]) -> Any:
    """The dtype that all float arguments have; None if they have not."""
    kinds = {e.dtype for e in examples if e is not None and e.dtype.kind != "i"}
    return kinds.pop() if len(kinds) == 1 else None


def _owner(array: Any) -> Any:
    """The array whose memory another one shows."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array
