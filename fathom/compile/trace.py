"""Tracing: a step is run once on stand-ins for its arrays, and every operation is noted.

The Python function runs as it is: its modules, its tape, its backward pass, its optimizer. Only
`data` of the tensors it meets is replaced by `Traced`, a stand-in that knows shape and dtype and
notes what is done with it. Nothing is written while tracing; what the step changes is collected
as effects, and everything is put back at the end. A trace that fails leaves no mark.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

import numpy as np

from fathom.compile.adopted import AbsentGradient, Adopted, Memory
from fathom.compile.blanks import Blanks
from fathom.compile.by_value import operation
from fathom.compile.plan import Plan, Step, Value, replace, walk
from fathom.compile.scalar import Scalar, ScalarBook
from fathom.compile.traced import Traced, TraceError, asked
from fathom.engine.errors import FathomError
from fathom.engine.levels import interpret
from fathom.engine.modes import MODE, Mode
from fathom.engine.primitive import Extra, Primitive, apply, edges, kept, node_of, retry, settle
from fathom.engine.random import current
from fathom.engine.tensor import (
    Tensor,
    describe_site,
    recorded,
    share_cell,
    user_site,
)


class Tracer:
    """One trace: the steps so far, the stand-ins, and examples of all values."""

    def __init__(self, strict: bool = False) -> None:
        self.steps: list[Step] = []
        self.examples: dict[Value, Any] = {}
        self.blanks = Blanks()
        self.adopted: dict[int, Adopted] = {}
        self.arrays: dict[int, tuple[Any, Traced, Value]] = {}
        self.scalars: dict[str, Value] = {}
        self.book = ScalarBook()
        self.counters: list[tuple[list[int], Sequence[int]]] = []
        self.hosts: dict[Callable[..., Any], Primitive] = {}
        self.parts: dict[tuple[int, str, int], Traced] = {}
        self.checks: list[tuple[Value, Callable[[], Exception] | Step]] = []
        self.absent: dict[Value, Tensor] = {}  # gradients that were None at the beginning
        self.strict = strict  # such gradients stay None, and the plan holds for None only
        self.random = current()
        self.constants: dict[Value, Any] = {}  # arrays that were made while tracing
        self.known: set[int] = set()  # arrays that were there before, by id
        self.arguments: list[tuple[Traced, Value]] = []
        self.counts: dict[str, int] = {}
        self.over = False

    # -- running ------------------------------------------------------------------------

    @contextmanager
    def open(self) -> Iterator[None]:
        """Trace what runs inside; afterwards everything is as it was."""
        mode, streams = MODE.get(), self.random.streams()
        if mode.tracer is not None or mode.watch is not None:
            raise TraceError("a compiled function is traced inside another trace or watch")
        token = MODE.set(mode._replace(watch=self.watch, special=interpret, tracer=self))
        try:
            yield
        finally:
            MODE.reset(token)
            self.over = True
            self.random.rewind(streams)
            for held in self.adopted.values():
                held.restore()

    def at_work(self) -> None:
        """Refuse stand-ins that outlived their trace."""
        if self.over:
            raise TraceError(
                f"a tensor at {describe_site(user_site(3))} was left behind by a step that was "
                "compiled: it has no values",
                fix="return it from the compiled function",
            )

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
            var = found.ref if isinstance(found, Traced) else self.lifted(found).ref
            if var is not held.before:
                writes.append((held.tensor, var))
            grad = held.tensor.grad
            if held.untouched(grad):
                continue
            gradients.append((held.tensor, None if grad is None else self.lifted(grad).ref))
        for array, stand_in, before in self.arrays.values():
            if stand_in.ref is before:
                continue
            if id(array) not in self.known:
                raise TraceError(
                    "a compiled function edits an array of NumPy's in place, and it is not clear "
                    "whether that array is there before the call",
                    fix="make it with fathom.zeros(...), or close over the array itself",
                )
            writes.append((array, stand_in.ref))
        guards = list(self.book.guards)
        return Plan(
            self.steps, outputs, writes, gradients, self.checks, self.counters, guards, name
        )

    # -- stand-ins ------------------------------------------------------------------------

    def stand_in(self, kind: str, array: Any, origin: Any) -> Traced:
        var = Value(kind, array.shape, array.dtype, origin)
        self.examples[var] = array
        return Traced(self, var)

    def argument(self, array: Any, number: int) -> Traced:
        """The stand-in for an argument."""
        found = self.stand_in("argument", array, number)
        self.arguments.append((found, found.ref))
        return found

    def refuse_edits(self) -> None:
        """Arguments that were written in place: the caller would not see it."""
        for stand_in, before in self.arguments:
            if stand_in.ref is not before:
                raise TraceError(
                    f"argument {before.origin} of a compiled function is edited in place",
                    fix="return the new value, or let the function close over the tensor",
                )

    def adopt(self, tensor: Tensor) -> None:
        """Put stand-ins in the place of a tensor's memory and of its gradient."""
        if tensor.traced or tensor.level or isinstance(tensor.data, Tensor):
            return
        stand_in = self.stand_in("state", tensor.data, tensor)
        grad = None
        if tensor.requires_grad and tensor.is_leaf:
            grad = self._gradient_at_entry(tensor)
        entry = tensor.grad
        self.adopted[id(tensor)] = Adopted(tensor, stand_in, grad)
        tensor.data = stand_in
        if entry is None or grad is not None:
            tensor.grad = grad
        name = self.book.source(tensor, "p")
        memory = self.book.source(Memory(tensor, self.adopted[id(tensor)].data), "memory")
        self.book.guards[f"({name}.data is {memory}.data or {memory}.fits())"] = None
        if tensor.is_leaf:
            self.book.guards[f"{name}.requires_grad is {tensor.requires_grad}"] = None

    def _gradient_at_entry(self, tensor: Tensor) -> Traced | None:
        """The stand-in for the gradient that a leaf comes with.

        Whether there is one is left open as long as nobody asks: a step that sets it to None
        first, or adds to it, serves both cases.
        """
        entry, name = tensor.grad, self.book.source(tensor, "p")
        if entry is None:
            if self.strict:
                self.book.guards[f"{name}.grad is None"] = None
                return None
            zeros = np.broadcast_to(np.zeros((), tensor.dtype), tensor.shape)
            grad = self.stand_in("gradient", zeros, tensor)
            self.absent[grad.ref] = tensor
            return grad
        if isinstance(entry.data, Tensor):  # met before as a tensor of its own
            self.book.guards[f"{name}.grad is {self.book.source(entry, 'o')}"] = None
            return None
        return self.stand_in("gradient", entry.value(), tensor)

    def seen(self, x: Any) -> Any:
        """The values of something captured, for Python to go by: the plan holds for them only."""
        if not isinstance(x, (Tensor, np.ndarray)):
            return np.asarray(x)
        held = self.adopted.get(id(x))
        if isinstance(x, np.ndarray):
            found = x
        elif held is None:
            if isinstance(x.storage(), Traced):
                return x.storage().value()  # that of a constant, or an error
            found = x.value()
        elif x.requires_grad or held.written() or x.storage() is not held.stand_in:
            found = held.stand_in.value()  # says that it has none
        else:
            found = held.data
        name, kept = self.book.source(x, "o"), self.book.source(found.tobytes(), "k")
        memory = f"{name}.value()" if isinstance(x, Tensor) else name
        self.book.guards[f"{memory}.tobytes() == {kept}"] = None
        return found

    def gradient(self, tensor: Tensor) -> Traced | None:
        """The gradient a step has given a tensor; None if it is as it was before and was None."""
        self.adopt(tensor)
        held = self.adopted.get(id(tensor))
        grad = tensor.grad
        if grad is None or (held is not None and held.grad is None and held.untouched(grad)):
            return None
        return self.lifted(grad)

    def memory(self, x: Any) -> Traced:
        """The stand-in of a tensor's memory, or of an array that is known to be kept."""
        if isinstance(x, np.ndarray):
            self.known.add(id(x))
        return self.lifted(x)

    def written(self, target: Any, result: Any) -> Any:
        """An array (or stand-in) after an operation of NumPy's has written into it."""
        stand_in = target if isinstance(target, Traced) else self.lifted(target)
        stand_in.assign(result.storage() if isinstance(result, Tensor) else result)
        return target

    def fresh(self, data: Any) -> Any:
        """What a new tensor holds: memory of its own, with the same contents at each call."""
        if isinstance(data, Traced):
            return data
        if id(data) in self.known or (data.base is not None and id(data.base) in self.known):
            return self.memory(data)
        var = self.array(data).ref
        self.constants[var] = data
        return Traced(self, var)

    def array(self, array: Any) -> Traced:
        """The stand-in of an ndarray that is met as it is: read by reference at each call."""
        found = self.arrays.get(id(array))
        if found is None:
            stand_in = self.stand_in("array", array, array)
            found = self.arrays[id(array)] = (array, stand_in, stand_in.ref)
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
            self.parts[key] = self.memory(array[place].reshape(shape))
        return self.parts[key]

    # -- effects of other kinds -------------------------------------------------------------

    def step(self, optimizer: Any) -> None:
        """An optimizer's step."""
        from fathom.compile.update import step

        step(self, optimizer)

    def check(self, truths: list[Traced], error: Callable[[], Exception]) -> None:
        """Something that must hold when all is computed, before anything is written."""
        self.checks.extend((t.ref, error) for t in truths)

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
        if (
            grad
            and primitive.rules
            and any(isinstance(a, Tensor) and a.requires_grad for a in args)
        ):
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
            absent = self.absent.get(first.ref)
            if absent is not None:  # the first gradient is taken over, as without a plan
                self.book.guards[f"{self.book.source(absent, 'p')}.grad is None"] = None
                return self.lifted(args[1]).copy(), None
        bases = [a if isinstance(a, Traced) else _storage(a) for a in args]
        lifted = tuple(self.lift(a) for a in args)
        if not self.absent.keys().isdisjoint(v for v in lifted if isinstance(v, Value)):
            raise AbsentGradient
        given = replace(params, lambda p: self.lift(p) if _dynamic(p) else p)
        if primitive.name == "getitem" and any(_is_mask(v) for v in walk(given)):
            raise asked("x[mask], whose shape depends on values,")
        examples = [self.examples.get(v, v) if isinstance(v, Value) else v for v in lifted]
        settings = replace(given, lambda p: self.examples[p] if isinstance(p, Value) else p)
        out = self.worked_out(primitive, examples, settings)
        single = not isinstance(out, tuple)
        found = [out] if single else list(out)
        left = list(found.pop()) if not single and isinstance(found[-1], Extra) else None
        arrays = [np.asarray(o) for o in found]
        if not primitive.casts:
            arrays = [settle(o, examples) for o in arrays]
        step = Step(primitive, lifted, given, (), None, single, user_site(2))
        step.shows = shown([*arrays, *(left or ())], lifted, examples)
        base = bases[0] if primitive.view and isinstance(bases[0], Traced) else None

        def noted(array: Any) -> Traced:
            var = Value("computed", array.shape, array.dtype, step)
            var.strides = array.strides
            step.outs += (var,)
            self.examples[var] = array
            return Traced(self, var, base)

        outs = [noted(a) for a in arrays]
        extra = None
        if left is not None:
            extra = Extra(noted(o) if isinstance(o, np.ndarray) else o for o in left)
            step.extra = tuple(o.ref if isinstance(o, Traced) else None for o in extra)
        self.steps.append(step)
        alone = single or (left is not None and len(outs) == 1)
        return (outs[0] if alone else tuple(outs)), extra

    def worked_out(self, primitive: Primitive, examples: list[Any], settings: Any) -> Any:
        """An operation on the examples: what its forward pass returns, perhaps blank still."""
        token = MODE.set(PLAIN)
        try:
            with np.errstate(all="ignore"):
                out = self.blanks.made(primitive, examples, settings)
                if out is not None:
                    return out
                self.blanks.fill(examples, settings)
                return primitive.forward(*examples, **settings)
        except FathomError:
            raise
        except (ValueError, TypeError, IndexError) as error:
            return retry(primitive, examples, settings, error)
        finally:
            MODE.reset(token)

    def host(self, function: Callable[..., Any], args: Any, params: dict[str, Any]) -> Any:
        """Note NumPy code that is run as it is at each call."""
        if function not in self.hosts:
            name = function.__name__.lstrip("_")
            self.hosts[function] = Primitive(name, "general", function, casts=True, listed=False)
        return self.emit(self.hosts[function], args, params)[0]

    def count_up(self, counter: list[int]) -> Scalar:
        """A count that grows by one here, at each call."""
        name = self.book.source(counter, "count")
        taken = 1 + sum(c is counter for c, _ in self.counters)
        self.counters.append((counter, [0]))
        return Scalar(f"({name}[0] + {taken})", counter[0] + taken, self.book)

    def counted(self, counter: Tensor) -> Scalar:
        """A tensor that counts calls, after one was added: read by Python before each call."""
        name = self.book.source(counter, "counter")
        added = self.counts[name] = self.counts.get(name, 0) + 1
        before = self.adopted[id(counter)].data
        return Scalar(f"(float({name}.value()) + {added})", float(before) + added, self.book)

    def by_value(self, function: Callable[..., Any], args: Any, params: dict[str, Any]) -> Any:
        """Note differentiable code that is run as it is at each call."""
        if function not in self.hosts:
            self.hosts[function] = operation(function)
        return apply(self.hosts[function], *args, **params)

    def draw(self, stream: Any, method: str, **options: Any) -> Traced:
        """Note a random draw: made anew from the current stream at each call."""
        if self.random.stream(stream.name) is not stream:
            self.refuse(
                f"a draw at {describe_site(user_site(2))} from another Random than the current one",
                "draw from fathom.random.current(), or outside of the compiled function",
            )
        out, _ = self.emit(DRAW, (), {"stream": stream.name, "method": method, **options})
        found: Traced = out
        return found

    def refuse(self, what: str, fix: str) -> NoReturn:
        """What a plan cannot repeat."""
        raise TraceError(f"{what}: a compiled step cannot repeat it", fix=fix)

    def refuse_generator(self) -> NoReturn:
        self.refuse(
            f"a draw with NumPy's generator at {describe_site(user_site(3))}",
            "use uniform, normal, integers, permutation or bernoulli of the stream",
        )


def _draw(stream: str, method: str, **options: Any) -> Any:
    token = MODE.set(MODE.get()._replace(tracer=None))  # now for real
    try:
        return getattr(current().stream(stream), method)(**options)
    finally:
        MODE.reset(token)


PLAIN = Mode(grad=False)  # in which the examples are worked out
DRAW = Primitive("draw", "general", _draw, casts=True, listed=False)


def shown(arrays: list[Any], values: Any, examples: list[Any]) -> tuple[Value, ...]:
    """The arguments whose memory some result shows."""
    return tuple(
        v
        for v, x in zip(values, examples, strict=True)
        if isinstance(v, Value) and isinstance(x, np.ndarray)
        if any(isinstance(a, np.ndarray) and np.may_share_memory(a, x) for a in arrays)
    )


def _storage(value: Any) -> Any:
    found = value.storage() if isinstance(value, Tensor) else value
    return found if isinstance(found, Traced) else None


def _is_mask(value: Any) -> bool:
    return isinstance(value, Value) and value.kind != "array" and value.dtype.kind == "b"


def _dynamic(value: Any) -> bool:
    """Whether a parameter of an operation holds values: a stand-in, a tensor or a scalar."""
    return isinstance(value, (Tensor, Scalar)) or (isinstance(value, np.ndarray) and value.ndim > 0)
