"""Modules made of modules."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fathom.engine.errors import ArgumentError
from fathom.nn.module import Module


class Sequential(Module):
    """Layers one after the other.

    >>> import fathom
    >>> from fathom import nn
    >>> nn.Sequential(nn.Linear(2, 4), nn.ReLU())
    Sequential(
      (0): Linear(in_features=2, out_features=4, bias=True)
      (1): ReLU()
    )
    """

    def __init__(self, *layers: Module) -> None:
        super().__init__()
        for i, layer in enumerate[Any](layers):
            if not isinstance(layer, Module):
                hint = f"nn.{layer.__name__}()" if isinstance(layer, type) else ""
                if isinstance(layer, list | tuple):
                    hint = "nn.Sequential(*layers), with a star, takes a list apart"
                raise ArgumentError(f"Sequential: argument {i} is {layer!r}, not a layer", fix=hint)
            self.add_module(str(i), layer)

    def forward(self, x: Any) -> Any:
        for layer in self._modules.values():
            x = layer(x)
        return x

    def append(self, layer: Module) -> Sequential:
        """One more layer at the end."""
        self.add_module(str(len(self)), layer)
        return self

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[Module]:
        return iter(self._modules.values())

    def __getitem__(self, index: Any) -> Any:
        layers = list(self._modules.values())
        return Sequential(*layers[index]) if isinstance(index, slice) else layers[index]
