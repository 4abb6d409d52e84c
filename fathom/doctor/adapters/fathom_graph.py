"""Fathom's tape as `graph.Op`s."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from fathom.doctor.adapters.graph import ACTIVATIONS, Op
from fathom.doctor.adapters.reshaping import RESHAPES
from fathom.engine.tape import Node
from fathom.engine.tensor import Tensor

LIMIT = 20_000  # nodes looked at
NAMES = {
    "conv_input": "conv", "take_rows": "embedding", "standardize": "batch_norm", "clip": "clamp",
    "clip_low": "clamp", "clip_high": "clamp", "power": "pow", "concatenate": "cat",
    "window_sum": "avg_pool", "logit_entropy": "binary_cross_entropy_with_logits",
    "binary_entropy": "binary_cross_entropy", "lstm": "rnn", "gru": "rnn", "recurrence": "rnn",
    "lstm_projected": "rnn", "amax": "max", "amin": "min", "vector_norm": "norm",
    "hard_tanh": "hardtanh", "hard_swish": "hardswish", "hard_sigmoid": "hardsigmoid",
    "soft_shrink": "softshrink", "hard_shrink": "hardshrink", "tanh_shrink": "tanhshrink",
    "gelu_tanh": "gelu", "gelu_sigmoid": "gelu", "swish": "silu",
}  # fmt: skip
NORM_NAMES = {"LayerNorm": "layer_norm", "GroupNorm": "group_norm", "RMSNorm": "rms_norm",
              "InstanceNorm1d": "instance_norm", "InstanceNorm2d": "instance_norm",
              "InstanceNorm3d": "instance_norm"}  # fmt: skip
SHAPING = ("permute", "reshape", "astype", "broadcast_to", "getitem", "add")  # of parameters


def read(
    root: Node, owners: Mapping[int, str], names: Mapping[int, str], kinds: Mapping[str, str]
) -> list[Op]:
    """The graph behind a node, root first.

    owners : id of a parameter -> its layer's name. names : id of a parameter -> its name.
    kinds : a layer's name -> its kind, of those that normalize: their several nodes are one Op.
    """
    numbers: dict[Node, int] = {root: 0}
    nodes = [root]
    ops: list[Op] = []
    for node in nodes:
        before, own = _sources(node)
        known = [id(p) for p in own if id(p) in names]
        layer = next((owners[i] for i in known), "")
        name = name_of(node)
        if layer in kinds and before:
            name, before, known = _norm(kinds[layer], name, before, known, names)
        elif name == "mul":
            name, before = _product(node, before)
        for parent in before:
            if parent not in numbers and len(nodes) < LIMIT:
                numbers[parent] = len(nodes)
                nodes.append(parent)
        inputs = tuple(numbers[p] for p in before if p in numbers)
        ops.append(Op(name, inputs, layer, tuple(names[i] for i in known), _is_formula(node),
                      _is_turned(node, name), _over(node, name), _shapes(node)))  # fmt: skip
    return ops


def _is_turned(node: Node, name: str) -> bool:
    """Whether a product's right side is a parameter as it stands: x @ W, not x @ W.T."""
    return name == "matmul" and isinstance(node.parents[-1], Tensor)


def _over(node: Node, name: str) -> tuple[int, tuple[int, ...]] | None:
    """A softmax's axis and its shape."""
    axis = node.params.get("axis") if name in ("softmax", "log_softmax") else None
    return (axis % max(len(node.shape), 1), tuple(node.shape)) if isinstance(axis, int) else None


def _shapes(node: Node) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
    """A reshape's shapes before and after."""
    edge = node.parents[0] if node.primitive.name in RESHAPES else None
    if not isinstance(edge, tuple):
        return None
    before, at = edge
    shape = before.shape[at] if isinstance(before.dtype, tuple) else before.shape
    return tuple(shape), tuple(node.shape)


def reaches(root: Node, names: Mapping[int, str]) -> tuple[bool, list[Tensor]]:
    """Whether the graph behind a node has a leaf among `names`, and other leaves met till then."""
    seen, nodes = {root}, [root]
    others: list[Tensor] = []
    for node in nodes:
        for parent in node.parents:
            if isinstance(parent, Tensor):
                if id(parent) in names:
                    return True, others
                others.append(parent)
            elif parent is not None and parent[0] not in seen and len(nodes) < LIMIT:
                seen.add(parent[0])
                nodes.append(parent[0])
    return False, others


def strangers(root: Node, names: Mapping[int, str]) -> list[Tensor]:
    """Leaves in the graph behind a node that are not among `names`."""
    seen, nodes = {root}, [root]
    found: dict[int, Tensor] = {}
    for node in nodes:
        for parent in node.parents:
            if isinstance(parent, Tensor) and id(parent) not in names:
                found[id(parent)] = parent
            elif isinstance(parent, tuple) and parent[0] not in seen and len(nodes) < LIMIT:
                seen.add(parent[0])
                nodes.append(parent[0])
    return list(found.values())


def name_of(node: Node) -> str:
    """The name of its operation in `torch.nn.functional`, where it has one."""
    return NAMES.get(node.primitive.name, node.primitive.name)


def _is_formula(node: Node) -> bool:
    """Whether it is an elementwise function that somebody has written."""
    primitive = node.primitive
    unknown = not primitive.listed and name_of(node) not in ACTIVATIONS
    return unknown and primitive.form == "elementwise"


def _sources(node: Node) -> tuple[list[Node], list[Tensor]]:
    """The nodes its values come from, and the leaves it uses, shaped or not."""
    before, own = [], []
    for parent in node.parents:
        if isinstance(parent, Tensor):
            own.append(parent)
        elif parent is not None:
            leaves = _shaped(parent[0])
            own.extend(leaves)
            if not leaves:
                before.append(parent[0])
    return before, own


def _shaped(node: Node, depth: int = 4) -> list[Tensor]:
    """The leaves of which a node is nothing but another form (or a sum); none if it is more."""
    if node.primitive.name not in SHAPING or not depth:
        return []
    found: list[Tensor] = []
    for parent in node.parents:
        if isinstance(parent, Tensor):
            found.append(parent)
        elif parent is not None:
            inner = _shaped(parent[0], depth - 1)
            if not inner:
                return []
            found.extend(inner)
    return found


def _norm(
    kind: str, name: str, before: list[Node], known: list[int], names: Mapping[int, str]
) -> tuple[str, list[Node], list[int]]:
    """A normalization as one operation: from its scale and shift down to what it is given."""
    at, found = before[0], list(known)
    for _ in range(5):
        inner, own = _sources(at)
        if not inner:
            break
        if at.primitive.name in ("standardize", "div"):
            return NORM_NAMES.get(kind, "batch_norm"), inner[:1], found
        if at.primitive.name not in ("mul", "reshape"):
            break
        found += [id(p) for p in own if id(p) in names]
        at = inner[0]
    return name, before, known


def _product(node: Node, before: list[Node]) -> tuple[str, list[Node]]:
    """A multiplication, or what is one: dropout (by a mask), a gated linear unit."""
    if len(before) == 1:
        other = next((a for a in node.saved or () if a is not None), None)
        mask = other.value() if isinstance(other, Tensor) else other
        if isinstance(mask, np.ndarray) and mask.ndim and mask.shape == node.shape:
            top = mask.max(initial=0.0)
            if top > 1 and not mask.all() and bool(((mask == 0) | (mask == top)).all()):
                return "dropout", before
    if len(before) == 2:
        gate = next((n for n in before if n.primitive.name == "sigmoid"), None)
        if gate is not None:
            source = _sources(gate)[0]
            if source and source[0].primitive.name == "split" and source[0] in before:
                return "glu", source
    return "mul", before


__all__ = ["name_of", "reaches", "read", "strangers"]
