"""PyTorch's autograd graph as `terms.Term`s: losses that are written out by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from fathom.doctor.adapters.terms import NEAR, Term
from fathom.doctor.adapters.torch_facts import array
from fathom.doctor.adapters.torch_graph import name_of
from fathom.doctor.adapters.written import written_call as read_call
from fathom.engine.tensor import Array

Found = tuple[int, str, Any, Any, dict[str, Any]]


class TorchTerm:
    """See `terms.Term`."""

    def __init__(self, node: Any) -> None:
        self.node = node

    @property
    def name(self) -> str:
        return name_of(self.node)

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.node._input_metadata[0].shape)

    @property
    def before(self) -> tuple[TorchTerm | None, ...]:
        return tuple(None if p is None else TorchTerm(p) for p, _ in self.node.next_functions)

    def given(self, place: int) -> Any:
        return self._saved("_saved_other" if place else "_saved_self")

    def result(self) -> Any:
        return self._saved("_saved_result")

    def made(self, tensor: Any) -> bool:
        return isinstance(tensor, torch.Tensor) and tensor.grad_fn is self.node

    def axis(self) -> int:
        axis = int(self._saved("_saved_dim") or 0)
        return axis - (1 << 64) if axis >= 1 << 63 else axis

    def power(self) -> float:
        exponent = self._saved("_saved_exponent")
        return float(exponent) if isinstance(exponent, int | float) else 1.0

    def places(self) -> list[Array | None]:
        found = self._saved("_saved_indices")
        found = [self._saved("_saved_index")] if found is None else found
        return [None if i is None or i.is_floating_point() else array(i) for i in found]

    def _saved(self, name: str) -> Any:
        """What the operation has kept; None where nothing, or where it is freed."""
        try:
            return getattr(self.node, name, None)
        except RuntimeError:
            return None


def written_call(nodes: Sequence[Any], output: Any) -> Found | None:
    """(number of the node, function, output, target, options) like `torch_graph.kept_call`.

    nodes : the graph, loss first. output : what the model gave in this step.
    """
    near: list[Term] = [TorchTerm(node) for node in nodes[:NEAR]]
    found = read_call(near, [] if output is None else [output], _numbers)
    if found is None:
        return None
    function, given, target, options = found
    return 0, function, _tensor(given, nodes[0]), _tensor(target, nodes[0]), options


def _numbers(value: Any) -> Array:
    return array(value) if isinstance(value, torch.Tensor) else np.asarray(value)


def _tensor(value: Any, root: Any) -> Any:
    """On the device of the loss."""
    if isinstance(value, torch.Tensor):
        return value
    return torch.as_tensor(np.asarray(value)).to(root._input_metadata[0].device)


__all__ = ["TorchTerm", "written_call"]
