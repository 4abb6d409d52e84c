"""The Python around a native plan: as little as possible, written out once for each plan.

    def core():
        pack(numbers, 0, group["lr"] / (1 - ...), ...)
        failed = part0()
        if failed: raise_error(failed)
        ...

    def call(leaves):
        v = leaves[0].data
        if v is not bound[0]: bind(0, v)      # an address is taken only when the array is new
        ...
        return core()

    def quick(args):                          # all that is asked at a call, in one function
        ...
        if v0_.shape != (32, 2) or ...: return MISS
        if not (module["training"] is True and weight.data is bound[1] and ...): return MISS
        if v0_ is not bound[0] and not rebind(0, v0_): return MISS
        return core()

Results that are large live in memory of their own, which is used again only when nobody else
holds it: the count of references tells.
"""

from __future__ import annotations

import itertools
import re
import struct
from collections.abc import Callable
from typing import Any

import numpy as np

from fathom.compile.guards import GONE, MISS
from fathom.compile.native.program import Program
from fathom.compile.plan import Plan, Value
from fathom.compile.scalar import WORDS, ScalarBook, shared
from fathom.engine.modes import MODE
from fathom.engine.tensor import Cell, Removable, Site, Tensor, clock

FEW = 16  # tensors whose stamps are written out
MEMORY = re.compile(r"\((\w+)\.data is (\w+)\.data or \2\.fits\(\)\)")  # guard of a state's memory
PLAIN = (bool, type(None), int, str)


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


def binder(program: Program, plan: Plan) -> Callable[[], None]:
    """A function that looks up where all implicit inputs lie now."""
    caller = Caller(program, plan, ScalarBook())
    return caller.made("bind_all()", caller.inputs(arguments=False))


class Caller:
    """Writes the functions around one program.

    Their names do not end in a digit; those of a trace's sources do.
    """

    def __init__(self, program: Program, plan: Plan, book: ScalarBook) -> None:
        self.program, self.plan, self.book = program, plan, book
        self.space: dict[str, Any] = {
            **WORDS, **book.sources, "ndarray": np.ndarray, "Tensor": Tensor, "new": Tensor.__new__,
            "bound": program.bound, "bind": program.bind, "rebind": program.rebind,
            "raise_error": program.failed, "stamp": stamp, "Cell": Cell, "clock": clock,
            "mode_now": MODE.get, "MISS": MISS, "GONE": GONE, "Removable": Removable,
        }  # fmt: skip
        self.count = itertools.count()

    def name(self, value: Any) -> str:
        """A name for an object that the code speaks of."""
        name = f"o{next(self.count)}_"
        self.space[name] = value
        return name

    def made(self, signature: str, lines: list[str]) -> Callable[..., Any]:
        text = f"def {signature}:\n    " + "\n    ".join([*lines, "pass"])
        exec(compile(text, "<fathom call>", "exec"), self.space)  # our own text
        made: Callable[..., Any] = self.space[signature.partition("(")[0]]
        return made

    # -- the three functions ------------------------------------------------------------------

    def call(
        self,
        texts: list[str],
        rebuild: Callable[[list[Any]], Any],
        site: Site,
        alone: bool = False,
    ) -> Callable[[list[Any]], Any]:
        """The function that runs the plan: `call(leaves) -> what the traced function returns`.

        texts : of the plan's numbers. rebuild : makes that from all results. site : who writes.
        alone : what comes back is one tensor, and nothing else is to be put anywhere.
        """
        self.space |= {"rebuild": rebuild, "site": site}
        lines = self.numbers(texts)
        if self.program.draws.names:
            lines.append(f"{self.name(self.program.draws.ready)}()")
        lines += [f"{self.name(kept.ready)}()" for kept in self.program.kept.values()]
        for action in self.program.actions:
            lines += [f"failed = {self.name(action)}()", "if failed: raise_error(failed)"]
        self.made("core()", [*lines, *self.effects(), *self.result(alone)])
        return self.made("call(leaves)", [*self.inputs(), "return core()"])

    def quick(self, key: Any, hooks: Any) -> Callable[[Any], Any] | None:
        """`quick(args) -> what call returns, or MISS`, to be made after `call`, in a mode of `key`.

        Arguments must be like those of `key`, the mode too, `hooks` those of the trace, every
        state in the memory it was in last, and the guards must hold. None if it does not know
        the kind of an argument.
        """
        parts, keywords, grad = key
        self.spots: list[tuple[str, Any, Any]] = []  # name, shape and dtype of each array
        lines = self.unpack("args", parts)
        if lines is None or keywords:
            return None
        self.space |= {"plain": MODE.get(), "hooks": hooks}
        lines += [
            "mode = mode_now()",
            f"if mode is not plain and (mode.special is not None or mode.grad is not {grad}):",
            "    return MISS",
            *[
                f"if {v}.shape != {shape} or {v}.dtype is not {self.name(dtype)}: return MISS"
                for v, shape, dtype in self.spots
            ],
            "try:",
            f"    if not ({' and '.join(self.tests())}): return MISS",
            "except GONE: return MISS",
            *self.inputs(arguments=False, states=False),
            *self.rebound(),
            "return core()",
        ]
        return self.made("quick(args)", lines)

    # -- arguments, guards and inputs ---------------------------------------------------------

    def unpack(self, name: str, parts: Any) -> list[str] | None:
        """Lines that leave if what `name` holds is not of this form; arrays go to `spots`."""
        kind, *rest = parts if isinstance(parts, tuple) else (None,)
        if kind in ("t", "a"):
            v = f"v{len(self.spots)}_"
            self.spots.append((v, rest[0], rest[1]))
            if kind == "a":
                return [f"if {name}.__class__ is not ndarray: return MISS", f"{v} = {name}"]
            test = f"if {name}.__class__ is not Tensor or {name}.requires_grad: return MISS"
            return None if rest[2] else [test, f"{v} = {name}.data"]
        if kind in (tuple, list):
            within = [f"{name}{i}_" for i in range(len(rest))]
            known = f"{name}.__class__ is {kind.__name__} and len({name}) == {len(rest)}"
            lines = [f"if not ({known}): return MISS"]
            lines += [f"{', '.join(within)}, = {name}"] if rest else []
            for part, inner in zip(rest, within, strict=True):
                found = self.unpack(inner, part)
                if found is None:
                    return None
                lines += found
            return lines
        if kind not in PLAIN:
            return None
        wanted = self.name(rest[0])
        same = f"{name}.__class__ is {wanted}.__class__ and {name} == {wanted}"
        return [f"if not ({name} is {wanted} or {same}): return MISS"]

    def tests(self) -> list[str]:
        """The guards; states must even lie where they did, which is quicker to see."""
        states = {id(v.origin): n for n, v in self.given() if v.kind == "state"}
        tests = ["hooks.changes == Removable.changes"]
        for text in self.plan.guards:
            memory = MEMORY.fullmatch(text)
            n = states.pop(id(self.book.sources[memory[1]]), None) if memory else None
            tests.append(f"({text})" if n is None else f"{memory[1]}.data is bound[{n}]")  # type: ignore[index]
        later = {n: v for n, v in self.given() if v.kind == "state" and id(v.origin) in states}
        return tests + [f"{self.name(v.origin)}.data is bound[{n}]" for n, v in later.items()]

    def given(self) -> list[tuple[int, Value]]:
        """The arrays that come from outside, with their numbers in the program."""
        inputs = self.plan.inputs()
        return [(n, inputs[i]) for n, i in self.program.given]

    def rebound(self) -> list[str]:
        """Lines that look where the arguments lie."""
        found = [(n, f"v{v.origin}_") for n, v in self.given() if v.kind == "argument"]
        return [f"if {v} is not bound[{n}] and not rebind({n}, {v}): return MISS" for n, v in found]

    def inputs(self, arguments: bool = True, states: bool = True) -> list[str]:
        lines = []
        for n, value in sorted(self.given(), key=lambda pair: pair[1].kind == "argument"):
            if not {"argument": arguments, "state": states}.get(value.kind, True):
                continue
            if value.kind == "array" and value.origin.flags.c_contiguous:  # always this one
                if self.program.bound[n] is not value.origin:
                    self.program.bind(n, value.origin)
                continue
            lines += self.read(value)
            if value.kind == "argument":  # after the states, in whose memory it must not lie
                lines.append(f"if v is not bound[{n}] and not rebind({n}, v): bind({n}, v.copy())")
            else:
                lines.append(f"if v is not bound[{n}]: bind({n}, v)")
        return lines

    def read(self, value: Value) -> list[str]:
        if value.kind == "argument":
            return [f"v = leaves[{value.origin}]", "if v.__class__ is not ndarray: v = v.data"]
        name = self.name(value.origin)
        return [
            f"v = {name}{ {'state': '.data', 'gradient': '.grad.value()'}.get(value.kind, '') }"
        ]

    # -- numbers and effects ------------------------------------------------------------------

    def numbers(self, texts: list[str]) -> list[str]:
        """Lines that work out the numbers of this call."""
        order = self.program.number_order()
        if not order:
            return []
        self.space["numbers"] = self.program.scalar_table.data
        self.space["pack"] = struct.Struct(f"{len(order)}d").pack_into
        lines, wanted = shared([texts[k] for k in order])
        return [*lines, f"pack(numbers, 0, {', '.join(wanted)})"]

    def effects(self) -> list[str]:
        """Lines that bring about what the plan changes outside of native memory."""
        program, plan, own = self.program, self.plan, self.program.plan
        written: list[Tensor] = []
        lines = []
        for (target, _), (_, made) in zip(plan.writes, own.writes, strict=True):
            if isinstance(target, Tensor):
                written.append(target)
            if made not in program.home:
                memory = self.name(target) + (".data" if isinstance(target, Tensor) else "")
                lines.append(f"{memory}[...] = {self.shown(made)}")
        lines += self.stamps(written)
        for (tensor, _), (_, grad) in zip(plan.gradients, own.gradients, strict=True):
            known = self.book.known(tensor)
            if grad is None and known and f"{known}.grad is None" in plan.guards:
                continue  # it is None already
            owner = self.name(tensor)
            if grad is None:
                lines.append(f"{owner}.grad = None")
            elif grad in program.kept:
                lines.append(f"{owner}.grad = {self.name(program.kept[grad].given)}()")
            else:
                lines.append(f"{owner}.grad = Tensor({self.shown(grad)}.copy())")
        for counts, places in plan.counters:
            name = self.name(counts)
            if list(places) == list(range(len(counts))) and self.book.alike(counts, plan.guards):
                lines.append("".join(f"{name}[{i}] = " for i in places) + f"{name}[0] + 1")
            else:
                lines += [f"{name}[{i}] += 1" for i in places]
        return lines

    def stamps(self, written: list[Tensor]) -> list[str]:
        if not written:
            return []
        if len(written) > FEW:
            return [f"stamp({self.name(written)}, site)"]
        lines = ["now = next(clock)"]
        for owner in map(self.name, written):
            lines += [
                f"cell = {owner}.cell",
                f"if cell is None: cell = {owner}.cell = Cell()",
                "cell.count += 1; cell.time = now; cell.site = site",
            ]
        return lines

    def result(self, alone: bool) -> list[str]:
        kept = self.program.kept
        results = [
            f"{self.name(kept[made])}.array" if made in kept else self.copied(made)
            for made in self.program.plan.outputs
        ]
        if alone and len(results) == 1:  # one tensor, as it is
            return ["t = new(Tensor)", f"t.data = {results[0]}", "return t"]
        return [f"return rebuild([{', '.join(results)}])"]

    def shown(self, value: Value) -> str:
        """The array of a value; one that lies in an input is looked up at each call."""
        if self.stays(value):
            return self.name(self.program.shown(value))
        return f"{self.name(self.program.shown)}({self.name(value)})"

    def copied(self, value: Value) -> str:
        if self.stays(value):
            return f"{self.name(self.program.shown(value).copy)}()"
        return f"{self.shown(value)}.copy()"

    def stays(self, value: Value) -> bool:
        """Whether a value lies in the arena."""
        root = self.program.places[value].root
        return (
            self.program.home.get(root, root).kind == "computed" and root not in self.program.kept
        )
