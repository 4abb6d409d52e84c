"""What is known of the parts of a run whichever engine's it is; `fathom_facts` and `torch_facts`
describe them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from fathom.doctor.case import DROPOUTS, EMBEDDINGS, NORMS, WEIGHTED, OptimizerFacts

KNOWN = WEIGHTED | NORMS | DROPOUTS | EMBEDDINGS | {
    "ReLU", "LeakyReLU", "PReLU", "ELU", "SELU", "CELU", "GELU", "SiLU", "Mish", "Sigmoid", "Tanh",
    "Softmax", "LogSoftmax", "Softplus", "Softsign", "Hardtanh", "ReLU6", "Flatten", "Identity",
}  # fmt: skip
KEEP_INITIAL = 1 << 16  # elements of a parameter that is copied for later comparison


def known_kind(module: Any, home: str) -> str:
    """The name of the nearest class in a module's ancestry that is known and of the package
    `home`."""
    for base in type(module).__mro__:
        if base.__name__ in KNOWN and base.__module__.startswith(home):
            return base.__name__
    return type(module).__name__


def role(kind: str, own: str, p: Any) -> str:
    """What a parameter is for, by the kind of its layer and its name in it."""
    if kind in EMBEDDINGS:
        return "embedding"
    if kind in NORMS:
        return "scale" if own == "weight" else "shift"
    if "bias" in own:
        return "bias"
    return "weight" if "weight" in own and p.ndim > 1 else "other"


def describe_optimizer(
    optimizer: Any, names: dict[int, str], plain: Callable[[Any], Any] = lambda value: value
) -> OptimizerFacts | None:
    """Its options, group by group, and the parameters that are not the model's. plain : an option
    as a number, where it is one."""
    if optimizer is None or not hasattr(optimizer, "param_groups"):
        return None
    groups, strangers = [], []
    for group in optimizer.param_groups:
        options = {k: plain(v) for k, v in group.items() if k != "params"}
        options["names"] = [names[id(p)] for p in group["params"] if id(p) in names]
        strangers += [tuple(p.shape) for p in group["params"] if id(p) not in names]
        groups.append(options)
    kind = getattr(optimizer, "kind", type(optimizer).__name__)
    several = len(getattr(optimizer, "optimizers", (optimizer,)))
    return OptimizerFacts(kind, groups, strangers, several)


def hidden(
    model: Any, wanted: Mapping[int, Any], tensor: type, module: type[Any]
) -> dict[int, str]:
    """The attributes of a model's modules that hold tensors by these ids where modules do not
    look: in lists, tuples and dictionaries, or bare. tensor, module : the engine's classes."""

    def held(value: Any, depth: int = 3) -> Iterator[int]:
        if isinstance(value, tensor):
            yield id(value)
        elif isinstance(value, module):
            yield from map(id, value.parameters())
        elif isinstance(value, list | tuple | set | dict) and depth:
            for inner in value.values() if isinstance(value, dict) else value:
                yield from held(inner, depth - 1)

    found: dict[int, str] = {}
    for prefix, each in model.named_modules():
        for attribute, value in vars(each).items():
            if not attribute.startswith("_"):
                name = f"{prefix}.{attribute}" if prefix else attribute
                found |= {i: name for i in held(value) if i in wanted}
    return found


__all__ = ["KEEP_INITIAL", "KNOWN", "describe_optimizer", "hidden", "known_kind", "role"]
