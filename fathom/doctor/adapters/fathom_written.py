"""Fathom's tape as `terms.Term`s: losses that are written out by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fathom.doctor.adapters.fathom_graph import name_of
from fathom.doctor.adapters.terms import NEAR, Written
from fathom.doctor.adapters.written import written_call
from fathom.engine.tape import Node
from fathom.engine.tensor import Array, Tensor, recorded

NAMES = {"take_along_axis": "gather", "getitem": "index", "log_sigmoid": "logsigmoid"}


class FathomTerm:
    """See `terms.Term`. A leaf stands for itself."""

    def __init__(self, node: Node | Tensor) -> None:
        self.node = node

    @property
    def name(self) -> str:
        if isinstance(self.node, Tensor):
            return "leaf"
        name = name_of(self.node)
        return NAMES.get(name, name)

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.node.shape)

    @property
    def before(self) -> tuple[FathomTerm | None, ...]:
        if isinstance(self.node, Tensor):
            return ()
        found = [p if p is None or isinstance(p, Tensor) else p[0] for p in self.node.parents]
        terms = tuple(None if p is None else FathomTerm(p) for p in found)
        while self.name in ("pow", "clamp", "maximum") and len(terms) > 1 and terms[-1] is None:
            terms = terms[:-1]  # exponents and bounds
        return terms

    def given(self, place: int) -> Any:
        saved = () if isinstance(self.node, Tensor) else self.node.saved or ()
        return saved[place] if place < len(saved) else None

    def result(self) -> Any:
        if isinstance(self.node, Tensor) or self.node.out is None or self.node.outputs > 1:
            return None
        return recorded(self.node.out, (self.node, 0))

    def made(self, tensor: Any) -> bool:
        return isinstance(tensor, Tensor) and tensor.node is self.node

    def axis(self) -> int:
        axis = {} if isinstance(self.node, Tensor) else self.node.params
        found = axis.get("axis", 0)
        return int(found[0] if isinstance(found, tuple) else found)

    def power(self) -> float:
        if self.name == "square":
            return 2.0
        exponent = self.given(1)
        return float(np.asarray(numbers(exponent))) if np.ndim(exponent) == 0 else 1.0

    def places(self) -> list[Array | None]:
        if self.name == "gather":
            return [_whole(self.given(1))]
        index = {} if isinstance(self.node, Tensor) else self.node.params
        found = index.get("index", ())
        return [_whole(i) for i in (found if isinstance(found, tuple) else (found,))]


def _whole(index: Any) -> Array | None:
    """An index as an array of whole numbers; None for slices and the like."""
    found = numbers(index) if isinstance(index, Tensor | np.ndarray | list) else None
    return found if found is not None and found.dtype.kind in "iu" else None


def numbers(value: Any) -> Array:
    """A tensor as an array."""
    return np.asarray(value.value() if isinstance(value, Tensor) else value)


def near(root: Node) -> list[FathomTerm]:
    """The operations right behind a loss, breadth first."""
    nodes = [root]
    for node in nodes:
        for parent in node.parents:
            if isinstance(parent, tuple) and len(nodes) < NEAR and parent[0] not in nodes:
                nodes.append(parent[0])
    return [FathomTerm(node) for node in nodes]


def written(root: Node, outputs: Sequence[Any]) -> Written | None:
    """(function, output, target, options) of a loss by hand, output and target as tensors.

    root : the loss's node. outputs : tensors the model gave in this step.
    """
    found = written_call(near(root), outputs, numbers)
    if found is None:
        return None
    function, output, target, options = found
    return function, _tensor(output), _tensor(target), options


def _tensor(value: Any) -> Any:
    return value if isinstance(value, Tensor) else Tensor(np.asarray(value))


__all__ = ["FathomTerm", "written"]
