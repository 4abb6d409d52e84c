"""`Tensor`: an array that remembers how it was made.

This module knows data, versions and edges, but no arithmetic: the methods (`x + y`, `x.sum()`)
are the functions of `fathom.ops`, attached there.
"""

from __future__ import annotations

import itertools
import sys
import warnings
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from types import CodeType
from typing import TYPE_CHECKING, Any, TypeAlias, Union

import numpy as np
from numpy.typing import DTypeLike, NDArray

from fathom.engine.errors import DtypeError, GraphError, ShapeError
from fathom.engine.modes import tracing

if TYPE_CHECKING:
    from fathom.engine.tape import Node
    from fathom.ops.methods import TensorMethods
else:
    TensorMethods = object

Array: TypeAlias = NDArray[Any]
TensorLike: TypeAlias = Union["Tensor", Array, float, int, bool, Sequence[Any]]
Edge: TypeAlias = "tuple[Node, int]"  # the node that made a value, and which of its outputs
Site: TypeAlias = tuple[CodeType, int]  # code object and instruction: cheap to take, late to read

clock = itertools.count(1)  # orders nodes and in-place writes on one time line


class Tensor(TensorMethods):
    """An n-dimensional array with a gradient.

    Parameters
    ----------
    data : array, nested lists or a number. Lists of floats become float32; arrays keep their
        dtype and are shared, not copied (`fathom.tensor` copies).
    requires_grad : record the operations on it, so that `backward` can fill its `grad`.

    >>> import fathom
    >>> x = fathom.tensor([1.0, 2.0], requires_grad=True)
    >>> (x * x).sum().backward()
    >>> x.grad
    tensor([2., 4.])
    """

    level = 0  # transforms (`fathom.func`) wrap a tensor in one of a higher level
    traced = False  # `fathom.compile` puts a stand-in for an array in the place of `data`
    __array_priority__ = 1000.0

    data: Any  # ndarray; on a level above 0, the tensor one level below
    requires_grad: bool = False  # the values here hold until they are set: tensors are cheap
    grad: Tensor | None = None
    edge: Edge | None = None
    cell: Cell | None = None
    extra: dict[str, Any] | None = None

    def __init__(
        self,
        data: Any,
        requires_grad: bool = False,
        *,
        dtype: DTypeLike | None = None,
        name: str | None = None,
    ) -> None:
        self.data = to_array(data, dtype)
        if (tracer := tracing()) is not None:
            self.data = tracer.fresh(self.data)
        if name is not None:
            self.extra = {"name": name}
        if requires_grad:
            self.requires_grad_()

    # -- what it is ---------------------------------------------------------------------

    @property
    def shape(self) -> tuple[int, ...]:
        return self.data.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.data.dtype

    @property
    def ndim(self) -> int:
        return len(self.data.shape)

    @property
    def size(self) -> int:
        return int(self.data.size)

    @property
    def nbytes(self) -> int:
        return self.size * self.dtype.itemsize

    @property
    def name(self) -> str | None:
        """A name for messages and drawings; parameters get theirs from their module."""
        return None if self.extra is None else self.extra.get("name")

    @name.setter
    def name(self, value: str | None) -> None:
        self.extra = {**(self.extra or {}), "name": value}

    @property
    def node(self) -> Node | None:
        """The record of the operation that made this value; None for a leaf."""
        return None if self.edge is None else self.edge[0]

    @property
    def grad_fn(self) -> Node | None:
        """PyTorch's name for `node`."""
        return self.node

    @property
    def is_leaf(self) -> bool:
        return self.edge is None

    @property
    def version(self) -> int:
        """How often this memory was written in place; views share the count."""
        return 0 if self.cell is None else self.cell.count

    def requires_grad_(self, requires_grad: bool = True) -> Tensor:
        """Start (or stop) recording operations on this leaf. Returns itself."""
        if requires_grad and self.dtype.kind != "f":
            raise DtypeError(
                f"only tensors of floats can require a gradient; this one holds {self.dtype}",
                fix="make it with dtype=fathom.float32",
            )
        if not requires_grad and self.edge is not None:
            raise GraphError(
                "requires_grad can be switched off on leaves only; this tensor was made by "
                f"{self.edge[0].primitive.name}",
                fix="use .detach() for a copy without history",
            )
        self.requires_grad = requires_grad
        return self

    # -- out of the tensor world --------------------------------------------------------

    def numpy(self) -> Array:
        """The values as an ndarray that shares memory with the tensor."""
        if self.requires_grad:
            raise GraphError(
                "numpy() of a tensor that requires grad would lose its history silently",
                fix="x.detach().numpy()",
            )
        return self._read()

    def storage(self) -> Any:
        """What lies at the bottom of all levels: an ndarray, or its stand-in under trace."""
        data = self.data
        while isinstance(data, Tensor) and not data.traced:
            data = data.data
        return data

    def value(self) -> Array:
        """The ndarray at the bottom of all levels, whatever is recorded."""
        data = self.data
        while isinstance(data, Tensor):
            data = data.value() if data.traced else data.data
        return data

    def item(self) -> Any:
        """The single element as a Python number."""
        if self.size != 1:
            raise ShapeError(
                f"item() needs exactly one element; shape {self.shape} has {self.size}",
                fix="reduce first (mean, sum), or use tolist()",
            )
        return self._read().item()

    def tolist(self) -> Any:
        return self._read().tolist()

    def _read(self) -> Array:
        """The values, for Python to go by; a step that is being compiled takes note."""
        tracer = tracing()
        found: Array = self.value() if tracer is None else tracer.seen(self)
        return found

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> Array:
        if self.requires_grad:
            raise GraphError(
                "an array of a tensor that requires grad would lose its history silently",
                fix="use the function of fathom (fathom.concatenate, ...), or x.detach()",
            )
        return np.array(self._read(), dtype, copy=copy)

    def __dlpack__(self, **keywords: Any) -> Any:
        return self.numpy().__dlpack__(**keywords)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.value().__dlpack_device__()

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __index__(self) -> int:
        if self.dtype.kind not in "iu":
            raise DtypeError(f"only whole-number tensors can be an index; this holds {self.dtype}")
        return int(self.item())

    def __bool__(self) -> bool:
        if self.size != 1:
            raise ShapeError(
                f"the truth of a tensor of shape {self.shape} is ambiguous",
                fix="reduce it first: (x > 0).any() or .all()",
            )
        return bool(self.item())

    def __len__(self) -> int:
        if not self.shape:
            raise ShapeError("a tensor without axes has no length")
        return self.shape[0]

    def __hash__(self) -> int:
        return id(self)

    def __repr__(self) -> str:
        body = _text(self.value(), "tensor(")
        parts = [body]
        if self.dtype not in (np.float32, np.int64, np.bool_):
            parts.append(f"dtype={self.dtype}")
        if self.edge is not None:
            parts.append(f"op={self.edge[0].primitive.name}")
        elif self.requires_grad:
            parts.append("requires_grad=True")
        if self.is_leaf and self.grad is not None:
            parts.append("grad=" + _text(self.grad.value(), threshold=20))
        return "tensor(" + ", ".join(parts) + ")"

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        self._leaves_only("deep-copied")
        copy = _rebuild(type(self), self.value().copy(), self.requires_grad, self.name)
        memo[id(self)] = copy
        copy.grad = None if self.grad is None else self.grad.__deepcopy__(memo)
        return copy

    def __reduce__(self) -> tuple[Any, ...]:
        self._leaves_only("pickled")
        return (_rebuild, (type(self), self.value(), self.requires_grad, self.name))

    def _leaves_only(self, what: str) -> None:
        if self.edge is not None:
            name = self.edge[0].primitive.name
            raise GraphError(
                f"only leaves can be {what}; this tensor was made by {name}",
                fix="use .detach() first",
            )

    # -- gradients ----------------------------------------------------------------------

    def detach(self) -> Tensor:
        """The same values (and memory) without history."""
        out = Tensor(self.storage())
        out.cell = share_cell(self)
        return out

    def detach_(self) -> Tensor:
        """Forget the history: from here on a leaf that does not require grad. Returns itself."""
        if self.edge is not None and self.cell is not None and self.cell.shared:
            raise GraphError("detach_() of memory that is shared (a view)", fix="use .detach()")
        self.edge, self.requires_grad = None, False
        return self

    def zero_grad(self) -> None:
        self.grad = None

    def backward(
        self,
        gradient: TensorLike | None = None,
        retain_graph: bool | None = None,
        create_graph: bool = False,
        inputs: Tensor | Sequence[Tensor] | None = None,
    ) -> None:
        """Add d(self)/d(leaf) to the `grad` of every leaf that requires one.

        `gradient` is the cotangent (same shape; may be left out for a single element).
        `create_graph=True` records the backward pass itself, for second derivatives.
        """
        from fathom.engine.backward import backward

        backward([self], [gradient], retain_graph, create_graph, inputs)

    def register_hook(self, hook: Callable[[Tensor], Tensor | None]) -> Removable:
        """Call `hook(grad)` when the gradient of this tensor is complete.

        What the hook returns (if not None) replaces the gradient. Call `.remove()` on the
        handle that comes back to unhook.
        """
        if not self.requires_grad:
            raise GraphError("a hook needs a tensor that requires grad")
        return Removable(_hooks_of(self), hook)

    def register_post_accumulate_grad_hook(self, hook: Callable[[Tensor], None]) -> Removable:
        """Call `hook(tensor)` each time a gradient has been added to the `grad` of this leaf.

        An optimizer may take its step there and drop the gradient at once.
        """
        if not self.requires_grad or self.edge is not None:
            raise GraphError(
                "a post-accumulate hook needs a leaf that requires grad",
                fix="register_hook() for a value that was computed",
            )
        if self.extra is None:
            self.extra = {}
        return Removable(self.extra.setdefault("accumulated", []), hook)

    @property
    def retains_grad(self) -> bool:
        """Whether `retain_grad()` was asked of this intermediate value."""
        if self.edge is None:
            return False
        node, index = self.edge
        reference = (node.kept or {}).get(index)
        return reference is not None and reference() is self

    def retain_grad(self) -> None:
        """Keep the gradient of this intermediate value, as its hooks leave it, in its `grad`."""
        if not self.requires_grad:
            raise GraphError("retain_grad() needs a tensor that requires grad")
        if self.edge is not None:
            node, index = self.edge
            node.kept, node.watched = {**(node.kept or {}), index: weakref.ref(self)}, True


def recorded(data: Any, edge: Edge) -> Tensor:
    """The tensor of a recorded operation's output: the constructor without checks."""
    out = Tensor.__new__(Tensor)
    out.data = data
    out.edge = edge
    out.requires_grad = True
    return out


def _rebuild(kind: type[Tensor], data: Array, requires_grad: bool, name: str | None) -> Tensor:
    out = kind.__new__(kind)
    out.data = data
    out.requires_grad = requires_grad
    out.name = name
    return out


def _text(array: Array, prefix: str = "", threshold: int = 1000) -> str:
    return np.array2string(array, precision=4, separator=", ", prefix=prefix, threshold=threshold)


def to_array(data: Any, dtype: DTypeLike | None = None) -> Array:
    """An ndarray of a supported dtype; lists of Python floats become float32."""
    if isinstance(data, Tensor):
        data = data if data.traced else data.storage()
        if isinstance(data, Tensor):  # under trace
            return data if dtype is None else data.astype(dtype)  # type: ignore[return-value]
    if isinstance(data, (np.ndarray, np.generic)):
        array = np.asarray(data, dtype)
    else:
        try:
            array = np.asarray(_unwrap(data), dtype)
        except ValueError as error:
            raise ShapeError(
                f"cannot make an array of this {type(data).__name__}: {error}",
                fix="every row needs the same length, every element must be a number",
            ) from None
        if dtype is None and array.dtype == np.float64:
            array = array.astype(np.float32)
    if array.dtype.kind not in "fiub" or array.dtype.itemsize > 8:
        raise DtypeError(
            f"a tensor holds floats, whole numbers or booleans; received {array.dtype}",
            fix="convert the data to numbers first",
        )
    return array


def _unwrap(data: Any) -> Any:
    if isinstance(data, Tensor):
        return data.value()
    if isinstance(data, (list, tuple)):
        return [_unwrap(item) for item in data]
    return data


# -- versions: who wrote into this memory, and when ------------------------------------------


class Cell:
    """The write record of one piece of memory, shared by all its views."""

    count = 0
    time = 0  # on `clock`: later than a node means written after the node saved it
    site: Site | None = None
    shared = False


def share_cell(tensor: Tensor) -> Cell:
    """The cell of a tensor of which a view is being made."""
    if tensor.cell is None:
        tensor.cell = Cell()
    tensor.cell.shared = True
    return tensor.cell


def mark_written(tensor: Tensor) -> None:
    """Note an in-place write, with the line of the user's program that did it."""
    if tensor.cell is None:
        tensor.cell = Cell()
    cell = tensor.cell
    cell.count += 1
    cell.time = next(clock)
    cell.site = user_site()


class _Ours(dict[str, bool]):
    """Whether a file is part of Fathom, worked out once a file."""

    root = str(Path(__file__).resolve().parent.parent)

    def __missing__(self, filename: str) -> bool:
        self[filename] = filename.startswith(self.root)
        return self[filename]


_OURS = _Ours()


def user_site(depth: int = 1) -> Site:
    """Where the innermost frame outside of Fathom stands, `depth` frames up or more."""
    frame = sys._getframe(depth)
    while _OURS[frame.f_code.co_filename] and frame.f_back is not None:
        frame = frame.f_back
    return frame.f_code, frame.f_lasti


def describe_site(site: Site | None) -> str:
    """`file.py:12` of a site; the line is worked out only now."""
    if site is None:
        return "an unknown line"
    return f"{site[0].co_filename}:{_line(site)}"


def _line(site: Site) -> int:
    code, instruction = site
    rows = (row for low, high, row in code.co_lines() if low <= instruction < high and row)
    return next(rows, code.co_firstlineno)


_warned: set[tuple[type[Warning], str, int]] = set()


def warn_once(kind: type[Warning], message: str) -> None:
    """A warning that points at the user's line: one a line, whatever the warning filters."""
    site = user_site()
    place = kind, site[0].co_filename, _line(site)
    if place not in _warned:
        _warned.add(place)
        warnings.warn_explicit(f"{describe_site(site)}: {message}", *place)


# -- hooks -----------------------------------------------------------------------------------


class Removable:
    """A handle on a hook: `.remove()` takes it away; also works in a `with` block."""

    changes = 0  # hooks that have come or gone so far: compiled functions look when it moves

    def __init__(self, hooks: list[Any], hook: Any) -> None:
        self._hooks = hooks
        self._hook = hook
        hooks.append(hook)
        Removable.changes += 1

    def remove(self) -> None:
        if self._hook in self._hooks:
            self._hooks.remove(self._hook)
            Removable.changes += 1

    def __enter__(self) -> Removable:
        return self

    def __exit__(self, *exc: object) -> None:
        self.remove()


def _hooks_of(tensor: Tensor) -> list[Any]:
    if tensor.edge is not None:
        node, index = tensor.edge
        if node.hooks is None:
            node.hooks, node.watched = {}, True
        return node.hooks.setdefault(index, [])
    if tensor.extra is None:
        tensor.extra = {}
    return tensor.extra.setdefault("hooks", [])
