"""`Scalar`: a Python number that is worked out again before each call of a plan.

A learning rate, a momentum, `1 - beta ** step`: an optimizer reads them from its options at
every step, so a trace must not bake them in. A `Scalar` is the text of such an expression over
named sources, and the value it had while the step was traced. A comparison of it holds for the
traced step only: it becomes a guard.
"""

from __future__ import annotations

import ast
import math
import re
from collections import Counter
from types import FunctionType, MethodType, SimpleNamespace
from typing import Any

import numpy as np

from fathom.engine.errors import GraphError


class Scalar:
    """A number with the expression that gives it; arithmetic makes larger expressions."""

    __slots__ = ("book", "text", "value")

    def __init__(self, text: str, value: float, book: ScalarBook) -> None:
        self.text = text
        self.value = value
        self.book = book

    def __array_ufunc__(self, *args: Any, **keywords: Any) -> Any:
        return NotImplemented  # the stand-in for an array beside it knows what to do

    def _binary(self, other: Any, sign: str, swap: bool) -> Any:
        if not isinstance(other, (Scalar, int, float)):
            return NotImplemented
        theirs = other.text if isinstance(other, Scalar) else repr(other)
        left, right = (theirs, self.text) if swap else (self.text, theirs)
        value = other.value if isinstance(other, Scalar) else other
        a, b = (value, self.value) if swap else (self.value, value)
        return Scalar(f"({left} {sign} {right})", _COMPUTE[sign](a, b), self.book)

    def __add__(self, other: Any) -> Any:
        return self._binary(other, "+", False)

    def __radd__(self, other: Any) -> Any:
        return self._binary(other, "+", True)

    def __sub__(self, other: Any) -> Any:
        return self._binary(other, "-", False)

    def __rsub__(self, other: Any) -> Any:
        return self._binary(other, "-", True)

    def __mul__(self, other: Any) -> Any:
        return self._binary(other, "*", False)

    def __rmul__(self, other: Any) -> Any:
        return self._binary(other, "*", True)

    def __truediv__(self, other: Any) -> Any:
        return self._binary(other, "/", False)

    def __rtruediv__(self, other: Any) -> Any:
        return self._binary(other, "/", True)

    def __mod__(self, other: Any) -> Any:
        return self._binary(other, "%", False)

    def __pow__(self, other: Any) -> Any:
        return self._binary(other, "**", False)

    def __rpow__(self, other: Any) -> Any:
        return self._binary(other, "**", True)

    def __neg__(self) -> Scalar:
        return Scalar(f"(-{self.text})", -self.value, self.book)

    def sqrt(self) -> Scalar:
        return Scalar(f"sqrt({self.text})", math.sqrt(self.value), self.book)

    def call(self, function: Any, *numbers: Any) -> Scalar:
        """function(*numbers), worked out by Python before each call."""
        given = [(n.text, n.value) if isinstance(n, Scalar) else (repr(n), n) for n in numbers]
        name = self.book.source(function, "function")
        text = f"{name}({', '.join(t for t, _ in given)})"
        return Scalar(text, function(*(v for _, v in given)), self.book)

    def now(self) -> Any:
        """The number as it would be worked out now."""
        return self.book.function([self.text])()[0]

    # -- decisions: they hold for this trace, and are checked before the plan is used again

    def _decide(self, other: Any, sign: str) -> bool:
        known = isinstance(other, Scalar)
        theirs, value = (other.text, other.value) if known else (repr(other), other)
        truth = bool(_COMPUTE[sign](self.value, value))
        test = f"{self.text} {sign} {theirs}"
        self.book.guards[test if truth else f"not {test}"] = None
        return truth

    def __bool__(self) -> bool:
        return self._decide(0, "!=")

    def __eq__(self, other: Any) -> bool:
        return self._decide(other, "==")

    def __ne__(self, other: Any) -> bool:
        return self._decide(other, "!=")

    def __lt__(self, other: Any) -> bool:
        return self._decide(other, "<")

    def __le__(self, other: Any) -> bool:
        return self._decide(other, "<=")

    def __gt__(self, other: Any) -> bool:
        return self._decide(other, ">")

    def __ge__(self, other: Any) -> bool:
        return self._decide(other, ">=")

    def __hash__(self) -> int:
        return hash(self.text)

    def __float__(self) -> float:
        raise GraphError(
            f"the value of {self.text} was asked for while a step is compiled: it may change",
            fix="compute with it as it is; its sqrt is x.sqrt()",
        )

    __int__ = __index__ = __float__

    def __repr__(self) -> str:
        return f"Scalar({self.text} = {self.value!r})"


_COMPUTE: dict[str, Any] = {
    "+": lambda a, b: a + b, "-": lambda a, b: a - b, "*": lambda a, b: a * b,
    "/": lambda a, b: a / b, "**": lambda a, b: a**b, "%": lambda a, b: a % b,
    "==": lambda a, b: a == b, "!=": lambda a, b: a != b, "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b, ">": lambda a, b: a > b, ">=": lambda a, b: a >= b,
}  # fmt: skip


WORDS: dict[str, Any] = {"sqrt": math.sqrt, "inf": math.inf, "nan": math.nan, "np": np}
ALIKE = "len(set(["  # a guard that counts agree, which they go on doing


class ScalarBook:
    """The sources of a trace's scalars, their guards, and the function that works them out."""

    def __init__(self) -> None:
        self.sources: dict[str, Any] = {}
        self.guards: dict[str, None] = {}
        self._names: dict[int, str] = {}

    def source(self, holder: Any, letter: str) -> str:
        """A name for an object that expressions read from."""
        name = self._names.get(id(holder))
        if name is None:
            name = self._names[id(holder)] = f"{letter}{len(self.sources)}"
            self.sources[name] = holder
        return name

    def known(self, holder: Any) -> str | None:
        """The name of an object that something was read from."""
        return self._names.get(id(holder))

    def alike(self, counts: list[int], guards: list[str]) -> bool:
        """Whether guards see to it that all these counts are the same."""
        owners = [n for n, h in self.sources.items() if getattr(h, "steps", None) is counts]
        tests = (f"{n}.steps.count({n}.steps[0]) == {len(counts)}" for n in owners)
        return any(test in guards for test in tests)

    def read(self, holder: Any, letter: str, access: str, value: Any) -> Any:
        """A number found at `holder` + access, e.g. `["lr"]`; other values get a guard."""
        text = f"{self.source(holder, letter)}{access}"
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            if isinstance(value, (tuple, list)) and all(isinstance(v, float) for v in value):
                return tuple(Scalar(f"{text}[{i}]", v, self) for i, v in enumerate(value))
            if value is None or isinstance(value, (bool, str, tuple, list)):
                self.guards[f"{text} == {value!r}"] = None
            return value
        return Scalar(text, value, self)

    def same(self, holder: Any, letter: str, access: str, value: Any, letter_of: str) -> None:
        """A guard that an object stays the same one."""
        name = self.source(value, letter_of)
        self.guards[f"{self.source(holder, letter)}{access} is {name}"] = None

    def function(self, texts: list[str]) -> Any:
        """`() -> tuple of numbers`, in the order of the texts."""
        body = ", ".join(texts) + ("," if texts else "")
        return self._compile(f"lambda: ({body})")

    def moving(self, guards: list[str], texts: list[str], counters: Any) -> list[str]:
        """The guards that go by counts which grow; "False" if a number goes by a tensor's."""
        if any("counter" in text for text in texts):
            return ["False"]
        names = self._shifted(counters, 0, self.sources)
        found = [rf"\b{name}(\.steps)?\[" for name in names]
        return [
            g for g in guards if any(re.search(f, g) for f in found) and not g.startswith(ALIKE)
            and ".count(" not in g
        ]  # fmt: skip

    def lasts(self, guards: list[str], count: int, counters: Any) -> int:
        """For how many of the next `count` calls these guards hold, as far as counts decide."""
        check = compile(" and ".join(f"({g})" for g in guards) or "True", "<guards>", "eval")
        space = {**WORDS, **self.sources}
        for i in range(count if guards else 0):
            if not eval(check, space | self._shifted(counters, i, self.sources)):  # our own text
                return i
        return count

    def _shifted(self, counters: Any, steps: Any, sources: dict[str, Any]) -> dict[str, Any]:
        """The sources that hold counts, so many calls later."""
        found: dict[str, Any] = {}
        for counts, _ in counters:
            later = [c + steps for c in counts]
            for name, holder in sources.items():
                if holder is counts:
                    found[name] = later
                elif getattr(holder, "steps", None) is counts:
                    found[name] = SimpleNamespace(steps=later)
        return found

    def turns(self, texts: list[str], count: int, counters: Any, sources: Any = None) -> Any:
        """The numbers of `count` calls in a row, worked out at once: (count, len(texts)).

        counters : lists of which every element grows by one with each call.
        sources : objects to read from in place of the trace's own, by name.
        """
        sources = self.sources if sources is None else sources
        space: dict[str, Any] = {"sqrt": np.sqrt, "inf": math.inf, "nan": math.nan, "np": np}
        for name, holder in sources.items():
            plain = isinstance(holder, (FunctionType, MethodType))
            space[name] = np.vectorize(holder, otypes=[float]) if plain else holder
        space |= self._shifted(counters, np.arange(count), sources)
        out = np.empty((count, len(texts)))
        for i, text in enumerate(texts):
            out[:, i] = eval(text, space)  # our own text
        return out

    def guard(self, texts: list[str]) -> Any:
        """`() -> bool`: whether every guard holds."""
        return self._compile("lambda: " + (" and ".join(f"({t})" for t in texts) or "True"))

    def _compile(self, text: str) -> Any:
        names = ", ".join(self.sources)
        space = dict(WORDS)
        exec(f"def make({names}):\n    return {text}", space)  # our own text, names bound once
        return space["make"](*self.sources.values())


def shared(texts: list[str]) -> tuple[list[str], list[str]]:
    """Lines that work out what occurs several times, and the texts that use their results.

    >>> shared(["a[0]", "1 - a[0]", "b ** (1 - a[0])"])
    (['part0_ = a[0]', 'part1_ = 1 - part0_'], ['part0_', 'part1_', 'b ** part1_'])
    """
    trees = [ast.parse(text, mode="eval").body for text in texts]
    kinds = (ast.Subscript, ast.Attribute, ast.BinOp, ast.UnaryOp)
    counts = Counter(ast.unparse(n) for t in trees for n in ast.walk(t) if isinstance(n, kinds))
    names: dict[str, str] = {}
    lines: list[str] = []

    class Shorten(ast.NodeTransformer):
        def visit(self, node: ast.AST) -> Any:
            text = ast.unparse(node) if isinstance(node, kinds) else ""
            if text in names:
                return ast.Name(names[text])
            short = self.generic_visit(node)
            if counts[text] < 2:
                return short
            names[text] = f"part{len(names)}_"
            lines.append(f"{names[text]} = {ast.unparse(short)}")
            return ast.Name(names[text])

    return lines, [ast.unparse(Shorten().visit(tree)) for tree in trees]
