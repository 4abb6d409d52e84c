"""What both engines' adapters stand on: nothing of theirs raises into the loop that is watched.

`safe` wraps whatever an engine calls: what goes wrong in it is noted, and watching ends there.
Parts that can be missed (`Base.part`) are switched off alone. `Hook` is not carried along by
copies of a model.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

from fathom.doctor.adapters.adapter import Listener
from fathom.doctor.case import BATCH_NORMS, DROPOUTS, NAN, Case, Layer, LossCall

ROWS, ELEMENTS = 4096, 1 << 18  # of outputs, targets and inputs that are kept
EARLY = 16  # steps in which the loop's habits are looked at closely
START = 1 << 23  # elements of a model whose first weights are kept for trials


def inert() -> Callable[..., None]:
    """What is left of a hook in a copy or a pickled model: of the standard library, so that a
    model saved while it is watched can be loaded where there is no Fathom."""
    return nullcontext().__exit__


class Hook:
    """A hook that a copy of the model, or a pickled one, does not carry along."""

    passive = True  # compiled plans need not heed it

    def __init__(self, act: Callable[..., None]) -> None:
        self._act = act

    def __call__(self, *args: Any) -> None:
        self._act(*args)

    def __deepcopy__(self, memo: Any) -> Any:
        return inert()

    def __reduce__(self) -> Any:
        return getattr, (nullcontext(), "__exit__")


class Base:
    """A run's case, and what becomes of errors in watching it."""

    case: Case
    listener: Listener

    def __init__(self) -> None:
        self.broken = False  # nothing is watched any more
        self.off: set[str] = set()  # parts that failed
        self._replaying = False
        self._first_loss: float | None = None

    def note(self, text: str) -> None:
        """Something the user should know of."""
        if text not in self.case.notes:
            self.case.notes.append(text)

    def weigh(self, loss: Any) -> Any:
        """A step's loss, counted where it is not finite or far above the first one."""
        if isinstance(loss, float):  # not on another device
            usage = self.case.usage
            self._first_loss = loss if self._first_loss is None else self._first_loss
            usage.broken += not math.isfinite(loss)
            usage.high += loss > 2.0 * self._first_loss > 0.0
        return loss

    def fail(self, error: Exception, what: str = "watching") -> None:
        """Note an error, and watch no more; what the listener raises on purpose goes on."""
        if error is getattr(getattr(self, "listener", None), "raised", None):
            raise error
        self.broken = True
        self.note(f"{what} ended: {type(error).__name__}: {error}")

    def part(self, name: str, act: Callable[..., Any], *args: Any, default: Any = None) -> Any:
        """What a part of the watching gives; the default if it fails, and from then on."""
        if name in self.off:
            return default
        try:
            return act(*args)
        except Exception as error:
            if error is getattr(self.listener, "raised", None):
                raise
            self.off.add(name)
            self.note(f"{name}: off, because of {type(error).__name__}: {error}")
            return default


def safe(method: Callable[..., Any]) -> Callable[..., Any]:
    """A method of a `Base` that an engine calls: it never stops what is watched."""

    @functools.wraps(method)
    def call(self: Any, *args: Any, **keywords: Any) -> Any:
        if self.broken or self._replaying:
            return None
        try:
            return method(self, *args, **keywords)
        except Exception as error:
            self.fail(error)
            return None

    return call


def rows_kept(shape: Sequence[int], *others: Sequence[int]) -> int:
    """How many rows of arrays that belong together are kept: at most 4,096, and of wide ones so
    many as make a quarter of a million elements.

    >>> rows_kept((100_000, 10)), rows_kept((100_000, 3000)), rows_kept((100_000,), (100_000, 3000))
    (4096, 87, 87)
    """
    width = 1
    for each in (shape, *others):
        size = 1
        for n in each[1:]:
            size *= n
        width = max(width, size)
    return max(min(ROWS, ELEMENTS // width), 64)


def ordered(layers: dict[str, Layer], names: Sequence[str]) -> dict[str, Layer]:
    """Layers in the order of the forward pass; those not in it stay behind the one before them."""
    known = {name: i for i, name in enumerate(names)}
    rank, at = {}, -1
    for name in layers:
        at = rank[name] = known.get(name, at)
    return {n: layers[n] for n in sorted(layers, key=rank.__getitem__)}


def spread(call: LossCall) -> float:
    """Standard deviation over examples of the outputs, over their mean absolute value."""
    output = call.output.reshape(len(call.output), -1) if call.output.ndim else call.output
    if output.ndim < 2 or len(output) < 2:
        return NAN
    return float(output.std(axis=0).mean() / (abs(output).mean() + 1e-8))


def is_noisy(layer: Layer) -> bool:
    """Whether a layer behaves differently in train and eval mode."""
    drops = layer.kind in DROPOUTS and layer.options.get("p", 0) > 0
    return layer.kind in BATCH_NORMS or drops


__all__ = ["EARLY", "START", "Base", "Hook", "inert", "is_noisy", "ordered", "rows_kept", "safe",
           "spread"]  # fmt: skip
