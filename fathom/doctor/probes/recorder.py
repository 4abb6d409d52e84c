"""Records of some steps of a training run, taken by a callback."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from fathom.doctor.probes.recording import Filter, Record, record
from fathom.engine.errors import ArgumentError
from fathom.train.callbacks import Callback
from fathom.train.trainer import Trainer


class Recorder(Callback):
    """Call `look(trainer, seen)` with the record of every so-manieth training step.

    look : gets the `Record` of the step: outputs and deltas by name; gradients of the parameters
        are in `p.grad` as after any step. every : steps from one to the next; the first is the
        first of the run. only, inputs : as for `record`.

    Steps in between are as fast as ever, and the steps that are watched run as plans, too, with
    what is recorded as further results.

    >>> import fathom
    >>> data = fathom.data.load("iris")
    >>> found = []
    >>> watch = Recorder(lambda t, seen: found.append((t.steps, seen["0"].delta.shape)), every=10)
    >>> with fathom.seed(0):
    ...     model = fathom.models.mlp(4, 3, (8,))
    >>> _ = model.fit(data.x, data.y, epochs=5, callbacks=[watch], verbose=False)
    >>> found
    [(1, (32, 8)), (11, (32, 8)), (21, (32, 8))]
    """

    def __init__(
        self,
        look: Callable[[Trainer, Record], Any],
        every: int = 100,
        only: Filter = None,
        *,
        inputs: bool = False,
    ) -> None:
        if not isinstance(every, int) or isinstance(every, bool) or every < 1:
            raise ArgumentError(f"Recorder: every must be a whole number >= 1; received {every!r}")
        self.look, self.every, self.only, self.inputs = look, every, only, inputs
        self._block: AbstractContextManager[Record] | None = None

    def on_epoch_begin(self, trainer: Trainer, epoch: int) -> None:
        self._open(trainer)

    def on_batch_end(self, trainer: Trainer, batch: int, loss: float) -> None:
        if self._block is not None:
            try:
                self.look(trainer, self._seen)
            finally:
                self._close()
        if batch < trainer.batches:  # else validation comes first
            self._open(trainer)

    def on_train_end(self, trainer: Trainer) -> None:
        self._close()

    def _open(self, trainer: Trainer) -> None:
        if trainer.steps % self.every == 0:
            self._block = record(trainer.model, self.only, inputs=self.inputs)
            self._seen = self._block.__enter__()

    def _close(self) -> None:
        if self._block is not None:
            self._block.__exit__(None, None, None)
            self._block = None
