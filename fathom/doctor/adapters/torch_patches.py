"""What is patched in PyTorch while someone watches, and put back with the last of them.

`torch.autograd.backward` (which `Tensor.backward` calls) and the loss functions of
`torch.nn.functional` (which the loss modules call) tell every open adapter; nothing else changes.
So do the kernels under them, for losses that were imported by name before the watching began.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Protocol

import torch

LOSSES = (
    "cross_entropy", "nll_loss", "mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss",
    "binary_cross_entropy", "binary_cross_entropy_with_logits", "kl_div", "poisson_nll_loss",
    "gaussian_nll_loss", "soft_margin_loss", "multi_margin_loss", "multilabel_margin_loss",
    "multilabel_soft_margin_loss", "hinge_embedding_loss", "margin_ranking_loss",
    "triplet_margin_loss", "cosine_embedding_loss", "ctc_loss",
)  # fmt: skip

_NN = torch._C._nn
# kernels: the loss, and the names of what they are given behind output and target
KERNELS: tuple[tuple[Any, str, str, tuple[str, ...]], ...] = (
    (_NN, "cross_entropy_loss", "cross_entropy",
     ("weight", "reduction", "ignore_index", "label_smoothing")),
    (_NN, "nll_loss_nd", "nll_loss", ("weight", "reduction", "ignore_index")),
    (_NN, "mse_loss", "mse_loss", ("reduction",)),
    (_NN, "l1_loss", "l1_loss", ("reduction",)),
    (_NN, "smooth_l1_loss", "smooth_l1_loss", ("reduction", "beta")),
    (_NN, "huber_loss", "huber_loss", ("reduction", "delta")),
    (_NN, "binary_cross_entropy", "binary_cross_entropy", ("weight", "reduction")),
    (torch, "binary_cross_entropy_with_logits", "binary_cross_entropy_with_logits",
     ("weight", "pos_weight", "reduction")),
)  # fmt: skip


class Hearer(Protocol):
    """What an open adapter is told."""

    def on_loss(self, function: str, args: tuple[Any, ...], keywords: dict[str, Any],
                value: Any) -> None: ...  # fmt: skip
    def on_loss_error(self, function: str, args: tuple[Any, ...], keywords: dict[str, Any],
                      error: Exception) -> None: ...  # fmt: skip
    def on_backward(self, roots: tuple[Any, ...]) -> bool | None: ...  # true: tell of its end
    def on_backward_end(self) -> None: ...


_hearers: list[Hearer] = []  # what they raise goes through: they see to it themselves
_originals: list[tuple[Any, str, Any]] = []
_depth = [0]  # of loss functions that call each other


def hear(hearer: Hearer) -> None:
    """Tell `hearer` from now on."""
    if not _hearers:
        _put(torch.autograd, "backward", _watched_backward)
        for name in LOSSES:
            _put(torch.nn.functional, name, functools.partial(_watched_loss, name))
        for owner, kernel, name, names in KERNELS:
            if hasattr(owner, kernel):
                _put(owner, kernel, functools.partial(_watched_kernel, name, names))
    _hearers.append(hearer)


def unhear(hearer: Hearer) -> None:
    """Tell `hearer` no more; with the last one everything is as it was."""
    if hearer in _hearers:
        _hearers.remove(hearer)
    if not _hearers:
        while _originals:
            owner, name, original = _originals.pop()
            setattr(owner, name, original)


def _put(owner: Any, name: str, make: Callable[[Any], Any]) -> None:
    original = getattr(owner, name)
    _originals.append((owner, name, original))
    setattr(owner, name, functools.wraps(original)(make(original)))


def _watched_backward(original: Any) -> Any:
    def backward(tensors: Any, *args: Any, **keywords: Any) -> Any:
        several = isinstance(tensors, list | tuple) and bool(tensors)
        if torch.compiler.is_compiling() or not (several or isinstance(tensors, torch.Tensor)):
            return original(tensors, *args, **keywords)
        roots = tuple(tensors) if several else (tensors,)
        attentive = [hearer for hearer in _hearers if hearer.on_backward(roots)]
        result = original(tensors, *args, **keywords)
        for hearer in attentive:
            hearer.on_backward_end()
        return result

    return backward


def _watched_loss(name: str, original: Any) -> Any:
    def loss(*args: Any, **keywords: Any) -> Any:
        if torch.compiler.is_compiling():
            return original(*args, **keywords)
        _depth[0] += 1
        try:
            value = original(*args, **keywords)
        except Exception as error:
            if _depth[0] == 1:
                for hearer in _hearers:
                    hearer.on_loss_error(name, args, keywords, error)
            raise
        finally:
            _depth[0] -= 1
        if not _depth[0]:
            for hearer in _hearers:
                hearer.on_loss(name, args, keywords, value)
        return value

    return loss


def _watched_kernel(name: str, names: tuple[str, ...], original: Any) -> Any:
    def kernel(*args: Any, **keywords: Any) -> Any:
        if _depth[0] or torch.compiler.is_compiling():
            return original(*args, **keywords)
        try:
            value = original(*args, **keywords)
        except Exception as error:
            for given, options in _read(names, args, keywords):
                for hearer in _hearers:
                    hearer.on_loss_error(name, given, options, error)
            raise
        for given, options in _read(names, args, keywords):
            for hearer in _hearers:
                hearer.on_loss(name, given, options, value)
        return value

    return kernel


def _read(
    names: tuple[str, ...], args: tuple[Any, ...], keywords: dict[str, Any]
) -> list[tuple[tuple[Any, ...], dict[str, Any]]]:
    """Output and target a kernel was given, and its options; none where they cannot be read."""
    try:
        given = tuple(_narrow(a) for a in args[:2])
        options = {**dict(zip(names, args[2:], strict=False)), **keywords}
        reduction = options.get("reduction", 1)
        if isinstance(reduction, int):
            options["reduction"] = ("none", "mean", "sum")[reduction]
        return [(given, options)]
    except Exception:  # tensors of other kinds
        return []


def _narrow(value: Any) -> Any:
    """A tensor as it was before it was expanded to another's shape."""
    if not isinstance(value, torch.Tensor) or value.layout is not torch.strided:
        return value
    wide = [i for i, (n, s) in enumerate(zip(value.shape, value.stride(), strict=True))
            if n > 1 and s == 0]  # fmt: skip
    for axis in wide:
        value = value.narrow(axis, 0, 1)
    while wide and value.ndim > 1 and value.shape[0] == 1 and 0 in wide:
        value, wide = value[0], [axis - 1 for axis in wide]
    return value


__all__ = ["LOSSES", "Hearer", "hear", "unhear"]
