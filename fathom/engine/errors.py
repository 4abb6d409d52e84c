"""Errors that teach: what happened, where, what arrived, and what to try.

Every error of Fathom is a `FathomError` *and* the builtin a Python user would catch
(`ValueError`, `TypeError`, ...), so old `except` clauses keep working.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence


class FathomError(Exception):
    """Base of all errors Fathom raises on purpose.

    `fix` is one likely cure. While the error travels up through modules, each adds its
    name, so the message ends with the path of the layer in which it arose.

    >>> print(ShapeError("matmul: 3 columns meet 4 rows", fix="transpose the weight"))
    matmul: 3 columns meet 4 rows
      try: transpose the weight
    """

    def __init__(self, message: str, *, fix: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.fix = fix
        self.layers: list[str] = []  # names on the way up, innermost first
        self.layer_kind = ""  # class of the innermost layer
        self.module: object = None  # the last module passed on the way up

    def __str__(self) -> str:
        lines = [self.message]
        if self.layer_kind:
            path = ".".join(reversed(self.layers))
            kind = f"({self.layer_kind})" if path else self.layer_kind
            lines.append("  in layer: " + " ".join(filter(None, [path, kind])))
        if self.fix:
            lines.append("  try: " + self.fix)
        return "\n".join(lines)


class ShapeError(FathomError, ValueError):
    """Shapes of the arguments do not fit the operation or the layer."""


class DtypeError(FathomError, TypeError):
    """An argument has a kind of element that the operation cannot take."""


class AxisError(FathomError, IndexError):
    """An axis or an index points outside the array."""


class ArgumentError(FathomError, ValueError):
    """An argument has a value outside its range, or a name nobody knows."""


class GraphError(FathomError, RuntimeError):
    """The graph of computations cannot do what was asked of it."""


class GraphFreedError(GraphError):
    """A second backward pass met a node whose saved values are gone."""


class InplaceError(GraphError):
    """A value that the backward pass needs was edited in place."""


class DivergedError(FathomError, ArithmeticError):
    """Training produced a value that is not finite."""


class DataError(FathomError, ValueError):
    """A file or an array holds data that cannot be used; says where."""


class MissingFileError(DataError, FileNotFoundError):
    """A file that was asked for is not there."""

    __str__ = FathomError.__str__


class CheckpointError(FathomError, ValueError):
    """A checkpoint is incomplete, damaged, or made by something else."""


class OutputError(FathomError, OSError):
    """A result cannot be written where it was asked for."""

    __str__ = FathomError.__str__


class FathomWarning(UserWarning):
    """Base of all warnings Fathom gives: likely mistakes that are no errors."""


class OuterBroadcastWarning(FathomWarning):
    """An elementwise result is far larger than both inputs: a missing axis, most likely."""


class FreedGraphWarning(FathomWarning):
    """A new operation joins a graph that backward has freed, as in `total += loss`."""


def suggest(name: str, known: Iterable[str]) -> str:
    """The nearest known name as a question, then all of them: the `fix` of a misspelling.

    >>> suggest("rleu", ["relu", "tanh"])
    "did you mean 'relu'? known: relu, tanh"
    """
    names = sorted(known)
    near = difflib.get_close_matches(name.lower(), names, n=1, cutoff=0.5)
    listing = "known: " + ", ".join(names)
    return f"did you mean {near[0]!r}? {listing}" if near else listing


def mark_axes(shape: Sequence[int], axes: Iterable[int]) -> str:
    """A shape with the clashing axes marked.

    >>> mark_axes((32, 10), [1])
    '(32, >10<)'
    """
    marked = {axis % len(shape) for axis in axes} if shape else set()
    parts = [f">{n}<" if i in marked else str(n) for i, n in enumerate(shape)]
    return "(" + ", ".join(parts) + ("," if len(parts) == 1 else "") + ")"
