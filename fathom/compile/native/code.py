"""`Code`: what runs the units of a schedule, as lines of IR that find everything by a table.

A unit becomes calls of kernels, each written once for all places that need the same one. Heavy
ones are cut into parts that the pool of threads may run at the same time.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace as replaced
from typing import Any

import numpy as np

from fathom.compile.native import blas, custom
from fathom.compile.native.elements import TYPES
from fathom.compile.native.gemm import generate
from fathom.compile.native.kernel import Group, Kernel, Operand, is_reduction
from fathom.compile.native.memory import ALIGN
from fathom.compile.native.places import Place, contiguous
from fathom.compile.native.schedule import Unit, pieces, steps_of
from fathom.compile.native.tiling import Product
from fathom.compile.plan import Step, Value
from fathom.engine.primitive import TABLE

ARENA, POOL = 0, 1  # slots of the table of addresses; inputs follow
FIRST = 2
HEAVY_PRODUCT, HEAVY_LOOPS = 3_000_000, 300_000  # flops, and operations, worth sharing


class Code:
    """Writes units. `Program` says where values lie, and compiles what comes together here.

    Attributes
    ----------
    places : of all values; `home` names the state in whose memory a value is made.
    slots, kept_slots, offsets : where roots lie: a slot of the table, or bytes of the arena.
    numbers : places of Python's numbers in their table.
    last : the values that must lie in memory.
    texts, kernels, functions, declarations : functions written so far, and what they call.
    scratch : bytes behind the arena that kernels work in.
    """

    places: dict[Value, Place]
    home: dict[Value, Value]
    slots: dict[Value, int]
    kept_slots: dict[Value, int]
    offsets: dict[Value, int]
    numbers: dict[Value, int]
    last: dict[Value, int]
    arena_bytes: int
    scratch: int
    threads: int

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.kernels: dict[str, str] = {}  # text of a kernel without its name -> name
        self.functions: set[tuple[str, str]] = set()
        self.declarations: set[str] = set()
        self.symbols: dict[str, int] = {}  # addresses of functions from elsewhere
        self.forks = False
        self._scratches: dict[str, int] = {}
        self._count = 0

    def _calls(self, unit: Unit) -> list[str]:
        """The lines that run a unit."""
        if unit.kind == "loops":
            return self._loops(unit)
        if unit.kind == "product":
            return self._product(unit.steps[0])
        if unit.kind == "custom":
            return custom.emit(self, unit.steps[0])
        if unit.kind == "join":
            step = unit.steps[0]
            spots = pieces(step, self.places[step.out])
            lines = []
            for part, spot in zip(step.args, spots, strict=True):
                lines += self._copy(part, Value("computed", part.shape, step.out.dtype, step), spot)
            return lines
        step = unit.steps[0]
        source, out = step.args[0], step.out
        inner = Value("computed", source.shape, out.dtype, step)
        spot = Place(out, self.places[out].offset, contiguous(source.shape))
        return self._copy(source, inner, spot)

    def _copy(self, source: Value, out: Value, spot: Place) -> list[str]:
        """A kernel that moves a value to a place."""
        copy = Step(TABLE["clone"], (source,), {}, (out,))
        self.places[out] = spot
        return self._loops(Unit("loops", [copy]), {out})

    def _loops(self, unit: Unit, kept: set[Value] | None = None) -> list[str]:
        """A loop nest, in several parts along one axis if it is worth sharing."""
        shape = _shape(unit)
        axis = self._shared_axis(unit, shape)
        if axis is None:
            return self._nest(unit, kept, 0, 0, shape[0] if shape else 1)
        cuts = even(shape[axis], self.threads)
        return self.parallel([self._nest(unit, kept, axis, a, b) for a, b in cuts])

    def _shared_axis(self, unit: Unit, shape: tuple[int, ...]) -> int | None:
        """The first axis that can be cut: long enough, and summed by nobody."""
        if self.threads < 2 or math.prod(shape) * len(unit.steps) < HEAVY_LOOPS:
            return None
        summed = {a for s in unit.steps if is_reduction(s) for a in s.params["axis"]}
        for axis, n in enumerate(shape):
            if n > 1:
                return axis if axis not in summed and n >= self.threads else None
        return None

    def parallel(self, versions: list[list[str]]) -> list[str]:
        """Lines that may run at the same time, as a task for the pool."""
        if len(versions) < 2:
            return versions[0]
        self.forks = True
        n = self._serial()
        cases = " ".join(f"i64 {i}, label %part{i}" for i in range(1, len(versions)))
        lines = [
            f"define internal void @task{n}(ptr %table, ptr %s, i64 %part) {{",
            f"  switch i64 %part, label %part0 [{cases}]",
        ]
        for i, version in enumerate(versions):
            lines += [f"part{i}:", *(f"  {line}" for line in version), "  ret void"]
        self.texts.append("\n".join([*lines, "}"]))
        return [
            f"%e{n} = getelementptr ptr, ptr %table, i64 {POOL}",
            f"%b{n} = load ptr, ptr %e{n}, align 8",
            f"call void @fathom.fork(ptr %b{n}, ptr @task{n}, ptr %table, ptr %s, "
            f"i64 {len(versions)})",
        ]

    def _nest(
        self, unit: Unit, kept: set[Value] | None, axis: int, start: int, stop: int
    ) -> list[str]:
        """The loop nest of a group, from `start` to `stop` along one axis."""
        whole_shape = shape = _shape(unit)
        if shape:
            shape = (*shape[:axis], stop - start, *shape[axis + 1 :])
        group = Group(shape, unit.steps)
        made = group.made()
        outside: dict[Value, None] = {}
        scalars: dict[Value, int] = {}
        for step in unit.steps:
            for v in step.inputs():
                if v.kind == "scalar":
                    scalars[v] = self.numbers[v]
                elif v not in made:
                    outside[v] = None
        pointers: dict[str, int] = {}

        def operand(v: Value, over: tuple[int, ...]) -> Operand:
            place, first = self.places[v], start * over[axis] if over else 0
            address = self._address(place.root, place.offset + first, v.dtype)
            number = pointers.setdefault(address, len(pointers))
            return Operand(number, v.dtype, over)

        reads = {v: operand(v, steps_of(self.places[v], v.shape, whole_shape)) for v in outside}
        writes = {}
        for step in unit.steps:
            v = step.out
            if is_reduction(step):
                writes[v] = operand(v, self._reduced_steps(step, whole_shape))
            elif v in (kept or self.last):
                writes[v] = operand(v, steps_of(self.places[v], v.shape, whole_shape))
        text = Kernel(group, reads, writes, scalars, len(pointers), self.functions).text("@NAME@")
        name = self.kernels.get(text)
        if name is None:
            name = self.kernels[text] = f"loops{len(self.kernels)}"
            self.texts.append(text.replace("@@NAME@", f"@{name}"))
        return self._call(name, list(pointers), ", ptr %s")

    def _reduced_steps(self, step: Step, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Steps of a reduction's result along the axes of what it reduces."""
        axes, place = step.params["axis"], self.places[step.out]
        if step.params.get("keepdims"):
            own = place.steps
        else:
            rest = iter(place.steps)
            own = tuple(0 if i in axes else next(rest) for i in range(len(shape)))
        return tuple(0 if i in axes else s for i, s in enumerate(own))

    def _address(self, root: Value, offset: int, dtype: Any) -> str:
        """`slot:bytes` of a place."""
        root = self.home.get(root, root)
        at = offset * np.dtype(dtype).itemsize
        if root in self.kept_slots:
            return f"{self.kept_slots[root]}:{at}"
        if root.kind == "computed":
            return f"{ARENA}:{self.offsets[root] + at}"
        return f"{self.slots[root]}:{at}"

    def _call(self, name: str, addresses: Sequence[str], more: str = "") -> list[str]:
        """Lines that call a function with addresses from the table."""
        lines, names = [], []
        for address in addresses:
            slot, at = address.split(":")
            n = self._serial()
            lines.append(f"%e{n} = getelementptr ptr, ptr %table, i64 {slot}")
            lines.append(f"%b{n} = load ptr, ptr %e{n}, align 8")
            lines.append(f"%a{n} = getelementptr i8, ptr %b{n}, i64 {at}")
            names.append(f"ptr %a{n}")
        return [*lines, f"call void @{name}({', '.join(names)}{more})"]

    def _serial(self) -> int:
        self._count += 1
        return self._count

    def _product(self, step: Step) -> list[str]:
        """A matrix product, or a batch of them; operands that do not lie well are moved first."""
        (a, b), out = step.args, step.out
        m, k, n = a.shape[-2], a.shape[-1], b.shape[-1]
        lines: list[str] = []
        spots = [self.places[v] for v in (a, b)]
        lead = out.shape[:-2]
        steps = [steps_of(s, v.shape, (*lead, *v.shape[-2:]))[: len(lead)]
                 for s, v in zip(spots, (a, b), strict=True)]  # fmt: skip
        sizes, walks = _batches(lead, steps)
        size = sizes[-1] if sizes else 1
        inner = (walks[0][-1], walks[1][-1]) if sizes else (0, 0)
        for turn in np.ndindex(*sizes[:-1]):
            first = sum(i * w for i, w in zip(turn, walks[0], strict=False))
            second = sum(i * w for i, w in zip(turn, walks[1], strict=False))
            third = int(np.ravel_multi_index(turn, sizes[:-1])) * size * m * n if turn else 0
            offsets = (
                spots[0].offset + first, spots[1].offset + second, self.places[out].offset + third
            )  # fmt: skip
            product = Product(
                m, n, k, pair(spots[0].steps), pair(spots[1].steps), n, TYPES[out.dtype.name],
                False, size, (*inner, m * n),
            )  # fmt: skip
            library = blas.chosen(self.threads)
            alone = library is not None and library.threads > 1 and blas.takes(product)
            cuts = _cuts(product, 1 if alone else self.threads)
            lines += self.parallel([
                self._multiply(step, cut, tuple(map(sum, zip(offsets, shift, strict=True))), i)
                for i, (cut, shift) in enumerate(cuts)
            ])  # fmt: skip
        return lines

    def _multiply(self, step: Step, product: Product, offsets: Any, part: int) -> list[str]:
        """The lines of one product; parts that may run at once have scratch of their own."""
        key = repr(product)
        known = self.kernels.get(key)
        if known is None:
            known = self.kernels[key] = f"product{len(self.kernels)}"
            text, self._scratches[known] = self._kernel(product, known)
            self.texts.append(text.replace("define void", "define internal void"))
        values = (*step.args, step.out)
        addresses = [
            self._address(self.places[v].root, at, v.dtype)
            for v, at in zip(values, offsets, strict=True)
        ]
        scratch = -(-self._scratches[known] // ALIGN) * ALIGN
        if scratch:
            start = -(-self.arena_bytes // ALIGN) * ALIGN
            addresses.append(f"{ARENA}:{start + part * scratch}")
            self.scratch = max(self.scratch, (part + 1) * scratch)
        return self._call(known, addresses)

    def _kernel(self, product: Product, name: str) -> tuple[str, int]:
        """The function of a product, and the bytes it needs to work in."""
        library = blas.chosen(self.threads)
        if library is not None and blas.takes(product):
            self.declarations.add(library.declaration(product.dtype))
            self.symbols |= library.symbols
            return library.text(name, product), 0
        kernel = generate(product, name)
        self.declarations |= set(kernel.declarations)
        return kernel.text, kernel.scratch


def pair(steps: Sequence[int]) -> tuple[int, int]:
    """The steps of a row and of a column."""
    return steps[-2], steps[-1]


def even(n: int, parts: int, step: int = 1) -> list[tuple[int, int]]:
    """0 ... n cut into parts of about the same size, each but the last a multiple of `step`.

    >>> even(20, 2, 8)
    [(0, 16), (16, 20)]
    """
    size = -(-n // parts // step) * step if n > parts * step else -(-n // parts)
    return [(at, min(at + size, n)) for at in range(0, n, size)]


def _cuts(p: Product, parts: int) -> list[tuple[Product, tuple[int, int, int]]]:
    """A product in parts that may run at once, and where each begins in A, B and C."""
    if parts < 2 or p.flops < HEAVY_PRODUCT:
        return [(p, (0, 0, 0))]
    if p.batch >= parts:
        return [
            (replaced(p, batch=b - a), (a * p.steps[0], a * p.steps[1], a * p.steps[2]))
            for a, b in even(p.batch, parts)
        ]
    if p.batch > 1 or p.m < 2 * parts:
        return [(p, (0, 0, 0))]
    return [(replaced(p, m=b - a), (a * p.a[0], 0, a * p.c)) for a, b in even(p.m, parts, 8)]


def _shape(unit: Unit) -> tuple[int, ...]:
    step = unit.steps[0]
    if is_reduction(step):
        source: Value = step.args[0]
        return source.shape
    return step.out.shape


def _batches(
    lead: tuple[int, ...], steps: list[tuple[int, ...]]
) -> tuple[list[int], list[list[int]]]:
    """Leading axes merged where both operands walk them in one go."""
    sizes: list[int] = []
    walks: list[list[int]] = [[], []]
    for axis, n in enumerate(lead):
        if n == 1:
            continue
        own = [s[axis] for s in steps]
        if sizes and all(w[-1] == o * n for w, o in zip(walks, own, strict=True)):
            sizes[-1] *= n
            for w, o in zip(walks, own, strict=True):
                w[-1] = o
        else:
            sizes.append(n)
            for w, o in zip(walks, own, strict=True):
                w.append(o)
    return sizes, walks
