"""A plan as native code: kernels for its units, one function for each run of them, and memory.

All that is computed lies in one arena, where memory is used again as soon as nobody needs it. A
table of addresses tells the code where arena and inputs are. New contents of state go straight
into its memory where nothing reads the old ones any more. What has no native rule yet is run by
NumPy between two functions.
"""

from __future__ import annotations

import ctypes
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace as replaced
from typing import Any

import numpy as np

from fathom.compile.indexing import indexed
from fathom.compile.lower import lower
from fathom.compile.native import custom, epoch, threads, vecmath
from fathom.compile.native.elements import TYPES
from fathom.compile.native.engine import Compiler
from fathom.compile.native.gemm import Product, generate
from fathom.compile.native.kernel import Group, Kernel, Operand, is_reduction
from fathom.compile.native.places import Place, contiguous, is_contiguous
from fathom.compile.native.schedule import Schedule, Unit, pieces, schedule, steps_of
from fathom.compile.passes import optimize
from fathom.compile.plan import Plan, Step, Value, replace
from fathom.engine.errors import FathomError
from fathom.engine.primitive import TABLE
from fathom.engine.tensor import Tensor

ALIGN = 64
ARENA, POOL = 0, 1  # slots of the table of addresses; inputs follow
FIRST = 2
HEAVY_PRODUCT, HEAVY_LOOPS = 3_000_000, 300_000  # flops, and operations, worth sharing
LARGE = 1 << 12  # bytes of a result that gets memory of its own


class Memory:
    """Offsets in the arena, each free again when its last user is done."""

    def __init__(self) -> None:
        self.size = 0
        self._free: list[tuple[int, int]] = []  # (offset, bytes), by offset

    def take(self, nbytes: int) -> int:
        wanted = -(-max(nbytes, 1) // ALIGN) * ALIGN
        for i, (at, room) in enumerate(self._free):
            if room >= wanted:
                if room == wanted:
                    del self._free[i]
                else:
                    self._free[i] = (at + wanted, room - wanted)
                return at
        if self._free and sum(self._free[-1]) == self.size:  # grow the last hole
            at, _ = self._free.pop()
        else:
            at = self.size
        self.size = at + wanted
        return at

    def give(self, at: int, nbytes: int) -> None:
        """Take memory back, joined with free neighbours."""
        wanted = -(-max(nbytes, 1) // ALIGN) * ALIGN
        self._free.append((at, wanted))
        self._free.sort()
        joined: list[tuple[int, int]] = []
        for start, room in self._free:
            if joined and sum(joined[-1]) == start:
                joined[-1] = (joined[-1][0], joined[-1][1] + room)
            else:
                joined.append((start, room))
        self._free = joined


class Kept:
    """Memory of one large result, given to the user and taken back when it is free again."""

    __slots__ = ("array", "bind", "dtype", "shape", "slot", "tensor")

    def __init__(self, value: Value, slot: int, bind: Callable[[int, Any], None]) -> None:
        self.shape, self.dtype, self.slot, self.bind = value.shape, value.dtype, slot, bind
        self.tensor: Tensor | None = None
        self.renew()

    def renew(self) -> None:
        self.array = np.empty(self.shape, self.dtype)
        self.tensor = None
        self.bind(self.slot, self.array)

    def ready(self) -> None:
        """New memory, unless nobody but us (and our own tensor, and who owns it) holds the old."""
        tensor = self.tensor
        if tensor is None:
            if sys.getrefcount(self.array) > 2:
                self.renew()
        elif sys.getrefcount(tensor) > 4 or sys.getrefcount(self.array) > 3:
            self.renew()

    def given(self) -> Tensor:
        """The result as a tensor: the same one as last time, if its memory was free."""
        if self.tensor is None:
            self.tensor = Tensor(self.array)
        return self.tensor


class Program:
    """A compiled plan: where everything lies, and the actions that run it in order."""

    def __init__(self, plan: Plan) -> None:
        self.original = plan.inputs()
        given = {v: i for i, v in enumerate(self.original)}
        self.plan = optimize(indexed(lower(copy_of(plan))))
        self.schedule: Schedule = schedule(self.plan)
        self.places = self.schedule.places
        done = [i for u in self.schedule.units if u.kind == "check" for i in u.checks]
        self.closing = any(u.late for u in self.schedule.units) or len(done) < len(self.plan.checks)
        self.inputs = self.plan.inputs()
        self.arrays = [v for v in self.inputs if v.kind != "scalar"]
        self.given = [(n, given[v]) for n, v in enumerate(self.arrays) if v in given]
        self.slots = {v: FIRST + i for i, v in enumerate(self.arrays)}
        self.numbers = {v: i for i, v in enumerate(v for v in self.inputs if v.kind == "scalar")}
        self.given_numbers = [(n, given[v]) for v, n in self.numbers.items()]
        self.home: dict[Value, Value] = {}  # state in whose memory a value is made
        self._find_homes()
        self._find_kept()
        self._plan_memory()
        self.functions: set[tuple[str, str]] = set()
        self.kernels: dict[str, str] = {}  # text of a kernel without its name -> name
        self.texts: list[str] = []
        self.declarations: set[str] = set()
        self.threads, self.forks = threads.count(), False
        self.parts: list[Any] = []  # names of native functions, and host units
        self._assemble()
        self.repeats = epoch.possible(self)
        if self.repeats:
            self.texts.append(epoch.text(self))
        self._compile()
        self._bind()

    # -- memory -----------------------------------------------------------------------------

    def _needed(self) -> tuple[dict[Value, int], dict[Value, int]]:
        """For each root that must lie in memory, the unit that makes it and the last to read."""
        first: dict[Value, int] = {}
        last: dict[Value, int] = {}
        maker = {v: i for i, u in enumerate(self.schedule.units) for s in u.steps for v in s.outs}
        for i, unit in enumerate(self.schedule.units):
            for step in unit.steps:
                for v in step.inputs():
                    root = self.places[v].root if v in self.places else v
                    if root.kind == "computed" and not (root is v and maker[v] == i):
                        last[root] = i
                if unit.kind != "loops" or is_reduction(step):
                    last.update((v, max(i, last.get(v, i))) for v in step.outs)
        rerun = [v for _, e in self.plan.checks if isinstance(e, Step) for v in e.inputs()]
        for v in [*self.plan.results(), *rerun]:
            root = self.places[v].root if v in self.places else v
            if root.kind == "computed":
                last[root] = len(self.schedule.units)
        first = {v: maker[v] for v in last}
        return first, last

    def _find_homes(self) -> None:
        """Results that may be made right where the state they replace lies."""
        reads: dict[Value, int] = {}
        shuffled: set[tuple[Value, int]] = set()
        for i, unit in enumerate(self.schedule.units):
            for step in unit.steps:
                for v in step.inputs():
                    place = self.places[v]
                    if place.root.kind == "computed":
                        continue
                    reads[place.root] = i
                    if not (unit.kind == "loops" and v is place.root):
                        shuffled.add((place.root, i))
        states = {id(v.origin): v for v in self.arrays if v.kind in ("state", "array")}
        results = [self.places[v].root for v in self.plan.results()]
        for target, value in self.plan.writes:
            state, step = states.get(id(target)), value.origin
            if state is None or not isinstance(step, Step) or self.places[value].root is not value:
                continue
            maker = next(i for i, u in enumerate(self.schedule.units) if step in u.steps)
            unit = self.schedule.units[maker]
            free = reads.get(state, -1) <= maker and (state, maker) not in shuffled
            alone = results.count(value) == 1 and state not in results
            checked = self.closing and not unit.late and not isinstance(target, np.ndarray)
            if unit.kind == "loops" and free and alone and not checked and not is_reduction(step):
                if step.out.shape == state.shape and step.out.dtype == state.dtype:
                    self.home[value] = state

    def _find_kept(self) -> None:
        """Large results that are given away as they are: their slots come after the inputs."""
        given = [*self.plan.outputs, *(v for _, v in self.plan.gradients if v is not None)]
        every = [self.places[v].root for v in self.plan.results()]
        self.kept_slots: dict[Value, int] = {}
        for v in given:
            place = self.places[v]
            own = place.root is v and v.kind == "computed" and v not in self.home
            if own and v.nbytes > LARGE and every.count(v) == 1:
                self.kept_slots[v] = FIRST + len(self.arrays) + len(self.kept_slots)

    def _plan_memory(self) -> None:
        first, last = self._needed()
        self.first, self.last = first, last
        memory, self.offsets = Memory(), {}
        dying: dict[int, list[Value]] = {}
        born: dict[int, list[Value]] = {}
        for v, i in last.items():
            if v not in self.home and v not in self.kept_slots:
                born.setdefault(first[v], []).append(v)
                dying.setdefault(i, []).append(v)
        for i in range(len(self.schedule.units)):
            for v in born.get(i, ()):
                self.offsets[v] = memory.take(v.nbytes)
            for v in dying.get(i, ()):
                memory.give(self.offsets[v], v.nbytes)
        self.arena_bytes = memory.size
        self.scratch = 0  # bytes behind the arena, for products

    # -- code -------------------------------------------------------------------------------

    def _assemble(self) -> None:
        lines: list[str] = []
        for unit in self.schedule.units:
            if unit.kind in ("host", "check"):
                self._flush(lines)
                lines = []
                self.parts.append(unit)
            else:
                lines += self._calls(unit)
        self._flush(lines)

    def _flush(self, lines: list[str]) -> None:
        if not lines:
            return
        name = f"part{sum(isinstance(p, str) for p in self.parts)}"
        body = "\n".join(f"  {line}" for line in lines)
        self.texts.append(
            f"define void @{name}(ptr %table, ptr %s) {{\nentry:\n{body}\n  ret void\n}}\n"
        )
        self.parts.append(name)

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
            f"call void @fathom.fork(ptr %b{n}, ptr @task{n}, ptr %table, ptr %s, i64 {len(versions)})",
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
        self._count = getattr(self, "_count", 0) + 1
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
                m, n, k, spots[0].steps[-2:], spots[1].steps[-2:], n, TYPES[out.dtype.name],
                False, size, (*inner, m * n),
            )  # fmt: skip
            cuts = _cuts(product, self.threads)
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
            kernel = generate(product, known)
            self.texts.append(kernel.text.replace("define void", "define internal void"))
            self.declarations |= set(kernel.declarations)
            self._scratches = {**getattr(self, "_scratches", {}), known: kernel.scratch}
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

    def _compile(self) -> None:
        if not any(isinstance(p, str) for p in self.parts):
            self.library = None
            self.text = ""
            return
        blocks = [*sorted(self.declarations)]
        if self.forks:
            blocks.append("declare void @fathom.fork(ptr, ptr, ptr, ptr, i64)")
        for suffix, dtype in (("f32", np.float32), ("f64", np.float64)):
            names = {n for n, s in self.functions if s == suffix}
            if names:
                blocks.append(vecmath.text(names, dtype))
        blocks += self.texts
        blocks.append("attributes #0 = { noinline nounwind }")
        self.text = "\n\n".join(blocks)  # LLVM declares intrinsics by itself
        symbols = {}
        if self.forks:
            symbols["fathom.fork"] = threads.POOL.fork(self.threads)
        self.library = Compiler().compile(self.text, symbols=symbols)

    # -- running ----------------------------------------------------------------------------

    def _bind(self) -> None:
        self.arena = np.empty(self.arena_bytes + self.scratch + 3 * ALIGN, np.uint8)
        start = int(self.arena.__array_interface__["data"][0])
        shift = -start % ALIGN
        self.table = np.zeros(FIRST + len(self.arrays) + len(self.kept_slots), np.uint64)
        self.table[ARENA], self.table[POOL] = start + shift, threads.POOL.address
        self.base = shift
        self.scalar_table = np.zeros(max(len(self.numbers), 1), np.float64)
        self.bound: list[Any] = [None] * len(self.arrays)
        self.kept = {v: Kept(v, slot, self._lend) for v, slot in self.kept_slots.items()}
        at = (
            ctypes.c_void_p(self.table.ctypes.data),
            ctypes.c_void_p(self.scalar_table.ctypes.data),
        )
        self.actions: list[Callable[[], None]] = []
        for part in self.parts:
            if isinstance(part, str):
                function = self.library.function(part, ctypes.c_void_p, ctypes.c_void_p)  # type: ignore[union-attr]
                self.actions.append(lambda f=function: f(*at))  # type: ignore[misc]
            elif part.kind == "check":
                held = [
                    (self.shown(self.plan.checks[i][0]), self.plan.checks[i][1])
                    for i in part.checks
                ]
                self.actions.append(lambda h=held: self._check(h))  # type: ignore[misc]
            else:
                self.actions.append(lambda u=part: self._host(u.steps[0]))  # type: ignore[misc]
        known = {n for n, _ in self.given}
        for n, value in enumerate(self.arrays):
            if n not in known:  # a constant that lowering brought in
                self.bind(n, np.ascontiguousarray(value.origin))

    def bind(self, n: int, array: Any) -> None:
        if not array.flags.c_contiguous:
            array = self._contiguous(n, array)
        self.bound[n] = array
        self.table[FIRST + n] = array.__array_interface__["data"][0]

    def number_order(self) -> list[int]:
        """Which of the plan's numbers stands in each place of the table."""
        scalars = [i for i, v in enumerate(self.original) if v.kind == "scalar"]
        return [scalars.index(i) for _, i in self.given_numbers]

    def forget_arguments(self) -> None:
        """Look up the arguments anew at the next call."""
        for n, value in enumerate(self.arrays):
            if value.kind == "argument":
                self.bound[n] = None

    def _lend(self, slot: int, array: Any) -> None:
        self.table[slot] = array.__array_interface__["data"][0]

    def _contiguous(self, n: int, array: Any) -> Any:
        if self.arrays[n] in self.home.values():
            from fathom.compile.trace import TraceError

            raise TraceError(
                "a tensor that a compiled step writes does not lie in memory in one piece",
                fix="x.data = x.data.copy(), or compile(..., backend='numpy')",
            )
        return np.ascontiguousarray(array)

    def shown(self, v: Value) -> Any:
        """The array of a value, as a view of where it lies now."""
        place = self.places[v]
        root = self.home.get(place.root, place.root)
        if root in self.kept_slots:
            memory, at = self.kept[root].array, 0
        elif root.kind == "computed":
            memory, at = self.arena, self.base + self.offsets[root]
        else:
            memory, at = self.bound[self.slots[root] - FIRST], 0
        size = v.dtype.itemsize
        flat = memory if memory is self.arena else memory.reshape(-1).view(np.uint8)
        return np.ndarray(
            v.shape, v.dtype, flat.data, at + place.offset * size, [s * size for s in place.steps]
        )

    def _check(self, held: list[tuple[Any, Any]]) -> None:
        for truth, error in held:
            if not truth:
                if not isinstance(error, Step):
                    raise error()
                self._host(error)  # raises its own
                raise FathomError(f"{error.primitive.name}: a check failed in native code only")

    def _host(self, step: Step) -> None:
        """Run a step by NumPy, and put its results where the rest will look for them."""

        def given(part: Any) -> Any:
            if not isinstance(part, Value):
                return part
            if part.kind == "scalar":
                return float(self.scalar_table[self.numbers[part]])
            return self.shown(part)

        args, params = [given(a) for a in step.args], replace(step.params, given)
        out = step.primitive.forward(*args, **params)
        found = [out] if step.single else list(out)
        if step.extra is not None:
            left = found.pop()
            found += [o for o, v in zip(left, step.extra, strict=True) if v is not None]
        for value, array in zip(step.outs, found, strict=True):
            if value in self.last:
                self.shown(value)[...] = array


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


def copy_of(plan: Plan) -> Plan:
    """A plan whose steps may be changed without changing this one's."""
    new: dict[Value, Value] = {}
    steps = []
    for step in plan.steps:
        fresh = Step(
            step.primitive,
            tuple(new.get(a, a) if isinstance(a, Value) else a for a in step.args),
            replace(step.params, lambda p: new.get(p, p) if isinstance(p, Value) else p),
            (), None, step.single, step.site,
        )  # fmt: skip
        for v in step.outs:
            new[v] = Value("computed", v.shape, v.dtype, fresh)
        fresh.outs = tuple(new[v] for v in step.outs)
        if step.extra is not None:
            fresh.extra = tuple(None if v is None else new[v] for v in step.extra)
        steps.append(fresh)

    def of(v: Any) -> Any:
        return new.get(v, v)

    return Plan(
        steps, [of(v) for v in plan.outputs], [(t, of(v)) for t, v in plan.writes],
        [(t, None if v is None else of(v)) for t, v in plan.gradients],
        [(of(v), e) for v, e in plan.checks], plan.counters, plan.guards, plan.name, [],
    )  # fmt: skip


__all__ = ["Memory", "Program", "is_contiguous"]
