"""The parts of a Fathom run as `Layer`s, `Parameter`s and `OptimizerFacts`."""

from __future__ import annotations

import gc
from collections.abc import Mapping
from typing import Any

import numpy as np

from fathom.doctor.adapters.facts import (
    KEEP_INITIAL,
    KNOWN,
    describe_optimizer,
    hidden,
    known_kind,
    role,
)
from fathom.doctor.case import Coverage, Layer, Parameter
from fathom.engine.tensor import Array, Tensor
from fathom.nn.activation import AlongAxis, Elementwise
from fathom.nn.lazy import UninitializedParameter
from fathom.nn.module import Module
from fathom.optim import Optimizer


def kind_of(module: Any) -> str:
    """The name of the nearest class of Fathom's in its ancestry that is known."""
    return known_kind(module, "fathom.")


def describe_layers(model: Module) -> tuple[dict[str, Layer], dict[str, Module], Coverage]:
    """Layers (modules that do something themselves), the modules by name, and the coverage."""
    layers: dict[str, Layer] = {}
    modules: dict[str, Module] = {}
    coverage = Coverage()
    for name, module in model.named_modules():
        own = tuple(n for n, p in module._parameters.items() if p is not None)
        kind = kind_of(module)
        if not own and kind not in KNOWN and not isinstance(module, Elementwise | AlongAxis):
            continue  # containers
        names = tuple(f"{name}.{n}" if name else n for n in own)
        layers[name] = Layer(name, kind, _options(module), module.training, parameters=names)
        modules[name] = module
        coverage.watched.append(name)
    return layers, modules, coverage


def _options(module: Module) -> dict[str, Any]:
    """Numbers, words and tuples among its attributes, by their names in PyTorch."""
    plain = {k: v for k, v in vars(module).items() if isinstance(v, int | float | str | tuple)
             and not k.startswith("_") and k != "training"}  # fmt: skip
    if "axis" in plain:
        plain.setdefault("dim", plain["axis"])
    return plain


def describe_parameters(model: Module, optimizer: Any) -> dict[str, Parameter]:
    """Parameters by name, each once; those of lazy layers when they are made."""
    groups = getattr(optimizer, "param_groups", None)
    given = None if groups is None else {id(p) for g in groups for p in g["params"]}
    absent = any(p.requires_grad and given is not None and id(p) not in given
                 for p in model.parameters())  # fmt: skip
    others = held_elsewhere(optimizer) if absent else set()
    found: dict[str, Parameter] = {}
    seen: set[int] = set()
    for prefix, module in model.named_modules():
        for own, p in module._parameters.items():
            if p is None or id(p) in seen or isinstance(p, UninitializedParameter):
                continue
            seen.add(id(p))
            name = f"{prefix}.{own}" if prefix else own
            initial = p.value().copy() if p.size <= KEEP_INITIAL else None
            found[name] = Parameter(
                name, tuple(p.shape), prefix, role(kind_of(module), own, p), p.requires_grad,
                given is None or id(p) in given, p.value, initial, id(p) in others,
                "Transpose" in kind_of(module) and p.ndim > 1,
            )  # fmt: skip
    return found


def held_elsewhere(optimizer: Any) -> set[int]:
    """Ids of the parameters that other optimizers of this process hold."""
    inside = getattr(optimizer, "optimizer", None)
    others = [o for o in gc.get_objects() if issubclass(type(o), Optimizer)
              and o is not optimizer and o is not inside]  # fmt: skip
    return {id(p) for o in others for g in getattr(o, "param_groups", ()) for p in g["params"]}


def hiding(model: Module, wanted: Mapping[int, Any]) -> dict[int, str]:
    """The attributes of the model's modules that hold tensors by these ids where modules do not
    look: in lists, tuples and dictionaries, or bare."""
    return hidden(model, wanted, Tensor, Module)


def values(given: Any, rows: int | None = None) -> Array | None:
    """A copy of a tensor, array or list as an array (of its first rows, if so many are enough);
    None where there are no numbers."""
    found = given.value() if isinstance(given, Tensor) else given
    if not isinstance(found, np.ndarray):
        try:
            found = np.asarray(found)
        except (TypeError, ValueError):
            return None
    if found.dtype.kind not in "fiub":
        return None
    part: Array = found if rows is None or found.ndim == 0 else found[:rows]
    return part.copy()


__all__ = [
    "describe_layers", "describe_optimizer", "describe_parameters", "held_elsewhere", "hiding",
    "kind_of", "values",
]  # fmt: skip
