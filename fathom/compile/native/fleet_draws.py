"""Random draws of a block: each network draws from its own streams, one network after the other.

The code of a single network's draw runs for every lane, with the lane's part of a table that says
where its streams stand, and what it has drawn is spread over the lane.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from fathom.compile.native import custom
from fathom.compile.native.draws import COLUMNS
from fathom.compile.native.elements import TYPES
from fathom.compile.native.text import Index, Writer
from fathom.compile.plan import Step, Value

if TYPE_CHECKING:
    from fathom.compile.native.fleet_code import Formation


class One:
    """Stands for the program of a single network when its draw is written."""

    threads = 1

    def __init__(self, formation: Formation, result: Value, drawn: str, state: str) -> None:
        self.w, self.places = formation.w, formation.places
        self.kernels, self.texts = formation.kernels, formation.texts
        self.symbols = formation.symbols
        self.result, self.drawn, self.state = result, drawn, state

    def _address(self, root: Value, offset: int, dtype: Any) -> str:
        base = self.drawn if root is self.result else self.state
        return self.w.at(base, offset * dtype.itemsize, "i8")

    def _call(self, name: str, addresses: list[str], more: str = "") -> list[str]:
        given = ", ".join(f"ptr {a}" for a in addresses)
        self.w.line(f"call void @{name}({given}{more})")
        return []

    def parallel(self, versions: list[list[str]]) -> list[str]:
        return versions[0]


def draw(formation: Formation, step: Step, drawn: str, state: str, target: str) -> None:
    """The draw of every network. drawn : memory for one result. state : the tables of all."""
    w, lanes, out = formation.w, formation.lanes, step.out
    kind, size = TYPES[out.dtype.name], step.args[0].nbytes
    with w.loop(lanes) as lane:
        own = w.at(state, w.times(lane.index, size), "i8")
        custom.emit(cast(Any, One(formation, out, drawn, own)), step)
        with w.turns(out.size) as i:
            number = w.op(f"load {kind}, ptr {w.at(drawn, i, kind)}")
            place: Index = w.plus(w.times(i, lanes), lane.index)
            w.line(f"store {kind} {number}, ptr {w.at(target, place, kind)}")


def move_on(w: Writer, lanes: int, state: str, counts: list[int]) -> None:
    """The streams of all networks after a step in which each was drawn from so many times."""
    with w.loop(lanes) as lane:
        for i, count in enumerate(counts):
            row = w.times(lane.index, COLUMNS * len(counts))
            at = w.at(state, w.plus(row, COLUMNS * i + COLUMNS - 1), "i64")
            now = w.op(f"load i64, ptr {at}, align 8")
            w.line(f"store i64 {w.op(f'add i64 {now}, {count}')}, ptr {at}, align 8")
