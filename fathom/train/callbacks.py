"""Callbacks: everything in training that is not the loop. Hook names are Keras'."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from fathom.engine.errors import ArgumentError, suggest
from fathom.engine.tensor import Array
from fathom.train.history import higher_is_better

if TYPE_CHECKING:
    from fathom.train.trainer import Trainer


MODES = ("auto", "min", "max")


class Callback:
    """Base: override the hooks you need. `trainer` has the model, optimizer and history.

    Set `trainer.stop("reason")` to end training after the current epoch.
    """

    def on_train_begin(self, trainer: Trainer) -> None: ...
    def on_train_end(self, trainer: Trainer) -> None: ...
    def on_epoch_begin(self, trainer: Trainer, epoch: int) -> None: ...
    def on_epoch_end(self, trainer: Trainer, epoch: int, logs: dict[str, float]) -> None: ...
    def on_batch_end(self, trainer: Trainer, batch: int, loss: float) -> None: ...

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run must know, as JSON values."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None: ...

    def arrays(self) -> dict[str, Array]:
        """Arrays a resumed run must know."""
        return {}

    def load_arrays(self, arrays: dict[str, Array]) -> None: ...


class EarlyStopping(Callback):
    """Stop when `monitor` has not improved for `patience` epochs; keep the best weights.

    Parameters
    ----------
    monitor : a column of the history, by default "val_loss" (or "loss" without validation).
    patience : epochs without improvement before the end; None never stops, but still keeps
        the best weights.
    min_delta : smaller changes are no improvement.
    restore_best_weights : give the model its best weights when training ends, however it ends.
    mode : whether the measurement is to shrink ("min") or to grow ("max"); "auto" lets scores
        (accuracy, r2, f1, auc, ...) grow and all else shrink.
    baseline : a value that has to be beaten; epochs that do not are no improvement.

    Of several, the one that stopped the run gives its best weights; if none did, the first.

    >>> EarlyStopping("val_f1").better_when
    'max'
    """

    def __init__(
        self,
        monitor: str | None = None,
        patience: int | None = 5,
        min_delta: float = 0.0,
        restore_best_weights: bool = True,
        *,
        mode: str = "auto",
        baseline: float | None = None,
    ) -> None:
        if patience is not None and patience < 1:
            raise ArgumentError(f"EarlyStopping: patience must be >= 1; received {patience}")
        if not 0.0 <= min_delta < math.inf:
            raise ArgumentError(f"EarlyStopping: min_delta must be >= 0; received {min_delta!r}")
        if mode not in MODES:
            raise ArgumentError(
                f"EarlyStopping: unknown mode {mode!r}", fix=suggest(str(mode), MODES)
            )
        self.wanted = monitor
        self.patience = patience
        self.min_delta = float(min_delta)
        self.restore_best_weights = restore_best_weights
        self.mode, self.baseline = mode, baseline
        self.forget()

    @property
    def better_when(self) -> str:
        """ "min" or "max"."""
        if self.mode != "auto":
            return self.mode
        return "max" if self.monitor and higher_is_better(self.monitor) else "min"

    def forget(self) -> None:
        self.monitor = self.wanted
        self.best = math.nan
        self.best_epoch = 0
        self.stopped = False
        self.weights: dict[str, Array] = {}

    def on_train_begin(self, trainer: Trainer) -> None:
        if trainer.epoch == 0:
            self.forget()
        else:  # a resumed run, which may have come to its end before
            self.stop_if_exhausted(trainer, trainer.epoch)

    def on_epoch_end(self, trainer: Trainer, epoch: int, logs: dict[str, float]) -> None:
        if self.monitor is None:
            self.monitor = "val_loss" if "val_loss" in logs else "loss"
        if self.monitor not in logs:
            raise ArgumentError(
                f"EarlyStopping: no measurement {self.monitor!r}",
                fix=suggest(self.monitor, logs) + "; val_... needs validation data",
            )
        if self.improves(logs[self.monitor]):
            self.best, self.best_epoch = logs[self.monitor], epoch
            if self.restore_best_weights:
                self.weights = trainer.copy_weights()
        else:
            self.stop_if_exhausted(trainer, epoch)

    def improves(self, value: float) -> bool:
        """Whether a value is better than the best (or the baseline) by more than `min_delta`."""
        best = self.best
        if math.isnan(best):
            if self.baseline is None:
                return True
            best = self.baseline
        return (value - best if self.better_when == "max" else best - value) > self.min_delta

    def stop_if_exhausted(self, trainer: Trainer, epoch: int) -> None:
        if self.patience is not None and epoch - self.best_epoch >= self.patience:
            self.stopped = True
            trainer.stop(f"no better {self.monitor} for {self.patience} epochs")

    def on_train_end(self, trainer: Trainer) -> None:
        rivals = [c for c in trainer.callbacks if isinstance(c, EarlyStopping) and c.weights]
        if rivals and self is next((c for c in rivals if c.stopped), rivals[0]):
            trainer.model.load_state_dict(self.weights)

    def state_dict(self) -> dict[str, Any]:
        best = None if math.isnan(self.best) else self.best
        return {"monitor": self.monitor, "best": best, "best_epoch": self.best_epoch}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.monitor = state["monitor"]
        self.best = math.nan if state["best"] is None else state["best"]
        self.best_epoch = state["best_epoch"]

    def arrays(self) -> dict[str, Array]:
        return self.weights

    def load_arrays(self, arrays: dict[str, Array]) -> None:
        self.weights = arrays


class ModelCheckpoint(Callback):
    """Save the whole run to a folder after every `every` epochs; kill-safe, resumable."""

    def __init__(
        self,
        path: str | os.PathLike[str],
        every: int = 1,
        extra: dict[str, Any] | None = None,
    ) -> None:
        if every < 1:
            raise ArgumentError(f"ModelCheckpoint: every must be >= 1; received {every}")
        self.path = path
        self.every = every
        self.extra = extra or {}

    def on_epoch_end(self, trainer: Trainer, epoch: int, logs: dict[str, float]) -> None:
        if epoch % self.every == 0:
            trainer.save(self.path, self.extra)


class TimeLimit(Callback):
    """Stop after the epoch in which `seconds` have passed."""

    def __init__(self, seconds: float) -> None:
        if not isinstance(seconds, int | float) or not seconds > 0:
            raise ArgumentError(f"TimeLimit: seconds must be a number > 0; received {seconds!r}")
        self.seconds = seconds

    def on_train_begin(self, trainer: Trainer) -> None:
        import time

        self.end = time.monotonic() + self.seconds

    def on_epoch_end(self, trainer: Trainer, epoch: int, logs: dict[str, float]) -> None:
        import time

        if time.monotonic() >= self.end:
            trainer.stop(f"time limit of {self.seconds:g} s")


class LambdaCallback(Callback):
    """Hooks from plain functions: `LambdaCallback(on_epoch_end=lambda t, epoch, logs: ...)`."""

    def __init__(self, **hooks: Any) -> None:
        known = [name for name in vars(Callback) if name.startswith("on_")]
        for name, hook in hooks.items():
            if name not in known:
                raise ArgumentError(f"unknown hook {name!r}", fix=suggest(name, known))
            setattr(self, name, hook)


class CSVLogger(Callback):
    """One row an epoch to a CSV file, written as training goes on."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = path

    def on_epoch_end(self, trainer: Trainer, epoch: int, logs: dict[str, float]) -> None:
        import csv

        first = epoch == 1 or not os.path.exists(self.path)
        with open(self.path, "w" if first else "a", newline="") as file:
            writer = csv.writer(file)
            if first:
                writer.writerow(["epoch", *logs])
            writer.writerow([epoch, *logs.values()])


# -- in a checkpoint -----------------------------------------------------------------------------


def slots(callbacks: Sequence[Callback]) -> dict[str, Callback]:
    """A name for each callback: its class, and a number from the second of that class on.

    >>> list(slots([EarlyStopping(), Callback(), EarlyStopping()]))
    ['EarlyStopping', 'Callback', 'EarlyStopping 2']
    """
    named: dict[str, Callback] = {}
    for callback in callbacks:
        kind = type(callback).__name__
        number = 1 + sum(type(other).__name__ == kind for other in named.values())
        named[kind if number == 1 else f"{kind} {number}"] = callback
    return named


def _prefix(slot: str) -> str:
    """What stands before the names of a callback's arrays: nothing for the best weights."""
    return "" if slot == "EarlyStopping" else f"{slot}/"


def states(callbacks: Sequence[Callback]) -> dict[str, Any]:
    """The state of each callback."""
    return {slot: callback.state_dict() for slot, callback in slots(callbacks).items()}


def kept_arrays(callbacks: Sequence[Callback]) -> dict[str, Array]:
    """The arrays of all callbacks."""
    every = slots(callbacks).items()
    return {_prefix(slot) + name: a for slot, c in every for name, a in c.arrays().items()}


def load_states(
    callbacks: Sequence[Callback], kept: dict[str, Any], arrays: dict[str, Array]
) -> None:
    """Give each callback its state and its arrays again."""
    prefixes = [_prefix(slot) for slot in kept if _prefix(slot)]
    for slot, callback in slots(callbacks).items():
        if kept.get(slot):
            callback.load_state_dict(kept[slot])
        own = _prefix(slot)
        others = tuple(p for p in prefixes if p != own)
        found = {
            name[len(own) :]: array
            for name, array in arrays.items()
            if name.startswith(own) and not (others and name.startswith(others))
        }
        if found:
            callback.load_arrays(found)
