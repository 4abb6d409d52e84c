"""Statistics of a sampled step in PyTorch: everything on the device, one transfer at the end."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from fathom.doctor.adapters.array_sample import CHANNELS, FLAT, MANY, RECTIFIERS, ArraySample
from fathom.doctor.case import EMBEDDINGS, Layer, LayerStats, ParameterStats

PART = 1 << 16  # elements of a large parameter that are copied to measure its update
NUMPY = (torch.float32, torch.float64)  # on the host: statistics in NumPy, which is quicker there


class LayerSample(ArraySample):
    """Outputs of layers as they passed, turned into `LayerStats` when the step is over."""

    def __init__(self) -> None:
        super().__init__()
        self.outputs: dict[str, Any] = {}
        self._versions: dict[str, int] = {}
        self._above: dict[str, Any] = {}  # `alive` of those on another device

    def note(self, name: str, output: Any) -> None:
        """Keep a layer's output (the first tensor of several); the last call of a step counts."""
        while isinstance(output, tuple | list) and output:
            output = output[0]
        if isinstance(output, torch.nn.utils.rnn.PackedSequence):
            output = output.data
        if isinstance(output, torch.Tensor) and output.is_floating_point() and output.numel():
            self.outputs[name] = output.detach()
            self._versions[name] = output._version

    @torch.no_grad()
    def stats(self, layers: Mapping[str, Layer], direct: frozenset[str]) -> dict[str, LayerStats]:
        """Statistics of all outputs, in the order of the forward pass."""
        found: dict[str, LayerStats] = {}
        columns: dict[str, Any] = {}
        with np.errstate(all="ignore"):
            for name, z in self.outputs.items():
                layer = layers[name]
                if layer.kind in EMBEDDINGS:
                    continue
                if z.is_cpu and z.dtype in NUMPY and z.layout is torch.strided:
                    rows = layer.rows
                    found[name] = self.of(name, z.numpy(), layer, name in direct)
                    layer.rows = max(layer.rows, rows)  # the last batch of an epoch may be small
                    if z._version != self._versions[name]:  # changed in place: by its activation
                        found[name].flat = math.nan
                else:
                    columns[name] = self._column(name, z, layer, name in direct)
                    found[name] = LayerStats()
        if columns:
            self._fill(found, columns)
        self.outputs.clear()
        return found

    def _fill(self, found: dict[str, LayerStats], columns: dict[str, Any]) -> None:
        """What was worked out on a device, moved over in one go."""
        device = next(iter(columns.values())).device
        table = torch.stack([c.to(device) for c in columns.values()]).cpu().tolist()
        for name, row in zip(columns, table, strict=True):
            mean, std, largest, off, zero, dead, flat, spread = row
            finite = math.isfinite(mean) and math.isfinite(largest)
            found[name] = LayerStats(
                mean, std, largest, off, zero, dead, self.examples.get(name, 0), flat, spread,
                finite=finite,
            )  # fmt: skip

    def _column(self, name: str, z: Any, layer: Layer, direct: bool) -> Any:
        """The same as `of`, on a device."""
        axis = 1 if layer.kind.startswith(CHANNELS) and z.ndim > 2 else z.ndim - 1
        others = [i for i in range(z.ndim) if i != axis] or [0]
        rows = z.numel() // max(z.shape[axis], 1) if z.ndim > 1 else 1
        layer.rows = max(layer.rows, rows)  # the last batch of an epoch may be small
        nan = torch.full((), math.nan, device=z.device)
        low, high = (x.float() for x in torch.aminmax(z))
        if z.numel() > MANY and z.ndim > 1 and len(z) > 1:
            z = z[:: min(-(-z.numel() // MANY), len(z) // 2)]
            rows = z.numel() // max(z.shape[axis], 1)
        z = z.float()
        if rows > 1:
            variance, means = torch.var_mean(z, dim=others, correction=0)
            deviation = variance.sqrt()
            mean = means.mean()
            std = (variance.mean() + means.var(correction=0)).sqrt()
            off = (means.abs() > 3 * deviation).float().mean()
            spread = deviation.mean() / (means.abs().mean() + deviation.mean() + 1e-8)
        else:
            mean, std = z.mean(), z.std(correction=0)
            off = spread = nan
        zero = dead = flat = nan
        if direct and layer.activation in RECTIFIERS:
            zero = (z <= 0).float().mean()
            dead = self._never(name, z, others, rows)
        limit = FLAT.get(layer.activation or "") if direct else None
        if limit is not None and self.outputs[name]._version == self._versions[name]:
            flat = (z.abs() > limit).float().mean()
        largest = torch.maximum(low.abs(), high.abs())
        return torch.stack([mean, std, largest, off, zero, dead, flat, spread])

    def _never(self, name: str, z: Any, others: list[int], rows: int) -> Any:
        """Share of the units that were never above 0, over all samples so far."""
        above = z.amax(dim=others) > 0
        before = self._above.get(name)
        if before is not None and before.shape == above.shape:
            above = above | before
        self._above[name] = above
        self.examples[name] = self.examples.get(name, 0) + rows
        return 1.0 - above.float().mean()


class ParameterSample:
    """Norms of weights and gradients before a step, and of what the step changes."""

    def __init__(self, parameters: Mapping[str, Any]) -> None:
        self._names = [n for n, p in parameters.items() if p.is_floating_point()]
        self._tensors = [parameters[n] for n in self._names]
        with torch.no_grad():
            self._parts = [_part(p) for p in self._tensors]
            self._before = [part.clone() for part in self._parts]
            self._weights = _norms([p.detach() for p in self._tensors])
            self._gradients = _norms([p.grad for p in self._tensors])

    @torch.no_grad()
    def stats(self) -> dict[str, ParameterStats]:
        """After the step."""
        parts = [_part(p) for p in self._tensors]
        changes = _norms([a - b for a, b in zip(parts, self._before, strict=True)])
        found = {}
        for i, name in enumerate(self._names):
            size, part = self._tensors[i].numel(), parts[i].numel()
            update = changes[i] * math.sqrt(size / max(part, 1))
            weight, gradient = self._weights[i], self._gradients[i]
            finite = math.isfinite(weight) and not math.isinf(gradient)
            finite = finite and (self._tensors[i].grad is None or not math.isnan(gradient))
            found[name] = ParameterStats(weight, gradient, update, size, finite)
        return found


def _part(p: Any) -> Any:
    """A parameter, or of a large one evenly spaced elements."""
    flat = p.detach().reshape(-1)
    return flat if flat.numel() <= PART else flat[:: flat.numel() // PART + 1]


def _norms(tensors: list[Any]) -> list[float]:
    """Euclidean norms in one transfer; nan where there is None."""
    places = [i for i, t in enumerate(tensors) if t is not None]
    dense = [tensors[i] for i in places]
    dense = [t.coalesce().values() if t.layout is torch.sparse_coo else t for t in dense]
    found = [math.nan] * len(tensors)
    if dense:
        norms = torch._foreach_norm([t.float() for t in dense])
        for i, value in zip(places, torch.stack(list(norms)).tolist(), strict=True):
            found[i] = value
    return found


__all__ = ["LayerSample", "ParameterSample"]
