"""Operations with a kernel of their own: the registry, and what an emitter works with.

To add one: write a module in this folder, put its name into `MODULES`, and declare

    @emitter("take_rows", can=lambda step: step.args[0].ndim == 2)
    def _take_rows(site: Site) -> list[str]:
        table, index = site.step.args

        def body(w: Writer, source: str, rows: str, target: str) -> None:
            ...  # IR by `w`: loads and stores at these pointers

        return site.kernel([table, index, site.step.out], body)

A step whose primitive is declared, and whose `can` holds, is a unit of its own (kind "custom");
several results are fine. What comes in may be a view: `site.place(v).steps` are its steps
(elements, 0 where broadcast) and pointers lead to its first element; `site.contiguous(v)` tells
whether it lies in one piece. Results always do. `can` need not look at dtypes, empty arrays,
numbers worked out by Python or values inside parameters (but for those that `inside` names):
such steps never come here. `site.shared` cuts a whole (samples, planes) into parts for threads.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from fathom.compile.native.elements import TYPES
from fathom.compile.native.gemm import Epilogue, Product, generate
from fathom.compile.native.places import Place, contiguous, is_contiguous, view
from fathom.compile.native.text import Writer
from fathom.compile.plan import Step, Value, walk
from fathom.engine.primitive import TABLE, Primitive

if TYPE_CHECKING:
    from fathom.compile.native.code import Code

MODULES = (
    "attention",
    "convolution",
    "draws",
    "gather",
    "moves",
    "order",
    "pooling",
    "recurrent",
    "unfold",
)  # of this folder: they declare emitters
HEAVY = 1 << 20  # operations that are worth a second thread


def moved(address: str, nbytes: int) -> str:
    """An address further on."""
    slot, at = address.split(":")
    return f"{slot}:{int(at) + nbytes}"


@dataclass(frozen=True)
class Emitter:
    """When it can write a step, and how: the lines that run it."""

    can: Callable[[Step], bool]
    emit: Callable[[Site], list[str]]
    inside: tuple[str, ...] = ()  # parameters in which it takes values
    primitive: Primitive | None = None  # if it is none of the library's own table


CUSTOM: dict[str, Emitter] = {}


def emitter(
    *names: str,
    can: Callable[[Step], bool] = lambda step: True,
    inside: tuple[str, ...] = (),
    primitive: Primitive | None = None,
) -> Callable[[Callable[[Site], list[str]]], Callable[[Site], list[str]]]:
    """Declare the code of some primitives."""

    def declare(emit: Callable[[Site], list[str]]) -> Callable[[Site], list[str]]:
        for name in names:
            CUSTOM[name] = Emitter(can, emit, inside, primitive)
        return emit

    return declare


@cache
def registered() -> dict[str, Emitter]:
    """All emitters."""
    for name in MODULES:
        importlib.import_module(f"fathom.compile.native.{name}")
    return CUSTOM


def handles(step: Step) -> bool:
    """Whether a step has code of its own."""
    known = registered().get(step.primitive.name)
    if known is None or step.effect:
        return False
    if step.primitive is not (known.primitive or TABLE.get(step.primitive.name)):
        return False
    values = [a for a in step.args if isinstance(a, Value)]
    plain = all(isinstance(a, Value) or np.ndim(a) == 0 for a in step.args)
    others = {k: v for k, v in step.params.items() if k not in known.inside}
    held = any(isinstance(p, (Value, np.ndarray)) for p in walk(others))
    if held or not plain or not values or any(v.kind == "scalar" for v in values):
        return False
    fine = all(v.dtype.name in TYPES and v.size for v in (*values, *step.outs))
    return fine and known.can(step)


def emit(program: Code, step: Step) -> list[str]:
    """The lines that run a step."""
    return registered()[step.primitive.name].emit(Site(program, step))


class Site:
    """One step on its way into a program.

    Addresses are texts that `call` understands; a value may stand in the place of its own.
    """

    def __init__(self, program: Code, step: Step) -> None:
        self.program = program
        self.step = step
        self._scratch = 0

    # -- where values lie -----------------------------------------------------------------

    def place(self, v: Value) -> Place:
        return self.program.places[v]

    def steps(self, v: Value) -> tuple[int, ...]:
        return self.place(v).steps

    def contiguous(self, v: Value) -> bool:
        return is_contiguous(self.place(v), v.shape)

    def address(self, v: Value, offset: int = 0) -> str:
        """Of an element, counted from the first one."""
        place = self.place(v)
        return self.program._address(place.root, place.offset + offset, v.dtype)

    def scratch(self, nbytes: int) -> str:
        """The address of memory to work in while the step runs, aligned to 64 bytes."""
        start = -(-self.program.arena_bytes // 64) * 64 + self._scratch
        self._scratch += -(-nbytes // 64) * 64
        self.program.scratch = max(self.program.scratch, self._scratch)
        return f"0:{start}"

    # -- code -------------------------------------------------------------------------------

    def function(self, arguments: int, body: Callable[..., None]) -> str:
        """The name of a function of some pointers: `body(w, "%p0", ...)` writes what it does.

        The pointers lead to memory that does not overlap (or is only read).
        """
        w = Writer()
        body(w, *(f"%p{i}" for i in range(arguments)))
        given = ", ".join(f"ptr noalias nocapture %p{i}" for i in range(arguments))
        text = "\n".join([f"({given}) #0 {{", "entry:", *w.lines, "  ret void", "}\n"])
        self.program.declarations |= w.declarations
        return self._named("custom", text, lambda name: f"define internal void @{name}{text}")

    def _named(self, kind: str, key: str, text: Callable[[str], str]) -> str:
        kernels = self.program.kernels
        if key not in kernels:
            kernels[key] = f"{kind}{len(kernels)}"
            self.program.texts.append(text(kernels[key]))
        return kernels[key]

    def needs(self, text: str) -> None:
        """Functions that the step calls, or their declarations: written once in a program."""
        if text not in self.program.kernels:
            self.program.kernels[text] = ""
            self.program.texts.append(text)

    def call(self, name: str, given: Sequence[Value | str], more: str = "") -> list[str]:
        """A call with addresses, and what is said as text: `, i64 3`."""
        addresses = [self.address(g) if isinstance(g, Value) else g for g in given]
        return self.program._call(name, addresses, more)

    def kernel(self, given: Sequence[Value | str], body: Callable[..., None]) -> list[str]:
        """A function and its call: `body(w, *pointers)` for these values or addresses."""
        return self.call(self.function(len(given), body), given)

    def shared(self, count: int, work: int, write: Callable[[int, int], list[str]]) -> list[str]:
        """Lines for `count` equal parts of a whole, by several threads if there is much to do.

        `write(first, count)` gives the lines for some of them; scratch memory it takes is its
        own. `work` : operations in all.
        """
        threads = min(self.program.threads, count) if work >= HEAVY else 1
        cuts = [(count * i // threads, count * (i + 1) // threads) for i in range(threads)]
        return self.program.parallel([write(a, b - a) for a, b in cuts])

    def product(self, p: Product, epilogue: Epilogue | None = None, tag: str = "") -> Made:
        """The function of a matrix product; `tag` tells epilogues apart."""
        key, sizes = f"{p!r} {tag}", self.program._scratches
        kernel = None if key in self.program.kernels else generate(p, "@NAME@", epilogue=epilogue)
        if kernel is not None:
            self.program.declarations |= set(kernel.declarations)
            text = kernel.text.replace("define void @@NAME@", "define internal void @{}", 1)
            head, rest = text.split("{}", 1)
            name = self._named("product", key, lambda name: head + name + rest)
            sizes[name] = kernel.scratch
        name = self.program.kernels[key]
        return Made(name, sizes[name], epilogue.pointers if epilogue else ())

    def dense(self, v: Value) -> tuple[list[str], str]:
        """The address of a value in one piece, and the lines that move it there if need be."""
        from fathom.compile.native.loops import copy

        if self.contiguous(v):
            return [], self.address(v)
        target = self.scratch(v.nbytes)
        walks = (self.steps(v), contiguous(v.shape))

        def body(w: Writer, source: str, into: str) -> None:
            copy(w, source, into, v.shape, walks, v.dtype)

        return self.kernel([v, target], body), target

    # -- moving -----------------------------------------------------------------------------

    def fill(self, target: Value, number: Any) -> list[str]:
        """Put a number everywhere into a result."""
        return self._loop("astype", number, target.dtype, target.shape, self.place(target))

    def move(self, source: Value, target: Place, dtype: Any, shape: Sequence[int]) -> list[str]:
        """Copy a value, broadcast to `shape`, to some place."""
        return self._loop("astype", source, dtype, shape, target)

    def _loop(self, name: str, source: Any, dtype: Any, shape: Any, place: Place) -> list[str]:
        from fathom.compile.native.schedule import Unit

        inner = Value("computed", tuple(shape), dtype, self.step)
        self.program.places[inner] = place
        copy = Step(TABLE[name], (source,), {"dtype": inner.dtype}, (inner,))
        lines = self.program._loops(Unit("loops", [copy]), {inner})
        del self.program.places[inner]
        return lines

    def at(self, place: Place, shape: Sequence[int], dtype: Any) -> Value:
        """A value that shows some place, to be moved."""
        shown = Value("computed", tuple(shape), dtype, self.step)
        self.program.places[shown] = place
        return shown

    def part(self, source: Value, index: Any) -> Value:
        """source[index], for a basic index."""
        place, shape = self.within(source, index)
        return self.at(place, shape, source.dtype)

    def within(self, target: Value, index: Any) -> tuple[Place, tuple[int, ...]]:
        """Place and shape of target[index], for a basic index."""
        parts = index if isinstance(index, tuple) else (index,)
        if not any(p is Ellipsis for p in parts):
            index = (*parts, ...)  # a single element is a view, too
        shape = np.broadcast_to(np.empty(()), target.shape)[index].shape
        inner = Value("computed", shape, target.dtype, self.step)
        shown = view(
            Step(TABLE["getitem"], (target,), {"index": index}, (inner,)), self.place(target)
        )
        if shown is None:
            raise IndexError(f"not a basic index: {index!r}")
        return shown[0], shape


@dataclass(frozen=True)
class Made:
    """A product's function, the bytes it needs to work in, and its epilogue's pointers."""

    name: str
    scratch: int
    pointers: tuple[str, ...]

    def call(self, w: Writer, a: str, b: str, c: str, *more: str, scratch: str = "") -> None:
        """Call it from another function; `more` are the epilogue's pointers."""
        given = [a, b, c, *more, *([scratch] if self.scratch else [])]
        w.line(f"call void @{self.name}({', '.join(f'ptr {g}' for g in given)})")
