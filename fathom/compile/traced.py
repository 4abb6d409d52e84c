"""`Traced`: the stand-in for an array while a step is traced.

It knows shape and dtype, and notes what is done with it. Where Python asks for its values, a
`TraceError` says where that was and what to do instead.
"""

from __future__ import annotations

import copy
import sys
from pathlib import Path
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
        f"{what} at {asking_line()}: a compiled step has no values yet, and what "
        "Python does with one would not be repeated",
        fix="use fathom.where for a choice, return what you want to see, pass numbers that decide "
        "shapes as Python numbers or lists, or leave that line outside of the compiled function",
    )


def asking_line() -> str:
    """The line of the user's that is under way: not one of Fathom, Python or NumPy."""
    frame = sys._getframe(1)
    while frame.f_back is not None and _is_library(frame.f_code.co_filename):
        frame = frame.f_back
    return describe_site((frame.f_code, frame.f_lasti))


LIBRARIES = tuple(
    str(Path(file).resolve().parent) for file in (np.__file__, copy.__file__, Path(__file__).parent)
)


def _is_library(file: str) -> bool:
    inside = "site-packages" not in file.removeprefix(LIBRARIES[1])
    return file.startswith(("<", LIBRARIES[0], LIBRARIES[2])) or (
        file.startswith(LIBRARIES[1]) and inside
    )


class Traced(Tensor):
    """The stand-in for an array. Operations on it are noted; its values cannot be had.

    It is written in place as an array is: the object stays, what it stands for changes.
    """

    traced = True

    def __init__(self, tracer: Tracer, var: Value, base: Traced | None = None) -> None:
        self.tracer = tracer
        self.ref = var
        self.base = base  # whose memory it shows, if it is a view
        self.edits = 0  # in-place edits so far
        self.seen = 0 if base is None else base.edits

    data = property(lambda self: self)
    shape = property(lambda self: self.ref.shape)
    dtype = property(lambda self: self.ref.dtype)
    ndim = property(lambda self: len(self.ref.shape))
    size = property(lambda self: self.ref.size)

    def storage(self) -> Traced:
        return self

    def detach(self) -> Traced:
        return self

    def copy(self) -> Traced:
        return Traced(self.tracer, self.ref)

    clone = copy

    def __repr__(self) -> str:
        return f"Traced({self.ref.dtype}{list(self.ref.shape)})"

    def value(self) -> Any:
        self.tracer.at_work()
        constant = self.tracer.constants.get(self.ref)
        if constant is None:
            raise asked("the values of a tensor are asked for")
        return constant

    _read = value

    numpy = value

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
        self.ref = new.ref
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
        return self.ref

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
        return self.tracer.written(out[0], result)
