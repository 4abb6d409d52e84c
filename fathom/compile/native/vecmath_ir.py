"""Arithmetic that writes itself down as LLVM IR, one instruction an operation.

`Num` is an LLVM value of the function being written; `+ - *`, comparisons and the methods
append an instruction and return its result. Nothing branches, so a loop round the text can be
vectorized whole. Python numbers become constants of the other operand's type.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Format:
    """A floating-point format: its LLVM types and the numbers its bit pattern is made of."""

    name: str
    real: str
    whole: str
    digits: int  # bits of the fraction that are stored
    bias: int

    @property
    def magic(self) -> float:
        """1.5 * 2**digits: added to x, it leaves round(x) in the low bits of the sum."""
        return 1.5 * 2.0**self.digits

    @property
    def mask(self) -> int:
        """The bits of the fraction."""
        return (1 << self.digits) - 1

    @property
    def tiny(self) -> float:
        """The smallest normal number."""
        return 2.0 ** (1 - self.bias)

    def bits(self, value: float) -> int:
        """The bit pattern of a number."""
        if self.digits == 23:
            return int.from_bytes(struct.pack("<f", value), "little")
        return int.from_bytes(struct.pack("<d", value), "little")

    def round(self, value: float) -> float:
        """The nearest number of this format."""
        return float(np.float32(value)) if self.digits == 23 else value


F32 = Format("f32", "float", "i32", 23, 127)
F64 = Format("f64", "double", "i64", 52, 1023)


class Body:
    """The instructions of one function, for one number or `lanes` of them side by side.

    `form` is the format of its arguments and result.
    """

    def __init__(self, form: Format, lanes: int = 1) -> None:
        self.form = form
        self.lanes = lanes
        self.lines: list[str] = []

    def type(self, kind: str) -> str:
        return kind if self.lanes == 1 else f"<{self.lanes} x {kind}>"

    def emit(self, kind: str, text: str) -> Num:
        name = f"%v{len(self.lines)}"
        self.lines.append(f"  {name} = {text}")
        return Num(self, name, kind)

    def constant(self, value: Any, kind: str) -> Num:
        text = literal(value, kind)
        return Num(self, text if self.lanes == 1 else f"splat ({kind} {text})", kind)

    def number(self, value: float) -> Num:
        """A constant of the function's own format."""
        return self.constant(value, self.form.real)


def literal(value: Any, kind: str) -> str:
    """A constant as LLVM reads it: floating-point numbers as the bits of a double.

    >>> literal(0.1, "float"), literal(7, "i32")
    ('0x3FB99999A0000000', '7')
    """
    if kind.startswith("i"):
        return str(int(value))
    form = F32 if kind == "float" else F64
    return f"0x{F64.bits(form.round(float(value))):016X}"


class Num:
    """A value of the function. `kind`: the LLVM type of one lane (float, double, i1, i32, i64)."""

    __hash__ = None  # type: ignore[assignment]
    __slots__ = ("body", "kind", "name")

    def __init__(self, body: Body, name: str, kind: str) -> None:
        self.body = body
        self.name = name
        self.kind = kind

    @property
    def type(self) -> str:
        return self.body.type(self.kind)

    def _other(self, other: Any) -> str:
        return other.name if isinstance(other, Num) else self.body.constant(other, self.kind).name

    def _two(self, verb: str, other: Any, swap: bool = False) -> Num:
        pair = (self._other(other), self.name) if swap else (self.name, self._other(other))
        return self.body.emit(self.kind, f"{verb} {self.type} {pair[0]}, {pair[1]}")

    def _real(self, verb: str) -> str:
        return verb if self.kind.startswith("i") else f"f{verb}"

    def __add__(self, other: Any) -> Num:
        return self._two(self._real("add"), other)

    def __radd__(self, other: Any) -> Num:
        return self._two(self._real("add"), other, swap=True)

    def __sub__(self, other: Any) -> Num:
        return self._two(self._real("sub"), other)

    def __rsub__(self, other: Any) -> Num:
        return self._two(self._real("sub"), other, swap=True)

    def __mul__(self, other: Any) -> Num:
        return self._two(self._real("mul"), other)

    __rmul__ = __mul__

    def __truediv__(self, other: Any) -> Num:
        return self._two("fdiv", other)

    def __rtruediv__(self, other: Any) -> Num:
        return self._two("fdiv", other, swap=True)

    def __neg__(self) -> Num:
        return self.body.emit(self.kind, f"fneg {self.type} {self.name}")

    # -- whole numbers and truth values

    def __and__(self, other: Any) -> Num:
        return self._two("and", other)

    def __or__(self, other: Any) -> Num:
        return self._two("or", other)

    def __xor__(self, other: Any) -> Num:
        return self._two("xor", other)

    def __invert__(self) -> Num:
        return self._two("xor", 1)

    def __lshift__(self, count: int) -> Num:
        return self._two("shl", count)

    def __rshift__(self, count: int) -> Num:
        """Zeros come in from the left."""
        return self._two("lshr", count)

    # -- comparisons: false where a number is NaN, `!=` true there

    def _compare(self, verb: str, other: Any) -> Num:
        whole = {"olt": "slt", "ogt": "sgt", "ole": "sle", "oge": "sge", "oeq": "eq", "une": "ne"}
        kind = f"icmp {whole[verb]}" if self.kind.startswith("i") else f"fcmp {verb}"
        return self.body.emit("i1", f"{kind} {self.type} {self.name}, {self._other(other)}")

    def __lt__(self, other: Any) -> Num:
        return self._compare("olt", other)

    def __gt__(self, other: Any) -> Num:
        return self._compare("ogt", other)

    def __le__(self, other: Any) -> Num:
        return self._compare("ole", other)

    def __ge__(self, other: Any) -> Num:
        return self._compare("oge", other)

    def __eq__(self, other: Any) -> Num:  # type: ignore[override]
        return self._compare("oeq", other)

    def __ne__(self, other: Any) -> Num:  # type: ignore[override]
        return self._compare("une", other)

    def isnan(self) -> Num:
        return self != self

    # -- between kinds

    def cast(self, verb: str, kind: str) -> Num:
        return self.body.emit(kind, f"{verb} {self.type} {self.name} to {self.body.type(kind)}")

    def bits(self) -> Num:
        """The bit pattern as a whole number."""
        return self.cast("bitcast", "i32" if self.kind == "float" else "i64")

    def real(self) -> Num:
        """The number with this bit pattern."""
        return self.cast("bitcast", "float" if self.kind == "i32" else "double")


def call(name: str, *args: Num) -> Num:
    """An intrinsic that becomes an instruction."""
    first = args[0]
    listing = ", ".join(f"{a.type} {a.name}" for a in args)
    suffix = "f32" if first.kind == "float" else "f64"
    if first.body.lanes > 1:
        suffix = f"v{first.body.lanes}{suffix}"
    return first.body.emit(first.kind, f"call {first.type} @llvm.{name}.{suffix}({listing})")


def fma(a: Any, b: Any, c: Any) -> Num:
    """a * b + c, rounded once."""
    first = next(v for v in (a, b, c) if isinstance(v, Num))
    three = (v if isinstance(v, Num) else first.body.constant(v, first.kind) for v in (a, b, c))
    return call("fma", *three)


def where(condition: Num, yes: Any, no: Any, kind: str = "") -> Num:
    """One of two values; both are worked out. `kind`: of two constants (the function's own)."""
    body = condition.body
    kinds = [v.kind for v in (yes, no) if isinstance(v, Num)]
    kind = kind or [*kinds, body.form.real][0]
    yes, no = (v if isinstance(v, Num) else body.constant(v, kind) for v in (yes, no))
    three = ", ".join(f"{v.type} {v.name}" for v in (condition, yes, no))
    return body.emit(kind, f"select {three}")


def fabs(x: Num) -> Num:
    return call("fabs", x)


def sqrt(x: Num) -> Num:
    return call("sqrt", x)


def copysign(x: Any, sign: Num) -> Num:
    return call("copysign", x if isinstance(x, Num) else sign.body.constant(x, sign.kind), sign)


def least(x: Num, bound: float) -> Num:
    """min(x, bound); NaN stays."""
    return where(x > bound, bound, x)


def most(x: Num, bound: float) -> Num:
    """max(x, bound); NaN stays."""
    return where(x < bound, bound, x)


def horner(x: Num, coefficients: Sequence[float]) -> Num:
    """The polynomial with these coefficients, constant term first."""
    total: Any = coefficients[-1]
    for c in reversed(coefficients[:-1]):
        total = fma(total, x, c)
    return total
