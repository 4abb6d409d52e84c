"""The multilayer perceptron (Rumelhart, Hinton & Williams, 1986)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fathom.nn import GEGLU, GLU, Dropout, Linear, Maxout, Module, ReGLU, Sequential, SwiGLU
from fathom.nn import activation as layer_named
from fathom.nn.named import named
from fathom.nn.prepare import apply_, check_name

GATED = (GLU, ReGLU, GEGLU, SwiGLU)


def mlp(
    in_features: int,
    out_features: int,
    hidden: Sequence[int] = (64, 32),
    activation_name: str = "relu",
    dropout: float = 0.0,
    *,
    init: str | Mapping[str, Any] | None = None,
    data: Any = None,
) -> Sequential:
    """Linear layers of the given widths with an activation (and dropout) between them.

    hidden : the widths behind the activations. A gated one (glu, geglu, swiglu, reglu) takes two
        features for each that it gives, maxout its `pieces`: the layer before is so much wider.
    activation_name : of `nn.activation`, with options or without: "leaky_relu:negative_slope=0.2".
    init : initial weights by a name of `nn.init.apply_`, with options or without: "auto" goes by
        the activation, "lsuv" by the inputs `data` (n, in_features). PyTorch's unless given.

    >>> mlp(4, 3, hidden=(8,), activation_name="swiglu", init="auto")
    Sequential(
      (0): Linear(in_features=4, out_features=16, bias=True)
      (1): SwiGLU(dim=-1)
      (2): Linear(in_features=8, out_features=3, bias=True)
    )
    """
    rule, options = ("default", {}) if init is None else named(init, "init")
    check_name(rule)
    layers: list[Module] = []
    width = in_features
    for size in hidden:
        act = make_activation(activation_name)
        layers += [Linear(width, size * widening(act)), act]
        if dropout:
            layers.append(Dropout(dropout))
        width = size
    model = Sequential(*layers, Linear(width, out_features))
    if rule == "default" and not options:
        return model
    apply_(model, rule, data, **options)
    return model


def make_activation(value: str) -> Module:
    """The activation layer of a name with options: "maxout:pieces=3"."""
    name, options = named(value, "activation")
    return layer_named(name, **options)


def widening(activation: Module) -> int:
    """How many features an activation takes for each one it gives.

    >>> widening(GLU()), widening(Maxout(3))
    (2, 3)
    """
    if isinstance(activation, GATED):
        return 2
    return activation.pieces if isinstance(activation, Maxout) else 1
