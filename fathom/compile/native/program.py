"""A plan as native code: kernels for its units, one function for each run of them, and memory.

All that is computed lies in one arena, where memory is used again as soon as nobody needs it. A
table of addresses tells the code where arena and inputs are. New contents of state go straight
into its memory where nothing reads the old ones any more. What has no native rule yet is run by
NumPy between two functions.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import numpy as np

from fathom.compile.indexing import indexed
from fathom.compile.lower import lower
from fathom.compile.native import epoch, memory, threads, vecmath
from fathom.compile.native.address import address
from fathom.compile.native.attention_plan import tiled
from fathom.compile.native.code import ARENA, FIRST, POOL, Code
from fathom.compile.native.draws import Draws
from fathom.compile.native.engine import Compiler
from fathom.compile.native.kernel import is_reduction
from fathom.compile.native.memory import Kept, Memory
from fathom.compile.native.schedule import Schedule, schedule
from fathom.compile.overlap import owner
from fathom.compile.passes import optimize
from fathom.compile.plan import Plan, Step, Value, replace
from fathom.compile.traced import TraceError
from fathom.engine.errors import FathomError

LARGE = 1 << 12  # bytes of a result that gets memory of its own
BRIEF = 1 << 20  # operations of a plan so short that other threads wait for it
TABLE, NUMBERS = "fathom.table", "fathom.numbers"  # what native code knows these by


class Program(Code):
    """A compiled plan: where everything lies, and the actions that run it in order."""

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self.original = plan.inputs()
        given = {v: i for i, v in enumerate(self.original)}
        copied = copy_of(plan)
        self.draws = Draws(copied)
        self.plan = optimize(indexed(lower(tiled(copied))))
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
        self.home = {}
        self._find_homes()
        self._find_kept()
        self._plan_memory()
        self.threads = threads.count()
        self.parts: list[Any] = []  # names of native functions, and host units
        self._assemble()
        self.repeats = epoch.possible(self)
        if self.repeats:
            self.texts.append(epoch.text(self))
        self._tables()
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
            simple = unit.kind == "loops" and not unit.staged
            if simple and free and alone and not checked and not is_reduction(step):
                if step.out.shape == state.shape and step.out.dtype == state.dtype:
                    self.home[value] = state

    def _find_kept(self) -> None:
        """Results that are given away as they are: their slots come after the inputs.

        Gradients of any size, so that each `.grad` is the same tensor from call to call.
        """
        gradients = [v for _, v in self.plan.gradients if v is not None]
        given = [*self.plan.outputs, *gradients]
        every = [self.places[v].root for v in self.plan.results()]
        self.kept_slots = {}
        for v in given:
            place = self.places[v]
            own = place.root is v and v.kind == "computed" and v not in self.home
            if own and (v.nbytes > LARGE or v in gradients) and every.count(v) == 1:
                self.kept_slots[v] = FIRST + len(self.arrays) + len(self.kept_slots)

    def _plan_memory(self) -> None:
        first, last = self._needed()
        self.first, self.last = first, last
        arena, self.offsets = Memory(), {}
        dying: dict[int, list[Value]] = {}
        born: dict[int, list[Value]] = {}
        for v, i in last.items():
            if v not in self.home and v not in self.kept_slots:
                born.setdefault(first[v], []).append(v)
                dying.setdefault(i, []).append(v)
        for i in range(len(self.schedule.units)):
            for v in born.get(i, ()):
                self.offsets[v] = arena.take(v.nbytes)
            for v in dying.get(i, ()):
                arena.give(self.offsets[v], v.nbytes)
        self.arena_bytes = arena.size
        self.scratch = 0  # bytes behind the arena, for products

    # -- code -------------------------------------------------------------------------------

    def _assemble(self) -> None:
        lines: list[str] = []
        for unit in self.schedule.units:
            if unit.kind == "host":
                self._flush(lines)
                lines = []
                self.parts.append(unit)
            elif unit.kind == "check":
                lines += [line for i in unit.checks for line in self._leave_unless(i)]
            else:
                lines += self._calls(unit)
        self._flush(lines)

    def _leave_unless(self, i: int) -> list[str]:
        """Lines that leave the function with the number of a check, from 1, if it fails."""
        n, value = self._serial(), self.plan.checks[i][0]
        place = self.places[value]
        slot, at = self._address(place.root, place.offset, value.dtype).split(":")
        return [
            f"%e{n} = getelementptr ptr, ptr %table, i64 {slot}",
            f"%b{n} = load ptr, ptr %e{n}, align 8",
            f"%a{n} = getelementptr i8, ptr %b{n}, i64 {at}",
            f"%f{n} = load i8, ptr %a{n}, align 1",
            f"%t{n} = icmp ne i8 %f{n}, 0",
            f"br i1 %t{n}, label %fine{n}, label %failed{n}",
            f"failed{n}:",
            f"ret i64 {i + 1}",
            f"fine{n}:",
        ]

    def _flush(self, lines: list[str]) -> None:
        if not lines:
            return
        name = f"part{sum(isinstance(p, str) for p in self.parts)}"
        body = "\n".join(f"  {line}" for line in [*lines, "ret i64 0"])
        self.texts += [
            f"define internal i64 @{name}(ptr %table, ptr %s) {{\nentry:\n{body}\n}}",
            f"define i64 @run.{name}() {{\n"
            f"  %failed = call i64 @{name}(ptr @{TABLE}, ptr @{NUMBERS})\n"
            f"  ret i64 %failed\n}}\n",
        ]
        self.parts.append(name)

    def _compile(self) -> None:
        if not any(isinstance(p, str) for p in self.parts):
            self.library = None
            self.text = ""
            return
        blocks = [f"@{TABLE} = external global i8", f"@{NUMBERS} = external global i8"]
        blocks += sorted(self.declarations)
        if self.forks:
            blocks.append("declare void @fathom.fork(ptr, ptr, ptr, ptr, i64)")
        for suffix, dtype in (("f32", np.float32), ("f64", np.float64)):
            names = {n for n, s in self.functions if s == suffix}
            if names:
                blocks.append(vecmath.text(names, dtype))
        blocks += self.texts
        blocks.append("attributes #0 = { noinline nounwind }")
        self.text = "\n\n".join(blocks)  # LLVM declares intrinsics by itself
        self.library = Compiler().compile(self.text, symbols=self.addresses(self.symbols))

    def addresses(self, more: dict[str, int]) -> dict[str, int]:
        """Where all lies that native code knows by a name, `more` of it from elsewhere."""
        found = {TABLE: address(self.table), NUMBERS: address(self.scalar_table)} | more
        if self.forks:
            found["fathom.fork"] = threads.POOL.fork(self.threads)
        return found

    # -- running ----------------------------------------------------------------------------

    def _tables(self) -> None:
        """Memory of the addresses and the numbers that native code goes by."""
        self.table = np.zeros(FIRST + len(self.arrays) + len(self.kept_slots), np.uint64)
        self.slot_of = self.table.data  # the same memory, quicker to write
        self.scalar_table = np.zeros(max(len(self.numbers), 1), np.float64)

    def _bind(self) -> None:
        self.arena = memory.aligned(self.arena_bytes + self.scratch)
        self.table[ARENA] = self.arena.__array_interface__["data"][0]
        self.table[POOL] = threads.POOL.address
        self.bound: list[Any] = [None] * len(self.arrays)
        self.states = set(self.home.values())  # whose memory native code changes,
        self.written: set[int] | None = None  # and the owners of that memory
        self.kept = {v: Kept(v, slot, self._lend) for v, slot in self.kept_slots.items()}
        self.actions = [self._action(part) for part in self.parts]
        known = {n for n, _ in self.given}
        for n, value in enumerate(self.arrays):
            if n not in known:  # a constant that lowering brought in
                self.bind(n, np.ascontiguousarray(value.origin))

    def _action(self, part: Any) -> Callable[[], Any]:
        """A native function, which returns the number of a failed check from 1, or a host unit."""
        if not isinstance(part, str):
            return lambda: self._host(part.steps[0])
        library: Any = self.library
        kind = ctypes.PYFUNCTYPE if self._brief() else ctypes.CFUNCTYPE  # others wait, or run
        function: Any = kind(ctypes.c_int64)(library[f"run.{part}"])
        function.library = library  # it keeps the code in memory
        return function

    def _brief(self) -> bool:
        """Whether it takes longer to let other threads run meanwhile than to be done."""
        if self.forks or any(u.kind == "custom" for u in self.schedule.units):
            return False
        steps = [s for u in self.schedule.units for s in u.steps]
        inner = [s.args[0].shape[-1] if s.primitive.name == "matmul" else 1 for s in steps]
        sizes = [max(v.size for v in (*s.outs, *s.inputs())) for s in steps]
        return sum(i * n for i, n in zip(inner, sizes, strict=True)) < BRIEF

    def bind(self, n: int, array: Any) -> None:
        """Where an input lies from now on."""
        if not array.flags.c_contiguous:
            array = self._contiguous(n, array)
        if self.written is not None and self.arrays[n] in self.states:
            self.written = None
            self.forget_arguments()
        self.lay(n, array)

    def rebind(self, n: int, array: Any) -> bool:
        """Whether an argument can be read where it lies; then it is."""
        if array.__class__ is not np.ndarray or not array.flags.c_contiguous:
            return False
        if self.written is None:
            found = (self.bound[self.slots[v] - FIRST] for v in self.states)
            self.written = {owner(a) for a in found if a is not None}
        if owner(array) in self.written:
            return False
        self.lay(n, array)
        return True

    def lay(self, n: int, array: Any) -> None:
        """Take an array in one piece as an input."""
        self.bound[n] = array
        self.slot_of[FIRST + n] = address(array)

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
        self.slot_of[slot] = address(array)

    def _contiguous(self, n: int, array: Any) -> Any:
        if self.arrays[n] in self.home.values():
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
            whole, at = self.kept[root].array, 0
        elif root.kind == "computed":
            whole, at = self.arena, self.offsets[root]
        else:
            whole, at = self.bound[self.slots[root] - FIRST], 0
        size = v.dtype.itemsize
        flat = whole if whole is self.arena else whole.reshape(-1).view(np.uint8)
        return np.ndarray(
            v.shape, v.dtype, flat.data, at + place.offset * size, [s * size for s in place.steps]
        )

    def failed(self, number: int) -> None:
        """Raise what eager code would where the check of that number, from 1, does not hold."""
        error = self.plan.checks[number - 1][1]
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
        try:
            out = step.primitive.forward(*args, **params)
        except BaseException:
            self.draws.stop(step)
            raise
        found = [out] if step.single else list(out)
        if step.extra is not None:
            left = found.pop()
            found += [o for o, v in zip(left, step.extra, strict=True) if v is not None]
        for value, array in zip(step.outs, found, strict=True):
            if value in self.last:
                self.shown(value)[...] = array


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
