"""Small networks that make a point: XOR by hand, and the collapse of linear layers."""

from __future__ import annotations

from typing import Any

import numpy as np

from fathom.engine.errors import ArgumentError
from fathom.nn import Dropout, Identity, Linear, Module, Sequential
from fathom.nn.activation import Step
from fathom.ops.checks import one_of

XOR: dict[str, tuple[Any, Any, Any, Any]] = {
    # hidden weights and biases, output weights and bias
    "or and": ([[1, 1], [1, 1]], [-0.5, -1.5], [[1, -1]], [-0.5]),
    "or nand": ([[1, 1], [-1, -1]], [-0.5, 1.5], [[1, 1]], [-1.5]),
}


def xor_network(kind: str = "or and") -> Sequential:
    """Two hidden step units and one output unit that compute XOR, with weights set by hand.

    "or and" : OR and not AND. "or nand" : OR and NAND. In both the hidden layer moves the four
    corners to places that a line separates.

    >>> import fathom
    >>> xor_network("or nand")(fathom.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 1.0]])).tolist()
    [[0.0], [1.0], [0.0]]
    """
    one_of("xor_network", "kind", kind, tuple(XOR))
    first, second = Linear(2, 2), Linear(2, 1)
    arrays = (first.weight, first.bias, second.weight, second.bias)
    for parameter, values in zip(arrays, XOR[kind], strict=True):
        parameter.data[...] = values  # type: ignore[union-attr]
    return Sequential(first, Step(), second, Step())


def fold(net: Module) -> Linear:
    """A chain of linear layers as the one layer it is: W = W_n ... W_1.

    Takes `Linear` and `Sequential`; passes over `Identity`, and over `Dropout` in eval mode.

    >>> from fathom import nn
    >>> fold(nn.Sequential(nn.Linear(3, 8), nn.Linear(8, 2)))
    Linear(in_features=3, out_features=2, bias=True)
    """
    chain = list(_chain(net, ""))
    if not chain:
        raise ArgumentError("fold: there is no Linear layer to fold")
    weight = np.eye(chain[0].in_features)
    bias = np.zeros(chain[0].in_features)
    for layer in chain:
        matrix = layer.weight.value().astype(np.float64)
        shift = 0.0 if layer.bias is None else layer.bias.value()
        weight, bias = matrix @ weight, matrix @ bias + shift
    folded = Linear(chain[0].in_features, chain[-1].out_features)
    folded.to(chain[0].weight.dtype)
    folded.weight.data[...] = weight
    folded.bias.data[...] = bias  # type: ignore[union-attr]
    return folded


def _chain(module: Module, path: str) -> Any:
    """The linear layers in order; an error names the first that is none."""
    if isinstance(module, Linear):
        yield module
    elif isinstance(module, Sequential):
        for name, child in module.named_children():
            yield from _chain(child, f"{path}.{name}" if path else name)
    elif not isinstance(module, Identity | Dropout) or (
        isinstance(module, Dropout) and module.training
    ):
        where = f" at {path!r}" if path else ""
        fix = "fold the linear parts on either side of it"
        raise ArgumentError(
            f"fold: {type(module).__name__}{where} is not linear, so the chain is more than one",
            fix="dropout is the identity after .eval()" if isinstance(module, Dropout) else fix,
        )
