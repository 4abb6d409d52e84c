"""Activations, softmaxes, dropout and detach() of a model changed while it runs, not in its code.

A PyTorch function mode sees every call inside `forward`, whether a module makes it or a function,
so an edit works the same for `nn.ReLU()`, `F.relu(x)` and `x.relu()`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

ACTIVATIONS: dict[str, Callable[[Any], Any]] = {
    "relu": F.relu, "leaky_relu": F.leaky_relu, "tanh": torch.tanh, "gelu": F.gelu,
    "silu": F.silu, "sigmoid": torch.sigmoid, "elu": F.elu, "identity": lambda x: x,
}  # fmt: skip
HIDDEN = frozenset({
    "relu", "relu_", "leaky_relu", "leaky_relu_", "tanh", "tanh_", "gelu", "silu", "sigmoid",
    "sigmoid_", "elu", "elu_", "selu", "celu", "softplus", "softsign", "hardtanh", "hardsigmoid",
    "hardswish", "mish", "relu6", "prelu", "softmax", "log_softmax", "threshold", "logsigmoid",
})  # fmt: skip
SOFTMAXES = frozenset({"softmax", "log_softmax", "softmin"})
DROPOUTS = frozenset({"dropout", "dropout_", "dropout1d", "dropout2d", "dropout3d",
                      "alpha_dropout", "feature_alpha_dropout"})  # fmt: skip
OUTPUTS = HIDDEN | SOFTMAXES | DROPOUTS | {"clamp", "clip", "exp", "log", "abs"}


class Rewrite(TorchFunctionMode):
    """What is changed, while the model runs inside it.

    swaps : for the name of a layer ("" for all) the activation in place of the one behind it.
    last : name of the last layer; drop_outputs: what stands behind it is left out. axis: softmax
    runs over the classes. connected : detach(), .data and no_grad() do nothing. dropout : the
    probability of dropout functions.
    """

    def __init__(self) -> None:
        super().__init__()
        self.swaps: dict[str, Callable[[Any], Any]] = {}
        self.last = ""
        self.drop_outputs = self.axis = self.connected = False
        self.dropout: float | None = None
        self.swapped = 0  # activations changed in the last forward pass
        self._at: str | None = None  # the layer that has just run

    @property
    def busy(self) -> bool:
        """Whether there is anything to change."""
        return bool(self.swaps or self.drop_outputs or self.axis or self.connected
                    or self.dropout is not None)  # fmt: skip

    def follow(self, model: Any) -> None:
        """Know which layer has just run."""
        for name, module in model.named_modules():
            if list(module.parameters(recurse=False)):
                module.register_forward_hook(_Note(self, name))

    def passed(self, name: str) -> None:
        """A layer with parameters has run."""
        self._at = name

    def begin(self) -> None:
        """A forward pass begins."""
        self._at, self.swapped = None, 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        options = kwargs or {}
        name = getattr(func, "__name__", "")
        given: Any = args[0] if args else options.get("input")
        behind = self._at == self.last
        if behind and self.drop_outputs and name in OUTPUTS:
            return given
        if behind and self.axis and name in SOFTMAXES:
            return getattr(F, name)(given, dim=1 if given.ndim > 1 else 0)
        if name in HIDDEN and not behind:
            swap = self.swaps.get(self._at or "", self.swaps.get(""))
            if swap is not None:
                self.swapped += 1
                return swap(given)
        if self.dropout is not None and name in DROPOUTS and len(args) < 3:
            return func(given, **{**options, "p": self.dropout})
        if self.connected and _cuts(func, name, args):
            return given if name != "_set_grad_enabled" else func(True)
        return func(*args, **options)


def _cuts(func: Any, name: str, args: Any) -> bool:
    """Whether a call cuts the graph: detach(), .data, and the start of a no_grad block."""
    if name in ("detach", "detach_"):
        return True
    if name == "_set_grad_enabled":
        return bool(args) and args[0] is False
    return name == "__get__" and getattr(func, "__self__", None) is torch.Tensor.data


class _Note:
    """A forward hook that a copy carries along with its mode."""

    def __init__(self, mode: Rewrite, name: str) -> None:
        self.mode, self.name = mode, name

    def __call__(self, module: Any, given: Any, output: Any) -> None:
        self.mode.passed(self.name)


__all__ = ["ACTIVATIONS", "Rewrite"]
