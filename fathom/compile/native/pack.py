"""Copies of matrix blocks into panels: what a product then reads lies in one piece.

A panel holds `width` neighbouring rows (of A) or columns (of B), step by step along k:
element (p, lane) lies at p * width + lane.
"""

from __future__ import annotations

from typing import NamedTuple

from fathom.compile.native.text import SIZES, Index, Writer, vector

SQUARE = 8  # rows and columns transposed at a time in registers


class Panel(NamedTuple):
    """Where a panel comes from and how it is laid out.

    `strides` of the source between lanes and along k; `used` of the `width` lanes exist, what the
    others hold is never used.
    """

    target: str
    source: str
    dtype: str
    strides: tuple[int, int]
    used: int
    width: int
    lanes: int  # of one vector


def pack_panel(w: Writer, panel: Panel, steps: Index) -> None:
    """Write one panel of `steps` steps along k (at least `SQUARE`, if it is a name)."""
    across, along = panel.strides
    if across == 1:
        copy(w, panel, steps)
    elif (
        along == 1 and panel.width % SQUARE == 0 and not (isinstance(steps, int) and steps < SQUARE)
    ):
        transpose(w, panel, steps)
    else:
        copy_singly(w, panel, steps)


def copy(w: Writer, panel: Panel, steps: Index) -> None:
    """Lanes that are neighbours in the source: a row of vectors at each step."""
    target, source, dtype, strides, used, width, lanes = panel
    with w.loop(steps) as step:
        begin = w.at(source, w.times(step.index, strides[1]), dtype)
        into = w.at(target, w.times(step.index, width), dtype)
        for start in range(0, used, lanes):
            part = min(lanes, used - start)
            value = w.load(w.at(begin, start, dtype), dtype, lanes, part)
            w.store(value, w.at(into, start, dtype), dtype, lanes, part)


def copy_singly(w: Writer, panel: Panel, steps: Index) -> None:
    target, source, dtype, (across, along), used, width, _ = panel
    with w.loop(steps) as step, w.loop(used) as lane:
        offset = w.plus(w.times(step.index, along), w.times(lane.index, across))
        value = w.load(w.at(source, offset, dtype), dtype, 1)
        into = w.plus(w.times(step.index, width), lane.index)
        w.store(value, w.at(target, into, dtype), dtype, 1)


def transpose(w: Writer, panel: Panel, steps: Index) -> None:
    """Squares of lanes by steps; the last ones along k overlap those before them."""
    target, source, dtype, (across, _), used, width, _ = panel
    square = square_function(dtype)
    w.declarations |= square.declarations | {"\n".join(square.lines)}
    final = steps - SQUARE if isinstance(steps, int) else w.op(f"sub i64 {steps}, {SQUARE}")
    with w.turns(-(-used // SQUARE), SQUARE) as lane:  # few rows at a time: they share sets
        left = w.op(f"sub i64 {used - 1}, {lane}")
        rows = w.at(source, w.times(lane, across), dtype)
        column = w.at(target, lane, dtype)
        with w.loop(steps, step=SQUARE) as step:
            start = w.call("llvm.umin.i64", "i64", ("i64", step.index), ("i64", str(final)))
            w.line(
                f"call void {square_name(dtype)}("
                f"ptr {w.at(column, w.times(start, width), dtype)}, i64 {width}, "
                f"ptr {w.at(rows, start, dtype)}, i64 {across}, i64 {left})"
            )


def square_name(dtype: str) -> str:
    return f"@fathom.square.{dtype}"


def square_function(dtype: str) -> Writer:
    """`void square(ptr %target, i64 %width, ptr %source, i64 %across, i64 %last)`.

    Transposes eight rows of eight by exchanging blocks of 4, 2 and 1 (Eklundh, 1972). Rows after
    `last` are that row again.
    """
    w, type = Writer(), vector(dtype, SQUARE)
    rows = []
    for i in range(SQUARE):
        lane = w.call("llvm.umin.i64", "i64", ("i64", str(i)), ("i64", "%last"))
        place = w.at("%source", w.op(f"mul i64 {lane}, %across"), dtype)
        rows.append(w.load(place, dtype, SQUARE))
    for half in (4, 2, 1):
        low = [lane if lane & half == 0 else SQUARE + lane - half for lane in range(SQUARE)]
        high = [lane + half if lane & half == 0 else SQUARE + lane for lane in range(SQUARE)]
        for i in (i for i in range(SQUARE) if i & half == 0):
            pair = rows[i], rows[i + half]
            rows[i], rows[i + half] = (w.shuffle(*pair, order, type) for order in (low, high))
    place = "%target"
    for row in rows:
        w.line(f"store {type} {row}, ptr {place}, align {SIZES[dtype]}")
        place = w.at(place, "%width", dtype)
    w.line("ret void")
    parameters = "ptr noalias %target, i64 %width, ptr noalias readonly %source, i64 %across"
    head = f"define internal void {square_name(dtype)}({parameters}, i64 %last) noinline {{"
    w.lines = [head, "entry:", *w.lines, "}"]
    return w
