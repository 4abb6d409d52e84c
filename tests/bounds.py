"""Native plans in a mine field: each buffer lies against a page that may not be touched.

    python -m pytest -p tests.bounds --bounds end tests/contracts/test_compiled.py

A pytest plugin for a process of its own: a touch ends it. Inputs, state, what is computed, room to
work in and results all get pages for themselves, with forbidden ones between. Buffers end where
their last page ends (`end`) or begin where their first begins (`start`); what is left of the page
holds canaries, looked at after each call, as are inputs that the plan has no business to write.
What is computed starts as NaN each time, so that nothing can live on what was there before.

With FATHOM_NUM_THREADS above 1, the smallest loop is cut into parts for so many threads; as the
pool is said to be busy, one does them all: they touch the same, and need no second core.
"""

from __future__ import annotations

import ctypes
import mmap
import sys
from typing import Any

import numpy as np
import pytest

from fathom.compile import block
from fathom.compile.native import code, custom, epoch, memory, program, saved, threads
from fathom.compile.native.memory import ALIGN, Kept
from fathom.compile.native.program import Program
from fathom.compile.plan import Value

POSSIBLE = sys.platform != "win32"
PAGE = mmap.PAGESIZE
CANARY, POISON = 0xA5, 0xFF  # bytes; floats of POISON are NaN
_libc = ctypes.CDLL(None) if POSSIBLE else None


class Field:
    """Memory in which some stretches may be used and pages between them may not."""

    def __init__(self, at_end: bool) -> None:
        self.at_end = at_end
        self.size = PAGE  # the first page is forbidden
        self.stretches: list[tuple[int, int, int, int]] = []  # room and stretch: from, to

    def take(self, nbytes: int, align: int = 1) -> int:
        """Where the next stretch begins."""
        wanted = max(nbytes, 1)
        first = self.size
        last = first + -(-wanted // PAGE) * PAGE
        at = last - -(-wanted // align) * align if self.at_end else first
        self.stretches.append((first, last, at, at + wanted))
        self.size = last + PAGE
        return at

    def give(self, at: int, nbytes: int) -> None:
        """Nothing is used twice."""

    def lay(self) -> Any:
        """The memory: bytes."""
        raw = mmap.mmap(-1, self.size)
        start = ctypes.addressof(ctypes.c_char.from_buffer(raw))
        self.bytes = np.frombuffer(raw, np.uint8)
        free = 0
        for first, last, _, _ in [*self.stretches, (self.size, self.size, 0, 0)]:
            if _libc.mprotect(ctypes.c_void_p(start + free), first - free, 0):
                raise OSError("mprotect")
            free = last
        for first, last, at, stop in self.stretches:
            self.bytes[first:last] = CANARY
            self.bytes[at:stop] = POISON
        return self.bytes

    def poison(self) -> None:
        for _, _, at, stop in self.stretches:
            self.bytes[at:stop] = POISON

    def check(self, what: str) -> None:
        for first, last, at, stop in self.stretches:
            whole = (self.bytes[first:at] == CANARY).all()
            assert whole, f"{what}: written before {stop - at} bytes"
            whole = (self.bytes[stop:last] == CANARY).all()
            assert whole, f"{what}: written behind {stop - at} bytes"


def alone(shape: Any, dtype: Any, at_end: bool, align: int = 1) -> tuple[Any, Field]:
    """An array with a field for itself."""
    field, dtype = Field(at_end), np.dtype(dtype)
    size = int(np.prod(shape))
    at = field.take(size * dtype.itemsize, align)
    memory = field.lay()
    return np.frombuffer(memory, dtype, size, at).reshape(shape), field


class Guarded(Program):
    """A program that works on copies of its inputs in fields, and in fields itself."""

    at_end = True

    def _plan_memory(self) -> None:
        self.field = Field(self.at_end)
        self.fields: dict[str, Field] = {"the arena": self.field}
        self.copies: dict[int, Any] = {}  # number of an input: its copy
        program.Memory = lambda: self.field
        super()._plan_memory()

    def room(self, nbytes: int) -> str:
        """New memory to work in, behind the arena."""
        at = self.field.take(nbytes, ALIGN)
        self.scratch = self.field.size - self.arena_bytes
        return f"{code.ARENA}:{at}"

    def _call(self, name: str, addresses: Any, more: str = "") -> list[str]:
        if self._scratches.get(name):  # a product with room to work in
            addresses = [*addresses[:-1], self.room(self._scratches[name])]
        return super()._call(name, addresses, more)

    def _bind(self) -> None:
        plain, memory.aligned = memory.aligned, lambda nbytes: self.field.lay()
        try:
            super()._bind()
        finally:
            memory.aligned = plain
        self.actions = [self.come_in, *self.actions, self.go_out]

    def lay(self, n: int, array: Any) -> None:
        super().lay(n, array)
        if n not in self.copies:
            held, field = alone(array.shape, array.dtype, self.at_end)
            self.copies[n], self.fields[f"input {n}"] = held, field
        self.table[code.FIRST + n] = epoch.address(self.copies[n])

    def come_in(self) -> None:
        self.field.poison()
        for n, copy in self.copies.items():
            if self.bound[n] is not None:
                copy[...] = self.bound[n]

    def go_out(self) -> None:
        own = [*self.home.values(), *(v for v in self.arrays if v.origin is self.draws.table)]
        written = {self.slots[v] - code.FIRST for v in own}
        for n, copy in self.copies.items():
            if n in written:
                self.bound[n][...] = copy
            elif self.bound[n] is not None:
                assert copy.tobytes() == self.bound[n].tobytes(), f"input {n} was written"
        self.check()

    def check(self) -> None:
        for what, field in self.fields.items():
            field.check(f"{self.plan.name}: {what}")

    def shown(self, v: Value) -> Any:
        real, self.bound = self.bound, {**dict(enumerate(self.bound)), **self.copies}
        try:
            return super().shown(v)
        finally:
            self.bound = real


def renew(kept: Kept) -> None:
    """New memory of a result."""
    kept.array, field = alone(kept.shape, kept.dtype, Guarded.at_end)
    kept.tensor = None
    owner = kept.bind.__self__
    owner.fields[f"result {kept.slot}"] = field
    kept.bind(kept.slot, kept.array)


def scratch(site: custom.Site, nbytes: int) -> str:
    return site.program.room(nbytes)


class Turns(epoch.Turns):
    """An epoch on copies of the data."""

    def __init__(self, owner: Any) -> None:
        super().__init__(owner)
        pairs = [alone(b.shape, b.dtype, owner.at_end) for b in self.buffers]
        self.buffers = [array for array, _ in pairs]
        owner.fields |= {f"rows {i}": field for i, (_, field) in enumerate(pairs)}

    def _call(
        self, table: Any, numbers: Any, count: int, order: Any, data: Any, results: Any
    ) -> int:
        owner, fields = self.program, {}

        def moved(array: Any, name: str) -> Any:
            copy, fields[name] = alone(array.shape, array.dtype, owner.at_end)
            copy[...] = array
            return copy

        own = table is owner.table  # and not that of a replica
        if own:
            owner.come_in()
        found = [moved(r, f"results {i}") for i, r in enumerate(results)]
        made = super()._call(
            table, moved(numbers, "numbers"), count, order if order is None else
            moved(order, "order"), [moved(d, f"data {i}") for i, d in enumerate(data)], found,
        )  # fmt: skip
        for result, copy in zip(results, found, strict=True):
            result[...] = copy
        for name, field in fields.items():
            field.check(name)
        if own:
            owner.bound[:] = [
                None if v.kind == "argument" else b
                for v, b in zip(owner.arrays, owner.bound, strict=True)
            ]
            owner.go_out()
        return made


def install(at_end: bool) -> None:
    """From now on, every native plan of this process is guarded."""
    Guarded.at_end = at_end
    program.Program = saved.program = Guarded  # and nothing from the disk
    Kept.renew = renew
    custom.Site.scratch = scratch
    epoch.Turns = Turns
    block.aligned = lambda nbytes: alone(nbytes, np.uint8, at_end, ALIGN)[0]  # of a fleet
    if threads.count() > 1:
        code.HEAVY_PRODUCT = code.HEAVY_LOOPS = custom.HEAVY = 1
        threads.POOL.field(threads.BUSY).value = 1


# -- the plugin -----------------------------------------------------------------------------------


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--bounds", choices=("start", "end"), default="end")


def pytest_configure(config: pytest.Config) -> None:
    """Guard, and leave to the other runs of the tests what is not about native code."""
    import tests.compiled
    import tests.unit.nn.layer_harness as harness

    install(config.getoption("--bounds") == "end")
    tests.compiled.BACKENDS[:] = ["native"]
    tests.compiled.LONGEST = 0
    for name in vars(harness._LayerTest):
        if name not in ("build", "tensors") and not name.startswith("_"):
            setattr(harness._LayerTest, name, lambda *given, **options: None)


def pytest_collection_modifyitems(config: pytest.Config, items: list[Any]) -> None:
    """Of the tests of layers, only what runs compiled steps."""
    from tests.contracts.test_every_layer import named_by

    def wanted(item: Any) -> bool:
        module = getattr(item, "module", None)
        if not hasattr(module, "run_layer_test"):
            return True
        return "run_layer_test" in named_by(item.function, module)

    config.hook.pytest_deselected(items=[i for i in items if not wanted(i)])
    items[:] = filter(wanted, items)
