"""PyTorch's autograd graph as `graph.Op`s, and the loss calls that stand in it."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from typing import Any

from fathom.doctor.adapters.graph import Op
from fathom.doctor.adapters.reshaping import RESHAPES

LIMIT = 20_000  # nodes looked at
NAMES = {
    "addmm": "linear", "mm": "linear", "convolution": "conv", "native_batch_norm": "batch_norm",
    "cudnn_batch_norm": "batch_norm", "native_layer_norm": "layer_norm",
    "native_group_norm": "group_norm", "nll_loss2_d": "nll_loss", "nll_loss_nd": "nll_loss",
    "native_dropout": "dropout", "log_sigmoid": "logsigmoid", "safe_softmax": "softmax",
    "scaled_dot_product_flash_attention_for_cpu": "attention",
    "scaled_dot_product_efficient_attention": "attention", "mkldnn_rnn_layer": "rnn",
    "cudnn_rnn": "rnn", "max_pool2_d_with_indices": "max_pool", "thnn_fused_lstm_cell": "rnn",
    "threshold": "relu", "hardtanh": "hardtanh", "baddbmm": "matmul", "bmm": "matmul",
    "embedding_bag": "embedding", "addbmm": "linear", "linalg_vector_norm": "norm",
    "avg_pool2_d": "avg_pool", "adaptive_avg_pool2_d": "avg_pool", "prelu_kernel": "prelu",
    "fused_rms_norm": "rms_norm",
}  # fmt: skip
LOSSES = {  # autograd nodes which keep what a loss was given
    "nll_loss": "nll_loss", "mse_loss": "mse_loss", "smooth_l1_loss": "smooth_l1_loss",
    "huber_loss": "huber_loss", "binary_cross_entropy": "binary_cross_entropy",
    "binary_cross_entropy_with_logits": "binary_cross_entropy_with_logits",
    "soft_margin_loss": "soft_margin_loss",
}  # fmt: skip


def name_of(node: Any) -> str:
    """ "ReluBackward0" -> "relu", "AddmmBackward0" -> "linear"."""
    return _plain(type(node).__name__)


@functools.cache
def _plain(name: str) -> str:
    plain = re.sub(r"(Backward\d*|Backward)$", "", name)
    snake = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", plain).lower()
    return NAMES.get(snake, snake)


def read(
    root: Any, owners: Mapping[int, str], names: Mapping[int, str]
) -> tuple[list[Op], list[Any]]:
    """The graph behind a node, root first, and the nodes.

    owners : id of a parameter -> its layer's name. names : id of a parameter -> its name.
    """
    numbers: dict[Any, int] = {root: 0}
    nodes = [root]
    ops: list[Op] = []
    for node in nodes:
        inputs, own = [], []
        for parent, _ in node.next_functions:
            if parent is None:
                continue
            leaf = leaf_of(parent)
            if leaf is not None:
                own.append(leaf)
                continue
            if parent not in numbers:
                if len(nodes) >= LIMIT:
                    continue
                numbers[parent] = len(nodes)
                nodes.append(parent)
            inputs.append(numbers[parent])
        known = [id(p) for p in own if id(p) in names]
        layer = next((owners[i] for i in known), "")
        name = "dropout" if is_dropout(node) else name_of(node)
        ops.append(Op(name, tuple(inputs), layer, tuple(names[i] for i in known),
                      turned=_is_turned(node, name), over=_over(node, name),
                      shapes=_shapes(node, name)))  # fmt: skip
    return ops, nodes


def _is_turned(node: Any, name: str) -> bool:
    """Whether a product's right side is a parameter as it stands: x @ W, not x @ W.T."""
    right = node.next_functions[-1][0] if name == "linear" else None
    return getattr(right, "variable", None) is not None


def _over(node: Any, name: str) -> tuple[int, tuple[int, ...]] | None:
    """A softmax's axis, counted from the first, and its shape."""
    if name not in ("softmax", "log_softmax"):
        return None
    try:
        axis, shape = int(node._saved_dim), tuple(node._input_metadata[0].shape)
    except (AttributeError, IndexError, RuntimeError):  # another version's names
        return None
    axis = axis - (1 << 64) if axis >= 1 << 63 else axis
    return axis % max(len(shape), 1), shape


def _shapes(node: Any, name: str) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
    """A reshape's shapes before and after."""
    if name not in RESHAPES:
        return None
    try:
        return tuple(node._saved_self_sym_sizes), tuple(node._input_metadata[0].shape)
    except (AttributeError, IndexError, RuntimeError):  # another version's names
        return None


def is_dropout(node: Any) -> bool:
    """Whether a product is one with a mask of 0 and 1/(1 - p): on the CPU dropout is one."""
    if type(node).__name__ != "MulBackward0":
        return False
    try:
        mask = node._saved_other
    except (AttributeError, RuntimeError):  # freed
        return False
    if mask is None or not mask.is_floating_point() or mask.requires_grad or mask.ndim < 2:
        return False
    values = set(mask.detach().reshape(-1)[:256].tolist())
    return len(values) == 2 and min(values) == 0.0 and max(values) > 1.0


def strangers(root: Any, own: Mapping[int, str]) -> dict[int, Any]:
    """Leaves in the graph behind a node that are not among the model's parameters, by their id."""
    found: dict[int, Any] = {}
    seen = {root}
    nodes = [root]
    for node in nodes:
        leaf = getattr(node, "variable", None)
        if leaf is not None and id(leaf) not in own:
            found[id(leaf)] = leaf
        for parent, _ in node.next_functions:
            if parent is not None and parent not in seen and len(nodes) < LIMIT:
                seen.add(parent)
                nodes.append(parent)
    return found


def reaches(root: Any, names: Mapping[int, str]) -> bool:
    """Whether the graph behind a node has a parameter of the model's."""
    seen, nodes = {root}, [root]
    for node in nodes:
        if id(getattr(node, "variable", None)) in names:
            return True
        for parent, _ in node.next_functions:
            if parent is not None and parent not in seen and len(nodes) < LIMIT:
                seen.add(parent)
                nodes.append(parent)
    return False


def near(root: Any, most: int = 24) -> list[Any]:
    """The nodes right behind a loss, breadth first."""
    nodes = [root]
    for node in nodes:
        for parent, _ in node.next_functions:
            if parent is not None and len(nodes) < most and parent not in nodes:
                nodes.append(parent)
    return nodes


def leaf_of(node: Any) -> Any:
    """The parameter behind an AccumulateGrad, also through the transposition of a matrix."""
    seen = 0
    while node is not None and seen < 4:
        found = getattr(node, "variable", None)
        if found is not None:
            return found
        if type(node).__name__ not in ("TBackward0", "TransposeBackward0", "ToCopyBackward0",
                                       "PermuteBackward0"):  # fmt: skip
            return None
        node = node.next_functions[0][0]
        seen += 1
    return None


def kept_call(nodes: list[Any]) -> tuple[int, str, Any, Any, dict[str, Any]] | None:
    """(number of the node, function, output, target, options) of the first loss in a graph.

    For calls that were not seen as such: `torch.nn.functional` imported by name, or losses
    inside a function of the user's.
    """
    for i, node in enumerate(nodes):
        name = name_of(node)
        if name not in LOSSES:
            continue
        try:
            output, target = node._saved_self, node._saved_target
            reduction = ("none", "mean", "sum")[int(node._saved_reduction)]
        except (AttributeError, RuntimeError):  # freed, or another version's names
            continue
        options: dict[str, Any] = {"reduction": reduction}
        if name == "nll_loss":
            ignored = int(node._saved_ignore_index)
            options["ignore_index"] = ignored if abs(ignored) < 2**31 else -100
            before = node.next_functions[0][0]
            while before is not None and name_of(before) in (
                "view",
                "permute",
                "reshape",
                "squeeze",
            ):
                before = before.next_functions[0][0]
            if before is not None and name_of(before) == "log_softmax":
                name = "cross_entropy"
        return i, name, output, target, options
    return None


__all__ = [
    "LIMIT",
    "LOSSES",
    "is_dropout",
    "kept_call",
    "leaf_of",
    "name_of",
    "near",
    "reaches",
    "read",
    "strangers",
]
