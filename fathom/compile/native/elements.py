"""Elementwise operations as LLVM IR: one scalar at a time, in loops that LLVM vectorizes.

A rule gets a `Numbers` (the body of a loop) and operands that already have the type in which
the operation computes; it gives the name of the result. Operations without a rule here are left
to NumPy.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import numpy as np

from fathom.compile.native.text import Writer
from fathom.compile.plan import Step, Value

TYPES = {
    "float32": "float", "float64": "double", "int64": "i64", "int32": "i32", "int16": "i16",
    "int8": "i8", "uint8": "i8", "bool": "i8",
}  # fmt: skip

Rule = Callable[..., str]
RULES: dict[str, Rule] = {}
COMPARES = {"equal", "not_equal", "greater", "greater_equal", "less", "less_equal"}
TRUTHS = COMPARES | {
    "isnan", "isinf", "isfinite", "logical_and", "logical_or", "logical_not", "logical_xor",
}  # fmt: skip
ANY = {"where", "astype", "clone"} | TRUTHS  # work in whole numbers and floats alike
WHOLE = {"add", "sub", "mul", "neg", "maximum", "minimum", "abs", "square"} | ANY
ORDER = {"abs", "maximum", "minimum", "greater", "greater_equal", "less", "less_equal"}


def literal(number: Any, dtype: Any) -> str:
    """A constant in IR."""
    kind = np.dtype(dtype)
    if kind.kind == "f":
        value = float(np.asarray(number, kind))  # rounded to float32 first, if that is the type
        return "0x" + struct.pack(">d", value).hex().upper()
    return str(int(number))


class Numbers:
    """The body of a loop: converts, computes, and notes which math functions are called."""

    def __init__(self, w: Writer, functions: set[tuple[str, str]]) -> None:
        self.w = w
        self.functions = functions

    def convert(self, x: str, source: Any, target: Any) -> str:
        """A number in another dtype; booleans are kept as 0 or 1 in a byte."""
        a, b = np.dtype(source), np.dtype(target)
        if a == b:
            return x
        from_, to = TYPES[a.name], TYPES[b.name]
        if b.kind == "b":
            test = f"fcmp une {from_} {x}, 0.0" if a.kind == "f" else f"icmp ne {from_} {x}, 0"
            return self.w.op(f"zext i1 {self.w.op(test)} to i8")
        if a.kind == "f" and b.kind == "f":
            return self.w.op(
                f"{'fpext' if b.itemsize > a.itemsize else 'fptrunc'} {from_} {x} to {to}"
            )
        if a.kind == "f":
            return self.w.op(f"fptosi {from_} {x} to {to}")
        signed = a.kind == "i"
        if b.kind == "f":
            return self.w.op(f"{'sitofp' if signed else 'uitofp'} {from_} {x} to {to}")
        if from_ == to:
            return x
        if b.itemsize < a.itemsize:
            return self.w.op(f"trunc {from_} {x} to {to}")
        return self.w.op(f"{'sext' if signed else 'zext'} {from_} {x} to {to}")

    def math(self, name: str, kind: str, *args: str) -> str:
        """A call of one of `vecmath`'s functions."""
        suffix = "f32" if kind == "float" else "f64"
        self.functions.add((name, suffix))
        given = ", ".join(f"{kind} {a}" for a in args)
        return self.w.op(f"call {kind} @fathom.{name}.{suffix}({given})")

    def intrinsic(self, name: str, kind: str, *args: str) -> str:
        suffix = {"float": "f32", "double": "f64"}.get(kind, kind)
        return self.w.call(f"llvm.{name}.{suffix}", kind, *((kind, a) for a in args))

    def truth(self, x: str) -> str:
        """A byte of 0 or 1 as i1."""
        return self.w.op(f"icmp ne i8 {x}, 0")

    def byte(self, bit: str) -> str:
        return self.w.op(f"zext i1 {bit} to i8")

    def choose(self, bit: str, kind: str, yes: str, no: str) -> str:
        return self.w.op(f"select i1 {bit}, {kind} {yes}, {kind} {no}")


def supported(name: str, dtype: Any) -> bool:
    """Whether an operation has a rule for numbers of that dtype."""
    kind = np.dtype(dtype)
    if name not in RULES or kind.name not in TYPES:
        return False
    return kind.kind == "f" or name in WHOLE


def element(*names: str) -> Callable[[Rule], Rule]:
    def declare(rule: Rule) -> Rule:
        RULES.update(dict.fromkeys(names, rule))
        return rule

    return declare


def floating(kind: str) -> bool:
    return kind in ("float", "double")


# -- arithmetic ------------------------------------------------------------------------------------

_ARITHMETIC = {"add": "add", "sub": "sub", "mul": "mul"}


@element("add", "sub", "mul", "div")
def _arithmetic(n: Numbers, name: str, kind: str, x: str, y: str) -> str:
    if name == "div":
        return n.w.op(f"fdiv {kind} {x}, {y}")
    if floating(kind):
        return n.w.op(f"f{name} contract {kind} {x}, {y}")
    return n.w.op(f"{name} {kind} {x}, {y}")


@element("neg")
def _neg(n: Numbers, name: str, kind: str, x: str) -> str:
    return n.w.op(f"fneg {kind} {x}" if floating(kind) else f"sub {kind} 0, {x}")


@element("abs")
def _abs(n: Numbers, name: str, kind: str, x: str) -> str:
    if floating(kind):
        return n.intrinsic("fabs", kind, x)
    minus = n.w.op(f"sub {kind} 0, {x}")
    return n.choose(n.w.op(f"icmp slt {kind} {x}, 0"), kind, minus, x)


@element("square")
def _square(n: Numbers, name: str, kind: str, x: str) -> str:
    return _arithmetic(n, "mul", kind, x, x)


@element("reciprocal")
def _reciprocal(n: Numbers, name: str, kind: str, x: str) -> str:
    return n.w.op(f"fdiv {kind} 1.0, {x}")


@element("sqrt", "floor", "ceil", "trunc")
def _intrinsic(n: Numbers, name: str, kind: str, x: str) -> str:
    return n.intrinsic(name, kind, x)


@element("rsqrt")
def _rsqrt(n: Numbers, name: str, kind: str, x: str) -> str:
    return n.w.op(f"fdiv {kind} 1.0, {n.intrinsic('sqrt', kind, x)}")


@element("copysign")
def _copysign(n: Numbers, name: str, kind: str, x: str, y: str) -> str:
    return n.intrinsic("copysign", kind, x, y)


@element("lerp")
def _lerp(n: Numbers, name: str, kind: str, x: str, y: str, weight: str) -> str:
    span = n.w.op(f"fsub {kind} {y}, {x}")
    return n.w.op(f"fadd contract {kind} {x}, {n.w.op(f'fmul contract {kind} {weight}, {span}')}")


# -- choices ---------------------------------------------------------------------------------------

_SIGNS = {
    "equal": ("oeq", "eq"), "not_equal": ("une", "ne"), "greater": ("ogt", "sgt"),
    "greater_equal": ("oge", "sge"), "less": ("olt", "slt"), "less_equal": ("ole", "sle"),
}  # fmt: skip


@element(*_SIGNS)
def _compare(n: Numbers, name: str, kind: str, x: str, y: str) -> str:
    real, whole = _SIGNS[name]
    test = f"fcmp {real}" if floating(kind) else f"icmp {whole}"
    return n.byte(n.w.op(f"{test} {kind} {x}, {y}"))


@element("isnan", "isinf", "isfinite")
def _classify(n: Numbers, name: str, kind: str, x: str) -> str:
    if name == "isnan":
        return n.byte(n.w.op(f"fcmp uno {kind} {x}, 0.0"))
    size, infinity = n.intrinsic("fabs", kind, x), literal(np.inf, np.float64)
    sign = "oeq" if name == "isinf" else "olt"
    return n.byte(n.w.op(f"fcmp {sign} {kind} {size}, {infinity}"))


@element("logical_and", "logical_or", "logical_xor", "logical_not")
def _logic(n: Numbers, name: str, kind: str, *xs: str) -> str:
    if name == "logical_not":
        return n.w.op(f"xor i8 {xs[0]}, 1")
    return n.w.op(f"{name.removeprefix('logical_')} i8 {xs[0]}, {xs[1]}")


@element("where")
def _where(n: Numbers, name: str, kind: str, c: str, x: str, y: str) -> str:
    return n.choose(n.truth(c), kind, x, y)


@element("astype", "clone")
def _same(n: Numbers, name: str, kind: str, x: str) -> str:
    return x


@element("maximum", "minimum")
def _extreme(n: Numbers, name: str, kind: str, x: str, y: str) -> str:
    """NumPy's: a nan on either side wins."""
    if floating(kind):
        first = n.w.op(f"fcmp {'ogt' if name == 'maximum' else 'olt'} {kind} {x}, {y}")
        better = n.choose(first, kind, x, y)
        return n.choose(n.w.op(f"fcmp uno {kind} {x}, {x}"), kind, x, better)
    sign = "sgt" if name == "maximum" else "slt"
    return n.choose(n.w.op(f"icmp {sign} {kind} {x}, {y}"), kind, x, y)


@element("clip_low")
def _clip_low(n: Numbers, name: str, kind: str, x: str, low: str) -> str:
    return _extreme(n, "maximum", kind, x, low)


@element("clip_high")
def _clip_high(n: Numbers, name: str, kind: str, x: str, high: str) -> str:
    return _extreme(n, "minimum", kind, x, high)


@element("clip")
def _clip(n: Numbers, name: str, kind: str, x: str, low: str, high: str) -> str:
    return _extreme(n, "minimum", kind, _extreme(n, "maximum", kind, x, low), high)


@element("relu")
def _relu(n: Numbers, name: str, kind: str, x: str) -> str:
    return n.choose(n.w.op(f"fcmp ole {kind} {x}, 0.0"), kind, "0.0", x)


@element("sign")
def _sign(n: Numbers, name: str, kind: str, x: str) -> str:
    up = n.choose(n.w.op(f"fcmp ogt {kind} {x}, 0.0"), kind, "1.0", x)
    return n.choose(n.w.op(f"fcmp olt {kind} {x}, 0.0"), kind, "-1.0", up)


# -- functions -------------------------------------------------------------------------------------


@element(
    "exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "tanh", "sigmoid", "softplus",
    "logsigmoid", "erf", "erfc", "sin", "cos",
)  # fmt: skip
def _function(n: Numbers, name: str, kind: str, x: str) -> str:
    return n.math(name, kind, x)


@element("power")
def _power(n: Numbers, name: str, kind: str, x: str, y: str) -> str:
    small = {literal(v, np.float64): v for v in (0.0, 0.5, 1.0, 2.0, 3.0, 4.0, -1.0)}.get(y)
    if small is None:
        return n.math("pow", kind, x, y)
    if small == 0.0:
        return "1.0"
    if small == 0.5:
        return n.math("pow", kind, x, y)
    if small == -1.0:
        return n.w.op(f"fdiv {kind} 1.0, {x}")
    out = x
    for _ in range(int(small) - 1):
        out = n.w.op(f"fmul {kind} {out}, {x}")
    return out


@element("logit_entropy")
def _logit_entropy(n: Numbers, name: str, kind: str, x: str, y: str) -> str:
    """max(x, 0) - x y + log1p(exp(-|x|))."""
    size = n.intrinsic("fabs", kind, x)
    rest = n.math("log1p", kind, n.math("exp", kind, n.w.op(f"fneg {kind} {size}")))
    positive = _relu(n, "relu", kind, x)
    first = n.w.op(f"fsub {kind} {positive}, {n.w.op(f'fmul {kind} {x}, {y}')}")
    return n.w.op(f"fadd {kind} {first}, {rest}")


# -- several steps in one function -----------------------------------------------------------------


def shortcut(step: Step) -> tuple[str, Value] | None:
    """A function that does a step and those before it at once, and the value it starts from.

    exp(-u²) shares its exponential with erfc(u), tanh(softplus(u)) needs one instead of three.
    """
    match step.primitive.name:
        case "exp":
            name, start = "gauss", _rooted(_made_by(step, "neg"))
        case "tanh":
            name, start = "tanh_softplus", _first(_made_by(step, "softplus"))
        case _:
            return None
    if start is None or start.kind == "scalar" or start.dtype != step.out.dtype:
        return None
    return name, start


def _made_by(step: Step | None, name: str) -> Step | None:
    """The step that made the first operand, if it is of that name."""
    value = _first(step)
    found = value.origin if value is not None else None
    return found if isinstance(found, Step) and found.primitive.name == name else None


def _first(step: Step | None) -> Value | None:
    value = step.args[0] if step is not None else None
    return value if isinstance(value, Value) else None


def _rooted(step: Step | None) -> Value | None:
    """u, if the first operand is u²."""
    squared = _made_by(step, "square") or _made_by(step, "mul")
    if squared is None or any(a is not squared.args[0] for a in squared.args):
        return None
    return _first(squared)
