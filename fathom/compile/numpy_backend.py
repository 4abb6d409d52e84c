"""The NumPy back end: a plan as straight-line Python, bitwise equal to running it eagerly.

Ufuncs write into memory that has fallen free; everything else is the forward function of its
primitive. The text is what `plan.source()` shows.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from fathom.compile.passes import last_uses, sources
from fathom.compile.plan import Plan, Step, Value
from fathom.engine.primitive import TABLE


@dataclass(frozen=True)
class Program:
    """Source text of a function `run(*inputs) -> results`, and the objects it names."""

    text: str
    space: dict[str, Any]
    constants: dict[str, Any]  # what the text names but cannot import

    def function(self) -> Callable[..., Any]:
        space = dict(self.space)
        exec(compile(self.text, "<fathom plan>", "exec"), space)  # our own text
        run: Callable[..., Any] = space["run"]
        return run


def program(plan: Plan) -> Program:
    """The plan as Python source."""
    plan.number()
    return _Writer(plan).write()


class _Writer:
    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.space: dict[str, Any] = {"np": np}
        self.header = ["import numpy as np"]
        self.names: dict[int, str] = {}
        self.free: dict[tuple[Any, ...], list[str]] = {}  # memory by dtype and layout
        self.owned: set[Value] = set()  # results of ufuncs: nobody else's

    def write(self) -> Program:
        dying = last_uses(self.plan)
        lines = []
        for step, dead in zip(self.plan.steps, dying, strict=True):
            lines.append(self.line(step))
            for v in dead:
                if v in self.owned:
                    self.free.setdefault((v.dtype, v.shape, v.strides), []).append(v.name)
        results = ", ".join(v.name for v in self.plan.results())
        inputs = ", ".join(v.name for v in self.plan.inputs())
        tail = "," if len(self.plan.results()) == 1 else ""
        body = "\n    ".join([*lines, f"return ({results}{tail})"])
        head = [*self.header, "", *self.described(), "", f"def run({inputs}):"]
        text = "\n".join([*head, f"    {body}", ""])
        constants = {name: self.space[name] for name in self.names.values()}
        return Program(text, self.space, constants)

    def line(self, step: Step) -> str:
        call = self.call(step)
        if step.single:
            return f"{step.out.name} = {call}"
        left = "".join(f"{v.name}, " for v in step.outs if v not in (step.extra or ()))
        if step.extra is not None:
            left += "(" + "".join(f"{v.name if v else '_'}, " for v in step.extra) + "), "
        return f"{left.strip()} = {call}"

    def call(self, step: Step) -> str:
        forward, out = step.primitive.forward, step.out
        args = [self.text(a) for a in step.args]
        if isinstance(forward, np.ufunc) and forward.signature is None:
            dtype = forward_dtype(step)
            if dtype == out.dtype:
                self.owned.add(out)
                spare = self.free.get((out.dtype, out.shape, out.strides))
                space = spare.pop() if spare else None
                if space is None and out.shape:
                    return f"np.{forward.__name__}({', '.join(args)})"
                where = space or f"np.empty((), np.{out.dtype})"
                return f"np.{forward.__name__}({', '.join(args)}, out={where})"
            call = f"np.{forward.__name__}({', '.join(args)})"
        else:
            options = [f"{k}={self.text(v)}" for k, v in step.params.items()]
            call = f"{self.operation(step)}({', '.join([*args, *options])})"
        if not step.single:
            return call
        if not step.primitive.casts:
            call = f"settled({call}, np.{out.dtype})"
            self.define("settled", settled, "from fathom.compile.numpy_backend import settled")
        return call

    def operation(self, step: Step) -> str:
        """The name of a primitive's forward function."""
        primitive = step.primitive
        if TABLE.get(primitive.name) is primitive and primitive.name.isidentifier():
            name = f"{primitive.name}_"
            self.define(
                name,
                primitive.forward,
                f'{name} = TABLE["{primitive.name}"].forward',
                "from fathom.engine.primitive import TABLE",
            )
            return name
        return self.imported(primitive.forward) or self.constant(primitive.forward)

    def imported(self, function: Any) -> str | None:
        """The name of a function that can be imported."""
        module, name = getattr(function, "__module__", None), getattr(function, "__name__", "")
        if module is None or getattr(sys.modules.get(module), name, None) is not function:
            return None
        if self.space.get(name, function) is not function:
            return None
        self.define(name, function, f"from {module} import {name}")
        return name

    def described(self) -> list[str]:
        """What goes in and comes out, as comments."""
        what: dict[str, Callable[[Value], str]] = {
            "argument": lambda v: f"argument {v.origin}",
            "state": lambda v: f"the memory of {v.origin.name or 'a tensor'}",
            "gradient": lambda v: f"the gradient of {v.origin.name or 'a tensor'}",
            "array": lambda v: "an array",
            "scalar": lambda v: v.origin.text,
        }
        lines = [
            f"# {v.name}: {v.dtype}{list(v.shape)}, {what[v.kind](v)}" for v in self.plan.inputs()
        ]
        plan = self.plan
        parts = [f"{len(plan.outputs)} outputs", f"new contents of {len(plan.writes)}"]
        parts += [f"{sum(v is not None for _, v in plan.gradients)} gradients"]
        return [*lines, f"# returns {', '.join(parts)}, {len(plan.checks)} checks"]

    def define(self, name: str, value: Any, *lines: str) -> None:
        if name not in self.space:
            self.space[name] = value
            imports = [line for line in lines if line not in self.header]
            for line in sorted(imports, key=lambda text: not text.startswith("from")):
                at = 1 if line.startswith("from") else len(self.header)
                self.header.insert(at, line)

    def constant(self, value: Any) -> str:
        """A name for an object that has no literal."""
        name = self.names.get(id(value))
        if name is None:
            name = self.names[id(value)] = f"k{len(self.names)}"
            self.define(name, value, f"# {name}: {type(value).__name__}, one of plan.constants")
        return name

    def text(self, part: Any) -> str:
        """An argument as source."""
        if isinstance(part, Value):
            return part.name
        if isinstance(part, tuple) and not hasattr(part, "_fields"):
            return "(" + "".join(f"{self.text(p)}, " for p in part) + ")"
        if isinstance(part, list):
            return "[" + ", ".join(self.text(p) for p in part) + "]"
        if isinstance(part, dict):
            return "{" + ", ".join(f"{k!r}: {self.text(v)}" for k, v in part.items()) + "}"
        if isinstance(part, slice):
            return f"slice({self.text(part.start)}, {self.text(part.stop)}, {self.text(part.step)})"
        if part is Ellipsis:
            return "..."
        if part is None or isinstance(part, (bool, int, str)):
            return repr(part)
        if isinstance(part, np.generic) and part.dtype.kind in "fiub" and np.isfinite(part):
            return f"np.{part.dtype}({part.item()!r})"
        if isinstance(part, float):
            return repr(part) if np.isfinite(part) else f"np.{part}".replace("np.-", "-np.")
        if isinstance(part, np.dtype):
            return f"np.dtype('{part}')"
        return self.constant(part)


def forward_dtype(step: Step) -> Any:
    """The dtype NumPy gives a ufunc's result, before Fathom settles it."""
    kinds = [np.empty((), a.dtype) if isinstance(a, Value) and a.kind != "scalar" else
             1.5 if isinstance(a, Value) else a for a in step.args]  # fmt: skip
    with np.errstate(all="ignore"):
        try:
            return np.asarray(step.primitive.forward(*kinds)).dtype
        except (TypeError, ValueError):
            return None


def settled(out: Any, dtype: Any) -> Any:
    """An operation's result as an array of the dtype the trace found."""
    if out.__class__ is not np.ndarray:
        out = np.asarray(out)
    return out if out.dtype == dtype else out.astype(dtype)


def copies(plan: Plan) -> list[bool]:
    """For each result, whether it must be copied before it is given: what may show memory that
    is not its own, and what is given twice."""
    borrowed = set(plan.inputs())
    for step in plan.steps:
        if sources(step):
            borrowed.update(step.outs)
        borrowed.update(step.outs[1:])  # parts may show each other
    found = []
    for v in plan.results():
        found.append(v in borrowed)
        borrowed.add(v)
    return found
