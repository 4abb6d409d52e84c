"""`Doctor`: the callback of `fit` that watches a run and says what is wrong with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fathom.doctor.finding import Finding
from fathom.doctor.watching import Watch, watch
from fathom.train.callbacks import Callback
from fathom.train.trainer import Trainer


class Attending:
    """What the callbacks for all trainers share. watch : the `Watch`, once training has begun."""

    watch: Watch | None = None

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Causes found so far."""
        return () if self.watch is None else self.watch.findings

    def treat(self, finding: Finding | int = 0, **options: Any) -> Finding:
        """Try a finding's fix on copies of the run; see `watch`."""
        if self.watch is None:
            raise RuntimeError("the run has not begun")
        return self.watch.treat(finding, **options)


class Doctor(Attending, Callback):
    """Watch a run of `fit`; afterwards `findings` has at most three causes, the likeliest first.

    Parameters
    ----------
    stop : end training (after the epoch) when something is gravely wrong.
    quiet : print nothing at the end. report : where an HTML report is to be written.
    options : those of `watch` (every, budget, on_finding).

    The run stays what it is, bit for bit, and compiled steps stay compiled. Validation losses
    are looked at, too.

    Attributes: `watch`, the `Watch` (its case, coverage, overhead, `treat`), and `findings`.

    >>> import fathom
    >>> from fathom import nn
    >>> data = fathom.data.load("iris")
    >>> with fathom.seed(0):
    ...     model = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 3), nn.Softmax(1))
    >>> seen = Doctor(quiet=True)
    >>> _ = model.fit(data.x, data.y, loss="cross_entropy", epochs=3, callbacks=[seen],
    ...               verbose=False)
    >>> seen.findings[0].kind
    'softmax_before_cross_entropy'
    """

    def __init__(
        self, *, stop: bool = False, quiet: bool = False, report: str | Path | None = None,
        **options: Any,
    ) -> None:  # fmt: skip
        self.stop = stop
        self._told = options.pop("on_finding", None)
        self._options = {"quiet": quiet, "report": report, **options}
        self._trainer: Trainer | None = None

    def on_train_begin(self, trainer: Trainer) -> None:
        steps = -(-trainer.batches // trainer.accumulate) * (trainer.epochs - trainer.epoch)
        self._trainer = trainer
        self.watch = watch(trainer.model, trainer.optimizer, trainer.loss, planned_steps=steps,
                           on_finding=self._found, **self._options)  # fmt: skip
        self.watch.__enter__()

    def on_epoch_end(self, trainer: Trainer, epoch: int, logs: dict[str, float]) -> None:
        if self.watch is not None and "val_loss" in logs:
            self.watch.validation(logs["val_loss"])

    def on_train_end(self, trainer: Trainer) -> None:
        if self.watch is not None and self._trainer is not None:
            self._trainer = None
            self.watch.__exit__(None, None, None)

    def _found(self, finding: Finding) -> None:
        if self._told is not None:
            self._told(finding)
        if self.stop and self._trainer is not None:
            self._trainer.stop(f"the doctor found {finding.kind}")


__all__ = ["Attending", "Doctor"]
