"""`gradient_flow`: what comes into each layer and what comes back, and what is wrong with it."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from fathom.doctor.probes.recording import Record, Seen, leaves_of
from fathom.doctor.probes.running import differentiated, kind_of, weight_layers
from fathom.doctor.table import Result
from fathom.engine.errors import ArgumentError
from fathom.engine.tensor import Array
from fathom.nn.module import Module
from fathom.optim import Optimizer

RATIO = 1e3  # two layers that differ by more do not learn together
STILL = 1e-7  # relative change of the loss for a relative change of the weights: nothing moves


@dataclass(frozen=True)
class FlowRow:
    """One layer with weights; root mean squares, `gradient` and `weight` Euclidean norms.

    activation : of what comes in. delta : of the gradient with respect to what goes out, times
    the rows of the batch (so that it does not depend on their number). gradient : of the loss
    with respect to the layer's matrices (the gradient of a bias is no more than delta's sum).
    update : length of a step over that of the weights. leverage : gradient * weight / loss, the
    relative change of the loss for a relative change of the weights; it has no unit.
    """

    name: str
    kind: str
    activation: float
    delta: float
    gradient: float
    weight: float
    update: float
    leverage: float


@dataclass(frozen=True, repr=False)
class GradientFlow(Result):
    """See `gradient_flow`.

    verdict : "healthy", "vanishing", "exploding", "forward collapse" or "non-finite".
    ratio_verdict : what the customary test, first against last gradient, would have said alone.
    forward_ratio : what comes into a layer over what comes into the first, where that is
    farthest from 1. gradient_ratio : leverage of the first layer over that of the last.
    non_finite : the first layer with a nan or an infinity, and `phase`, where it was met:
    "forward" or "backward".
    """

    rows: tuple[FlowRow, ...]
    loss: float
    verdict: str
    why: str
    ratio_verdict: str
    forward_ratio: float
    gradient_ratio: float
    non_finite: str | None = None
    phase: str | None = None


def gradient_flow(
    model: Module, loss: Any, x: Any, y: Any, *, lr: float = 0.01,
    optimizer: Optimizer | None = None,
) -> GradientFlow:  # fmt: skip
    """Activations, deltas, gradients and updates of every layer with weights, on one batch.

    loss : a function, or "auto", "cross_entropy", "mse". lr : for `update`, as of plain gradient
    descent; with an `optimizer` the step is its own (taken by a copy of model and optimizer).
    The model's modes stay as they are: `model.train()` first to see what training sees.

    The verdict takes three tests, of which the first that fails counts:

    1. forward: what comes into a layer against what comes into the first, 1/1000 ("forward
       collapse") to 1000 ("exploding"). Where the signal shrinks on its way, delta shrinks in the
       same measure on its way back; their product, the gradient, is then equally small in all
       layers, and a comparison of gradients sees nothing.
    2. ratio: the first layer's gradient against the last one's, each as `leverage`.
    3. absolute: no layer's leverage reaches 1e-7.

    (Hochreiter, 1991; Glorot & Bengio, 2010.)

    >>> import fathom
    >>> from fathom import nn
    >>> data = fathom.data.load("iris")
    >>> with fathom.seed(0):
    ...     model = fathom.models.mlp(4, 3, (16,) * 12, "sigmoid")
    >>> gradient_flow(model, "auto", data.x, data.y).verdict
    'vanishing'
    """
    if not lr > 0.0:
        raise ArgumentError(f"lr must be > 0; received {lr!r}")
    layers = weight_layers(model)
    with differentiated(model, loss, x, y) as (value, seen):
        steps = _steps(model, lr, optimizer)
        calls = [call for call in seen.values() if call.name.partition("#")[0] in layers]
        rows = tuple(_row(call, value, steps, len(calls[0].input)) for call in calls)
        where, phase = _first_non_finite(model, seen)
    forward = _farthest([row.activation for row, call in zip(rows, calls, strict=True)
                         if call.input.dtype.kind == "f"])  # fmt: skip
    backward = _quotient(rows[0].leverage, rows[-1].leverage)
    ratio_verdict = _by_ratio(backward)
    if where is None and not math.isfinite(value):
        where, phase = "", "forward"
    if where is not None:
        verdict, why = "non-finite", f"{where or 'the model'} is the first, {phase}"
    else:
        verdict, why = _judge(rows, value, forward, backward)
    return GradientFlow(
        rows, value, verdict, why, ratio_verdict, forward, backward, where, phase
    )  # fmt: skip


def _row(call: Seen, loss: float, steps: dict[int, Array], batch: int) -> FlowRow:
    parameters = [p for p in call.module._parameters.values() if p is not None and p.ndim > 1]
    gradient = _norm([p.grad.value() for p in parameters if p.grad is not None])
    weight = _norm([p.value() for p in parameters])
    step = _norm([steps[id(p)] for p in parameters if id(p) in steps])
    delta = 0.0 if call.gradient is None else _rms(call.gradient) * batch
    return FlowRow(
        call.name, kind_of(call), _rms(call.input), delta, gradient, weight,
        _quotient(step, weight), _quotient(gradient * weight, abs(loss)),
    )  # fmt: skip


def _steps(model: Module, lr: float, optimizer: Optimizer | None) -> dict[int, Array]:
    """The next change of every parameter, by its id."""
    own = list(model.parameters())
    if optimizer is None:
        return {id(p): lr * p.grad.value() for p in own if p.grad is not None}
    before = [p.value().copy() for p in own]
    twins, twin = copy.deepcopy((own, optimizer))
    twin.step()
    return {id(p): t.value() - b for p, t, b in zip(own, twins, before, strict=True)}


def _judge(
    rows: tuple[FlowRow, ...], loss: float, forward: float, backward: float
) -> tuple[str, str]:
    if forward < 1.0 / RATIO:
        return "forward collapse", f"the signal shrinks to {forward:.2g} of what came in"
    if forward > RATIO:
        return "exploding", f"the signal grows to {forward:.2g} times what came in"
    if (found := _by_ratio(backward)) != "healthy":
        return found, f"the first layer's gradient is {backward:.2g} times the last one's"
    top = max(row.leverage for row in rows)
    if top < STILL and loss:
        return "vanishing", f"no layer moves the loss: the largest leverage is {top:.2g}"
    return "healthy", "the signal and the gradient reach every layer"


def _by_ratio(ratio: float) -> str:
    if math.isnan(ratio):
        return "healthy"
    return "vanishing" if ratio < 1.0 / RATIO else "exploding" if ratio > RATIO else "healthy"


def _first_non_finite(model: Module, seen: Record) -> tuple[str | None, str | None]:
    """The first layer, in the order of computing, at which a value is not finite."""
    calls = list(seen.values())
    for call in calls:
        if not _finite(call.output):
            return call.name, "forward"
    inner = [c for c in calls if not c.module._modules]
    for call in reversed(inner or calls):
        if not _finite(call.delta):
            return call.name, "backward"
    for name, p in reversed(list(model.named_parameters())):
        if p.grad is not None and not _finite(p.grad.value()):
            return name.rpartition(".")[0], "backward"
    return None, None


def _finite(tree: Any) -> bool:
    return all(a.dtype.kind != "f" or bool(np.isfinite(a).all()) for a in leaves_of(tree))


def _farthest(sizes: list[float]) -> float:
    """Of the sizes over the first one, that farthest from 1 in either direction."""
    ratios = [_quotient(size, sizes[0]) for size in sizes[1:]]
    ratios = [r for r in ratios if not math.isnan(r)]
    return max(ratios, key=lambda r: abs(math.log(max(r, 1e-300))), default=1.0)


def _quotient(a: float, b: float) -> float:
    return a / b if b else (math.inf if a else math.nan)


def _rms(a: Array) -> float:
    return float(np.sqrt(np.mean(np.square(a, dtype=np.float64)))) if a.size else 0.0


def _norm(arrays: list[Array]) -> float:
    return math.sqrt(sum(float(np.square(a, dtype=np.float64).sum()) for a in arrays))


__all__ = ["FlowRow", "GradientFlow", "gradient_flow"]
