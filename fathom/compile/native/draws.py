"""Random draws as native code: the same numbers, and the streams move on as they do in eager.

A plan draws a fixed number of times from each of its streams. Before a call Python writes into a
table where each stream stands, and moves it on; the code finds draw k of a stream by its number.
If a check fails in the middle of a call, the streams are put where eager would have left them.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from fathom.compile.native import philox
from fathom.compile.native.custom import Site, emitter
from fathom.compile.native.elements import literal
from fathom.compile.plan import Plan, Step, Value
from fathom.engine.primitive import Primitive
from fathom.engine.random import Stream, current

COLUMNS = 3  # of the table: two numbers of the key, and draws made before
NUMBERS = {"uniform": ("low", "high"), "normal": ("mean", "std"), "bernoulli": ("p",)}
ELSEWHERE = ("normal", "integers", "permutation")  # NumPy's functions make them


class Draws:
    """The streams a plan draws from. Its draws become steps that read `table`."""

    def __init__(self, plan: Plan) -> None:
        steps = [s for s in plan.steps if s.primitive.name == "draw" and s.effect]
        streams: dict[str, list[Step]] = {}
        for step in steps:
            streams.setdefault(step.params["stream"], []).append(step)
        self.names = [name for name, drawn in streams.items() if all(map(_known, drawn))]
        self.counts = [len(streams[name]) for name in self.names]
        self.before = dict(_drawn_before(plan, self.names))
        self._make_table()
        if self.names:
            table = Value("array", self.table.shape, np.int64, self.table)
            plan.steps = [_native(s, table, self.names, self.before[s]) for s in plan.steps]

    def _make_table(self) -> None:
        self.table = np.zeros((len(self.names), COLUMNS), np.int64)
        self._streams: list[Stream | None] = [None] * len(self.names)
        kind = ctypes.c_int64 * max(self.table.size, 1)
        flat = np.zeros(1, np.int64) if not self.names else self.table
        self._fields: Any = kind.from_buffer(flat.data)  # the same memory, faster to write

    def twin(self) -> Draws:
        """The same streams with a table of their own."""
        new = object.__new__(Draws)
        new.names, new.counts, new.before = self.names, self.counts, self.before
        new._make_table()
        return new

    def ready(self, turns: int = 1) -> None:
        """Note where the current streams stand, and move them on by so many calls."""
        random, fields = current(), self._fields
        for i, name in enumerate(self.names):
            stream = random.stream(name)
            if stream is not self._streams[i]:
                self._streams[i] = stream
                self.table[i, :2] = stream.key.view(np.int64)
            fields[COLUMNS * i + 2] = stream.index
            stream.index += turns * self.counts[i]

    def back(self, turns: int) -> None:
        """So many of the last calls were not made."""
        for stream, count in zip(self._streams, self.counts, strict=True):
            if stream is not None:
                stream.index -= turns * count

    def stop(self, step: Step) -> None:
        """A step has failed, and those behind it were not made."""
        done = self.before.get(step, self.counts)
        for stream, count, made in zip(self._streams, self.counts, done, strict=True):
            if stream is not None:
                stream.index -= count - made


def _drawn_before(plan: Plan, names: list[str]) -> Iterator[tuple[Step, list[int]]]:
    """For each step, how many draws of each stream come before it."""
    counts = [0] * len(names)
    for step in plan.steps:
        yield step, list(counts)
        if step.primitive.name == "draw" and step.params.get("stream") in names:
            counts[names.index(step.params["stream"])] += 1


def _known(step: Step) -> bool:
    """Whether a draw has native code."""
    method, options, dtype = step.params["method"], step.params, step.out.dtype.name
    if method in ELSEWHERE and not philox.symbols():
        return False
    if method in ("integers", "permutation"):
        return all(type(options.get(k, 0)) is int for k in ("low", "high", "n"))
    numbers = all(type(options[k]) in (int, float) for k in NUMBERS[method])
    return numbers and (method == "bernoulli" or dtype in ("float32", "float64"))


def _native(step: Step, table: Value, names: list[str], before: list[int]) -> Step:
    """A draw that reads the table; other steps as they are."""
    if step.primitive.name != "draw" or step.params.get("stream") not in names:
        return step
    row = names.index(step.params["stream"])
    options = {k: v for k, v in step.params.items() if k != "stream"}
    new = Step(PHILOX, (table,), {"row": row, "turn": before[row], **options}, step.outs)
    new.site = step.site
    for v in new.outs:
        v.origin = new
    return new


def _draw(table: Any, row: int, turn: int, method: str, **options: Any) -> Any:
    key0, key1, drawn = table[row]
    stream = Stream(np.array([key0, key1]).view(np.uint64), "")
    stream.index = int(drawn) + turn
    return getattr(stream, method)(**options)


PHILOX = Primitive("philox", "general", _draw, casts=True, listed=False)


@emitter("philox", primitive=PHILOX)
def _philox(site: Site) -> list[str]:
    """A call of the function for a method and dtype; masks and uniform numbers in parts."""
    step, options, out = site.step, site.step.params, site.step.out
    method, kind = options["method"], {"float32": "float", "float64": "double"}.get(out.dtype.name)
    state = site.address(step.args[0], COLUMNS * options["row"])
    turn = f"i64 {options['turn']}"

    def call(name: str, at: str, *more: str) -> list[str]:
        types = ", ".join(m.split()[0] for m in (turn, *more))
        site.needs(f"declare void @{name}(ptr, ptr, {types})")
        site.program.symbols[name] = philox.library(name)[name]
        return site.call(name, [state, at], f", {', '.join([turn, *more])}")

    if method == "permutation":
        return call("draw.permutation", site.address(out), f"i64 {out.size}")
    if method == "integers":
        low, high = options["low"], options["high"]
        ends = (f"i64 {low}", f"i64 {high - 1 - low}")
        return call("draw.integers", site.address(out), f"i64 {out.size}", *ends)
    if method == "normal":
        given = [f"{kind} {literal(options[k], out.dtype)}" for k in ("mean", "std")]
        return call(f"draw.normal.{kind}", site.address(out), f"i64 {out.size}", *given)
    each = philox.WORDS * (1 if kind == "double" else 2)  # elements of a part
    if method == "bernoulli":
        name, given = "draw.bernoulli", [f"i32 {_bound(options['p'])}"]
    else:
        low, high = options["low"], options["high"]
        name = f"draw.uniform.{kind}"
        given = [f"{kind} {literal(n, out.dtype)}" for n in (low, high - low)]

    def write(first: int, count: int) -> list[str]:
        start, stop = first * each, min((first + count) * each, out.size)
        spot = (f"i64 {first}", f"i64 {stop - start}")
        return call(name, site.address(out, start), *spot, *given)

    return site.shared(-(-out.size // each), 32 * out.size, write)


def _bound(p: float) -> int:
    """The first of the 2^24 numbers that is not below p, as NumPy compares them: in float32."""
    scaled = float(np.float32(p)) * 2.0**24
    return 0 if math.isnan(scaled) else math.ceil(min(max(scaled, 0.0), 2.0**24))
