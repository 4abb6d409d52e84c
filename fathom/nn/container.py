"""Modules made of modules."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from fathom.engine.errors import ArgumentError, suggest
from fathom.nn.module import Module

__all__ = [
    "ModuleDict",
    "ModuleList",
    "Sequential",
]


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


class ModuleList(Module):
    """Layers in a list, for a `forward` of one's own.

    >>> from fathom import nn
    >>> layers = ModuleList([nn.Linear(2, 2) for _ in range(3)])
    >>> len(layers), len(list(layers.parameters()))
    (3, 6)
    """

    def __init__(self, modules: Any = None, *more: Module) -> None:
        super().__init__()
        first = [modules] if isinstance(modules, Module) else modules or ()
        self.extend((*first, *more))

    def append(self, layer: Module) -> ModuleList:
        """One more layer at the end."""
        if not isinstance(layer, Module):
            raise ArgumentError(f"ModuleList: {layer!r} is not a layer")
        self.add_module(str(len(self)), layer)
        return self

    def extend(self, layers: Iterable[Module]) -> ModuleList:
        """Several more layers at the end."""
        for layer in layers:
            self.append(layer)
        return self

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[Module]:
        return iter(self._modules.values())

    def __getitem__(self, index: Any) -> Any:
        layers = list(self._modules.values())
        return ModuleList(layers[index]) if isinstance(index, slice) else layers[index]


class ModuleDict(Module):
    """Layers by name, for a `forward` of one's own.

    >>> from fathom import nn
    >>> layers = ModuleDict({"up": nn.Linear(2, 4), "down": nn.Linear(4, 2)})
    >>> layers["up"].out_features, list(layers)
    (4, ['up', 'down'])
    """

    def __init__(self, modules: Any = None, *more: Module, names: Any = None) -> None:
        super().__init__()
        if names is not None:  # from a spec: the layers in order, the names beside them
            modules = dict(zip(names, (modules, *more), strict=True)) if names else {}
        for name, layer in dict(modules or {}).items():
            self[name] = layer

    def __setitem__(self, name: str, layer: Module) -> None:
        if hasattr(type(self), name):
            raise ArgumentError(f"ModuleDict: {name!r} is the name of one of its methods")
        self.add_module(name, layer)

    def __getitem__(self, name: str) -> Module:
        if name not in self._modules:
            raise ArgumentError(f"ModuleDict: no layer {name!r}", fix=suggest(name, self._modules))
        return self._modules[name]

    def __contains__(self, name: object) -> bool:
        return name in self._modules

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[str]:
        return iter(self._modules)

    def keys(self) -> Iterable[str]:
        return self._modules.keys()

    def values(self) -> Iterable[Module]:
        return self._modules.values()

    def items(self) -> Iterable[tuple[str, Module]]:
        return self._modules.items()

    def config(self) -> dict[str, Any]:
        return {"names": list(self._modules)}
