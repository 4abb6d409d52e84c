"""Elementary functions as LLVM IR text, made to run as full-width vector code.

`text(names, dtype, lanes)` gives definitions that stand in a module as they are. No branch, no
table in memory, no call that outlives optimization: in a loop that calls the scalar form
(`lanes=1`) LLVM's vectorizer takes the body whole, and a writer of explicit vectors asks for the
vector form of the width it wants.

Names: `@fathom.<function>.<format>` with the format `f32` or `f64`, or `v16f32` for 16 lanes.
Each takes and returns numbers of its format (`pow` takes two), is `internal` and
`alwaysinline`, and needs nothing else: LLVM (19 or later) knows the intrinsics it calls, which
are single instructions on a machine with fused multiply-add (every x86-64 with AVX2, every
64-bit ARM). Without it the results are the same and slow.

Accuracy: at most 4 ulp of the exact value over the whole range, denormal results included (most
stay below 2.5); special values are those of C's library: NaN in, NaN out, signed zeros, infinities.
`sin`, `cos` and `tan` hold it for |x| up to 2**45 (3.5e13); beyond, they give NaN.

The methods and where they come from stand in `vecmath_functions`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from fathom.compile.native.vecmath_functions import FUNCTIONS
from fathom.compile.native.vecmath_ir import F32, F64, Body, Format, Num
from fathom.engine.errors import ArgumentError, DtypeError, suggest


def symbol(name: str, dtype: object, lanes: int = 1) -> str:
    """The name under which a function stands in the text.

    >>> symbol("exp", "float32"), symbol("exp", "float64", lanes=8)
    ('@fathom.exp.f32', '@fathom.exp.v8f64')
    """
    return f"@fathom.{name}.{'' if lanes == 1 else f'v{lanes}'}{_format(dtype).name}"


def _format(dtype: object) -> Format:
    kind = np.dtype(dtype)  # type: ignore[call-overload]
    if kind == np.float32:
        return F32
    if kind == np.float64:
        return F64
    raise DtypeError(
        f"vector functions exist for float32 and float64, not for {kind}",
        fix="cast to float32 before the function and back after it",
    )


def functions() -> tuple[str, ...]:
    """The names of all functions, sorted."""
    return tuple(sorted(FUNCTIONS))


def arity(name: str) -> int:
    """How many numbers a function takes."""
    return _definition(name).__code__.co_argcount


def _definition(name: str) -> Callable[..., Num]:
    try:
        return FUNCTIONS[name]
    except KeyError:
        raise ArgumentError(f"no vector function {name!r}", fix=suggest(name, FUNCTIONS)) from None


def text(names: Iterable[str], dtype: object = np.float32, lanes: int = 1) -> str:
    """LLVM IR with the definition of each function, once, in alphabetical order.

    Parameters
    ----------
    names : from `functions()`; repetitions are fine.
    dtype : float32 or float64.
    lanes : 1 for functions of numbers, else of vectors with so many.

    Raises `ArgumentError` for unknown names and `DtypeError` for other dtypes.

    >>> print(text(["rsqrt"], "float32"))
    define internal float @fathom.rsqrt.f32(float %x) alwaysinline nounwind ... {
      %v0 = call float @llvm.sqrt.f32(float %x)
      %v1 = fdiv float 0x3FF0000000000000, %v0
      ret float %v1
    }
    """
    return "\n\n".join(definition(name, dtype, lanes) for name in sorted(set(names)))


def definition(name: str, dtype: object = np.float32, lanes: int = 1) -> str:
    """The definition of one function."""
    build, body = _definition(name), Body(_format(dtype), lanes)
    kind = body.form.real
    args = [Num(body, f"%{letter}", kind) for letter in "xy"[: arity(name)]]
    result = build(*args)
    type = body.type(kind)
    listing = ", ".join(f"{type} {a.name}" for a in args)
    head = f"define internal {type} {symbol(name, dtype, lanes)}({listing})"
    end = f"  ret {type} {result.name}"
    return "\n".join(
        [f"{head} alwaysinline nounwind willreturn memory(none) {{", *body.lines, end, "}"]
    )
