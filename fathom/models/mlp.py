"""The multilayer perceptron (Rumelhart, Hinton & Williams, 1986)."""

from __future__ import annotations

from collections.abc import Sequence

from fathom.nn import Dropout, Linear, Module, Sequential, activation


def mlp(
    in_features: int,
    out_features: int,
    hidden: Sequence[int] = (64, 32),
    activation_name: str = "relu",
    dropout: float = 0.0,
) -> Sequential:
    """Linear layers of the given widths with an activation (and dropout) between them.

    >>> mlp(4, 3, hidden=(8,), activation_name="tanh")
    Sequential(
      (0): Linear(in_features=4, out_features=8, bias=True)
      (1): Tanh()
      (2): Linear(in_features=8, out_features=3, bias=True)
    )
    """
    layers: list[Module] = []
    width = in_features
    for size in hidden:
        layers += [Linear(width, size), activation(activation_name)]
        if dropout:
            layers.append(Dropout(dropout))
        width = size
    return Sequential(*layers, Linear(width, out_features))
