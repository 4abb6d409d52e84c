"""Programs on the disk: what a plan became is kept beside its object code, as JSON.

The key is the plan itself, in words, with the library's own source, the processor and the number
of threads. Kept is where inputs, results and state lie, and which functions run in which order:
lowering, scheduling and the writing of code are left out then. Who looks inside of such a program
(`explain`, a check that failed) has all of it made anew.
"""

from __future__ import annotations

import hashlib
import json
import os
from base64 import b64decode, b64encode
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np

from fathom.compile.native import blas, code, custom, engine, philox, threads
from fathom.compile.native import program as programs
from fathom.compile.native.code import FIRST
from fathom.compile.native.describe import Unknown, describe
from fathom.compile.native.draws import Draws
from fathom.compile.native.places import Place
from fathom.compile.native.program import Program
from fathom.compile.plan import LOADED, Plan, Step, Value
from fathom.version import __version__

SOURCES = ("compile", "compile/native", "engine", "ops")  # the code that makes code
MOST = 1 << 16  # bytes of constants in a program that is kept


def program(plan: Plan) -> Program:
    """The native program of a plan: as it was kept, or made and kept."""
    kind = programs.Program
    folder = engine.default_cache()
    try:
        key = key_of(plan)
    except Unknown:
        return kind(plan)
    known = folder.read(key, ".json") if kind is Program else None  # not for a stricter kind
    if known is not None:
        found = Saved(plan, json.loads(known))
        if found.load():
            return found
    made = kind(plan)
    if kind is Program and _can_be_kept(made):
        folder.write(key, json.dumps(facts_of(made)).encode(), ".json")
    return made


def key_of(plan: Plan) -> str:
    """All that the program of a plan depends on, as one hexadecimal number."""
    library = blas.chosen(threads.count())
    worth = (code.HEAVY_PRODUCT, code.HEAVY_LOOPS, custom.HEAVY, threads.count())
    made_for = repr((worth, library and library.key))
    parts = (__version__, _sources(), engine.processor(), made_for, describe(plan))
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


@cache
def _sources() -> str:
    """Which files make native code, and how old they are."""
    root = Path(__file__).parents[2]
    found = []
    for folder in SOURCES:
        with os.scandir(root / folder) as entries:
            facts = [(e.name, e.stat()) for e in entries if e.name.endswith(".py")]
        found += sorted((folder, name, s.st_mtime_ns, s.st_size) for name, s in facts)
    if max(changed for _, _, changed, _ in found) > (LOADED - 1.0) * 1e9:
        raise Unknown("source that was edited since it was loaded")
    return repr(found)


# -- what is kept ----------------------------------------------------------------------------------


def _can_be_kept(program: Program) -> bool:
    """Whether it runs by native code alone, and without large constants."""
    given = dict(program.given)
    constants = [v.origin.nbytes for n, v in enumerate(program.arrays) if n not in given]
    native = all(isinstance(p, str) for p in program.parts)
    return program.library is not None and native and sum(constants) <= MOST


def facts_of(program: Program) -> dict[str, Any]:
    """A program without the steps of its plan, in numbers and texts.

    Values are numbered: arrays that come in, then what is computed and looked at afterwards.
    """
    plan, given = program.plan, dict(program.given)
    library: Any = program.library
    numbers = {v: i for i, v in enumerate(program.arrays)}

    def number(v: Value | None) -> int | None:
        if v is not None and v not in numbers:
            numbers[v] = len(numbers)
            number(program.places[v].root)
        return None if v is None else numbers[v]

    found = {
        "outputs": [number(v) for v in plan.outputs],
        "writes": [number(v) for _, v in plan.writes],
        "gradients": [number(v) for _, v in plan.gradients],
        "checks": [(number(v), isinstance(e, Step)) for v, e in plan.checks],
        "home": [(number(v), number(state)) for v, state in program.home.items()],
        "kept": [(number(v), slot) for v, slot in program.kept_slots.items()],
    }
    computed = list(numbers)[len(program.arrays) :]
    return {
        **found,
        "arrays": [
            given[n] if n in given else None if v.origin is program.draws.table else _packed(v)
            for n, v in enumerate(program.arrays)
        ],
        "computed": [(v.shape, v.dtype.str) for v in computed],
        "places": [_lies(program.places[v], number) for v in numbers],
        "offsets": [(number(v), program.offsets[v]) for v in computed if v in program.offsets],
        "numbers": [i for _, i in program.given_numbers],
        "parts": program.parts,
        "bytes": (program.arena_bytes, program.scratch),
        "repeats": program.repeats,
        "forks": program.forks,
        "elsewhere": sorted(program.symbols),
        "brief": program._brief(),
        "code": library.key,
        "names": list(library.addresses),
    }


def _lies(place: Place, number: Any) -> tuple[int, int, tuple[int, ...]]:
    return number(place.root), place.offset, place.steps


def _packed(value: Value) -> dict[str, Any]:
    """A constant that lowering has brought in."""
    data = b64encode(np.ascontiguousarray(value.origin).tobytes()).decode()
    return {"shape": value.shape, "dtype": value.dtype.str, "data": data}


def _unpacked(found: dict[str, Any]) -> Value:
    array = np.frombuffer(b64decode(found["data"]), found["dtype"]).reshape(found["shape"])
    return _constant(array)


class Saved(Program):
    """A program from its facts: it runs. For more, the whole is made: `full`."""

    def __init__(self, plan: Plan, facts: dict[str, Any]) -> None:
        self.source, self.facts = plan, facts
        self.original = plan.inputs()
        self.draws = Draws(programs.copy_of(plan) if None in facts["arrays"] else Plan([], []))
        self.arrays = [self._array(a) for a in facts["arrays"]]
        self.given = [(n, a) for n, a in enumerate(facts["arrays"]) if isinstance(a, int)]
        self.given_numbers = list(enumerate(facts["numbers"]))
        self.numbers = {self.original[i]: n for n, i in self.given_numbers}
        self.slots = {v: FIRST + n for n, v in enumerate(self.arrays)}
        self.threads, self.repeats, self.forks = threads.count(), facts["repeats"], facts["forks"]
        self.arena_bytes, self.scratch = facts["bytes"]
        self.parts = facts["parts"]
        made = [Value("computed", tuple(shape), kind, None) for shape, kind in facts["computed"]]
        self._settle([*self.arrays, *made])
        self._tables()

    def _array(self, fact: Any) -> Value:
        """An array that comes in: from outside, the table of draws, or a constant."""
        if isinstance(fact, int):
            return self.original[fact]
        return _constant(self.draws.table) if fact is None else _unpacked(fact)

    def _settle(self, values: list[Value]) -> None:
        """Where values lie, and what becomes of the results."""
        source, facts = self.source, self.facts
        self.places = {
            v: Place(values[root], offset, tuple(steps))
            for v, (root, offset, steps) in zip(values, facts["places"], strict=True)
        }
        self.home = {values[v]: values[state] for v, state in facts["home"]}
        self.kept_slots = {values[v]: slot for v, slot in facts["kept"]}
        self.offsets = {values[v]: at for v, at in facts["offsets"]}
        written = zip(source.writes, facts["writes"], strict=True)
        left = zip(source.gradients, facts["gradients"], strict=True)
        checks: list[Any] = [(values[v], None) for v, _ in facts["checks"]]  # `failed` knows more
        self.plan = Plan(
            [],
            [values[v] for v in facts["outputs"]],
            [(target, values[v]) for (target, _), v in written],
            [(tensor, None if v is None else values[v]) for (tensor, _), v in left],
            checks,
            source.counters,
            source.guards,
            source.name,
        )

    def load(self) -> bool:
        """Whether the code is on the disk; then the program can run."""
        facts = self.facts
        more: dict[str, int] = {}
        for name in facts["elsewhere"]:
            if name.startswith("draw."):
                more[name] = philox.library(name)[name]
            elif library := blas.chosen(self.threads):
                more |= library.symbols
        self.library = engine.load(facts["code"], facts["names"], self.addresses(more))
        if self.library is not None:
            self._bind()
        return self.library is not None

    def _brief(self) -> bool:
        return bool(self.facts["brief"])

    def failed(self, number: int) -> None:
        """Raise what eager code would: a check that lowering has made is run by NumPy."""
        if not self.facts["checks"][number - 1][1]:
            error: Any = self.source.checks[number - 1][1]
            raise error()
        full = self.full
        full.arena, full.bound, full.scalar_table = self.arena, self.bound, self.scalar_table
        kept = {k.slot: k for k in self.kept.values()}
        full.kept = {v: kept[slot] for v, slot in full.kept_slots.items()}
        full.draws._streams = self.draws._streams
        full.failed(number)

    @cached_property
    def full(self) -> Program:
        """The program with the steps of its plan, made anew; it lies in memory as this one."""
        full = Program(self.source)
        for known in ("places", "offsets", "home", "slots", "kept_slots"):
            setattr(self, known, {**getattr(full, known), **getattr(self, known)})
        return full

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name in ("full", "source", "facts"):
            raise AttributeError(name)
        return getattr(self.full, name)


def _constant(array: Any) -> Value:
    return Value("array", array.shape, array.dtype, array)
