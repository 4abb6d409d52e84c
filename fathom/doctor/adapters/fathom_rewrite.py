"""Changes of what a copy's `forward` computes, operation by operation, function or module.

Fathom lets a watcher run every operation (`engine.levels.watching`); it may run another one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

from fathom.doctor.adapters.fathom_facts import kind_of
from fathom.doctor.adapters.fathom_graph import NAMES
from fathom.doctor.adapters.graph import ACTIVATIONS
from fathom.doctor.case import NORMS, WEIGHTED
from fathom.engine.levels import watching
from fathom.engine.modes import MODE, GradMode
from fathom.engine.primitive import record
from fathom.engine.tensor import Tensor
from fathom.nn import functional as F
from fathom.nn.module import Module

FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    "relu": F.relu, "leaky_relu": F.leaky_relu, "tanh": F.tanh, "gelu": F.gelu, "silu": F.silu,
    "sigmoid": F.sigmoid, "identity": lambda z: z,
}  # fmt: skip
SQUASHING = ("softmax", "log_softmax")
# elementwise functions that are activations nearly never, or take part in others
PLAIN = ("pow", "square", "abs", "exp", "sin", "cos", "clamp", "maximum")


class Rewrite:
    """What is done in place of an operation.

    swaps : a layer ("" for all) -> the activation behind it. drop_outputs : activations behind
    the last layer do nothing. axis : a softmax over the rows runs over the classes. connected :
    detach() and no_grad() do nothing.
    """

    def __init__(self, model: Module, last: str) -> None:
        self.last = last
        self.swaps: dict[str, Callable[[Any], Any]] = {}
        self.drop_outputs = self.axis = self.connected = False
        self.swapped = 0  # operations that were another one
        self._layer = ""
        self._owner: dict[str, str] = {}  # of normalizations: the layer that they follow
        before = ""
        for name, module in model.named_modules():
            kind = kind_of(module)
            if kind in NORMS:
                self._owner[name] = before
            if kind in WEIGHTED:
                before = name
            if kind in WEIGHTED or kind in NORMS:
                module.register_forward_hook(self._follower(name))

    def _follower(self, name: str) -> Callable[..., None]:
        def follow(module: Any, given: Any, output: Any) -> None:
            self._layer = name

        return follow

    @property
    def busy(self) -> bool:
        return bool(self.swaps or self.drop_outputs or self.axis)

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Inside, operations are what they shall be."""
        self._layer = ""
        with _connected() if self.connected else nullcontext():
            if not self.busy:
                yield
                return
            with watching(self._run):
                yield

    def _run(self, primitive: Any, args: Any, params: dict[str, Any], grad: bool) -> Any:
        name = NAMES.get(primitive.name, primitive.name)
        first: Any = args[0] if args else None
        acts = isinstance(first, Tensor) and self._layer and len(args) == 1
        if acts and name in (*ACTIVATIONS, *SQUASHING) and name not in PLAIN:
            instead = self._instead(name)
            if instead is not None:
                self.swapped += 1
                layer, self._layer = self._layer, ""  # what it computes is not changed again
                try:
                    return instead(first)
                finally:
                    self._layer = layer
            if self.axis and name in SQUASHING and params.get("axis", -1) in (0, -len(first.shape)):
                self.swapped += 1
                params = {**params, "axis": 1}
        return record(primitive, args, params, grad)

    def _instead(self, name: str) -> Callable[[Any], Any] | None:
        layer = self._owner.get(self._layer, self._layer)
        if layer == self.last:
            return FUNCTIONS["identity"] if self.drop_outputs else None
        if name in SQUASHING:
            return None
        return self.swaps.get(self._layer, self.swaps.get(layer, self.swaps.get("")))


@contextmanager
def _connected() -> Iterator[None]:
    """Inside, nothing cuts the graph."""
    detach, enter = Tensor.detach, GradMode.__enter__

    def entered(mode: GradMode) -> None:
        mode._tokens.append(MODE.set(MODE.get()))

    Tensor.detach = lambda self: self  # type: ignore[method-assign]
    GradMode.__enter__ = entered  # type: ignore[method-assign]
    try:
        yield
    finally:
        Tensor.detach, GradMode.__enter__ = detach, enter  # type: ignore[method-assign]


__all__ = ["FUNCTIONS", "Rewrite"]
