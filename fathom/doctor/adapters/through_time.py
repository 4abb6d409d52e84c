"""How far back in time gradients reach in plain recurrent layers, from what those have put out.

h_t = f(W h_(t-1) + ...): a gradient with respect to h_t is W^T (f'(h_t) * gradient) with respect to
h_(t-1), which for tanh and relu is known from h alone. Bengio, Simard and Frasconi (1994).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from fathom.doctor.case import Layer, LayerStats, Parameter
from fathom.engine.tensor import Array

EXAMPLES, STEPS = 4, 64  # that are looked at: the first ones, the last ones
LEAST, WORK = 16, 1 << 22  # steps of however wide layers; steps times weights
READ = 1e-3  # of the largest gradient: what is less at a time step, is not read there
GONE = 1e-12
Told = Callable[[str, Any], None]


class ThroughTime:
    """States of plain recurrent layers in a sampled step, the time first; fills
    `LayerStats.memory` when it is over."""

    def __init__(self, array: Callable[[Any], Array | None]) -> None:
        self._array = array  # a tensor of the engine's as an array
        self._states: dict[str, Array] = {}
        self._turned: dict[str, bool] = {}  # time is the second axis
        self._handles: list[Any] = []

    def note(self, layer: Layer, output: Any, gradient: Told) -> None:
        """Keep what a layer has put out; `gradient` is to be called with its gradient."""
        states: Any = output[0] if isinstance(output, tuple) and output else None
        plain = layer.kind == "RNN" and not layer.options.get("bidirectional")
        if not plain or getattr(states, "ndim", 0) != 3 or not states.requires_grad:
            return
        turned, own = bool(layer.options.get("batch_first")), states.detach()
        found = self._array(own[:EXAMPLES] if turned else own[:, :EXAMPLES])
        if found is not None:
            self._turned[layer.name] = turned
            self._states[layer.name] = found.swapaxes(0, 1) if turned else found
            name = layer.name
            self._handles.append(states.register_hook(lambda g: gradient(name, g)))

    def came_back(self, name: str, gradient: Any) -> None:
        """The loss's gradient with respect to a layer's states: where it comes from earlier ones,
        too, nothing has to go back through time."""
        found = self._array(gradient)
        if found is None or name not in self._states:
            return
        g = found.swapaxes(0, 1) if self._turned[name] else found
        read = np.abs(g).max(axis=(1, 2))
        if float(read[: len(read) // 2].max(initial=0.0)) > READ * float(read.max(initial=0.0)):
            del self._states[name]

    def fill(
        self, stats: Mapping[str, LayerStats], layers: Mapping[str, Layer],
        parameters: Mapping[str, Parameter],
    ) -> None:  # fmt: skip
        """Once the step is over."""
        for name, states in self._states.items():
            last = int(layers[name].options.get("num_layers", 1)) - 1
            weight = parameters.get(f"{name}.weight_hh_l{last}" if name else f"weight_hh_l{last}")
            if weight is not None and name in stats:
                relu = layers[name].options.get("nonlinearity") == "relu"
                stats[name].memory = kept(states, weight.value(), relu=relu)
        while self._handles:
            self._handles.pop().remove()
        self._states.clear()


def kept(states: Array, weight: Array, *, relu: bool = False) -> float:
    """What is left of a gradient's length when it has come from the last state to the first; of
    long sequences what it loses at the first `STEPS`, or fewer of wide layers, says how it goes on.

    states : (time, examples, units). weight : (units, units), of the states before.

    >>> states = np.zeros((21, 2, 3))  # tanh is steepest there
    >>> round(kept(states, 0.5 * np.eye(3)) * 2**20, 6)
    1.0
    """
    ways = len(states) - 1
    h = states[-max(min(STEPS, WORK // weight.size), LEAST) :].astype(np.float32)
    slope = (h > 0).astype(np.float32) if relu else 1.0 - h * h
    g = np.random.default_rng(0).normal(size=h.shape[1:]).astype(np.float32)
    lengths = [float(np.linalg.norm(g))]
    for at in range(len(h) - 1, 0, -1):
        g = (g * slope[at]) @ weight
        lengths.append(float(np.linalg.norm(g)))
        if not GONE * lengths[0] < lengths[-1] < np.inf:
            return lengths[-1] / lengths[0]
    gone = len(lengths) - 1
    half = gone // 2
    rate = (lengths[-1] / lengths[half]) ** (1.0 / max(gone - half, 1))
    return lengths[-1] / lengths[0] * min(rate ** (ways - gone), 1.0 / GONE)


__all__ = ["ThroughTime", "kept"]
