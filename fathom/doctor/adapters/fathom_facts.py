"""The parts of a Fathom run as `Layer`s, `Parameter`s and `OptimizerFacts`."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from fathom.doctor.case import (
    DROPOUTS,
    EMBEDDINGS,
    NORMS,
    WEIGHTED,
    Coverage,
    Layer,
    OptimizerFacts,
    Parameter,
)
from fathom.engine.tensor import Array, Tensor
from fathom.nn.activation import AlongAxis, Elementwise
from fathom.nn.lazy import UninitializedParameter
from fathom.nn.module import Module
from fathom.optim import Optimizer

KNOWN = WEIGHTED | NORMS | DROPOUTS | EMBEDDINGS | {
    "ReLU", "LeakyReLU", "PReLU", "ELU", "SELU", "CELU", "GELU", "SiLU", "Mish", "Sigmoid", "Tanh",
    "Softmax", "LogSoftmax", "Softplus", "Softsign", "Hardtanh", "ReLU6", "Flatten", "Identity",
}  # fmt: skip
KEEP_INITIAL = 1 << 16  # elements of a parameter that is copied for later comparison


def kind_of(module: Any) -> str:
    """The name of the nearest class of Fathom's in its ancestry that is known."""
    for base in type(module).__mro__:
        if base.__name__ in KNOWN and base.__module__.startswith("fathom."):
            return base.__name__
    return type(module).__name__


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
                name, tuple(p.shape), prefix, _role(kind_of(module), own, p), p.requires_grad,
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
    found: dict[int, str] = {}
    for prefix, module in model.named_modules():
        for attribute, value in vars(module).items():
            if not attribute.startswith("_"):
                name = f"{prefix}.{attribute}" if prefix else attribute
                found |= {i: name for i in _held(value) if i in wanted}
    return found


def _held(value: Any, depth: int = 3) -> Iterator[int]:
    """Ids of the tensors in a value."""
    if isinstance(value, Tensor):
        yield id(value)
    elif isinstance(value, Module):
        yield from map(id, value.parameters())
    elif isinstance(value, list | tuple | set | dict) and depth:
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _held(inner, depth - 1)


def _role(kind: str, own: str, p: Tensor) -> str:
    if kind in EMBEDDINGS:
        return "embedding"
    if kind in NORMS:
        return "scale" if own == "weight" else "shift"
    if "bias" in own:
        return "bias"
    return "weight" if "weight" in own and p.ndim > 1 else "other"


def describe_optimizer(optimizer: Any, names: dict[int, str]) -> OptimizerFacts | None:
    """Its options, group by group, and the parameters that are not the model's."""
    if optimizer is None or not hasattr(optimizer, "param_groups"):
        return None
    groups, strangers = [], []
    for group in optimizer.param_groups:
        options = {k: v for k, v in group.items() if k != "params"}
        options["names"] = [names[id(p)] for p in group["params"] if id(p) in names]
        strangers += [tuple(p.shape) for p in group["params"] if id(p) not in names]
        groups.append(options)
    kind = getattr(optimizer, "kind", type(optimizer).__name__)
    several = len(getattr(optimizer, "optimizers", (optimizer,)))
    return OptimizerFacts(kind, groups, strangers, several)


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
