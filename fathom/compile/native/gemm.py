"""Matrix products written as LLVM IR for one shape: C = A @ B, with what follows it fused in.

A tile of C is held in registers while k runs (Goto and van de Geijn, 2008): for each step along k
a few vectors of B are loaded, and each element of A is spread over a vector and multiplied into
its row of the tile. Shapes and strides are numbers in the code, so that addresses are constants.
Large or transposed operands are first copied into panels (`pack`); where both operands lie along
k and there are only a few rows, vectors run along k instead (`dot`).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field

from fathom.compile.native.epilogue import Epilogue, Spot, bias, relu
from fathom.compile.native.pack import SQUARE, Panel, pack_panel
from fathom.compile.native.text import SIZES, Index, Writer, vector
from fathom.compile.native.tiling import (
    LATENCY,
    Columns,
    Product,
    Shape,
    Target,
    choose,
    host_target,
    padded,
    power_above,
    target_for,
)

__all__ = [
    "Epilogue",
    "Kernel",
    "Product",
    "Shape",
    "Spot",
    "Target",
    "bias",
    "choose",
    "generate",
    "host_target",
    "module",
    "relu",
    "target_for",
]

Step = Callable[[str, str, list[str], int], list[str]]  # A, B, sums, step -> sums
UNROLL = 16  # multiply-adds of one turn of the loop over k


@dataclass(frozen=True)
class Kernel:
    """A generated function: `void name(ptr A, ptr B, ptr C, <epilogue pointers>[, ptr scratch])`.

    `scratch` is the number of bytes it needs to work in, aligned to 64; 0: it has no such
    parameter. What C, kept values and scratch memory occupy may overlap nothing else that is
    passed. `declarations` are texts that a module needs once, however many kernels it has.
    """

    name: str
    text: str
    declarations: frozenset[str]
    parameters: tuple[str, ...]
    scratch: int
    product: Product
    shape: Shape


def module(kernels: Iterable[Kernel]) -> str:
    """Kernels as one LLVM module."""
    kernels = list(kernels)
    needed = sorted(set().union(*(kernel.declarations for kernel in kernels)))
    return "\n".join([*needed, "", *(kernel.text for kernel in kernels)])


# -- the function ---------------------------------------------------------------------------


def generate(
    p: Product,
    name: str = "product",
    *,
    epilogue: Epilogue | None = None,
    target: Target | None = None,
    shape: Shape | None = None,
) -> Kernel:
    """Write the function of a product.

    Parameters
    ----------
    epilogue : what to do to the sums before they are stored (after adding C, if `accumulate`).
    target : the processor; this machine by default.
    shape : how to cut; `choose` decides by default.

    Examples
    --------
    >>> kernel = generate(Product.of(32, 10, 64), "forward", target=Target(32, 16))
    >>> kernel.text.splitlines()[0]
    'define void @forward(ptr noalias readonly %A, ptr noalias readonly %B, ptr noalias %C) ...'
    """
    target = target or host_target()
    shape = shape or choose(p, target)
    return _Generator(p, name, epilogue, shape).kernel()


@dataclass
class _Generator:
    p: Product
    name: str
    epilogue: Epilogue | None
    shape: Shape
    w: Writer = field(default_factory=Writer)
    A: str = "%A"  # of the product of the batch at hand
    B: str = "%B"
    batch: Index = 0
    first: str | None = None  # i1: the first pass over k; None: there is only one
    last: str | None = None

    def __post_init__(self) -> None:
        p, s = self.p, self.shape
        self.passes = -(-p.k // s.block)
        rows = [(p.m // s.rows, s.rows), (int(p.m % s.rows > 0), p.m % s.rows)]
        self.heights = [row for row in rows if row[0]]
        self.widths = [(p.n // self.column_step, self.columns(self.column_step))]
        if p.n % self.column_step:
            self.widths.append((1, self.columns(p.n % self.column_step)))
        self.widths = [width for width in self.widths if width[0]]
        widest = max(columns.width for _, columns in self.widths)
        size = SIZES[p.dtype]
        self.panel_b = -(-widest * s.block * size // 64) * 64 if s.pack_b else 0
        panels = -(-p.m // s.rows)
        self.panel_a = panels * padded(s.rows) * s.block * size if s.pack_a else 0

    @property
    def column_step(self) -> int:
        return self.shape.vectors * (1 if self.shape.dot else self.shape.lanes)

    def columns(self, used: int) -> Columns:
        if self.shape.dot:
            return Columns(used, 1, used)
        lanes = min(self.shape.lanes, power_above(used))
        return Columns(-(-used // lanes), lanes, used)

    def kernel(self) -> Kernel:
        p, scratch = self.p, self.panel_a + self.panel_b
        with self.products():
            with self.blocks() as (start, steps):
                self.block(start, steps)
        self.w.line("ret void")
        pointers = self.epilogue.pointers if self.epilogue else ()
        extras = (*pointers, *(("%scratch",) if scratch else ()))
        inputs = [f"ptr noalias readonly {name}" for name in ("%A", "%B")]
        others = [f"ptr noalias {name}" for name in ("%C", *extras)]
        signature = f"void @{self.name}({', '.join([*inputs, *others])})"
        head = f"define {signature} noinline optsize {{\nentry:"  # LLVM is not to unroll it more
        text = "\n".join([head, *self.w.lines, "}", ""])
        parameters = ("%A", "%B", "%C", *extras)
        needs = frozenset(self.w.declarations)
        return Kernel(self.name, text, needs, parameters, scratch, p, self.shape)

    @contextmanager
    def products(self) -> Iterator[None]:
        with self.w.turns(self.p.batch) as self.batch:
            steps = self.p.steps
            self.A = self.w.at("%A", self.w.times(self.batch, steps[0]), self.p.dtype)
            self.B = self.w.at("%B", self.w.times(self.batch, steps[1]), self.p.dtype)
            yield

    @contextmanager
    def blocks(self) -> Iterator[tuple[Index, Index]]:
        """Start and length of each pass over k."""
        w, k, size = self.w, self.p.k, self.shape.block
        if self.passes == 1:
            yield 0, k
            return
        with w.loop(k, step=size) as turn:
            left = w.op(f"sub nuw nsw i64 {k}, {turn.index}")
            self.last = w.op(f"icmp ule i64 {left}, {size}")
            self.first = w.op(f"icmp eq i64 {turn.index}, 0")
            yield turn.index, w.op(f"select i1 {self.last}, i64 {left}, i64 {size}")

    def block(self, start: Index, steps: Index) -> None:
        """All of C for some steps along k."""
        p, w = self.p, self.w
        a = w.at(self.A, w.times(start, p.a[1]), p.dtype)
        b = w.at(self.B, w.times(start, p.b[0]), p.dtype)
        if self.shape.pack_a:
            self.pack_a(a, steps)
        for j, columns in self.across():
            with j as column:
                if self.shape.pack_b:
                    self.pack_b(b, column, columns, steps)
                for i, rows in self.down():
                    with i as row:
                        if self.shape.dot:
                            self.dot_tile(a, b, row, column, rows, columns)
                        else:
                            self.tile(a, b, row, column, rows, columns, steps)

    def across(self) -> Iterator[tuple[AbstractContextManager[Index], Columns]]:
        at = 0
        for count, columns in self.widths:
            yield self.w.turns(count, self.column_step, at), columns
            at += count * self.column_step

    def down(self) -> Iterator[tuple[AbstractContextManager[Index], int]]:
        at = 0
        for count, rows in self.heights:
            yield self.w.turns(count, self.shape.rows, at), rows
            at += count * self.shape.rows

    # -- panels ---------------------------------------------------------------------------

    def pack_b(self, b: str, column: Index, columns: Columns, steps: Index) -> None:
        """The columns of the next tiles: they stay in the cache while these go down all rows."""
        p, w = self.p, self.w
        source = w.at(b, w.times(column, p.b[1]), p.dtype)
        strides = (p.b[1], p.b[0])
        panel = Panel(
            "%scratch", source, p.dtype, strides, columns.used, columns.width, columns.lanes
        )
        pack_panel(w, panel, steps)

    def pack_a(self, a: str, steps: Index) -> None:
        p, w, lanes = self.p, self.w, min(SQUARE, self.shape.lanes)
        for i, rows in self.down():
            with i as row:
                into = w.at(self.packed_a(), self.panel_of_rows(row, steps), p.dtype)
                source = w.at(a, w.times(row, p.a[0]), p.dtype)
                panel = Panel(into, source, p.dtype, p.a, rows, padded(rows), lanes)
                pack_panel(w, panel, steps)

    def panel_of_rows(self, row: Index, steps: Index) -> Index:
        """Where the panel that begins with this row lies: each has the width of a full one."""
        if not isinstance(row, int):
            row = self.w.op(f"udiv exact i64 {row}, {self.shape.rows}")
            return self.panel(self.w.times(row, padded(self.shape.rows)), steps)
        return self.panel(row // self.shape.rows * padded(self.shape.rows), steps)

    def packed_a(self) -> str:
        return self.w.at("%scratch", self.panel_b // SIZES[self.p.dtype], self.p.dtype)

    def panel(self, lane: Index, steps: Index) -> Index:
        """Where the panel that begins with this row or column lies."""
        if lane == 0 or isinstance(steps, int):
            return self.w.times(lane, steps if isinstance(steps, int) else 0)
        return self.w.op(f"mul nuw nsw i64 {lane}, {steps}")

    # -- tiles ----------------------------------------------------------------------------

    def tile(
        self, a: str, b: str, row: Index, column: Index, rows: int, columns: Columns, steps: Index
    ) -> None:
        """One tile of C, vectors along n."""
        p, w, s = self.p, self.w, self.shape
        a_strides, b_step = p.a, p.b[0]
        if s.pack_a:
            a = w.at(self.packed_a(), self.panel_of_rows(row, steps), p.dtype)
            a_strides = (1, padded(rows))
        else:
            a = w.at(a, w.times(row, p.a[0]), p.dtype)
        if s.pack_b:
            b, b_step = "%scratch", columns.width
        else:
            b = w.at(b, column, p.dtype)
        spots = self.spots(row, column, rows, columns)
        sums = self.begin(spots)

        def step(a: str, b: str, sums: list[str], p_index: int) -> list[str]:
            return self.multiply(a, b, sums, p_index, rows, columns, a_strides, b_step)

        sums = self.along_k(a, b, sums, step, steps, (a_strides[1], b_step), columns)
        self.finish(spots, sums, rows, columns)

    def multiply(
        self, a: str, b: str, sums: list[str], step: int, rows: int, columns: Columns,
        a_strides: tuple[int, int], b_step: int,
    ) -> list[str]:  # fmt: skip
        """The sums after one more step along k."""
        w, dtype, lanes = self.w, self.p.dtype, columns.lanes
        right = []
        for v in range(columns.vectors):
            used = lanes if self.shape.pack_b else columns.part(v)
            place = w.at(b, step * b_step + v * lanes, dtype)
            right.append(w.load(place, dtype, lanes, used))
        after = []
        for r in range(rows):
            place = w.at(a, r * a_strides[0] + step * a_strides[1], dtype)
            left = w.broadcast(w.load(place, dtype, 1), dtype, lanes)
            for v in range(columns.vectors):
                after.append(w.fma(left, right[v], sums[r * columns.vectors + v], dtype, lanes))
        return after

    def along_k(
        self, a: str, b: str, sums: list[str], step: Step,
        steps: Index, strides: tuple[int, int], columns: Columns,
    ) -> list[str]:  # fmt: skip
        """The loop over k, several steps a turn; few sums are kept in several sets."""
        w, k, dtype = self.w, self.p.k, self.p.dtype
        type = vector(dtype, columns.lanes)
        unroll = max(1, min(8, UNROLL // len(sums)))
        if not isinstance(steps, int):
            unroll = next(u for u in (8, 4, 2, 1) if u <= unroll and k % u == 0)
        sets = next(x for x in (4, 2, 1) if x == 1 or x * len(sums) <= 2 * LATENCY)
        sets = sets if unroll % sets == 0 and k >= 4 * unroll else 1
        zero = "zeroinitializer" if columns.lanes > 1 else "0.0"
        every = [sums, *([zero] * len(sums) for _ in range(sets - 1))]
        turns = steps // unroll if isinstance(steps, int) else 2
        if turns > 1:
            stop: Index = turns * unroll if isinstance(steps, int) else steps
            with w.loop(stop, step=unroll) as turn:
                here = [turn.carry("ptr", a), turn.carry("ptr", b)]
                held = [[turn.carry(type, x) for x in part] for part in every]
                for i in range(unroll):
                    held[i % sets] = step(here[0], here[1], held[i % sets], i)
                there = [w.at(x, s * unroll, dtype) for x, s in zip(here, strides, strict=True)]
                turn.step([*there, *itertools.chain(*held)])
            a, b = there
            every = held
        sums = self.join(every, type)
        rest = steps - turns * unroll * (turns > 1) if isinstance(steps, int) else 0
        for i in range(rest):
            sums = step(a, b, sums, i)
        return sums

    def join(self, sets: list[list[str]], type: str) -> list[str]:
        """Add up the sets of sums, in pairs."""
        while len(sets) > 1:
            pairs = zip(sets[::2], sets[1::2], strict=True)
            sets = [
                [self.w.op(f"fadd {type} {x}, {y}") for x, y in zip(*pair, strict=True)]
                for pair in pairs
            ]
        return sets[0]

    # -- the ends of a tile -----------------------------------------------------------------

    def spots(self, row: Index, column: Index, rows: int, columns: Columns) -> list[Spot]:
        w, p = self.w, self.p
        base = w.plus(w.times(self.batch, p.steps[2]), w.plus(w.times(row, p.c), column))
        return [
            Spot(
                w, p.dtype, columns.lanes, columns.part(v), (row, column), base,
                r, v * columns.lanes, p.c, self.batch,
            )
            for r in range(rows)
            for v in range(columns.vectors)
        ]  # fmt: skip

    def begin(self, spots: Sequence[Spot]) -> list[str]:
        """What the sums start from: zeros, or C."""
        if self.p.accumulate:
            return [spot.load("%C") for spot in spots]
        if self.first is None:
            return [spot.zero for spot in spots]
        w, before, number = self.w, self.w.block, self.w.count("begin")
        w.line(f"br i1 {self.first}, label %begin{number}, label %old{number}")
        w.label(f"old{number}")
        old = [spot.load("%C") for spot in spots]
        w.line(f"br label %begin{number}")
        w.label(f"begin{number}")
        return [
            w.op(f"phi {spot.type} [{spot.zero}, %{before}], [{x}, %old{number}]")
            for spot, x in zip(spots, old, strict=True)
        ]

    def finish(self, spots: Sequence[Spot], sums: Sequence[str], rows: int, cols: Columns) -> None:
        """Apply the epilogue and store; between passes over k, store only."""
        if self.epilogue is None or (self.last is None and not self.epilogue.long):
            for spot, value in zip(spots, sums, strict=True):
                done = value if self.epilogue is None else self.epilogue.emit(spot, value)
                spot.store(done, "%C")
            return
        for spot, value in zip(spots, sums, strict=True):
            spot.store(value, "%C")
        corner = spots[0].corner
        with self.w.when(self.last) if self.last else nullcontext():
            with self.w.turns(rows) as r:
                self.sweep(self.w.plus(corner[0], r), corner[1], cols)

    def sweep(self, row: Index, column: Index, columns: Columns) -> None:
        """The epilogue on one row of a tile that lies in memory."""
        if self.epilogue is None:
            return
        lanes = columns.lanes
        full, part = divmod(columns.used, lanes)
        groups = [(self.w.turns(full, lanes), lanes)] if full else []
        if part:
            groups.append((self.w.turns(1, 1, full * lanes), part))
        for group, used in groups:
            with group as offset:
                place = self.w.plus(column, offset)
                spot = self.spots(row, place, 1, Columns(1, lanes, used))[0]
                spot.store(self.epilogue.emit(spot, spot.load("%C")), "%C")

    # -- vectors along k ----------------------------------------------------------------------

    def dot_tile(
        self, a: str, b: str, row: Index, column: Index, rows: int, columns: Columns
    ) -> None:
        """A few dot products side by side."""
        p, w, lanes = self.p, self.w, self.shape.lanes
        a = w.at(a, w.times(row, p.a[0]), p.dtype)
        b = w.at(b, w.times(column, p.b[1]), p.dtype)
        count = columns.used
        main, part = divmod(p.k, lanes)

        def step(a: str, b: str, sums: list[str], used: int) -> list[str]:
            left = [w.load(w.at(a, r * p.a[0], p.dtype), p.dtype, lanes, used) for r in range(rows)]
            right = [
                w.load(w.at(b, c * p.b[1], p.dtype), p.dtype, lanes, used) for c in range(count)
            ]
            pairs = zip(itertools.product(left, right), sums, strict=True)
            return [w.fma(x, y, z, p.dtype, lanes) for (x, y), z in pairs]

        sums = ["zeroinitializer" if lanes > 1 else "0.0"] * (rows * count)
        if main > 1:
            with w.loop(main * lanes, step=lanes) as turn:
                held = [turn.carry(vector(p.dtype, lanes), x) for x in sums]
                here = [w.at(x, turn.index, p.dtype) for x in (a, b)]
                sums = step(here[0], here[1], held, lanes)
                turn.step(sums)
        elif main:
            sums = step(a, b, sums, lanes)
        if part:
            here = [w.at(x, main * lanes, p.dtype) for x in (a, b)]
            sums = step(here[0], here[1], sums, part)
        totals = [w.total(x, p.dtype, lanes) for x in sums]
        spots = self.spots(row, column, rows, Columns(1, count, count))
        values = [
            self.gather(totals[r * count : (r + 1) * count], spot) for r, spot in enumerate(spots)
        ]
        self.finish(spots, values, rows, Columns(1, count, count))

    def gather(self, totals: Sequence[str], spot: Spot) -> str:
        """Scalars side by side in a vector, plus what is in C already."""
        w, value = self.w, totals[0]
        if spot.lanes > 1:
            value = "poison"
            for i, x in enumerate(totals):
                value = w.op(f"insertelement {spot.type} {value}, {spot.dtype} {x}, i64 {i}")
        if self.p.accumulate:
            value = w.op(f"fadd {spot.type} {value}, {spot.load('%C')}")
        return value
