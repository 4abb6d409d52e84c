"""The doctor inside other people's loops: Lightning's `Trainer`, and that of Hugging Face.

Their classes are made when asked for; neither library is needed by Fathom, nor loaded before.
"""

from __future__ import annotations

import importlib
import math
from typing import Any

from fathom.doctor.callback import Attending
from fathom.doctor.watching import watch
from fathom.engine.errors import FathomError


class MissingLibraryError(FathomError, ImportError):
    """A library that is asked for is not installed."""


class _Visiting(Attending):
    """What both callbacks share: a `Watch` that is opened and closed."""

    _options: dict[str, Any]

    def _begin(self, model: Any, optimizer: Any, steps: float) -> None:
        self._end()
        planned = int(steps) if math.isfinite(steps) and steps > 0 else None
        self.watch = watch(model, optimizer, planned_steps=planned, **self._options)
        self.watch.__enter__()
        self._open = True

    def _end(self) -> None:
        if getattr(self, "_open", False) and self.watch is not None:
            self._open = False
            self.watch.__exit__(None, None, None)

    def _validated(self, loss: Any) -> None:
        if self.watch is not None and loss is not None:
            self.watch.validation(float(loss))


def lightning_callback(*, validation: str = "val_loss", **options: Any) -> Any:
    """A callback for Lightning: `Trainer(callbacks=[fathom.doctor.lightning_callback()])`.

    validation : the name under which the loss on validation data is logged. options : those of
    `watch` (quiet, report, on_finding, ...). After training it has `findings`, `watch` and
    `treat`. Several optimizers are watched as one, round by round. Raises `MissingLibraryError`
    where neither `lightning` nor `pytorch_lightning` is installed.
    """
    callbacks = _import("lightning.pytorch", "pytorch_lightning", needed="lightning")

    class LightningDoctor(_Visiting, callbacks.Callback):  # type: ignore[misc, name-defined]
        """Watches the fit of a Lightning trainer."""

        def __init__(self) -> None:
            super().__init__()
            self._options = options

        def on_train_start(self, trainer: Any, pl_module: Any) -> None:
            found = [_bare(optimizer) for optimizer in trainer.optimizers]
            steps = float(getattr(trainer, "estimated_stepping_batches", math.inf))
            self._begin(_inner(pl_module), found, steps)

        def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
            if not getattr(trainer, "sanity_checking", False):
                self._validated(trainer.callback_metrics.get(validation))

        def on_train_end(self, trainer: Any, pl_module: Any) -> None:
            self._end()

        def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
            self._end()

    return LightningDoctor()


def trainer_callback(**options: Any) -> Any:
    """A callback for Hugging Face: `Trainer(..., callbacks=[fathom.doctor.trainer_callback()])`.

    options : those of `watch` (quiet, report, on_finding, ...). After training it has `findings`,
    `watch` and `treat`. Raises `MissingLibraryError` where `transformers` is not installed.
    """
    transformers = _import("transformers", needed="transformers")

    class TrainerDoctor(_Visiting, transformers.TrainerCallback):  # type: ignore[misc, name-defined]
        """Watches a run of `transformers.Trainer`."""

        def __init__(self) -> None:
            super().__init__()
            self._options = options

        def on_train_begin(self, args: Any, state: Any, control: Any, **given: Any) -> None:
            self._begin(given["model"], _bare(given.get("optimizer")), float(state.max_steps))

        def on_evaluate(self, args: Any, state: Any, control: Any, **given: Any) -> None:
            self._validated((given.get("metrics") or {}).get("eval_loss"))

        def on_train_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:
            self._end()

    return TrainerDoctor()


def _import(*names: str, needed: str) -> Any:
    """The first of these modules that is there."""
    for name in names:
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    raise MissingLibraryError(f"{needed} is not installed", fix=f"pip install {needed}")


def _bare(optimizer: Any) -> Any:
    """The optimizer inside the wrappers of Lightning and Accelerate."""
    seen: set[int] = set()
    while hasattr(optimizer, "optimizer") and id(optimizer) not in seen:
        seen.add(id(optimizer))
        optimizer = optimizer.optimizer
    return optimizer


def _inner(module: Any) -> Any:
    """The one child with all the parameters, which a `training_step` calls, or the module."""
    own = {id(p) for p in module.parameters()}
    for child in module.children():
        if own and {id(p) for p in child.parameters()} == own:
            return child
    return module


__all__ = ["MissingLibraryError", "lightning_callback", "trainer_callback"]
