"""The Python around a native plan: as little as possible, written out once for each plan.

    def call(leaves):
        v = leaves[0].data
        if v is not bound[0]: bind(0, v)      # an address is taken only when the array is new
        ...
        numbers[:] = scalars()
        part0(table, numbers)
        ...

Results that are large live in memory of their own, which is used again only when nobody else
holds it: the count of references tells.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np

from fathom.compile.native.program import Program
from fathom.compile.plan import Plan, Value
from fathom.engine.tensor import Cell, Site, Tensor, clock


def stamp(tensors: list[Tensor], site: Site) -> None:
    """Note that all these were written in place."""
    now = next(clock)
    for tensor in tensors:
        cell = tensor.cell
        if cell is None:
            cell = tensor.cell = Cell()
        cell.count += 1
        cell.time = now
        cell.site = site


def make(
    program: Program,
    plan: Plan,
    scalars: Callable[[], tuple[float, ...]],
    rebuild: Callable[[list[Any]], Any],
    site: Site,
    alone: bool = False,
) -> Callable[[list[Any]], Any]:
    """The function that runs a plan: `call(leaves) -> what the traced function returns`.

    alone : that is one tensor, and nothing else is to be put anywhere.
    """
    return _Writer(program, plan, scalars, rebuild, site, alone).function()


def binder(program: Program, plan: Plan) -> Callable[[], None]:
    """A function that looks up where all implicit inputs lie now."""
    writer = _Writer(program, plan, None, None, (make.__code__, 0))
    writer.inputs(arguments=False)
    return writer.made("()")


class _Writer:
    def __init__(
        self,
        program: Program,
        plan: Plan,
        scalars: Any,
        rebuild: Any,
        site: Site,
        alone: bool = False,
    ) -> None:
        self.program, self.plan = program, plan
        self.space: dict[str, Any] = {
            "ndarray": np.ndarray, "Tensor": Tensor, "bound": program.bound, "stamp": stamp,
            "bind": program.bind, "numbers": program.numbers_of_call, "scalars": scalars,
            "rebuild": rebuild, "site": site, "new": Tensor.__new__,
        }  # fmt: skip
        self.alone = alone
        self.count = itertools.count()
        self.lines: list[str] = []

    def name(self, value: Any) -> str:
        name = f"o{next(self.count)}"
        self.space[name] = value
        return name

    def function(self) -> Callable[[list[Any]], Any]:
        self.inputs()
        self.numbers()
        for kept in self.program.kept.values():
            self.lines.append(f"{self.name(kept.ready)}()")
        for action in self.program.actions:
            self.lines.append(f"{self.name(action)}()")
        self.effects()
        return self.made("(leaves)")

    def made(self, signature: str) -> Callable[..., Any]:
        text = f"def call{signature}:\n    " + "\n    ".join([*self.lines, "pass"])
        exec(compile(text, "<fathom call>", "exec"), self.space)  # our own text
        call: Callable[..., Any] = self.space["call"]
        return call

    def inputs(self, arguments: bool = True) -> None:
        given = self.plan.inputs()
        for n, i in self.program.given:
            value = given[i]
            if value.kind == "argument" and not arguments:
                continue
            if value.kind == "array" and value.origin.flags.c_contiguous:  # always this one
                self.program.bind(n, value.origin)
                continue
            self.lines += self.read(value)
            self.lines.append(f"if v is not bound[{n}]: bind({n}, v)")

    def numbers(self) -> None:
        order = self.program.number_order()
        if order:
            targets = {k: f"numbers[{n}]" for n, k in enumerate(order)}
            count = sum(v.kind == "scalar" for v in self.plan.inputs())
            left = "".join(f"{targets.get(k, '_')}, " for k in range(count))
            self.lines.append(f"{left.strip()} = scalars()")

    def read(self, value: Value) -> list[str]:
        if value.kind == "argument":
            return [f"v = leaves[{value.origin}]", "if v.__class__ is not ndarray: v = v.data"]
        if value.kind == "state":
            return [f"v = {self.name(value.origin)}.data"]
        if value.kind == "gradient":
            return [f"v = {self.name(value.origin)}.grad.value()"]
        return [f"v = {self.name(value.origin)}"]

    def effects(self) -> None:
        program, plan, own = self.program, self.plan, self.program.plan
        written: list[Tensor] = []
        for (target, _), (_, made) in zip(plan.writes, own.writes, strict=True):
            if isinstance(target, Tensor):
                written.append(target)
            if made not in program.home:
                memory = (
                    f"{self.name(target)}.data" if isinstance(target, Tensor) else self.name(target)
                )
                self.lines.append(f"{memory}[...] = {self.shown(made)}")
        if written:
            self.lines.append(f"stamp({self.name(written)}, site)")
        for (tensor, _), (_, grad) in zip(plan.gradients, own.gradients, strict=True):
            owner = self.name(tensor)
            if grad is None:
                self.lines.append(f"{owner}.grad = None")
            elif grad in program.kept:
                self.lines.append(f"{owner}.grad = {self.name(program.kept[grad].given)}()")
            else:
                self.lines.append(f"{owner}.grad = Tensor({self.shown(grad)}.copy())")
        for counts, places in plan.counters:
            name = self.name(counts)
            self.lines += [f"{name}[{i}] += 1" for i in places]
        results = []
        for made in own.outputs:
            if made in program.kept:
                results.append(f"{self.name(program.kept[made])}.array")
            else:
                results.append(f"{self.shown(made)}.copy()")
        if self.alone and len(results) == 1:  # one tensor, as it is
            self.lines += ["t = new(Tensor)", f"t.data = {results[0]}", "return t"]
        else:
            self.lines.append(f"return rebuild([{', '.join(results)}])")

    def shown(self, value: Value) -> str:
        """The array of a value; one that lies in an input is looked up at each call."""
        root = self.program.places[value].root
        if self.program.home.get(root, root).kind == "computed" and root not in self.program.kept:
            return self.name(self.program.shown(value))
        return f"{self.name(self.program.shown)}({self.name(value)})"
