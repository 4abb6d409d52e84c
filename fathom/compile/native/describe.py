"""A plan in words that say all that its native code depends on, and nothing else.

Two plans with the same words have the same code: which primitives with which settings, shapes
and dtypes of what comes in, what is computed of what, and which memory is written.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np

from fathom.compile.native.attention_plan import triangle
from fathom.compile.plan import Plan, Step, Value
from fathom.engine.primitive import TABLE, Primitive
from fathom.ops.expression import Expr
from fathom.ops.formula import Plan as FormulaPlan


class Unknown(Exception):
    """Something of which it cannot be told what it does to the code."""


def describe(plan: Plan) -> str:
    """The words of a plan; raises `Unknown` if there are none."""
    return _Words().plan(plan)


class _Words:
    def __init__(self) -> None:
        self.values: dict[Value, str] = {}
        self.primitives: dict[Primitive, str] = {}
        self.lines: list[str] = []

    def plan(self, plan: Plan) -> str:
        inputs: dict[int, str] = {}  # of what is in the inputs' memory, by id
        for value in plan.inputs():
            name = self.name(value)
            inputs.setdefault(id(value.origin), name)
            number = value.origin if value.kind == "argument" else ""
            number = "causal" if triangle(value) else number
            self.lines.append(f"{name} {value.kind} {number} {inputs[id(value.origin)]}")
        for step in plan.steps:
            self.step(step)
        for target, value in plan.writes:
            kind = "array" if isinstance(target, np.ndarray) else "tensor"
            self.lines.append(f"write {kind} {inputs.get(id(target))} {self.values[value]}")
        for _, left in plan.gradients:
            self.lines.append(f"gradient {left and self.values[left]}")
        for truth, error in plan.checks:
            if isinstance(error, Step):
                raise Unknown("a check by a step")
            self.lines.append(f"check {self.values[truth]}")
        self.lines += [f"output {self.values[v]}" for v in plan.outputs]
        return "\n".join(self.lines)

    def name(self, value: Value) -> str:
        """A number for a value; at its first time with shape and dtype."""
        name = self.values[value] = f"%{len(self.values)}"
        return f"{name}:{value.dtype.str}{value.shape}"

    def step(self, step: Step) -> None:
        name = self.primitives.get(step.primitive) or self.primitive(step.primitive)
        args = " ".join([self.words(a) for a in step.args])
        params = self.words(step.params) if step.params else ""
        outs = " ".join([self.name(v) for v in step.outs])
        self.lines.append(f"{outs} = {name} {args} {params}")

    def primitive(self, primitive: Primitive) -> str:
        """Its name, and the formula of one that has none in the table."""
        known = TABLE.get(primitive.name) is primitive
        words = f"{primitive.name}{'' if known else '?' + primitive.form}"
        if isinstance(primitive.forward, FormulaPlan):
            forward = primitive.forward
            words += f"{forward.names}{self.formula(forward.root)}"
        self.primitives[primitive] = words
        return words

    def formula(self, root: Expr) -> str:
        numbers: dict[Expr, int] = {}
        lines = []
        for expr in root.nodes():
            args = [numbers[a] for a in expr.args]
            lines.append(f"{expr.op}{args}{expr.value!r}")
            numbers[expr] = len(numbers)
        return ";".join(lines)

    def words(self, part: Any) -> str:
        """A constant, a value, or a nest of them."""
        rule = _RULES.get(part.__class__)
        if rule is not None:
            return rule(self, part)
        if isinstance(part, (tuple, list)):
            return f"{type(part).__name__}({','.join([self.words(p) for p in part])})"
        if isinstance(part, (np.dtype, np.generic)):
            return f"{part.dtype.str if isinstance(part, np.generic) else ''}{part!r}"
        if isinstance(part, type):
            return f"{part.__module__}.{part.__qualname__}"
        raise Unknown(type(part).__name__)

    def nest(self, part: Any) -> str:
        return f"({','.join([self.words(p) for p in part])})"

    def mapping(self, part: Any) -> str:
        return ",".join([f"{k!r}={self.words(v)}" for k, v in part.items()])

    def slice(self, part: Any) -> str:
        return f"{self.words(part.start)}:{self.words(part.stop)}:{self.words(part.step)}"

    def array(self, part: Any) -> str:
        digest = hashlib.sha256(part.tobytes()).hexdigest()
        return f"{part.dtype.str}{part.shape}{digest}"


def _plain(words: _Words, part: Any) -> str:
    return repr(part)


_RULES: dict[Any, Callable[[_Words, Any], str]] = {
    Value: lambda words, part: words.values[part],
    tuple: _Words.nest,
    dict: _Words.mapping,
    slice: _Words.slice,
    np.ndarray: _Words.array,
    **dict.fromkeys((int, float, bool, str, type(None), type(...), complex), _plain),
}
