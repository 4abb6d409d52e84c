"""The learning-rate range test (Smith, 2017): the loss while the rate grows batch by batch."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from fathom.engine import random
from fathom.engine.errors import ArgumentError, DivergedError
from fathom.engine.tensor import mark_written

if TYPE_CHECKING:
    from fathom.train.compiled import Wanted


@dataclass(frozen=True)
class LRFind:
    """What a range test measured.

    `suggestion` is the rate at which the smoothed loss falls steepest; `lowest` a tenth of the
    rate of its minimum, an upper bound for most uses.
    """

    lrs: list[float]
    losses: list[float]
    smoothed: list[float]
    suggestion: float
    lowest: float
    reason: str = field(default="")

    def plot(self, ax: Any = None) -> Any:
        """Loss over rate with the suggestion marked, on a matplotlib axes, which is returned."""
        if ax is None:
            from matplotlib.figure import Figure

            ax = Figure(figsize=(6, 3.6), layout="constrained").subplots()
        ax.plot(self.lrs, self.losses, alpha=0.35, label="loss of the batch")
        ax.plot(self.lrs, self.smoothed, label="smoothed")
        ax.axvline(self.suggestion, ls="--", label=f"suggestion {self.suggestion:.2g}")
        ax.set_xscale("log")
        ax.set_xlabel("learning rate")
        ax.set_ylabel("loss")
        ax.legend()
        return ax

    def __repr__(self) -> str:
        return (
            f"LRFind(suggestion={self.suggestion:.3g}, lowest={self.lowest:.3g}, "
            f"{len(self.lrs)} steps from {self.lrs[0]:.3g} to {self.lrs[-1]:.3g}; {self.reason})"
        )


def lr_find(
    model: Any,
    x: Any,
    y: Any,
    *,
    start: float = 1e-6,
    end: float = 10.0,
    steps: int = 100,
    batch_size: int = 32,
    loss: Any = "auto",
    optimizer: str | dict[str, Any] = "adam",
    smooth: float = 0.9,
    diverge: float = 4.0,
    seed: int = 0,
    compile: Wanted = "auto",
) -> LRFind:
    """Train with a rate that grows from `start` to `end` in equal factors, and watch the loss.

    loss, optimizer : as in `fit`, by name with options or without.
    smooth : share of the past in the running mean of the loss (bias-corrected).
    diverge : end where the smoothed loss is above so many times its best.
    compile : whether steps run as a compiled plan, as in `fit`; an `EagerWarning` says why not.

    Weights, buffers, gradients, mode and random streams are afterwards as they were.

    >>> import fathom
    >>> data = fathom.data.load("moons", n=200)
    >>> with fathom.seed(0):
    ...     model = fathom.models.mlp(2, 2, hidden=(16,))
    >>> found = lr_find(model, data.x, data.y)
    >>> 1e-4 < found.suggestion < 1
    True
    """
    from fathom.data.loader import DataLoader
    from fathom.nn.named import named
    from fathom.optim import make
    from fathom.train.arguments import as_inputs, as_targets, at_least_one
    from fathom.train.compiled import tell_eager
    from fathom.train.losses import find_loss
    from fathom.train.measure import check_outputs
    from fathom.train.trainer import Trainer

    if not 0 < start < end:
        raise ArgumentError(f"lr_find: 0 < start < end is needed; received {start!r} and {end!r}")
    if not 0 <= smooth < 1 or not diverge > 1:
        raise ArgumentError(
            f"lr_find: smooth must lie in [0, 1) and diverge above 1; received {smooth!r} and "
            f"{diverge!r}"
        )
    inputs = as_inputs(model, x)
    targets = as_targets(y, inputs, loss)
    check_outputs(model, inputs, targets, loss)
    rng = random.Random(seed)
    size = min(at_least_one(batch_size, "batch_size"), len(inputs))
    loader = DataLoader(inputs, targets, size, shuffle=True, rng=rng)
    name, options = named(optimizer, "optimizer")
    moved = make(name, model.parameters(), **{**options, "lr": start})
    moved.check_finite = True
    if moved.needs_closure:
        raise ArgumentError(f"lr_find: {name} has no rate to search for")
    trainer = Trainer(
        model, loader, find_loss(loss, targets), moved, {}, None, (), 1, rng, compile=compile
    )
    if trainer.eager_because:
        tell_eager("the range test", trainer.eager_because)
    lrs = np.geomspace(start, end, at_least_one(steps, "steps")).tolist()
    losses: list[float] = []
    reason = f"reached {end:g}"
    kept = _State(model)
    try:
        model.train()
        with random.use(rng):
            for lr, (xb, yb) in zip(lrs, _endless(loader), strict=False):
                for group in moved.param_groups:
                    group["lr"] = lr
                losses.append(trainer.run_step(1, len(xb), (xb, yb, None))[0])
                now = smoothed(losses, smooth)
                if now[-1] > diverge * min(now) and len(losses) > 5:
                    reason = f"the loss rose to {diverge:g} times its best"
                    break
    except DivergedError as error:
        loss_itself = error.message.startswith("the loss")
        reason = f"the {'loss' if loss_itself else 'update'} was no longer finite"
    finally:
        kept.restore()
    if len(losses) < 3:
        raise DivergedError(
            f"the range test diverged after {len(losses)} steps, at a rate of {start:g}",
            fix="a smaller start, or standardized inputs",
        )
    curve = smoothed(losses, smooth)
    best, lowest = suggest_lr(lrs[: len(losses)], curve)
    return LRFind(lrs[: len(losses)], losses, curve, best, lowest, reason)


def _endless(loader: Any) -> Iterator[Any]:
    return itertools.chain.from_iterable(itertools.repeat(loader))


def smoothed(values: list[float], share: float) -> list[float]:
    """The running mean, corrected for its start at 0.

    >>> smoothed([2.0, 2.0], 0.9)
    [2.0, 2.0]
    """
    mean, found = 0.0, []
    for t, value in enumerate(values, start=1):
        mean = share * mean + (1.0 - share) * value
        found.append(mean / (1.0 - share**t))
    return found


def suggest_lr(lrs: list[float], curve: list[float]) -> tuple[float, float]:
    """(the rate of the steepest descent over log rate, a tenth of the rate of the minimum)."""
    last = max(int(np.argmin(curve)), 2)
    slopes = np.gradient(np.asarray(curve[: last + 1]), np.log(lrs[: last + 1]))
    return float(lrs[int(np.argmin(slopes))]), float(lrs[last]) / 10.0


class _State:
    """All a trial run can change in a model."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.modes = [(m, m.training) for m in model.modules()]
        self.grads = [(p, p.grad) for p in model.parameters()]
        tensors = [*model.parameters(), *model.buffers()]
        self.values = [(t, t.value().copy()) for t in tensors]

    def restore(self) -> None:
        for tensor, value in self.values:
            tensor.value()[...] = value
            mark_written(tensor)
        for p, grad in self.grads:
            p.grad = grad
        for module, training in self.modes:
            object.__setattr__(module, "training", training)
