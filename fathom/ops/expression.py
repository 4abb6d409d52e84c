"""Expressions over scalar primitives: what a formula is made of.

An expression is a graph that shares equal parts. It is built by calling a Python function on
`Symbol`s, differentiated with the very partial derivatives the primitives declare, simplified
as it is built, and printed as Python or LaTeX.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar
from weakref import WeakValueDictionary

import numpy as np

from fathom.engine.errors import ArgumentError, GraphError
from fathom.engine.levels import Wrapped, new_level
from fathom.engine.primitive import TABLE, Primitive


class Expr:
    """A variable, a constant, or a primitive of expressions. Equal ones are one object."""

    __slots__ = ("__weakref__", "args", "op", "value")
    _pool: ClassVar[WeakValueDictionary[Any, Expr]] = WeakValueDictionary()

    op: str  # "variable", "constant" or the name of a primitive
    args: tuple[Expr, ...]
    value: Any  # name of the variable, number of the constant

    def __new__(cls, op: str, args: tuple[Expr, ...] = (), value: Any = None) -> Expr:
        key = (op, tuple(map(id, args)), repr(value))
        found = cls._pool.get(key)
        if found is None:
            found = super().__new__(cls)
            found.op, found.args, found.value = op, args, value
            cls._pool[key] = found
        return found

    @property
    def is_constant(self) -> bool:
        return self.op == "constant"

    def is_number(self, number: float) -> bool:
        return self.op == "constant" and bool(self.value == number)

    def nodes(self) -> Iterator[Expr]:
        """Every part once, arguments before what uses them."""
        seen: set[Expr] = set()
        stack: list[tuple[Expr, bool]] = [(self, False)]
        while stack:
            expr, ready = stack.pop()
            if ready:
                yield expr
            elif expr not in seen:
                seen.add(expr)
                stack.append((expr, True))
                stack.extend((a, False) for a in reversed(expr.args) if a not in seen)

    def variables(self) -> list[str]:
        return [e.value for e in self.nodes() if e.op == "variable"]

    def operations(self, shared: bool = True) -> int:
        """Number of operations: of the graph, or of the tree written out in full."""
        counts: dict[Expr, int] = {}
        for e in self.nodes():
            own = 0 if not e.args else 1
            counts[e] = own + (0 if shared else sum(counts[a] for a in e.args))
        return sum(counts.values()) if shared else counts[self]

    def __repr__(self) -> str:
        return to_python(self)


def constant(number: float) -> Expr:
    return Expr("constant", value=float(number))


ZERO, ONE = constant(0.0), constant(1.0)


# -- building, with or without simplification ------------------------------------------------


def make(op: str, *args: Expr) -> Expr:
    """An operation of expressions, in the simplest form a glance can see."""
    if all(a.is_constant for a in args) and op in TABLE:
        with np.errstate(all="ignore"):
            return constant(float(TABLE[op].forward(*(np.float64(a.value) for a in args))))
    rule = _SIMPLER.get(op)
    simpler = rule(*args) if rule else None
    return Expr(op, args) if simpler is None else simpler


def _add(a: Expr, b: Expr) -> Expr | None:
    if a.is_number(0):
        return b
    if b.is_number(0):
        return a
    if b.op == "neg":
        return make("sub", a, b.args[0])
    return make("sub", b, a.args[0]) if a.op == "neg" else None


def _sub(a: Expr, b: Expr) -> Expr | None:
    if b.is_number(0):
        return a
    if a.is_number(0):
        return make("neg", b)
    if a is b:
        return ZERO
    return make("add", a, b.args[0]) if b.op == "neg" else None


def _mul(a: Expr, b: Expr) -> Expr | None:
    for one, other in ((a, b), (b, a)):
        if one.is_number(0):
            return ZERO
        if one.is_number(1):
            return other
        if one.is_number(-1):
            return make("neg", other)
        if one.op == "neg":
            return make("neg", make("mul", one.args[0], other))
    if b.is_constant:  # numbers in front, and gathered
        return make("mul", b, a)
    if a.is_constant and b.op == "mul" and b.args[0].is_constant:
        return make("mul", constant(a.value * b.args[0].value), b.args[1])
    return make("square", a) if a is b else None


def _div(a: Expr, b: Expr) -> Expr | None:
    if a.is_number(0):
        return ZERO
    if b.is_number(1):
        return a
    if a.op == "neg":
        return make("neg", make("div", a.args[0], b))
    return make("mul", constant(1.0 / b.value), a) if b.is_constant and b.value else None


def _power(a: Expr, b: Expr) -> Expr | None:
    simple = {0.0: ONE, 1.0: a}
    if b.is_number(2):
        return make("square", a)
    return simple.get(b.value) if b.is_constant else None


_SIMPLER: dict[str, Callable[..., Expr | None]] = {
    "add": _add,
    "sub": _sub,
    "mul": _mul,
    "div": _div,
    "power": _power,
    "neg": lambda a: a.args[0] if a.op == "neg" else None,
    "where": lambda c, a, b: a if a is b else (a if c.value else b) if c.is_constant else None,
}


# -- tracing -----------------------------------------------------------------------------------


class Symbol(Wrapped):
    """A tensor that stands for an expression; every operation on it makes a larger one."""

    shape = ()
    ndim = 0
    size = 1
    dtype = np.dtype(np.float32)

    def __init__(self, expr: Expr, level: int, simplify: bool = True) -> None:
        self.data = self
        self.expr = expr
        self.level = level
        self.simplify = simplify

    def item(self) -> Any:
        raise GraphError(
            "a formula cannot branch on a value: it must hold for every x at once",
            fix="use fathom.where(x > 0, a, b) in place of Python's if",
        )

    __bool__ = __float__ = __int__ = value = item

    def __repr__(self) -> str:
        return f"Symbol({to_python(self.expr)})"

    @staticmethod
    def interpret(primitive: Primitive, args: Any, params: dict[str, Any], level: int) -> Any:
        symbol = next(a for a in args if isinstance(a, Symbol) and a.level == level)
        if primitive.name == "astype":
            return args[0]
        if primitive.form != "elementwise" and primitive.name != "where":
            raise ArgumentError(
                f"formula: {primitive.name} is not elementwise",
                fix="a formula gives one number for each number; use plain operations otherwise",
            )
        build = make if symbol.simplify else _plain
        return Symbol(build(primitive.name, *map(_as_expr, args)), level, symbol.simplify)


def _plain(op: str, *args: Expr) -> Expr:
    return Expr(op, args)


def _as_expr(value: Any) -> Expr:
    if isinstance(value, Symbol):
        return value.expr
    if np.ndim(value) != 0:
        raise ArgumentError(f"formula: a constant must be a number; received {value!r}")
    return constant(float(value))


def trace(function: Callable[..., Any], names: Sequence[str], simplify: bool = True) -> Expr:
    """The expression a Python function computes, found by calling it on symbols."""
    with new_level() as level:
        out = function(*(Symbol(Expr("variable", value=n), level, simplify) for n in names))
    return _as_expr(out)


def substitute(expr: Expr, values: dict[str, Any]) -> Any:
    """The expression with its variables replaced, worked out with the library's operations."""
    found: dict[Expr, Any] = {}
    for e in expr.nodes():
        if e.args:
            found[e] = TABLE[e.op](*(found[a] for a in e.args))
        else:
            found[e] = values[e.value] if e.op == "variable" else e.value
    return found[expr]


# -- derivatives -------------------------------------------------------------------------------


def differentiate(expr: Expr, name: str, simplify: bool = True) -> Expr:
    """d expr / d name, by the chain rule over the primitives' own partial derivatives."""
    build = make if simplify else _plain
    slopes: dict[Expr, Expr] = {}
    with new_level() as level:
        for e in expr.nodes():
            if e.op == "variable":
                slopes[e] = ONE if e.value == name else ZERO
            elif e.op == "constant":
                slopes[e] = ZERO
            elif e.op == "where":
                condition, a, b = e.args
                slopes[e] = build("where", condition, slopes[a], slopes[b])
            else:
                slopes[e] = _chain(e, slopes, level, build, simplify)
    return slopes[expr]


def _chain(
    e: Expr, slopes: dict[Expr, Expr], level: int, build: Callable[..., Expr], simplify: bool
) -> Expr:
    """The sum over the arguments of partial derivative times slope."""
    rules = TABLE[e.op].rules
    symbols = [a.value if a.is_constant else Symbol(a, level, simplify) for a in (e, *e.args)]
    total: Expr | None = None
    for i, a in enumerate(e.args):
        if slopes[a].is_number(0) or not rules:
            continue
        rule = rules[i]
        partial = _as_expr(rule(*symbols)) if callable(rule) else constant(rule)
        term = build("mul", partial, slopes[a])
        total = term if total is None else build("add", total, term)
    return ZERO if total is None else total


# -- printing ------------------------------------------------------------------------------------

_INFIX = {
    "add": ("+", 1), "sub": ("-", 1), "mul": ("*", 2), "div": ("/", 2), "power": ("**", 4),
    "greater": (">", 0), "greater_equal": (">=", 0), "less": ("<", 0), "less_equal": ("<=", 0),
    "equal": ("==", 0), "not_equal": ("!=", 0),
}  # fmt: skip
_LATEX_SIGNS = {
    "*": r" \cdot ", ">": " > ", ">=": r" \geq ", "<": " < ", "<=": r" \leq ", "==": " = ",
    "!=": r" \neq ", "+": " + ", "-": " - ",
}  # fmt: skip
_LATEX_NAMES = {
    "log": r"\ln", "tanh": r"\tanh", "sigmoid": r"\sigma", "sin": r"\sin", "cos": r"\cos",
    "tan": r"\tan", "sinh": r"\sinh", "cosh": r"\cosh", "maximum": r"\max", "minimum": r"\min",
}  # fmt: skip


def _number(value: float) -> str:
    return f"{int(value)}" if value == int(value) and abs(value) < 1e6 else f"{value:.6g}"


def _strength(e: Expr) -> int:
    if e.op in _INFIX:
        return _INFIX[e.op][1]
    if e.op == "neg" or (e.is_constant and e.value < 0):
        return 2
    return 4 if e.op == "square" else 5


def to_python(expr: Expr) -> str:
    """The expression as Python source."""
    text: dict[Expr, str] = {}

    def inside(e: Expr, least: int) -> str:
        return text[e] if _strength(e) >= least else f"({text[e]})"

    for e in expr.nodes():
        if e.op in ("variable", "constant"):
            text[e] = e.value if e.op == "variable" else _number(e.value)
        elif e.op in _INFIX:
            sign, strength = _INFIX[e.op]
            a, b = e.args
            text[e] = f"{inside(a, strength)} {sign} {inside(b, strength + 1)}"
        elif e.op == "neg":
            text[e] = f"-{inside(e.args[0], 3)}"
        elif e.op == "square":
            text[e] = f"{inside(e.args[0], 5)}**2"
        else:
            text[e] = f"{e.op}({', '.join(text[a] for a in e.args)})"
    return text[expr]


def to_latex(expr: Expr) -> str:
    """The expression as LaTeX."""
    text: dict[Expr, str] = {}

    def inside(e: Expr, least: int) -> str:
        strength = 5 if e.op == "div" else _strength(e)
        return text[e] if strength >= least else rf"\left({text[e]}\right)"

    for e in expr.nodes():
        text[e] = _latex_of(e, text, inside)
    return text[expr]


def _latex_of(e: Expr, text: dict[Expr, str], inside: Callable[[Expr, int], str]) -> str:
    args = [text[part] for part in e.args]
    if e.op in ("variable", "constant"):
        name = {"alpha": r"\alpha", "beta": r"\beta"}.get(e.value, e.value)
        if isinstance(name, str) and "_" in name:
            name = rf"\mathit{{{name.replace('_', chr(92) + '_')}}}"
        return str(name) if e.op == "variable" else _number(e.value)
    if e.op == "div":
        return rf"\frac{{{args[0]}}}{{{args[1]}}}"
    if e.op == "exp":
        return f"e^{{{args[0]}}}"
    if e.op in ("square", "power"):
        return f"{inside(e.args[0], 5)}^{{{'2' if e.op == 'square' else args[1]}}}"
    if e.op == "mul":
        left, right = inside(e.args[0], 2), inside(e.args[1], 3)
        return f"{left}{_LATEX_SIGNS['*'] if right[0].isdigit() else ' '}{right}"
    if e.op in _INFIX:
        sign, strength = _INFIX[e.op]
        a, b = e.args
        return f"{inside(a, strength)}{_LATEX_SIGNS[sign]}{inside(b, strength + 1)}"
    if e.op == "neg":
        return f"-{inside(e.args[0], 3)}"
    if e.op in ("sqrt", "abs"):
        return rf"\sqrt{{{args[0]}}}" if e.op == "sqrt" else rf"\left|{args[0]}\right|"
    if e.op == "where":
        return rf"\begin{{cases}} {args[1]} & {args[0]} \\ {args[2]} & \text{{else}} \end{{cases}}"
    name = _LATEX_NAMES.get(e.op, rf"\operatorname{{{e.op.replace('_', ' ')}}}")
    return rf"{name}\left({', '.join(args)}\right)"
