"""Activations as sentences of a small grammar: binary(unary(x), unary(x)), once or nested.

Ramachandran, Zoph and Le (2017). A genome is a flat tuple of names, (unary, unary, binary) for
the innermost unit, then three more for each unit around it, whose first arm is what is inside.

>>> build(("x", "sigmoid", "mul"))
mul(x, sigmoid(x))(x) = x * sigmoid(x)
>>> describe(("x", "sigmoid", "mul", "tanh", "x", "max"))
'max(tanh(mul(x, sigmoid(x))), x)'
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fathom.engine.errors import ArgumentError, suggest
from fathom.engine.tensor import Array
from fathom.ops import elementwise as e
from fathom.ops import special, trigonometric
from fathom.ops.formula import Formula, formula

Genome = tuple[str, ...]

SMALL = 1e-3  # keeps logarithms and quotients finite
UNARY: dict[str, Callable[[Any], Any]] = {
    "x": lambda x: x,
    "neg": lambda x: -x,
    "one": lambda x: 0.0 * x + 1.0,
    "abs": e.abs,
    "square": e.square,
    "cube": lambda x: x * x * x,
    "sqrt": lambda x: e.sqrt(e.abs(x) + SMALL),
    "log": lambda x: e.log(e.abs(x) + SMALL),
    "exp": e.exp,
    "sin": trigonometric.sin,
    "cos": trigonometric.cos,
    "asinh": trigonometric.asinh,
    "atan": trigonometric.atan,
    "tanh": e.tanh,
    "sigmoid": e.sigmoid,
    "erf": special.erf,
    "softplus": special.softplus,
    "bell": lambda x: e.exp(-(x * x)),
    "positive": lambda x: e.where(e.greater(x, 0.0), x, 0.0),
    "negative": lambda x: e.where(e.less(x, 0.0), x, 0.0),
}
BINARY: dict[str, Callable[[Any, Any], Any]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "div": lambda a, b: a / (b + SMALL),
    "max": lambda a, b: e.where(e.greater(a, b), a, b),
    "min": lambda a, b: e.where(e.less(a, b), a, b),
    "gate": lambda a, b: e.sigmoid(a) * b,
    "near": lambda a, b: e.exp(-e.abs(a - b)),
}
COMMUTE = ("add", "mul", "max", "min")


def slots(depth: int, without: Sequence[str] = ()) -> list[tuple[str, ...]]:
    """What may stand at each place of a genome; names in `without` are left out."""
    if isinstance(depth, bool) or not isinstance(depth, int) or depth < 1:
        raise ArgumentError(f"depth is a whole number >= 1; received {depth!r}")
    for name in without:
        if name not in UNARY and name not in BINARY:
            raise ArgumentError(
                f"the grammar has no {name!r}", fix=suggest(str(name), [*UNARY, *BINARY])
            )
    unary, binary = (tuple(n for n in kind if n not in without) for kind in (UNARY, BINARY))
    if not unary or not binary:
        raise ArgumentError("a grammar needs a unary and a binary function at least")
    return [unary, unary, binary] * depth


def check(genome: Sequence[str]) -> Genome:
    """The genome as a tuple; raises `ArgumentError` for wrong lengths and unknown names."""
    found = tuple(genome)
    if not found or len(found) % 3:
        raise ArgumentError(f"a genome has 3 names a unit; received {len(found)}: {found}")
    for name, known in zip(found, slots(len(found) // 3), strict=True):
        if name not in known:
            raise ArgumentError(f"the grammar has no {name!r} here", fix=suggest(name, known))
    return found


def canonical(genome: Sequence[str]) -> Genome:
    """The same function with the arms of symmetric operations of the innermost unit in order.

    >>> canonical(("sigmoid", "x", "mul")) == canonical(("x", "sigmoid", "mul"))
    True
    """
    first, second, binary, *rest = check(genome)
    if binary in COMMUTE and second < first:
        first, second = second, first
    return (first, second, binary, *rest)


def describe(genome: Sequence[str]) -> str:
    """The genome as nested calls."""
    inside = "x"
    for first, second, binary in _units(genome):
        inside = f"{binary}({_called(first, inside)}, {_called(second, 'x')})"
    return inside


def _called(name: str, inside: str) -> str:
    return inside if name == "x" else f"{name}({inside})"


def _units(genome: Sequence[str]) -> list[tuple[str, str, str]]:
    g = check(genome)
    return [(g[i], g[i + 1], g[i + 2]) for i in range(0, len(g), 3)]


def build(genome: Sequence[str]) -> Formula:
    """The genome as a `Formula`, with its exact derivatives."""

    def function(x: Any) -> Any:
        inside = x
        for first, second, binary in _units(genome):
            inside = BINARY[binary](UNARY[first](inside), UNARY[second](x))
        return inside

    made: Formula = formula(function, name=describe(genome))
    return made


def sane(candidate: Formula, width: float = 6.0) -> bool:
    """Whether values and slopes are finite, and not all the same, on [-width, width]."""
    x = np.linspace(-width, width, 1201, dtype=np.float32)
    with np.errstate(all="ignore"):
        y, slope = (_values(f, x) for f in (candidate, candidate.derivative()))
    finite = np.isfinite(y).all() and np.isfinite(slope).all()
    return bool(finite and np.ptp(y) > 1e-6)


def _values(candidate: Formula, x: Array) -> Array:
    return np.broadcast_to(np.asarray(candidate.apply(x)), x.shape)


def swish_like(candidate: Formula) -> bool:
    """Whether it has Swish's shape: not monotone, one end flat and finite, the other growing.

    In either direction and either sign, for the weights around it absorb both.

    >>> swish_like(build(("x", "sigmoid", "mul"))), swish_like(build(("x", "positive", "max")))
    (True, False)
    """
    with np.errstate(all="ignore"):
        found = candidate.analyse(-8.0, 8.0)
    ends = sorted((abs(found.left_limit), abs(found.right_limit)))
    kinds = [kind for _, _, kind in found.pieces if kind != "flat"]
    return ends[0] < np.inf and ends[1] == np.inf and len(kinds) == 2
