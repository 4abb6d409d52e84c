"""A plan in words: its steps as a table, and what runs as native code, what by NumPy and why."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fathom.compile.plan import Plan, Step, Value
from fathom.engine.tensor import describe_site

if TYPE_CHECKING:
    from fathom.compile.native.program import Program

KINDS = {
    "loops": "one loop",
    "product": "product",
    "join": "join",
    "copy": "copy",
    "custom": "kernel",
    "host": "NumPy",
    "check": "check",
}


def explain(plan: Plan, program: Program | None) -> str:
    """Steps with line, shape, bytes and multiply-adds; what the passes did; the native units."""
    plan.number()
    rows = [("step", "operation", "out", "shape", "bytes", "flops", "line")]
    for i, step in enumerate(plan.steps):
        out, line = step.out, describe_site(step.site).rpartition("/")[2]
        cells = (str(i), step.primitive.name, out.name, str(out.shape), f"{out.nbytes:,}")
        rows.append((*cells, f"{flops(step):,}", line))
    lines = [*table(rows), "", *plan.notes, *memory_text(plan)]
    if program is not None:
        lines += ["", *native_text(program)]
    return "\n".join(lines)


def table(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Columns side by side."""
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
    return [
        "  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def memory_text(plan: Plan) -> list[str]:
    found = plan.memory()
    return [
        f"{found['inputs']:,} bytes come in, {found['computed']:,} are computed, at most "
        f"{found['peak']:,} at a time"
    ]


def native_text(program: Program) -> list[str]:
    """The units of a native program, in order: what was fused, and what NumPy still does."""
    rows = [("unit", "runs as", "shape", "operations")]
    units = program.schedule.units
    for i, unit in enumerate(units):
        names = ", ".join(s.primitive.name for s in unit.steps)
        if unit.kind == "check":
            names = f"{len(unit.checks)} checks"
        if unit.kind == "host":
            names += f": {why_not(unit.steps[0])}"
        shape = str(unit.steps[-1].out.shape) if unit.steps else ""
        rows.append((str(i), KINDS.get(unit.kind, unit.kind), shape, names))
    by_numpy = sum(unit.kind == "host" for unit in units)
    fused = sum(len(unit.steps) for unit in units if unit.kind == "loops")
    loops = sum(unit.kind == "loops" for unit in units)
    head = (
        f"native code: {len(units)} units; {fused} elementwise operations and reductions in "
        f"{loops} loops; {by_numpy} by NumPy"
    )
    return [head, *table(rows)]


def why_not(step: Step) -> str:
    """Why a step is not native code."""
    primitive = step.primitive
    if primitive.name == "draw":
        return "random numbers come from their stream"
    if not primitive.listed:
        return "its course depends on values"
    odd = {v.dtype.name for v in (*step.inputs(), *step.outs)} - {
        "float32", "float64", "int32", "int64", "bool", "uint8", "int8", "int16",
    }  # fmt: skip
    if odd:
        return f"no native code for {', '.join(sorted(odd))}"
    if not step.out.size:
        return "it is empty"
    return "it has no native rule"


def flops(step: Step) -> int:
    """Additions and multiplications of a step, as its primitive declares them."""
    cost: Any = step.primitive.cost
    if callable(cost):
        shapes = [v.shape if isinstance(v, Value) else np.shape(v) for v in step.args]
        try:
            return int(2 * cost(*shapes, **step.params))
        except TypeError:
            return int(2 * cost(*shapes))
    return 0 if step.primitive.view else int(cost * step.out.size)
