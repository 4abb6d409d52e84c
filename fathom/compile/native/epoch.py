"""Many steps in one call: the loop over mini-batches as native code.

    for k in range(count):
        copy the rows order[k * batch : (k + 1) * batch] of every array into the step's arguments
        run the step's parts with the numbers of turn k; leave if a check fails
        copy what the step returns to place k of the results

Python is not needed inside, so other threads run meanwhile: a fleet of networks uses all cores.
"""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Any

import numpy as np

from fathom.compile.native.draws import COLUMNS
from fathom.compile.native.text import Writer
from fathom.compile.plan import Value

if TYPE_CHECKING:
    from fathom.compile.native.program import Program

NAME = "epoch"


def possible(program: Program) -> bool:
    """Whether a plan can run many times without Python: all native, all state in its place."""
    units = program.schedule.units
    native = all(u.kind != "host" and not u.late for u in units)
    homes = all(v in program.home for _, v in program.plan.writes)
    left = [v for _, v in program.plan.gradients if v is not None]
    given = all(v in program.kept_slots for v in left)  # the last turn's are there afterwards
    return native and homes and given and all(v.kind != "gradient" for v in program.arrays)


def arguments(program: Program) -> list[Value]:
    """The values that come from the data, in order of their number."""
    found = [v for v in program.arrays if v.kind == "argument"]
    return sorted(found, key=lambda v: v.origin)


def text(program: Program) -> str:
    """The function `i64 epoch(table, numbers, count, order, sources, results)`.

    It returns how many turns were made: fewer than `count` if a check failed. `order` holds row
    numbers, 0 for rows as they come (then nothing is copied); `sources` and `results` are tables
    of addresses, one for each argument and each output.
    """
    w = Writer()
    with w.loop("%count") as turn:
        numbers = w.at("%s", w.times(turn.index, max(len(program.numbers), 1)), "double")
        for j, value in enumerate(arguments(program)):
            _gather(w, program, j, value, turn.index)
        for part in program.parts:
            failed = w.op(f"call i64 @{part}(ptr %table, ptr {numbers})")
            fine, number = w.op(f"icmp eq i64 {failed}, 0"), w.count("part")
            w.line(f"br i1 {fine}, label %fine{number}, label %failed{number}")
            w.label(f"failed{number}")
            w.line(f"ret i64 {turn.index}")
            w.label(f"fine{number}")
        for j, value in enumerate(program.plan.outputs):
            target = w.op(f"load ptr, ptr {w.at('%results', j, 'ptr')}, align 8")
            at = w.op(f"getelementptr i8, ptr {target}, i64 {w.times(turn.index, value.nbytes)}")
            _copy(w, at, _address(w, program, value), value.nbytes)
        _move_on(w, program)
    w.line("ret i64 %count")
    arguments_ = "ptr %table, ptr %s, i64 %count, ptr %order, ptr %sources, ptr %results"
    return "\n".join([f"define i64 @{NAME}({arguments_}) {{", "entry:", *w.lines, "}"])


def _address(w: Writer, program: Program, value: Value) -> str:
    place = program.places[value]
    slot, at = program._address(place.root, place.offset, value.dtype).split(":")
    base = w.op(f"load ptr, ptr {w.at('%table', int(slot), 'ptr')}, align 8")
    return w.op(f"getelementptr i8, ptr {base}, i64 {at}")


def _copy(w: Writer, target: Any, source: Any, nbytes: int) -> None:
    w.line(f"call void @llvm.memcpy.p0.p0.i64(ptr {target}, ptr {source}, i64 {nbytes}, i1 false)")


def _move_on(w: Writer, program: Program) -> None:
    """The streams after a turn."""
    for table in (v for v in program.arrays if v.origin is program.draws.table):
        base = w.op(f"load ptr, ptr {w.at('%table', program.slots[table], 'ptr')}, align 8")
        for i, count in enumerate(program.draws.counts):
            at = w.at(base, COLUMNS * i + 2, "i64")
            now = w.op(f"load i64, ptr {at}, align 8")
            w.line(f"store i64 {w.op(f'add i64 {now}, {count}')}, ptr {at}, align 8")


def _gather(w: Writer, program: Program, j: int, value: Value, turn: Any) -> None:
    """The rows of one argument for this turn: where they lie, or copied to memory of its own."""
    rows, number = value.shape[0], w.count("gather")
    row = value.nbytes // rows
    source = w.op(f"load ptr, ptr {w.at('%sources', 2 * j, 'ptr')}, align 8")
    target = w.op(f"load ptr, ptr {w.at('%sources', 2 * j + 1, 'ptr')}, align 8")
    slot = w.at("%table", program.slots[value], "ptr")
    first = w.times(turn, rows)
    shuffled = w.op("icmp ne ptr %order, null")
    w.line(f"br i1 {shuffled}, label %pick{number}, label %show{number}")
    w.label(f"show{number}")
    place = w.op(f"getelementptr i8, ptr {source}, i64 {w.times(first, row)}")
    w.line(f"store ptr {place}, ptr {slot}, align 8")
    w.line(f"br label %ready{number}")
    w.label(f"pick{number}")
    with w.loop(rows) as b:
        spot = w.at("%order", w.plus(first, b.index), "i64")
        index = w.op(f"load i64, ptr {spot}, align 8")
        into = w.op(f"getelementptr i8, ptr {target}, i64 {w.times(b.index, row)}")
        where = w.op(f"getelementptr i8, ptr {source}, i64 {w.op(f'mul i64 {index}, {row}')}")
        _copy(w, into, where, row)
    w.line(f"store ptr {target}, ptr {slot}, align 8")
    w.line(f"br label %ready{number}")
    w.label(f"ready{number}")


class Turns:
    """Runs `epoch` of one program, with buffers for the arguments of a shuffled batch."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.values = arguments(program)
        pointer = ctypes.c_void_p
        library: Any = program.library
        self.function = library.function(
            NAME, pointer, pointer, ctypes.c_int64, pointer, pointer, pointer,
            result=ctypes.c_int64,
        )  # fmt: skip
        self.buffers = [np.empty(v.shape, v.dtype) for v in self.values]

    def run(
        self, table: Any, numbers: Any, count: int, order: Any, data: list[Any], counters: Any
    ) -> tuple[list[Any], int]:
        """Make `count` turns: what they return, stacked, and how many were made.

        table : of addresses. numbers : (count, ...) in the plan's order. order : row numbers, or
            None. data : all arguments of the step. counters : lists that grow with each turn.
        """
        numbers = np.ascontiguousarray(numbers[:, self.program.number_order()])
        results = [np.empty((count, *v.shape), v.dtype) for v in self.program.plan.outputs]
        chosen = [data[v.origin] for v in self.values]
        made = self._call(table, numbers, count, order, chosen, results)
        for counts, places in counters:
            for i in places:
                counts[i] += made
        return results, made

    def _call(
        self, table: Any, numbers: Any, count: int, order: Any, data: list[Any], results: list[Any]
    ) -> int:
        sources = np.array(
            [a for s, b in zip(data, self.buffers, strict=True) for a in (address(s), address(b))],
            np.uint64,
        )
        targets = np.array([address(r) for r in results] or [0], np.uint64)
        made: int = self.function(
            address(table), address(numbers), count, 0 if order is None else address(order),
            address(sources), address(targets),
        )  # fmt: skip
        return made


def address(array: Any) -> int:
    """Where an array's first element lies."""
    return int(array.__array_interface__["data"][0])
