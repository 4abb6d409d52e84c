"""A loop over time as native code: memory, products and vectors of a layer's steps.

An emitter declared by `layer` writes a recurrent layer for some of its sequences. They have
nothing to do with each other: with several threads, each takes some of them.

Shapes: x (time, n, gates), states (time, n, hidden), weights (gates, hidden), mask (time, n, 1).
Other shapes (a batch of models) are left to NumPy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from fathom.compile.native.custom import Made, Site, emitter
from fathom.compile.native.elements import TYPES
from fathom.compile.native.gemm import Epilogue, Product
from fathom.compile.native.lanes import Lanes, rows_of
from fathom.compile.native.loops import copy
from fathom.compile.native.places import contiguous
from fathom.compile.native.text import SIZES, Index, Writer
from fathom.compile.plan import Step, Value

Pointers = Mapping[str, str]


def _can(step: Step) -> bool:
    """Whether a step is one layer of one dtype, with a mask of that dtype or none."""
    values = [a for a in step.args if isinstance(a, Value)]
    mask, shape, dtype = step.params["mask"], step.out.shape, step.out.dtype
    if mask is not None:
        if not isinstance(mask, Value) or mask.shape != (*shape[:2], 1):
            return False
        values.append(mask)
    flat = len(shape) == 3 and all(v.ndim <= 3 for v in values)
    return flat and dtype.kind == "f" and all(v.dtype == dtype for v in values)


@dataclass
class Shared:
    """What all parts of a layer read: arrays in one piece, and the lines that make them."""

    memory: dict[str, str] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)


Write = Callable[[Site, "Loop"], list[str]]


def layer(*names: str) -> Callable[[Write], Write]:
    """Declare what writes a layer for some of its sequences; heavy ones are shared by threads."""

    def declare(write: Write) -> Write:
        @emitter(*names, can=_can, inside=("mask",))
        def emit(site: Site) -> list[str]:
            step, shared = site.step, Shared()
            time, n, width = step.out.shape

            def part(first: int, count: int) -> list[str]:
                return write(site, Loop(site, shared, first, count))

            if len(step.outs) > 3:  # a gradient that all sequences add to
                lines = part(0, n)
            else:
                lines = site.shared(n, time * n * width * step.outs[-1].shape[-1], part)
            return [*shared.lines, *lines]

        return write

    return declare


class Loop:
    """A layer for some sequences: memory by name, products, and the loop over time.

    Attributes
    ----------
    whole, first, n : all sequences, the first one at hand, and how many from there on.
    """

    def __init__(self, site: Site, shared: Shared, first: int, n: int) -> None:
        self.site, self.shared = site, shared
        self.time, self.whole, _ = site.step.out.shape
        self.first, self.n = first, n
        self.kind = TYPES[site.step.out.dtype.name]
        self.mask: Value | None = site.step.params["mask"]
        self.reverse: bool = site.step.params["reverse"]
        self.memory: dict[str, str] = {}
        self.scratch = 0
        self.rows(mask=self.mask)

    # -- memory -----------------------------------------------------------------------------

    def rows(self, **values: Value | None) -> None:
        """Arrays (..., n, width), from the first sequence at hand on."""
        self.full(**values)
        for name, v in values.items():
            if v is not None:
                slot, at = self.memory[name].split(":")
                self.memory[name] = (
                    f"{slot}:{int(at) + self.first * v.shape[-1] * v.dtype.itemsize}"
                )

    def full(self, **values: Value | None) -> None:
        """Arrays in one piece: copied, if they are not."""
        for name, v in values.items():
            if v is not None:
                self.memory[name] = self._once(name, v, self.site.dense)

    def turned(self, **values: Value) -> None:
        """Transposes of matrices."""
        for name, v in values.items():
            self.memory[name] = self._once(name, v, self._turn)

    def room(self, **widths: int) -> None:
        """Memory to work in, of (n, width)."""
        for name, width in widths.items():
            self.memory[name] = self.site.scratch(self.n * width * SIZES[self.kind])

    def _once(self, name: str, v: Value, make: Callable[[Value], tuple[list[str], str]]) -> str:
        """The address of something that one part makes for all."""
        if name not in self.shared.memory:
            lines, self.shared.memory[name] = make(v)
            self.shared.lines += lines
        return self.shared.memory[name]

    def _turn(self, v: Value) -> tuple[list[str], str]:
        target, shape, steps = self.site.scratch(v.nbytes), v.shape[::-1], self.site.steps(v)[::-1]

        def body(w: Writer, source: str, into: str) -> None:
            copy(w, source, into, shape, (steps, contiguous(shape)), v.dtype)

        return self.site.kernel([v, target], body), target

    # -- code -------------------------------------------------------------------------------

    def product(
        self, n: int, k: int, accumulate: bool = False, epilogue: Epilogue | None = None
    ) -> Callable[..., None]:
        """Rows (n_batch, k) times a matrix (k, n), all in one piece: a call to be written."""
        p = Product(self.n, n, k, (k, 1), (n, 1), n, self.kind, accumulate)
        return self._called(p, epilogue)

    def outer(self, m: int, n: int) -> Callable[..., None]:
        """C (m, n) += A (n_batch, m) transposed times B (n_batch, n)."""
        p = Product(m, n, self.n, (1, m), (n, 1), n, self.kind, True)
        return self._called(p, None)

    def _called(self, p: Product, epilogue: Epilogue | None) -> Callable[..., None]:
        tag = ",".join(epilogue.pointers) if epilogue else ""
        made: Made = self.site.product(p, epilogue, f"recurrent {tag}")
        self.scratch = max(self.scratch, made.scratch)

        def call(w: Writer, at: Pointers, a: str, b: str, c: str, *more: str) -> None:
            made.call(w, a, b, c, *more, scratch=at.get("scratch", ""))

        return call

    def fill(self, w: Writer, width: int, *pointers: str) -> None:
        """Zeros in arrays of (n, width)."""

        def body(v: Lanes, row: Index, column: Index) -> None:
            for pointer in pointers:
                v.store(v.number(0.0), pointer, w.plus(w.times(row, width), column))

        rows_of(w, self.kind, self.n, width, body)

    def each(
        self, w: Writer, width: int, body: Callable[[Lanes, Callable[..., Index], Index], None]
    ) -> None:
        """`body(v, at, row)` for all vectors of (n, width); `at(size, part)` is an offset.

        It leads into rows of `size` numbers, into the part behind so many widths.
        """

        def inner(v: Lanes, row: Index, column: Index) -> None:
            body(v, lambda size=width, part=0: w.plus(
                w.times(row, size), w.plus(column, part * width)
            ), row)  # fmt: skip

        rows_of(w, self.kind, self.n, width, inner)

    @contextmanager
    def steps(self, w: Writer, back: bool = False) -> Iterator[Moment]:
        """The loop over time, or its way back."""
        with w.loop(self.time) as turn:
            t: Index = turn.index
            if self.reverse != back:
                t = w.op(f"sub nsw i64 {self.time - 1}, {t}")
            yield Moment(self, w, t)

    def write(self, body: Callable[[Writer, Pointers], None]) -> list[str]:
        """The lines that run it all; `body` gets a pointer for each name."""
        if self.scratch:
            self.memory["scratch"] = self.site.scratch(self.scratch)
        names = list(self.memory)
        return self.site.kernel(
            list(self.memory.values()),
            lambda w, *given: body(w, dict(zip(names, given, strict=True))),
        )


class Moment:
    """One step of time."""

    def __init__(self, loop: Loop, w: Writer, t: Index) -> None:
        self.loop, self.w, self.t = loop, w, t

    def now(self, at: Pointers, name: str, width: int) -> str:
        """The rows of an array (time, n, width) at this step; "" for one that is not there."""
        if name not in at:
            return ""
        offset = self.w.times(self.t, self.loop.whole * width)
        return self.w.at(at[name], offset, self.loop.kind)

    def before(self, at: Pointers, name: str, first: str, width: int) -> str:
        """The rows this step started from."""
        w, loop = self.w, self.loop
        edge, shift = (loop.time - 1, 1) if loop.reverse else (0, -1)
        t = w.op(f"add nsw i64 {self.t}, {shift}")
        offset = w.op(f"mul nsw i64 {t}, {loop.whole * width}")
        inside = w.op(f"getelementptr {loop.kind}, ptr {at[name]}, i64 {offset}")
        outside = w.op(f"icmp eq i64 {self.t}, {edge}")
        return w.op(f"select i1 {outside}, ptr {at[first]}, ptr {inside}")
