"""`Plan`: a step as a flat list of operations on values of known shape and dtype.

A value is an argument, a piece of state that is read again at each call, a number worked out
by Python before the call, or what a step computes. Effects come last: what is written back.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fathom.engine.primitive import Primitive
from fathom.engine.tensor import Site, Tensor


class Value:
    """An array (or number) of the plan.

    Attributes
    ----------
    kind : "argument" (origin: its number), "state" (a tensor), "gradient" (the tensor whose
        `grad` it is), "array" (an ndarray, read by reference), "scalar" (a `Scalar`, worked out
        by Python), "computed" (the step that makes it).
    strides : bytes from element to element of what the trace computed: NumPy lays a result out
        as its arguments lie, and the order of a later sum goes by that.
    """

    __slots__ = ("dtype", "kind", "name", "origin", "shape", "strides")

    def __init__(
        self, kind: str, shape: tuple[int, ...], dtype: Any, origin: Any, name: str = ""
    ) -> None:
        self.kind = kind
        self.shape = tuple(shape)
        self.dtype = np.dtype(dtype)
        self.origin = origin
        self.name = name
        self.strides: tuple[int, ...] | None = None

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        return self.size * self.dtype.itemsize

    def __repr__(self) -> str:
        return f"{self.name or self.kind}: {self.dtype}{list(self.shape)}"


@dataclass(slots=True, eq=False)
class Step:
    """One operation: its primitive, arguments (values or constants), and what comes out.

    `extra` is what the forward pass leaves for its rule (`Extra`): values, which stand in `outs`
    too, or None for what is no array. `single`: the primitive returns an array, not a tuple.
    """

    primitive: Primitive
    args: tuple[Any, ...]
    params: dict[str, Any]
    outs: tuple[Value, ...]
    extra: tuple[Value | None, ...] | None = None
    single: bool = True
    site: Site | None = None
    shows: tuple[Value, ...] = ()  # arguments whose memory a result may show

    @property
    def out(self) -> Value:
        return self.outs[0]

    def inputs(self) -> list[Value]:
        """Every value it reads, among its arguments and inside its parameters."""
        found = []
        for a in self.args:
            if a.__class__ is Value:
                found.append(a)
            elif a.__class__ in NESTS:
                found += [v for v in walk(a) if isinstance(v, Value)]
        if self.params:
            found += [v for v in walk(self.params) if isinstance(v, Value)]
        return found

    @property
    def effect(self) -> bool:
        """Whether it does more than compute: a random draw moves its stream, a check raises."""
        primitive = self.primitive
        return not primitive.listed and (
            primitive.name == "draw" or primitive.name.startswith("check_")
        )


LOADED = time.time()  # about when the library's source was read
NESTS = frozenset((tuple, list, dict, slice))


def walk(tree: Any) -> Iterator[Any]:
    """The leaves of nested tuples, lists, dictionaries and slices."""
    stack = [tree]
    while stack:
        part = stack.pop()
        if isinstance(part, dict):
            stack.extend(reversed(part.values()))
        elif isinstance(part, (tuple, list)):
            stack.extend(reversed(part))
        elif isinstance(part, slice):
            stack.extend((part.step, part.stop, part.start))
        else:
            yield part


def replace(tree: Any, function: Any) -> Any:
    """The same nest with `function` applied to its leaves."""
    if isinstance(tree, dict):
        return {k: replace(v, function) for k, v in tree.items()}
    if isinstance(tree, (tuple, list)):
        parts = [replace(v, function) for v in tree]
        return type(tree)(*parts) if hasattr(tree, "_fields") else type(tree)(parts)
    if isinstance(tree, slice):
        return slice(*(replace(v, function) for v in (tree.start, tree.stop, tree.step)))
    return function(tree)


@dataclass(slots=True, eq=False)
class Plan:
    """The steps of a traced function, what it returns and what it changes.

    Attributes
    ----------
    steps : in the order in which they run.
    outputs : the values to return, in order.
    writes : (tensor or array, value): memory that gets new contents when all is computed.
    gradients : (tensor, value or None): what each `.grad` is afterwards.
    checks : (value, error): what must be true before anything is written, and what to raise; a
        step in the place of the error is run to raise its own.
    counters : (list, places): numbers that grow by one with each call.
    guards : texts of what must hold for the plan to be used again.
    """

    steps: list[Step]
    outputs: list[Value]
    writes: list[tuple[Tensor | np.ndarray[Any, Any], Value]] = field(default_factory=list)
    gradients: list[tuple[Tensor, Value | None]] = field(default_factory=list)
    checks: list[tuple[Value, Callable[[], Exception] | Step]] = field(default_factory=list)
    counters: list[tuple[list[int], Sequence[int]]] = field(default_factory=list)
    guards: list[str] = field(default_factory=list)
    name: str = "step"
    notes: list[str] = field(default_factory=list)  # what the passes did
    native: Any = None  # the native program, if there is one

    def results(self) -> list[Value]:
        """All that must be computed: outputs, writes, gradients, checks."""
        kept = [v for _, v in self.gradients if v is not None]
        held = [v for v, _ in self.checks]
        return [*self.outputs, *(v for _, v in self.writes), *kept, *held]

    def inputs(self) -> list[Value]:
        """The values that come from outside, in order of their first use."""
        found: dict[Value, None] = {}
        for step in self.steps:
            found.update((v, None) for v in step.inputs() if v.kind != "computed")
        found.update((v, None) for v in self.results() if v.kind != "computed")
        return list(found)

    def number(self) -> None:
        """Give every value a name that can stand in source code."""
        counts: Counter[str] = Counter()
        letters = {"argument": "x", "state": "w", "gradient": "dw", "array": "a", "scalar": "c"}
        for value in self.inputs():
            letter = letters[value.kind]
            value.name = f"{letter}{counts[letter]}"
            counts[letter] += 1
        for step in self.steps:
            for value in step.outs:
                value.name = f"t{counts['t']}"
                counts["t"] += 1

    # -- to be read ---------------------------------------------------------------------

    def source(self) -> str:
        """The plan as straight-line NumPy: paste it, with `constants` if it names any, and run.

        `run(*plan.values(*arguments))` gives outputs, new contents, gradients and checks.
        """
        from fathom.compile.numpy_backend import program

        return program(self).text

    def memory(self) -> dict[str, int]:
        """Bytes of the inputs, of everything computed, and of what is alive at the worst step."""
        from fathom.compile.passes import last_uses

        dying = last_uses(self)
        alive = peak = total = 0
        for i, step in enumerate(self.steps):
            made = sum(v.nbytes for v in step.outs if not step.primitive.view)
            total += made
            alive += made
            peak = max(peak, alive)
            alive -= sum(v.nbytes for v in dying[i] if not v.origin.primitive.view)
        return {
            "inputs": sum(v.nbytes for v in self.inputs()),
            "computed": total,
            "peak": peak,
        }

    def explain(self) -> str:
        """Tables: steps with lines, shapes, bytes and flops; what was fused, what NumPy does."""
        from fathom.compile.explain import explain

        return explain(self, self.native)

    @property
    def constants(self) -> dict[str, Any]:
        """The objects that `source()` names but cannot write down (k0, k1, ...)."""
        from fathom.compile.numpy_backend import program

        return dict(program(self).constants)

    def values(self, *arguments: Any) -> list[Any]:
        """What `run` of the source takes, as it is now: arguments, weights, state, numbers.

        >>> import fathom
        >>> w = fathom.tensor([3.0])
        >>> f = fathom.compile(lambda x: x * w)
        >>> y, space = f(fathom.tensor([2.0])), dict(f.plan.constants)
        >>> exec(f.plan.source(), space)
        >>> space["run"](*f.plan.values(fathom.tensor([2.0])))
        (array([6.], dtype=float32),)
        """

        def of(v: Value) -> Any:
            if v.kind == "argument":
                given = arguments[v.origin]
                return given.value() if isinstance(given, Tensor) else given
            if v.kind == "state":
                return v.origin.value()
            if v.kind == "gradient":
                return v.origin.grad.value()
            return v.origin.now() if v.kind == "scalar" else v.origin

        return [of(v) for v in self.inputs()]

    def __repr__(self) -> str:
        return (
            f"<Plan {self.name}: {len(self.steps)} steps, {len(self.outputs)} outputs, "
            f"{len(self.writes)} writes>"
        )
