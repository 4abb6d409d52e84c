"""Training as it happens: a live panel on a terminal, one line an epoch when piped."""

from __future__ import annotations

import math
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from fathom.cli import console
from fathom.train.callbacks import Callback
from fathom.train.progress import Progress
from fathom.train.trainer import Trainer


def view(file: TextIO, quiet: bool) -> list[Callback]:
    """The callbacks that show progress in `file`: none, lines, or the live panel."""
    if quiet:
        return []
    plain = not file.isatty() or os.environ.get("TERM") == "dumb"
    return [Lines(file) if plain else Live(file)]


class Lines(Progress):
    """One line an epoch; beyond 20 epochs, about 20 lines in all."""

    def on_epoch_end(self, trainer: Trainer, epoch: int, logs: dict[str, float]) -> None:
        every = max(1, trainer.epochs // 20)
        if epoch % every == 0 or epoch in (1, trainer.epochs) or trainer.stopping:
            super().on_epoch_end(trainer, epoch, logs)

    def on_train_begin(self, trainer: Trainer) -> None:
        self.began = time.monotonic()
        self.live = False
        self.tell_eager(trainer)


class Live(Callback):
    """A panel with a bar, the numbers of the epoch, and sparklines of loss and accuracy."""

    def __init__(self, file: TextIO | None = None) -> None:
        self.file = file or sys.stdout
        self.live: Any = None

    def on_train_begin(self, trainer: Trainer) -> None:
        from rich import progress
        from rich.live import Live as RichLive

        out = console.console(self.file)
        if trainer.eager_because:
            out.print(f"steps are not compiled: {trainer.eager_because}", markup=False)
        self.bar = progress.Progress(
            progress.TextColumn("epoch {task.fields[epoch]}/{task.fields[epochs]}"),
            progress.BarColumn(),
            progress.TimeElapsedColumn(),
            progress.TextColumn("left"),
            progress.TimeRemainingColumn(),
            console=out,
        )
        self.task = self.bar.add_task(
            "", total=trainer.epochs * trainer.batches, completed=trainer.epoch * trainer.batches,
            epoch=trainer.epoch, epochs=trainer.epochs,
        )  # fmt: skip
        self.live = RichLive(self.render(trainer), console=out, refresh_per_second=8)
        self.live.start()

    def render(self, trainer: Trainer) -> Any:
        from rich.console import Group
        from rich.text import Text

        rows = []
        columns = trainer.history.columns
        for name in sorted(columns, key=lambda name: (name.removeprefix("val_"), name)):
            values = columns[name]
            style = "yellow" if name.startswith("val_") else "cyan"
            line = Text.assemble(
                (f"{name:>13} ", "bold"), f"{console.number(values[-1]):>9}  ",
                (console.sparkline(_scaled(name, values)), style),
            )  # fmt: skip
            rows.append(line)
        return Group(self.bar, *rows)

    def on_batch_end(self, trainer: Trainer, batch: int, loss: float) -> None:
        done = (trainer.epoch - 1) * trainer.batches + batch
        self.bar.update(self.task, completed=done, epoch=trainer.epoch)

    def on_epoch_end(self, trainer: Trainer, epoch: int, logs: dict[str, float]) -> None:
        self.live.update(self.render(trainer))

    def on_train_end(self, trainer: Trainer) -> None:
        if self.live:
            self.live.update(self.render(trainer))
            self.live.stop()
            self.live = None


def _scaled(name: str, values: list[float]) -> list[float]:
    """Losses by their logarithm, so that late progress is seen too; others as they are."""
    if not name.endswith("loss") or min(values) <= 0:
        return values
    return [math.log(value) for value in values]


class Interrupt(Callback):
    """Ctrl-C ends training after the batch under way; a second one stops at once."""

    def __init__(self) -> None:
        self.pressed = False

    def press(self, *_: Any) -> None:
        """What SIGINT does."""
        if self.pressed:
            raise KeyboardInterrupt
        self.pressed = True

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Take SIGINT inside the block (in the main thread; elsewhere nothing changes)."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = signal.signal(signal.SIGINT, self.press)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    def on_batch_end(self, trainer: Trainer, batch: int, loss: float) -> None:
        if self.pressed:
            raise KeyboardInterrupt

    def on_epoch_end(self, trainer: Trainer, epoch: int, logs: dict[str, float]) -> None:
        if self.pressed:
            trainer.stop("interrupted")
