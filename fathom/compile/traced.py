"""`Traced`: the stand-in for an array while a step is traced.

It knows shape and dtype, and notes what is done with it. Where Python asks for its values, a
`TraceError` says where that was and what to do instead.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fathom.compile.plan import Value
from fathom.engine.errors import GraphError
from fathom.engine.primitive import TABLE
from fathom.engine.tensor import Tensor, describe_site, user_site

if TYPE_CHECKING:
    from fathom.compile.trace import Tracer


class TraceError(GraphError):
    """A step does something that a plan cannot repeat, such as branching on a value."""


def asked(what: str) -> TraceError:
    """The error for Python that wants a value where a plan has none."""
    return TraceError(
        f"{what} at {describe_site(user_site(3))}: a compiled step has no values yet, and what "
        "Python does with one would not be repeated",
        fix="use fathom.where for a choice, return what you want to see, pass numbers that decide "
        "shapes as Python numbers or lists, or leave that line outside of the compiled function",
    )


class Traced(Tensor):
    """The stand-in for an array. Operations on it are noted; its values cannot be had.

    It is written in place as an array is: the object stays, what it stands for changes.
    """

    traced = True

    def __init__(self, tracer: Tracer, var: Value, base: Traced | None = None) -> None:
        self.tracer = tracer
        self.var = var
        self.base = base  # whose memory it shows, if it is a view
        self.edits = 0  # in-place edits so far
        self.seen = 0 if base is None else base.edits

    data = property(lambda self: self)  # type: ignore[assignment]
    shape = property(lambda self: self.var.shape)  # type: ignore[assignment]
    dtype = property(lambda self: self.var.dtype)  # type: ignore[assignment]
    ndim = property(lambda self: len(self.var.shape))  # type: ignore[assignment]
    size = property(lambda self: self.var.size)  # type: ignore[assignment]

    def storage(self) -> Traced:
        return self

    def detach(self) -> Traced:
        return self

    def copy(self) -> Traced:
        return Traced(self.tracer, self.var)

    clone = copy

    def __repr__(self) -> str:
        return f"Traced({self.var.dtype}{list(self.var.shape)})"

    def value(self) -> Any:
        self.tracer.at_work()
        raise asked("the values of a tensor are asked for")

    _read = value

    def __bool__(self) -> bool:
        raise asked("Python asks whether a tensor is true")

    def item(self) -> Any:
        raise asked("item()")

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        raise asked("NumPy wants the values of a tensor")

    numpy = tolist = __float__ = __int__ = __index__ = item

    def __deepcopy__(self, memo: Any) -> Any:
        raise asked("a copy of the values of a tensor")

    def assign(self, new: Any) -> None:
        """Take over other contents, as writing into an array does."""
        if self.base is not None:
            raise TraceError(
                f"in-place edit of a view at {describe_site(user_site(2))}",
                fix="write it out of place: y = x + 1, or edit the whole tensor",
            )
        new = self.tracer.lifted(new)
        if new.dtype != self.dtype:
            new = new.astype(self.dtype)
        if new.shape != self.shape:
            new = TABLE["broadcast_to"](new, shape=self.shape)
        self.var = new.var
        self.edits += 1

    def fill(self, number: Any) -> None:
        """The same number everywhere, as ndarray.fill does."""
        self.assign(number)

    def current(self) -> Value:
        """What it stands for now; a view of memory that was edited since is refused."""
        if self.base is not None and (self.base.edits != self.seen or self.base.base is not None):
            self.base.current()
            if self.base.edits != self.seen:
                raise TraceError(
                    f"a view is used at {describe_site(user_site(3))} after the memory it shows "
                    "was edited in place",
                    fix="make the view again after the edit",
                )
        return self.var

    def __array_function__(self, function: Any, types: Any, args: Any, keywords: Any) -> Any:
        """np.where, np.clip, ...: the operation of that name."""
        import fathom.ops

        if function in (np.shape, np.ndim, np.size):
            return getattr(args[0], function.__name__)
        operation = getattr(fathom.ops, function.__name__, None)
        if not callable(operation):
            raise asked(f"np.{function.__name__} of a tensor")
        out = keywords.pop("out", None)
        result = operation(*args, **keywords)
        if out is None:
            return result
        out.assign(result)
        return out

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **keywords: Any) -> Any:
        out = keywords.pop("out", None)
        result = Tensor.__array_ufunc__(self, ufunc, method, *inputs, **keywords)  # type: ignore[attr-defined]
        if out is None:
            return result
        target = out[0]
        if not isinstance(target, Traced):
            target = self.tracer.array(target)
        target.assign(result)
        return target
