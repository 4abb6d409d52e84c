"""A loss's graph as `Term`s, whichever engine's it is, and what can be asked of one.

An engine hands its graph over in this form (`fathom_written`, `torch_written`); `written` and
`crossed` read it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from fathom.engine.tensor import Array

NEAR = 12  # operations from the loss within which its formula must stand
CHAIN = ("mean", "sum", "neg", "mul", "div", "view", "squeeze", "unsqueeze", "reshape")
MOVING = ("view", "unsafe_view", "reshape", "squeeze", "unsqueeze", "flatten", "clone", "to_copy",
          "astype", "cast", "alias", "contiguous")  # fmt: skip

Written = tuple[str, Any, Any, dict[str, Any]]  # function, output, target, options


class Term(Protocol):
    """An operation of a loss's graph."""

    @property
    def name(self) -> str:
        """By its name in `torch.nn.functional`, where it has one."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Of its values."""

    @property
    def before(self) -> tuple[Term | None, ...]:
        """Where its operands come from; None for constants."""

    def given(self, place: int) -> Any:
        """An operand as a tensor of the engine's; None where it was not kept."""

    def result(self) -> Any:
        """Its values, likewise."""

    def made(self, tensor: Any) -> bool:
        """Whether a tensor is what it has put out."""

    def axis(self) -> int:
        """The axis it runs along."""

    def power(self) -> float:
        """Its exponent, 1 if it has none."""

    def places(self) -> list[Array | None]:
        """What a gather or an indexing takes its values by: one for each axis, None for all."""


class Terms:
    """The operations near a loss. near : the graph, loss first. outputs : tensors the model gave in
    this step. numbers : a tensor as an array."""

    def __init__(
        self, near: Sequence[Term], outputs: Sequence[Any], numbers: Callable[[Any], Array]
    ) -> None:
        self.near, self.outputs, self.numbers = near, outputs, numbers

    def constant(self, term: Term) -> Array | None:
        """The factor of a product that does not depend on the weights."""
        if len(term.before) != 2 or (term.before[0] is None) == (term.before[1] is None):
            return None
        found = term.given(0 if term.before[0] is None else 1)
        return None if found is None else np.asarray(self.numbers(found))

    def origin(self, term: Term | None) -> Any:
        """The model's output, or an activation of it, of which a term is another form; None where
        it is something else."""
        while term is not None:
            found = next((t for t in self.outputs if term.made(t)), None)
            if found is not None:
                return found
            if term.name not in MOVING:
                return term.result()
            term = source(term)
        return None

    def difference(self, term: Term) -> tuple[Any, Array, bool] | None:
        """(output, output - target or the other way round, whether the other way) of a term that
        was given such a difference."""
        apart, before = term.given(0), term.before[0] if term.before else None
        if apart is None or before is None or before.name not in ("sub", "rsub"):
            return None
        inner = source(before)
        output = self.origin(inner) if inner is not None else None
        if output is None:
            return None  # both depend on weights: no target; or it is not what the model gave
        less = is_complement(before)  # target - output
        return output, np.asarray(self.numbers(apart)), less


def source(term: Term) -> Term | None:
    """The one operation that a term's values come from; None where there are several."""
    found = [parent for parent in term.before if parent is not None]
    return found[0] if len(found) == 1 else None


def is_complement(term: Term) -> bool:
    """Whether it is a constant less something."""
    return term.name == "rsub" or (term.name == "sub" and term.before[0] is None)


__all__ = ["CHAIN", "MOVING", "NEAR", "Term", "Terms", "Written", "is_complement", "source"]
