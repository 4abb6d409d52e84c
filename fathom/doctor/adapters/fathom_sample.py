"""Statistics of a sampled step in NumPy, in few passes over what is there."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from fathom.doctor.adapters.array_sample import ArraySample
from fathom.doctor.case import EMBEDDINGS, NAN, Layer, LayerStats, ParameterStats
from fathom.engine.tensor import Array, Tensor

PART = 1 << 16  # elements of a large parameter that are copied to measure its update


class LayerSample(ArraySample):
    """Outputs of layers as they passed, turned into `LayerStats` when the step is over."""

    def __init__(self) -> None:
        super().__init__()
        self.outputs: dict[str, tuple[Array, int, Tensor]] = {}

    def note(self, name: str, output: Any) -> None:
        """Keep a layer's output (the first tensor of several); the last call of a step counts."""
        while isinstance(output, tuple | list) and output:
            output = output[0]
        if isinstance(output, Tensor) and not output.level:
            array = output.value()
            if array.dtype.kind == "f" and array.size:
                self.outputs[name] = array, output.version, output

    def stats(self, layers: Mapping[str, Layer], direct: frozenset[str]) -> dict[str, LayerStats]:
        """Statistics of all outputs, in the order of the forward pass."""
        found = {}
        with np.errstate(all="ignore"):
            for name, (z, version, tensor) in self.outputs.items():
                layer = layers[name]
                if layer.kind not in EMBEDDINGS and tensor.version == version:
                    found[name] = self.of(name, z, layer, name in direct)
        self.outputs.clear()
        return found


class ParameterSample:
    """Norms of weights and gradients before a step, and of what the step changes."""

    def __init__(self, parameters: Mapping[str, Tensor]) -> None:
        self._parameters = {n: p for n, p in parameters.items() if p.dtype.kind == "f"}
        self._before = [_part(p.value()).copy() for p in self._parameters.values()]
        self._weights = _norms(p.value() for p in self._parameters.values())
        self.note_gradients()

    @property
    def has_gradients(self) -> bool:
        """Whether there was one for any parameter."""
        return not all(math.isnan(g) for g in self._gradients)

    def note_gradients(self) -> None:
        """Take the gradients as they are now."""
        gradients = (p.grad for p in self._parameters.values())
        self._gradients = _norms(None if g is None else g.value() for g in gradients)

    def stats(self) -> dict[str, ParameterStats]:
        """After the step."""
        parts = [_part(p.value()) for p in self._parameters.values()]
        with np.errstate(all="ignore"):
            changes = _norms(a - b for a, b in zip(parts, self._before, strict=True))
        found = {}
        for i, (name, p) in enumerate(self._parameters.items()):
            update = changes[i] * math.sqrt(p.size / max(parts[i].size, 1))
            weight, gradient = self._weights[i], self._gradients[i]
            finite = math.isfinite(weight) and math.isfinite(update) and not math.isinf(gradient)
            finite = finite and (p.grad is None or not math.isnan(gradient))
            found[name] = ParameterStats(weight, gradient, update, p.size, finite)
        return found


def _part(array: Array) -> Array:
    """An array laid out flat, or of a large one evenly spaced elements."""
    flat = array.reshape(-1)
    return flat if flat.size <= PART else flat[:: flat.size // PART + 1]


def _norms(arrays: Iterable[Array | None]) -> list[float]:
    """Euclidean norms; nan where there is None."""
    with np.errstate(all="ignore"):
        return [NAN if a is None else _norm(a.reshape(-1)) for a in arrays]


def _norm(flat: Array) -> float:
    """In float64 where float32 does not reach."""
    square = float(np.dot(flat, flat))
    if square and not 1e-30 < square < math.inf:
        wide = flat.astype(np.float64)
        square = float(np.dot(wide, wide))
    return math.sqrt(square) if square >= 0 else NAN


__all__ = ["LayerSample", "ParameterSample"]
