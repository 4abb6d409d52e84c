"""Forward mode: `Dual` tensors carry a value and its tangent through every operation."""

from __future__ import annotations

from typing import Any

from fathom.engine.levels import Wrapped, lower
from fathom.engine.primitive import TABLE, Primitive, apply
from fathom.engine.tensor import Tensor


class Dual(Wrapped):
    """A value and its directional derivative; None stands for a tangent of zeros."""

    def __init__(self, primal: Any, tangent: Any, level: int) -> None:
        super().__init__(primal, level)
        self.tangent = tangent

    @staticmethod
    def interpret(primitive: Primitive, args: Any, params: dict[str, Any], level: int) -> Any:
        primals = [lower(a, level) for a in args]
        out = apply(primitive, *primals, **params)
        tangents = [a.tangent if isinstance(a, Dual) and a.level == level else None for a in args]
        if isinstance(out, tuple):
            pushed = push_several(primitive, tangents, out, primals, params)
            return tuple(Dual(o, t, level) for o, t in zip(out, pushed, strict=True))
        if out.dtype.kind != "f":
            return Dual(out, None, level)
        return Dual(out, push(primitive, tangents, out, primals, params), level)


def push(
    primitive: Primitive, tangents: list[Any], out: Any, ins: list[Any], params: dict[str, Any]
) -> Any:
    """The tangent of the output: the sum of what each input's tangent contributes."""
    if not primitive.rules:
        return None
    if primitive.joint:
        parts = [x * 0 if t is None else t for x, t in zip(ins, tangents, strict=True)]
        live = any(t is not None for t in tangents)
        return apply(primitive, *parts, **params) if live else None
    total = None
    for i, t in enumerate(tangents):
        if t is None or primitive.rule(i) is None:
            continue
        part = push_one(primitive, i, t, out, ins, params)
        if part.shape != out.shape:
            part = TABLE["broadcast_to"](part, shape=tuple(out.shape))
        if part.dtype != out.dtype:
            part = part.astype(out.dtype)
        total = part if total is None else total + part
    return total


def push_one(
    primitive: Primitive, i: int, t: Any, out: Any, ins: list[Any], params: dict[str, Any]
) -> Any:
    """What the tangent of input i contributes, by the primitive's form."""
    if primitive.form == "elementwise":
        slope = primitive.rule(i)
        if not callable(slope):
            return t * slope
        slope = slope(out, *ins, **params)
        if getattr(slope, "ndim", 0) and slope.dtype != out.dtype:  # a mask must not decide
            slope = slope.astype(out.dtype)
        return t * slope
    if primitive.form == "linear":
        return apply(primitive, *ins[:i], t, *ins[i + 1 :], **params)
    return primitive.jvp[min(i, len(primitive.jvp) - 1)](t, out, *ins, **params)  # type: ignore[misc]


def push_several(
    primitive: Primitive, tangents: list[Any], outs: tuple[Any, ...], ins: list[Any],
    params: dict[str, Any],
) -> tuple[Any, ...]:  # fmt: skip
    """Tangents of several outputs; a jvp rule then returns a tuple."""
    totals: list[Any] = [None] * len(outs)
    for i, t in enumerate(tangents):
        if t is None or not (primitive.jvp or primitive.form == "linear"):
            continue
        parts = push_one(primitive, i, t, outs, ins, params)
        totals = [
            p if total is None else total if p is None else total + p
            for total, p in zip(totals, parts, strict=True)
        ]
    return tuple(totals)


def tangent_of(value: Any, level: int) -> Any:
    """The tangent of a result: zeros where it does not depend on the input."""
    if isinstance(value, Dual) and value.level == level:
        if value.tangent is not None:
            return value.tangent if isinstance(value.tangent, Tensor) else Tensor(value.tangent)
        value = value.data
    return value * 0 if isinstance(value, Tensor) else Tensor(value) * 0
