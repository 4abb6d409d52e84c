"""Losses that are written out by hand, recognised in PyTorch's autograd graph.

Mean squared and absolute errors, cross-entropies of softmax and of sigmoid, hinges: what the loss
was given is put together from what its operations have kept for the backward pass.
"""

from __future__ import annotations

from typing import Any

import torch

from fathom.doctor.adapters.torch_graph import name_of

NEAR = 12  # operations from the loss within which its formula must stand
CHAIN = ("mean", "sum", "neg", "mul", "div", "view", "squeeze", "unsqueeze", "reshape")
Found = tuple[int, str, Any, Any, dict[str, Any]]


def written_call(nodes: list[Any], output: Any) -> Found | None:
    """(number of the node, function, output, target, options) like `torch_graph.kept_call`.

    nodes : the graph, loss first. output : what the model gave in this step.
    """
    near = nodes[:NEAR]
    names = [name_of(node) for node in near]
    reduction = next((n for n in names[:3] if n in ("mean", "sum")), "none")
    if reduction == "none" or "sqrt" in names[:2]:
        return None
    options = {"reduction": reduction}
    try:
        straight = _straight(near)
    except (AttributeError, RuntimeError):  # freed, or another version's names
        straight = None
    if straight is not None:
        return *straight, options
    for i, (node, name) in enumerate(zip(near, names, strict=True)):
        try:
            found = _error(node, name, output) or _entropy(node, name, near)
            if found is None and name == "mul" and _weighs(node):
                return None  # rewards, importance weights: another loss
        except (AttributeError, RuntimeError):  # freed, or another version's names
            continue
        if found is not None:
            if found[0] == "cross_entropy":
                options = {"reduction": "mean"}  # sums over classes, means over examples
            return i, *found, options
    return None


def _straight(near: list[Any]) -> tuple[int, str, Any, Any] | None:
    """Losses that are one chain of operations: -log p of the class, hinges, softplus."""
    at = near[0]
    while name_of(at) in CHAIN and len(at.next_functions) <= 2:
        before = [p for p, _ in at.next_functions if p is not None]
        if len(before) != 1 or (name_of(at) in ("mul", "div") and _weighs(at)):
            return None
        at = before[0]
    found = _chosen(at) or _margin(at)
    return (near.index(at) if at in near else 0, *found) if found is not None else None


def _chosen(node: Any) -> tuple[str, Any, Any] | None:
    """The log-probability of each example's class, gathered or indexed."""
    name, before = name_of(node), _before(node)
    if name not in ("gather", "index") or before is None or name_of(before) != "log_softmax":
        return None
    logs = before._saved_result
    axis = _signed(before._saved_dim) % logs.ndim
    if name == "gather":
        target, along = node._saved_index, _signed(node._saved_dim) % logs.ndim
        fits = logs.ndim == 2 and along == axis == 1 and target.shape == (len(logs), 1)
        return ("nll_loss", logs, target[:, 0]) if fits else None
    given = [i for i in node._saved_indices if i is not None]
    fits = logs.ndim == 2 and len(given) == 2 and axis == 1
    fits = fits and given[0].shape == given[1].shape == (len(logs),)
    fits = fits and bool((given[0] == torch.arange(len(logs), device=logs.device)).all())
    return ("nll_loss", logs, given[1]) if fits else None


def _margin(node: Any) -> tuple[str, Any, Any] | None:
    """max(0, 1 - target * score), log(1 + exp(-target * score))."""
    name, function = name_of(node), "hinge_loss"
    at = _before(node)
    if name in ("softplus", "log1_p", "logsigmoid"):
        function = "soft_margin_loss"
        at = _before(at) if name == "log1_p" and at is not None and name_of(at) == "exp" else at
    elif name not in ("relu", "clamp", "clamp_min"):
        return None
    while at is not None and name_of(at) in ("rsub", "add", "neg", "sub", "view", "squeeze"):
        at = _before(at)
    target = _constant(at) if at is not None and name_of(at) == "mul" else None
    if target is None or target.numel() < 2 or len(torch.unique(target)) != 2:
        return None
    if float(target.max()) <= 0 <= float(target.min()) + 1:  # (-target) * score, of 0 and 1
        target = -target
    score = at._saved_self if target is at._saved_other else at._saved_other
    score = target.new_zeros(_shape(at)) if score is None else score  # it was not kept
    return function, score, target


def _before(node: Any) -> Any:
    """The one node that a node's values come from; None where there are several."""
    found = [p for p, _ in node.next_functions if p is not None]
    return found[0] if len(found) == 1 else None


def _shape(node: Any) -> tuple[int, ...]:
    return tuple(node._input_metadata[0].shape)


def _signed(axis: int) -> int:
    return axis - (1 << 64) if axis >= 1 << 63 else axis


def _error(node: Any, name: str, output: Any) -> tuple[str, Any, Any] | None:
    """(output - target)**2, |output - target|."""
    if not isinstance(output, torch.Tensor):
        return None
    if name == "pow" and float(node._saved_exponent) == 2.0:
        function, apart = "mse_loss", node._saved_self
    elif name == "abs":
        function, apart = "l1_loss", node._saved_self
    elif name == "mul" and node._saved_self is not None and node._saved_self is node._saved_other:
        function, apart = "mse_loss", node._saved_self
    else:
        return None
    before = node.next_functions[0][0]
    if name_of(before) not in ("sub", "rsub"):
        return None
    sides = [parent for parent, _ in before.next_functions]
    if sum(side is not None for side in sides) != 1:
        return None  # both depend on weights: no target
    less = sides[0] is None or name_of(before) == "rsub"  # target - output
    return _aimed_at(function, output.detach(), apart.detach(), less)


def _aimed_at(function: str, output: Any, apart: Any, less: bool) -> tuple[str, Any, Any] | None:
    """The target, from the output and what lies between them."""
    if output.numel() == apart.numel():
        output = output.reshape(apart.shape)
        target = output + apart if less else output - apart
    else:
        both = _spread_out(output, apart, less)
        if both is None:
            return None
        output, target = both
    largest, scale = float(output.abs().max()), float(target.abs().max())
    sharp = largest < 1e4 * max(scale, 1e-3)  # else little is left of the target's digits
    return (function, output, target) if sharp and scale < 1e30 else None


def _spread_out(output: Any, apart: Any, less: bool) -> tuple[Any, Any] | None:
    """Output, as a column or a row, and target, where each was compared with each."""
    n = output.numel()
    if n < 2 or apart.shape != (n, n):
        return None
    slack = 1e-5 * float(apart.abs().max())
    for given, shape, axis in ((output.reshape(n, 1), (n,), 0), (output.reshape(n), (n, 1), 1)):
        target = given + apart if less else given - apart
        if float(target.std(axis, correction=0).max()) <= slack:  # the same for every output
            return given, target.select(axis, 0).reshape(shape)
    return None


def _entropy(node: Any, name: str, near: list[Any]) -> tuple[str, Any, Any] | None:
    """target * log(p), of classes or of one probability; logsumexp less the chosen logit."""
    if name == "logsumexp":
        logits = node._saved_self
        weights = [n for n in near if name_of(n) == "mul"]
        target = next((t for n in weights if (t := _constant(n)) is not None
                       and t.shape == logits.shape and _is_share(t)), None)  # fmt: skip
        return ("cross_entropy", logits, target.float()) if target is not None else None
    target = _constant(node) if name == "mul" else None
    if target is None or not _is_share(target):
        return None
    inside = next((p for p, _ in node.next_functions if p is not None), None)
    if inside is None or name_of(inside) not in ("log", "log_softmax"):
        return None
    if name_of(inside) == "log_softmax":
        logs = inside._saved_result
        same = logs.ndim > 1 and target.shape == logs.shape and _sums_to_one(target)
        return ("nll_loss", logs, target.float()) if same else None
    p = inside._saved_self
    if target.shape != p.shape:
        n = p.numel()  # (n, 1) against (n,): each with each
        each = n > 1 and target.numel() == n and _shape(node) == (n, n)
        return ("binary_cross_entropy", *_positive(p, target, near)) if each else None
    if p.ndim > 1 and p.shape[1] > 1 and _sums_to_one(target):
        return "cross_entropy", p.clamp_min(1e-30).log(), target.float()
    return "binary_cross_entropy", *_positive(p, target, near)


def _positive(p: Any, target: Any, near: list[Any]) -> tuple[Any, Any]:
    """The probability and target of the two terms of which one was met: that of log(p), not of
    log(1 - p)."""
    logs = [n for n in near if name_of(n) == "log"]
    for log in logs:
        if name_of(log.next_functions[0][0]) not in ("rsub", "sub"):
            other = log._saved_self
            same = other is p or (other.shape == p.shape and torch.equal(other, p))
            return other, (target if same else 1.0 - target)
    return p, target


def _weighs(node: Any) -> bool:
    """Whether terms are multiplied by numbers of their own."""
    factor = _constant(node)
    return factor is not None and factor.numel() > 1


def _is_share(target: Any) -> bool:
    """Whether these can be probabilities or labels, and not weights or rewards."""
    low, high = target.detach().float().aminmax()
    whole = bool((target == target.round()).all())
    return bool(torch.isfinite(high)) and (whole or (float(low) >= 0 and float(high) <= 1))


def _sums_to_one(target: Any) -> bool:
    return bool(((target.sum(1) - 1).abs() < 1e-4).all())


def _constant(node: Any) -> Any:
    """The factor of a product that does not depend on the weights."""
    left, right = (parent for parent, _ in node.next_functions)
    if (left is None) == (right is None):
        return None
    return node._saved_self if left is None else node._saved_other


__all__ = ["written_call"]
