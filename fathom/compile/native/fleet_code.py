"""`Formation`: a plan as native code for a block of networks, one in each lane of the vectors.

The units of the single network's program are written anew, with its memory plan: each number
becomes a vector, so all offsets are `lanes` times as large. What reads or writes along an index
has no such form, nor has what NumPy does; `why_not` tells.
"""

from __future__ import annotations

import ctypes
from collections.abc import Container
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from fathom.compile.native import custom, fleet_draws, vecmath
from fathom.compile.native.code import ARENA
from fathom.compile.native.draws import PHILOX
from fathom.compile.native.elements import TYPES
from fathom.compile.native.engine import Compiler
from fathom.compile.native.epoch import arguments
from fathom.compile.native.fleet_product import LanedProduct, product
from fathom.compile.native.fleet_text import Wide
from fathom.compile.native.kernel import Group, Kernel, Operand, is_reduction
from fathom.compile.native.places import Place, contiguous
from fathom.compile.native.schedule import Unit, pieces, shape_of, steps_of
from fathom.compile.native.text import Index, Writer, vector
from fathom.compile.native.tiling import host_target, power_above
from fathom.compile.plan import Step, Value
from fathom.engine.primitive import TABLE

if TYPE_CHECKING:
    from fathom.compile.native.program import Program

NAME = "formation"
KINDS = {"loops", "product", "join", "copy", "check"}
MOVES = {  # their emitters only move and fill
    "at_set", "constant_of", "diagonal", "diagonal_embed", "getitem", "pad", "putitem", "roll",
}  # fmt: skip
FEWEST = 4  # lanes
LARGEST = 256 << 10  # bytes of one network and its step: beyond, vectors within it are as fast


def why_not(program: Program) -> str:
    """Why a plan has no form for blocks; "" if it has one."""
    if not program.repeats or program.kept_slots:
        return "the step does not run without Python"
    for unit in program.schedule.units:
        name = unit.steps[0].primitive.name if unit.steps else ""
        if unit.kind not in KINDS and name not in MOVES | {PHILOX.name}:
            return f"{name} has no code for vectors across networks"
    if any(v.dtype.name not in TYPES for v in program.arrays):
        return "an array is of a dtype without native code"
    size = program.arena_bytes + sum(v.nbytes for v in program.arrays)
    if size > LARGEST:
        return f"a network and its step take {size:,} bytes, more than {LARGEST:,}"
    return ""


def lanes_for(networks: int) -> int:
    """The lanes of blocks with room for so many: at most those of the widest vector."""
    return min(max(power_above(networks), FEWEST), host_target().lanes("float"))


class Formation:
    """The code of a block: `function` makes `count` steps of all its networks.

    No result goes by the number of lanes: each takes the same operations in the same order.

    Attributes
    ----------
    lanes : networks of a block.
    values : the arguments of the step, in order of their number.
    """

    def __init__(self, program: Program, networks: int) -> None:
        self.program = program
        self.lanes, self.registers = lanes_for(networks), host_target().registers
        self.values = arguments(program)
        self.places = dict(program.places)
        self.texts: list[str] = []
        self.kernels: dict[str, str] = {}  # text of a kernel without its name -> name
        self.functions: set[tuple[str, str]] = set()
        self.symbols: dict[str, int] = {}
        self.drawn = 0  # bytes of the largest random draw
        self.w = Writer()
        self._write()
        pointer = ctypes.c_void_p
        self.library = Compiler().compile(self._module(), symbols=self.symbols)
        self.function = self.library.function(
            NAME, pointer, pointer, ctypes.c_int64, pointer, pointer, pointer,
            result=ctypes.c_int64,
        )  # fmt: skip

    def _write(self) -> None:
        """`i64 formation(table, numbers, count, order, sources, results)`, as `epoch` has it.

        But `order` holds a row number for every network in each place, numbers and results are
        vectors, and arguments are gathered into the memory that the table names.
        """
        w, program = self.w, self.program
        with w.loop("%count") as turn:
            row = w.times(turn.index, max(len(program.numbers), 1))
            self.numbers = w.at("%s", row, vector("double", self.lanes))
            for j, value in enumerate(self.values):
                self._gather(j, value, turn.index)
            for unit in program.schedule.units:
                self._unit(unit, turn.index)
            for j, value in enumerate(program.plan.outputs):
                target = w.op(f"load ptr, ptr {w.at('%results', j, 'ptr')}, align 8")
                size = value.nbytes * self.lanes
                at = w.at(target, w.times(turn.index, size), "i8")
                given = f"ptr {at}, ptr {self._at(value)}, i64 {size}, i1 false"
                w.line(f"call void @llvm.memcpy.p0.p0.i64({given})")
            draws = program.draws
            table = next((v for v in program.arrays if v.origin is draws.table), None)
            if table is not None:
                fleet_draws.move_on(w, self.lanes, self._slot(table), draws.counts)
        w.line("ret i64 %count")

    def _module(self) -> str:
        given = "ptr %table, ptr %s, i64 %count, ptr %order, ptr %sources, ptr %results"
        main = "\n".join([f"define i64 @{NAME}({given}) {{", "entry:", *self.w.lines, "}"])
        blocks = []
        for suffix, dtype in (("f32", np.float32), ("f64", np.float64)):
            names = {n for n, s in self.functions if s == suffix}
            if names:
                blocks.append(vecmath.text(names, dtype, self.lanes))
        return "\n\n".join([*blocks, *self.texts, main, "attributes #0 = { noinline nounwind }"])

    # -- memory -----------------------------------------------------------------------------

    @property
    def arena_bytes(self) -> int:
        """What is computed, and behind it what one network draws."""
        return self.program.arena_bytes * self.lanes + self.drawn

    def _slot(self, value: Value) -> str:
        spot = self.w.at("%table", self.program.slots[value], "ptr")
        return self.w.op(f"load ptr, ptr {spot}, align 8")

    def _pointer(self, address: str) -> str:
        """The address of a place, given as `slot:bytes` of a single network."""
        slot, at = address.split(":")
        spot = self.w.at("%table", int(slot), "ptr")
        return self.w.at(self.w.op(f"load ptr, ptr {spot}, align 8"), int(at) * self.lanes, "i8")

    def _address(self, place: Place, dtype: Any) -> str:
        return self.program._address(place.root, place.offset, dtype)

    def _at(self, value: Value) -> str:
        return self._pointer(self._address(self.places[value], value.dtype))

    def _gather(self, j: int, value: Value, turn: Index) -> None:
        """The rows of one argument for this turn: each network has an order of its own."""
        w, lanes, kind = self.w, self.lanes, TYPES[value.dtype.name]
        rows = value.shape[0]
        width, type = value.size // rows, vector(kind, lanes)
        source = w.op(f"load ptr, ptr {w.at('%sources', j, 'ptr')}, align 8")
        target, order = self._at(value), vector("i64", lanes)
        first = w.times(turn, rows)
        suffix = {"float": "f32", "double": "f64"}.get(kind, kind)
        with w.turns(rows) as b:
            spot = w.at("%order", w.plus(first, b), order)
            row = w.op(f"mul {order} {w.op(f'load {order}, ptr {spot}, align 8')}, "
                       f"splat (i64 {width})")  # fmt: skip
            begin = w.op(f"getelementptr {kind}, ptr {source}, {order} {row}")
            with w.turns(width) as column:
                at = w.op(f"getelementptr {kind}, <{lanes} x ptr> {begin}, i64 {column}")
                found = w.op(
                    f"call {type} @llvm.masked.gather.v{lanes}{suffix}.v{lanes}p0(<{lanes} x ptr> "
                    f"{at}, i32 {value.dtype.itemsize}, <{lanes} x i1> splat (i1 true), "
                    f"{type} poison)"
                )
                into = w.at(target, w.plus(w.times(b, width), column), type)
                w.line(f"store {type} {found}, ptr {into}, align {value.dtype.itemsize}")

    # -- units ------------------------------------------------------------------------------

    def _unit(self, unit: Unit, turn: Index) -> None:
        if unit.kind == "check":
            for i in unit.checks:
                self._check(self.program.plan.checks[i][0], turn)
            return
        step = unit.steps[0]
        if unit.kind == "loops":
            self._loops(unit)
        elif unit.kind == "product":
            self._product(step)
        elif unit.kind == "join":
            for part, spot in zip(step.args, pieces(step, self.places[step.out]), strict=True):
                self._move(part, step, spot)
        elif step.primitive is PHILOX:
            self.drawn = max(self.drawn, step.out.nbytes)
            drawn = self._pointer(f"{ARENA}:{self.program.arena_bytes}")
            state = self._slot(step.args[0])
            fleet_draws.draw(self, step, drawn, state, self._at(step.out))
        elif unit.kind == "custom":
            custom.emit(cast(Any, self), step)
        else:  # a reshape that moves
            place = self.places[step.out]
            self._move(
                step.args[0], step, Place(place.root, place.offset, contiguous(step.args[0].shape))
            )

    def _check(self, truth: Value, turn: Index) -> None:
        """Leave if a check fails for one of the networks."""
        w, lanes = self.w, self.lanes
        bits = w.op(f"load <{lanes} x i8>, ptr {self._at(truth)}")
        fine = w.op(f"icmp ne <{lanes} x i8> {bits}, splat (i8 0)")
        every = w.op(f"call i1 @llvm.vector.reduce.and.v{lanes}i1(<{lanes} x i1> {fine})")
        number = w.count("check")
        w.line(f"br i1 {every}, label %fine{number}, label %failed{number}")
        w.label(f"failed{number}")
        w.line(f"ret i64 {turn}")
        w.label(f"fine{number}")

    def _loops(self, unit: Unit, kept: Container[Value] | None = None) -> list[str]:
        """A loop nest, written at once: no lines are left. What is in `kept` goes to memory."""
        program, steps, shape = self.program, unit.steps, shape_of(unit.steps[0])
        kept = program.last if kept is None else kept
        group = Group(shape, steps)
        made, addresses = group.made(), dict[str, int]()

        def operand(v: Value, over: tuple[int, ...]) -> Operand:
            address = self._address(self.places[v], v.dtype)
            return Operand(addresses.setdefault(address, len(addresses)), v.dtype, over)

        inputs = dict.fromkeys(v for s in steps for v in s.inputs() if v not in made)
        scalars = {v: program.numbers[v] for v in inputs if v.kind == "scalar"}
        reads = {
            v: operand(v, steps_of(self.places[v], v.shape, shape))
            for v in inputs if v.kind != "scalar"
        }  # fmt: skip
        writes = {}
        for step in steps:
            v = step.out
            if is_reduction(step):
                writes[v] = operand(v, program._reduced_steps(step, shape))
            elif v in kept:
                writes[v] = operand(v, steps_of(self.places[v], v.shape, shape))
        kernel = Kernel(
            group, reads, writes, scalars, len(addresses), self.functions, Wide(self.lanes)
        )
        self._call(kernel.text("@NAME@"), list(addresses), f"ptr {self.numbers}")
        return []

    def _product(self, step: Step) -> None:
        (a, b), out = step.args, step.out
        lead = out.shape[:-2]
        walks = [steps_of(self.places[v], v.shape, (*lead, *v.shape[-2:])) for v in (a, b)]
        outside = zip(lead, *(walk[: len(lead)] for walk in walks), strict=True)
        first, second = ((walk[-2], walk[-1]) for walk in walks)
        sizes = LanedProduct(
            a.shape[-2], b.shape[-1], a.shape[-1], first, second, TYPES[out.dtype.name],
            tuple(outside),
        )  # fmt: skip
        addresses = [self._address(self.places[v], v.dtype) for v in (a, b, out)]
        self._call(product(sizes, self.lanes, self.registers), addresses)

    def _move(self, source: Value, step: Step, spot: Place) -> None:
        """Copy a value to a place."""
        made = Value("computed", source.shape, step.out.dtype, step)
        self.places[made] = spot
        self._loops(Unit("loops", [Step(TABLE["clone"], (source,), {}, (made,))]), {made})

    def _call(self, text: str, addresses: list[str], *more: str) -> None:
        name = self.kernels.get(text)
        if name is None:
            name = self.kernels[text] = f"kernel{len(self.kernels)}"
            self.texts.append(text.replace("@@NAME@", f"@{name}"))
        given = [*(f"ptr {self._pointer(a)}" for a in addresses), *more]
        self.w.line(f"call void @{name}({', '.join(given)})")
