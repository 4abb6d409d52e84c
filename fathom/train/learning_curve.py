"""What the curves of a training say: good, under- or overfit, diverging, or not done yet."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fathom.engine.errors import ArgumentError
from fathom.engine.tensor import Array

ADVICE = {
    "good": "keep the weights of the best epoch; more epochs will change little",
    "underfit": "a larger network, more features, less regularization, or a better learning rate",
    "overfit": "stop early, more data or augmentation, weight decay or dropout, a smaller network",
    "diverging": "a smaller learning rate, gradient clipping, or standardized inputs",
    "improving": "train longer: the loss is still falling",
}


@dataclass(frozen=True)
class Verdict:
    """`kind` is a key of `ADVICE`; `stop_at` the epoch (from 1) whose weights to keep."""

    kind: str
    stop_at: int
    gap: float  # final validation loss above the final training loss, as a share of the former
    rise: float  # final validation loss above its best, as a share of the fall before it
    trend: float  # fall of the loss over the last quarter, as a share of the whole fall
    why: str
    advice: str

    def __str__(self) -> str:
        return f"{self.kind} (keep epoch {self.stop_at}): {self.why}; {self.advice}"


def smooth(values: Sequence[float] | Array, window: int | None = None) -> Array:
    """A centred running median, then mean: spikes go, the shape stays."""
    v = np.asarray(values, np.float64)
    width = window or max(1, len(v) // 10)
    width += 1 - width % 2
    if width == 1:
        return v
    padded = np.pad(v, width // 2, mode="edge")
    medians = np.median(np.lib.stride_tricks.sliding_window_view(padded, width), axis=-1)
    padded = np.pad(medians, width // 2, mode="edge")
    return np.asarray(np.lib.stride_tricks.sliding_window_view(padded, width).mean(axis=-1))


def diagnose(
    history: Any,
    val_loss: Sequence[float] | None = None,
    *,
    target: float | None = None,
    baseline: float | None = None,
    tolerance: float = 0.1,
    window: int | None = None,
) -> Verdict:
    """Judge a `History`, a dictionary of columns, or training losses (with `val_loss`).

    target : a training loss that counts as fitted; without it, one below half of the baseline.
    baseline : the loss of a model that knows nothing (ln(classes) for cross-entropy); by
        default the first training loss.
    tolerance : shares below it are noise: of the fall of the loss, and of the rise after its
        best epoch. Changes below three times the scatter of epochs are noise, too.

    The rules, in this order: a loss that is not finite or ends above where it began is
    *diverging*; a validation loss that rises by more than `tolerance` of its fall after its best
    epoch, or never falls while the training loss does, is *overfit*; a loss that still falls by
    more than `tolerance` of its whole fall in the last quarter is *improving*; a training loss
    that is not fitted is *underfit*; the rest is *good*.

    >>> fall = [2.0 * 0.8**t + 0.1 for t in range(40)]
    >>> diagnose(fall, [v + 0.02 for v in fall]).kind
    'good'
    >>> diagnose(fall, [v + 0.02 * t for t, v in enumerate(fall)]).kind
    'overfit'
    """
    train, val = _columns(history, val_loss)
    if len(train) < 4:
        raise ArgumentError(f"a verdict needs 4 epochs or more; received {len(train)}")
    watched = train if val is None else val
    if not np.isfinite(train).all() or not np.isfinite(watched).all():
        bad = ~(np.isfinite(train) & np.isfinite(watched))
        sound = np.where(np.isfinite(watched), watched, np.inf)
        why = f"the loss is not finite from epoch {int(np.argmax(bad)) + 1} on"
        return _verdict("diverging", int(np.argmin(sound)) + 1, math.nan, math.nan, math.nan, why)
    curve, seen = smooth(train, window), smooth(watched, window)
    start, end = float(train[0]), float(curve[-1])
    best = int(np.argmin(seen))
    fall = max(float(watched[0]) - float(seen[best]), 1e-12)
    stop_at = int(np.argmin(np.where(np.arange(len(seen)) <= best, watched, np.inf))) + 1
    scale = max(abs(start) * 0.05, fall)
    level = float(np.median(watched[-max(3, len(watched) // 8) :]))  # where it stands at the end
    rise = (level - float(seen[best])) / scale
    gap = (float(seen[-1]) - end) / max(abs(float(seen[-1])), 1e-12)
    noise = 3.0 * 1.4826 * float(np.median(np.abs(watched - seen)))  # of single epochs
    quarter = max(len(curve) // 4, 1)
    trend = (float(seen[-1 - quarter]) - float(seen[-1])) / max(fall, 1e-12)
    numbers = (stop_at, gap, rise, trend)
    floor = start if baseline is None else float(baseline)
    if end > start * (1.0 + tolerance) or end > 2.0 * float(curve.min()) + 0.5 * abs(start):
        why = f"the training loss ends at {end:.3g}, above its best {float(curve.min()):.3g}"
        return _verdict("diverging", *numbers, why)
    if val is not None and rise > tolerance and rise * scale > noise and end < start:
        why = f"the validation loss rose by {rise:.0%} of its fall after epoch {best + 1}"
        return _verdict("overfit", *numbers, why)
    fitted = end <= target if target is not None else end <= 0.5 * floor
    falling = fall > 0.05 * abs(start)
    if trend > tolerance and trend * fall > noise and falling:
        why = f"{trend:.0%} of the fall came in the last quarter"
        return _verdict("improving", *numbers, why)
    if val is not None and fitted and gap > 0.5 and seen[-1] > 0.3 * floor:
        why = f"the validation loss stays {gap:.0%} above the training loss"
        return _verdict("overfit", *numbers, why)
    if not fitted:
        why = f"the training loss stays at {end:.3g} (it began at {start:.3g})"
        return _verdict("underfit", *numbers, why)
    return _verdict("good", *numbers, f"the loss settled at {float(seen[-1]):.3g}")


def _verdict(kind: str, stop: int, gap: float, rise: float, trend: float, why: str) -> Verdict:
    return Verdict(kind, stop, gap, rise, trend, why, ADVICE[kind])


def _columns(history: Any, val_loss: Sequence[float] | None) -> tuple[Array, Array | None]:
    columns = getattr(history, "columns", history)
    if isinstance(columns, Mapping):
        if "loss" not in columns:
            raise ArgumentError(f"the history has no column 'loss'; it has {', '.join(columns)}")
        train, val = columns["loss"], columns.get("val_loss")
    else:
        train, val = columns, val_loss
    a = np.asarray(train, np.float64)
    b = None if val is None else np.asarray(val, np.float64)
    if b is not None and a.shape != b.shape:
        raise ArgumentError(f"training has {len(a)} epochs and validation {len(b)}")
    return a, b


# -- can it learn at all? ------------------------------------------------------------------------


@dataclass(frozen=True)
class Overfit:
    """How a copy of a model learned one batch by heart."""

    passed: bool
    first: float
    last: float
    steps: int
    losses: list[float]

    def __str__(self) -> str:
        said = "learned" if self.passed else "did not learn"
        return f"{said} one batch: loss {self.first:.4g} -> {self.last:.4g} in {self.steps} steps"


def overfit_batch(
    model: Any,
    x: Any,
    y: Any,
    *,
    rows: int = 16,
    steps: int = 300,
    lr: float = 1e-2,
    optimizer: str | dict[str, Any] = "adam",
    loss: Any = "auto",
    target: float = 0.05,
) -> Overfit:
    """Whether a copy of the model can bring one batch to a share `target` of its first loss.

    A network that cannot has a fault in its wiring, its loss or its data, not in its size. The
    copy trains without dropout; the model itself is not touched.

    >>> import fathom
    >>> data = fathom.data.load("iris")
    >>> with fathom.seed(0):
    ...     model = fathom.models.mlp(4, 3, hidden=(32,))
    >>> overfit_batch(model, data.x, data.y).passed
    True
    """
    twin = copy.deepcopy(model)
    for module in twin.modules():
        if type(module).__name__.lower().endswith(("dropout", "dropout1d", "dropout2d")):
            module.p = 0.0
    few = min(rows, len(x))
    order = np.random.default_rng(0).permutation(len(x))[:few]
    given_x, given_y = np.asarray(x)[order], np.asarray(y)[order]
    history = twin.fit(
        given_x, given_y, epochs=steps, batch_size=few, lr=lr, optimizer=optimizer, loss=loss,
        metrics=(), verbose=False,
    )  # fmt: skip
    losses = history["loss"]
    return Overfit(losses[-1] <= target * losses[0], losses[0], losses[-1], len(losses), losses)
