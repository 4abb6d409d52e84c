"""Tracing: a step is run once on stand-ins for its arrays, and every operation is noted.

The Python function runs as it is: its modules, its tape, its backward pass, its optimizer. Only
`data` of the tensors it meets is replaced by `Traced`, a stand-in that knows shape and dtype and
notes what is done with it. Nothing is written while tracing; what the step changes is collected
as effects, and everything is put back at the end. A trace that fails leaves no mark.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from fathom.compile.plan import Plan, Step, Value, replace
from fathom.compile.scalar import Scalar, ScalarBook
from fathom.engine.errors import FathomError, GraphError
from fathom.engine.levels import interpret
from fathom.engine.primitive import Extra, Primitive, edges, kept, node_of, retry, settle
from fathom.engine.random import current
from fathom.engine.tensor import (
    MODE,
    Mode,
    Tensor,
    describe_site,
    recorded,
    share_cell,
    user_site,
)


class TraceError(GraphError):
    """A step does something that a plan cannot repeat, such as branching on a value."""


def asked(what: str) -> TraceError:
    """The error for Python that wants a value where a plan has none."""
    return TraceError(
        f"{what} at {describe_site(user_site(3))}: a compiled step has no values yet, and what "
        "Python does with one would not be repeated",
        fix="use fathom.where for a choice, return what you want to see, or leave that line "
        "outside of the compiled function",
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
        raise asked("the values of a tensor are asked for")

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
            from fathom.engine.primitive import TABLE

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


class Adopted:
    """A tensor of the user's whose memory a stand-in has taken over, and how it was."""

    def __init__(self, tensor: Tensor, stand_in: Traced, grad: Traced | None) -> None:
        self.tensor = tensor
        self.data, self.grad = tensor.data, tensor.grad
        self.cell, self.edge, self.requires_grad = tensor.cell, tensor.edge, tensor.requires_grad
        self.stand_in = stand_in
        self.before = stand_in.var
        self.grad_in, self.grad_before = grad, None if grad is None else grad.var

    def untouched(self, grad: Any) -> bool:
        """Whether a gradient is the one the step was entered with."""
        return grad is self.grad_in and (grad is None or grad.var is self.grad_before)

    def restore(self) -> None:
        t = self.tensor
        t.data, t.grad, t.cell = self.data, self.grad, self.cell
        t.edge, t.requires_grad = self.edge, self.requires_grad


class Tracer:
    """One trace: the steps so far, the stand-ins, and examples of all values."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.examples: dict[Value, Any] = {}
        self.adopted: dict[int, Adopted] = {}
        self.arrays: dict[int, tuple[Any, Traced, Value]] = {}
        self.scalars: dict[str, Value] = {}
        self.book = ScalarBook()
        self.counters: list[tuple[list[int], Sequence[int]]] = []
        self.hosts: dict[Callable[..., Any], Primitive] = {}
        self.parts: dict[tuple[int, str, int], Traced] = {}
        self.checks: list[tuple[Value, Callable[[], Exception]]] = []
        self.absent: dict[Value, Tensor] = {}  # gradients that were None at the beginning

    # -- running ------------------------------------------------------------------------

    @contextmanager
    def open(self) -> Iterator[None]:
        """Trace what runs inside; afterwards everything is as it was."""
        mode, state = MODE.get(), current().state_dict()
        if mode.tracer is not None or mode.watch is not None:
            raise TraceError("a compiled function is traced inside another trace or watch")
        token = MODE.set(mode._replace(watch=self.watch, special=interpret, tracer=self))
        try:
            yield
        finally:
            MODE.reset(token)
            current().load_state_dict(state)
            for held in self.adopted.values():
                held.restore()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Trace what runs inside, beside whatever else is under way."""
        token = MODE.set(Mode(grad=False, watch=self.watch, special=interpret, tracer=self))
        try:
            yield
        finally:
            MODE.reset(token)

    def plan(self, outputs: list[Value], name: str) -> Plan:
        """What was noted, with the effects on tensors, arrays and gradients."""
        writes: list[Any] = []
        gradients: list[tuple[Tensor, Value | None]] = []
        for held in self.adopted.values():
            found = held.tensor.data
            var = found.var if isinstance(found, Traced) else self.lifted(found).var
            if var is not held.before:
                writes.append((held.tensor, var))
            grad = held.tensor.grad
            if held.untouched(grad):
                continue
            gradients.append((held.tensor, None if grad is None else self.lifted(grad).var))
        for array, stand_in, before in self.arrays.values():
            if stand_in.var is not before:
                writes.append((array, stand_in.var))
        guards = list(self.book.guards)
        return Plan(
            self.steps, outputs, writes, gradients, self.checks, self.counters, guards, name
        )

    # -- stand-ins ------------------------------------------------------------------------

    def stand_in(self, kind: str, array: Any, origin: Any) -> Traced:
        var = Value(kind, array.shape, array.dtype, origin)
        self.examples[var] = array
        return Traced(self, var)

    def adopt(self, tensor: Tensor) -> None:
        """Put stand-ins in the place of a tensor's memory and of its gradient."""
        if tensor.traced or tensor.level or isinstance(tensor.data, Tensor):
            return
        stand_in = self.stand_in("state", tensor.data, tensor)
        grad = None
        if tensor.requires_grad and tensor.is_leaf:
            entry = tensor.grad
            example = np.zeros_like(tensor.data) if entry is None else entry.value()
            grad = self.stand_in("gradient", example, tensor)
        self.adopted[id(tensor)] = Adopted(tensor, stand_in, grad)
        if grad is not None and tensor.grad is None:
            self.absent[grad.var] = tensor
        tensor.data, tensor.grad = stand_in, grad
        if tensor.is_leaf:
            name = self.book.source(tensor, "p")
            self.book.guards[f"{name}.requires_grad is {tensor.requires_grad}"] = None

    def gradient(self, tensor: Tensor) -> Traced | None:
        """The gradient a step has given a tensor; None if it is as it was before and was None."""
        self.adopt(tensor)
        held = self.adopted.get(id(tensor))
        grad = tensor.grad
        if grad is None or (held is not None and held.grad is None and held.untouched(grad)):
            return None
        return self.lifted(grad)

    def array(self, array: Any) -> Traced:
        """The stand-in of an ndarray that is met as it is: read by reference at each call."""
        found = self.arrays.get(id(array))
        if found is None:
            stand_in = self.stand_in("array", array, array)
            found = self.arrays[id(array)] = (array, stand_in, stand_in.var)
        return found[1]

    def lifted(self, value: Any) -> Traced:
        """Anything as a stand-in."""
        if isinstance(value, Traced):
            return value
        if isinstance(value, Tensor):
            self.adopt(value)
            return self.lifted(value.storage())
        if isinstance(value, Scalar):
            return Traced(self, self.lift(value))
        return self.array(np.asarray(value))

    def lift(self, value: Any) -> Any:
        """An argument as the plan keeps it: a `Value`, or a constant as it is."""
        if isinstance(value, Tensor) or (isinstance(value, np.ndarray) and value.ndim):
            return self.lifted(value).current()
        if isinstance(value, Scalar):
            found = self.scalars.get(value.text)
            if found is None:
                found = Value("scalar", (), np.float64, value)
                self.scalars[value.text] = found
                self.examples[found] = value.value
            return found
        if isinstance(value, np.ndarray):
            return value[()]  # without axes: a number of that dtype
        return value

    def part(self, flat: Any, name: str, place: slice, array: Any, shape: Any) -> Traced:
        """The stand-in of a parameter's share of an optimizer's state."""
        key = (id(flat), name, place.start)
        if key not in self.parts:
            self.parts[key] = self.array(array[place].reshape(shape))
        return self.parts[key]

    # -- effects of other kinds -------------------------------------------------------------

    def step(self, optimizer: Any) -> None:
        """An optimizer's step."""
        from fathom.compile.update import step

        step(self, optimizer)

    def check(self, truths: list[Traced], error: Callable[[], Exception]) -> None:
        """Something that must hold when all is computed, before anything is written."""
        self.checks.extend((t.var, error) for t in truths)

    # -- operations -----------------------------------------------------------------------

    def watch(self, primitive: Primitive, args: Any, params: dict[str, Any], grad: bool) -> Any:
        """Level 0 of `apply` while tracing: note the operation, and the node on the tape."""
        tensors = any(isinstance(a, Tensor) and not a.traced for a in args)
        out, extra = self.emit(primitive, args, params)
        if not tensors:
            return out
        several = isinstance(out, tuple)
        outs = out if several else (out,)
        node = None
        if grad and primitive.rules and any(isinstance(a, Tensor) and a.requires_grad for a in args):
            if several or outs[0].dtype.kind == "f":
                shape = tuple(o.shape for o in outs) if several else outs[0].shape
                dtype = tuple(o.dtype for o in outs) if several else outs[0].dtype
                parents = edges(args)
                node = node_of(primitive, params, parents, out, shape, dtype)
                node.saved = kept(primitive, args, parents)
                node.extra = extra
        results = []
        for i, o in enumerate(outs):
            if node is not None and o.dtype.kind == "f":
                result = recorded(o, (node, i))
                if primitive.save_out:
                    result.cell = node.cells
            else:
                result = Tensor(o)
            if primitive.view and isinstance(args[0], Tensor):
                result.cell = share_cell(args[0])
            results.append(result)
        return tuple(results) if several else results[0]

    def emit(self, primitive: Primitive, args: Any, params: dict[str, Any]) -> tuple[Any, Any]:
        """Note one operation; its results as stand-ins, and its `Extra`, if it left one."""
        first = args[0] if args else None
        if isinstance(first, Traced) and primitive.name == "add" and len(args) == 2:
            absent = self.absent.get(first.var)
            if absent is not None:  # the first gradient is taken over, as without a plan
                self.book.guards[f"{self.book.source(absent, 'p')}.grad is None"] = None
                return self.lifted(args[1]).copy(), None
        bases = [a if isinstance(a, Traced) else _storage(a) for a in args]
        lifted = tuple(self.lift(a) for a in args)
        given = replace(params, lambda p: self.lift(p) if _dynamic(p) else p)
        examples = [self.examples.get(v, v) if isinstance(v, Value) else v for v in lifted]
        settings = replace(given, lambda p: self.examples[p] if isinstance(p, Value) else p)
        with np.errstate(all="ignore"):
            try:
                out = primitive.forward(*examples, **settings)
            except FathomError:
                raise
            except (ValueError, TypeError, IndexError) as error:
                out = retry(primitive, examples, settings, error)
        single = not isinstance(out, tuple)
        found = [out] if single else list(out)
        left = list(found.pop()) if not single and isinstance(found[-1], Extra) else None
        arrays = [np.asarray(o) for o in found]
        if not primitive.casts:
            arrays = [settle(o, examples) for o in arrays]
        step = Step(primitive, lifted, given, (), None, single, user_site(2))
        base = bases[0] if primitive.view and isinstance(bases[0], Traced) else None

        def noted(array: Any) -> Traced:
            var = Value("computed", array.shape, array.dtype, step)
            step.outs += (var,)
            self.examples[var] = array
            return Traced(self, var, base)

        outs = [noted(a) for a in arrays]
        extra = None
        if left is not None:
            extra = Extra(noted(o) if isinstance(o, np.ndarray) else o for o in left)
            step.extra = tuple(o.var if isinstance(o, Traced) else None for o in extra)
        self.steps.append(step)
        alone = single or (left is not None and len(outs) == 1)
        return (outs[0] if alone else tuple(outs)), extra

    def host(self, function: Callable[..., Any], args: Any, params: dict[str, Any]) -> Any:
        """Note NumPy code that is run as it is at each call."""
        if function not in self.hosts:
            name = function.__name__.lstrip("_")
            self.hosts[function] = Primitive(name, "general", function, casts=True, listed=False)
        return self.emit(self.hosts[function], args, params)[0]

    def draw(self, stream: str, method: str, **options: Any) -> Traced:
        """Note a random draw: made anew from the current stream at each call."""
        out, _ = self.emit(DRAW, (), {"stream": stream, "method": method, **options})
        return out  # type: ignore[no-any-return]


def _draw(stream: str, method: str, **options: Any) -> Any:
    token = MODE.set(MODE.get()._replace(tracer=None))  # now for real
    try:
        return getattr(current().stream(stream), method)(**options)
    finally:
        MODE.reset(token)


DRAW = Primitive("draw", "general", _draw, casts=True, listed=False)


def _storage(value: Any) -> Any:
    found = value.storage() if isinstance(value, Tensor) else value
    return found if isinstance(found, Traced) else None


def _dynamic(value: Any) -> bool:
    """Whether a parameter of an operation holds values: a stand-in, a tensor or a scalar."""
    return isinstance(value, (Tensor, Scalar)) or (isinstance(value, np.ndarray) and value.ndim > 0)
