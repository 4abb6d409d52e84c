"""Architectures as plain data: what is stored beside the weights, and never executed.

A layer is its class's name and its `config()`. Containers get their children as arguments, so
these are described as well, under "layers"; a layer that makes its children itself, from its
configuration, says so with the class attribute `builds_children = True`. A module among the
values of `config()` is described in its place. Models outside of `fathom.nn` join by `register`.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, TypeVar

from fathom.engine.errors import ArgumentError, CheckpointError, FathomError, suggest
from fathom.nn.module import Module


@functools.cache
def layers() -> dict[str, type[Module]]:
    """Every layer of `fathom.nn` by name."""
    from fathom import nn

    found = {name: getattr(nn, name) for name in nn.__all__}
    return {
        name: kind
        for name, kind in found.items()
        if isinstance(kind, type) and issubclass(kind, Module) and kind is not Module
    }


_registered: dict[str, type[Module]] = {}
M = TypeVar("M", bound=type[Module])


def register(kind: M) -> M:
    """Let a class (of `fathom.models`, say) be stored by name; use as a decorator."""
    _registered[kind.__name__] = kind
    return kind


def known() -> dict[str, type[Module]]:
    """Every class that can be stored, by name."""
    return {**_registered, **layers()}


def to_spec(module: Module) -> dict[str, Any]:
    """The architecture as JSON values; `from_spec` builds it anew.

    >>> from fathom import nn
    >>> to_spec(nn.Sequential(nn.Linear(2, 3, bias=False)))["layers"][0]["out_features"]
    3
    """
    if _shares(module):
        raise ArgumentError(
            f"this {type(module).__name__} uses one layer or parameter in two places, which a "
            "description as a tree cannot say",
            fix="save its weights only, and load them into an instance you build yourself",
        )
    return _describe(module)


def _shares(module: Module) -> bool:
    """Whether a layer or a parameter stands in two places."""
    layers = [module]
    for layer in layers:  # grows as we go; a layer in two places is met twice
        if layers.count(layer) > 1:
            return True
        layers.extend(layer.children())
    owned = [id(p) for m in layers for p in m._parameters.values() if p is not None]
    return len(owned) != len(set(owned))


def _describe(module: Module) -> dict[str, Any]:
    kind = type(module).__name__
    if known().get(kind) is not type(module):
        raise ArgumentError(
            f"{kind} is not one of Fathom's layers, so its architecture cannot be stored as data",
            fix="save its weights only, and load them into an instance you build yourself",
        )
    config = {k: _describe(v) if isinstance(v, Module) else v for k, v in module.config().items()}
    spec: dict[str, Any] = {"type": kind, **config}
    if module._modules and not getattr(module, "builds_children", False):
        spec["layers"] = [_describe(child) for child in module.children()]
    return spec


def from_spec(spec: Mapping[str, Any]) -> Module:
    """The module a spec describes, with fresh weights."""
    try:
        options = dict(spec)
        kind = options.pop("type")
        below = options.pop("layers") if isinstance(options.get("layers"), list) else ()
        children = [from_spec(child) for child in below]
        kinds = known()
        if kind not in kinds:
            raise CheckpointError(f"unknown layer {kind!r}", fix=suggest(kind, kinds))
        for name, value in options.items():
            if isinstance(value, Mapping) and "type" in value:
                options[name] = from_spec(value)
        return kinds[kind](*children, **options)
    except FathomError:
        raise
    except (TypeError, KeyError, AttributeError, ValueError, RecursionError) as error:
        raise CheckpointError(f"this is not the description of a model: {error}") from None
