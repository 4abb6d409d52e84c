"""Progress of training: a live bar on a terminal, one line an epoch when piped."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any, TextIO

from fathom.train.callbacks import Callback

if TYPE_CHECKING:
    from fathom.train.trainer import Trainer


class Progress(Callback):
    """Show how training goes. `file` is standard output by default.

    Follows the terminal's wishes (`NO_COLOR`, `TERM=dumb`, `COLUMNS`) through rich.
    """

    def __init__(self, file: TextIO | None = None) -> None:
        self.file = file
        self.bar: Any = None
        self.told = False  # why steps are not compiled

    def on_train_begin(self, trainer: Trainer) -> None:
        file = self.file or sys.stdout
        self.began = self.shown = time.monotonic()
        self.live = file.isatty()
        self.told = False
        self.tell_eager(trainer)
        if not self.live:
            return
        from rich import progress
        from rich.console import Console

        self.bar = progress.Progress(
            progress.TextColumn("epoch {task.fields[epoch]}/{task.fields[epochs]}"),
            progress.BarColumn(),
            progress.TextColumn("{task.fields[numbers]}"),
            progress.TimeRemainingColumn(),
            console=Console(file=file),
        )
        self.task = self.bar.add_task(
            "", total=trainer.epochs * trainer.batches, completed=trainer.epoch * trainer.batches,
            epoch=trainer.epoch + 1, epochs=trainer.epochs, numbers="",
        )  # fmt: skip
        self.bar.start()

    def tell_eager(self, trainer: Trainer) -> None:
        """Say in one line, once, why steps are not compiled."""
        reason = trainer.eager_because or (trainer.fast.failed if trainer.fast else "")
        if reason and not self.told:
            self.told = True
            print(f"steps are not compiled: {reason}", file=self.file or sys.stdout, flush=True)

    def on_epoch_begin(self, trainer: Trainer, epoch: int) -> None:
        if self.bar:
            self.bar.update(self.task, epoch=epoch)

    def on_batch_end(self, trainer: Trainer, batch: int, loss: float) -> None:
        if self.bar and time.monotonic() - self.shown > 0.1:
            self.shown = time.monotonic()
            self.bar.update(self.task, completed=(trainer.epoch - 1) * trainer.batches + batch)

    def on_epoch_end(self, trainer: Trainer, epoch: int, logs: dict[str, float]) -> None:
        self.tell_eager(trainer)
        numbers = "  ".join(f"{name} {value:.4f}" for name, value in logs.items())
        if self.bar:
            self.bar.update(self.task, completed=epoch * trainer.batches, numbers=numbers)
        else:
            seconds = time.monotonic() - self.began
            line = f"epoch {epoch}/{trainer.epochs}  {numbers}  {seconds:.1f} s"
            print(line, file=self.file or sys.stdout, flush=True)

    def on_train_end(self, trainer: Trainer) -> None:
        if self.bar:
            self.bar.stop()
            self.bar = None
