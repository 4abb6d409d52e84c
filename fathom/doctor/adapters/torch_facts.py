"""The parts of a PyTorch run as `Layer`s, `Parameter`s and `OptimizerFacts`."""

from __future__ import annotations

import gc
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import torch

from fathom.doctor.adapters import facts
from fathom.doctor.adapters.facts import KEEP_INITIAL, KNOWN, hidden, known_kind, role
from fathom.doctor.case import Coverage, Layer, OptimizerFacts, Parameter
from fathom.engine.tensor import Array

OPTIONS = (
    "in_features", "out_features", "in_channels", "out_channels", "kernel_size", "stride", "groups",
    "num_features", "num_channels", "num_groups", "normalized_shape", "eps", "momentum", "affine",
    "track_running_stats", "p", "dim", "negative_slope", "num_embeddings", "embedding_dim",
    "sparse", "padding_idx", "input_size", "hidden_size", "num_layers", "batch_first", "embed_dim",
    "num_heads", "bidirectional", "nonlinearity",
)  # fmt: skip


def unwrapped(model: Any) -> tuple[Any, str]:
    """The module inside DataParallel, DistributedDataParallel or torch.compile, and a note."""
    kind = type(model).__name__
    if kind in ("DataParallel", "DistributedDataParallel"):
        replicas = kind == "DataParallel" and len(getattr(model, "device_ids", ())) > 1
        note = f"{kind}: replicas on several devices show no hooks" if replicas else ""
        return model.module, note
    if kind == "OptimizedModule":
        return model._orig_mod, (
            "torch.compile: layers inside a compiled graph call no hooks; gradients, weights and "
            "losses are watched, activations are not"
        )
    return model, ""


def kind_of(module: Any) -> str:
    """The name of the nearest class of PyTorch's in its ancestry that is known."""
    return known_kind(module, "torch.")


def describe_layers(model: Any) -> tuple[dict[str, Layer], dict[str, Any], Coverage]:
    """Layers (modules that do something themselves), the modules by name, and the coverage."""
    layers: dict[str, Layer] = {}
    modules: dict[str, Any] = {}
    coverage = Coverage()
    for name, module in model.named_modules():
        own = tuple(n for n, _ in module.named_parameters(recurse=False))
        kind = kind_of(module)
        if not own and kind not in KNOWN:
            continue  # containers
        options = {o: getattr(module, o) for o in OPTIONS if _plain(getattr(module, o, None))}
        names = tuple(f"{name}.{n}" if name else n for n in own)
        layers[name] = Layer(name, kind, options, module.training, parameters=names)
        modules[name] = module
        if isinstance(module, torch.jit.ScriptModule):
            coverage.skipped[name] = "scripted modules call no Python hooks"
        else:
            coverage.watched.append(name)
    return layers, modules, coverage


def _plain(value: Any) -> bool:
    return value is not None and isinstance(value, int | float | str | bool | tuple)


def describe_parameters(model: Any, optimizer: Any) -> dict[str, Parameter]:
    """Parameters by name, each once."""
    given = {id(p) for g in optimizer.param_groups for p in g["params"]} if optimizer else None
    found: dict[str, Parameter] = {}
    seen: set[int] = set()
    absent = [p for p in model.parameters() if given is not None and id(p) not in given]
    others = held_elsewhere(optimizer) if any(p.requires_grad for p in absent) else set()
    for prefix, module in model.named_modules():
        for own, p in module.named_parameters(recurse=False):
            name = f"{prefix}.{own}" if prefix else own
            if id(p) in seen or isinstance(p, torch.nn.parameter.UninitializedParameter):
                continue
            seen.add(id(p))
            small = p.numel() <= KEEP_INITIAL
            found[name] = Parameter(
                name, tuple(p.shape), prefix, role(kind_of(module), own, p), p.requires_grad,
                given is None or id(p) in given, partial(array, p), array(p) if small else None,
                id(p) in others, "Transpose" in kind_of(module) and p.ndim > 1,
            )  # fmt: skip
    return found


def held_elsewhere(optimizer: Any) -> set[int]:
    """Ids of the parameters that other optimizers of this process hold."""
    kinds = torch.optim.Optimizer
    others = [o for o in gc.get_objects() if issubclass(type(o), kinds) and o is not optimizer]
    return {id(p) for o in others for g in o.param_groups for p in g["params"]}


def hiding(model: Any, wanted: Mapping[int, Any]) -> dict[int, str]:
    """The attributes of the model's modules that hold tensors by these ids where PyTorch does not
    look: in lists, tuples and dictionaries, or bare."""
    return hidden(model, wanted, torch.Tensor, torch.nn.Module)


def array(tensor: Any, rows: int | None = None) -> Array:
    """A copy as a NumPy array; of its first rows, if so many are enough."""
    part = tensor.detach() if rows is None or tensor.ndim == 0 else tensor.detach()[:rows]
    part = part.to_dense() if part.layout is not torch.strided else part
    if part.dtype in (torch.bfloat16, torch.float16):
        part = part.float()
    found: Array = np.array(part.cpu().numpy(), copy=True)
    return found


def names_of(model: Any) -> dict[int, str]:
    """Names of the parameters by their id."""
    return {id(p): name for name, p in model.named_parameters()}


def describe_optimizer(optimizer: Any, names: dict[int, str]) -> OptimizerFacts | None:
    """Its options, group by group, and the parameters that are not the model's."""
    return facts.describe_optimizer(optimizer, names, _number)


def _number(value: Any) -> Any:
    return float(value) if isinstance(value, torch.Tensor) and value.numel() == 1 else value


__all__ = ["array", "describe_layers", "describe_optimizer", "describe_parameters",
           "held_elsewhere", "hiding", "kind_of", "names_of", "unwrapped"]  # fmt: skip
