"""`History`: what was measured in each epoch, as columns, rows, table and plot."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any


class History:
    """Measurements of a training run, one row an epoch.

    >>> history = History()
    >>> history.append(loss=0.5, val_loss=0.6)
    >>> history.append(loss=0.4, val_loss=0.7)
    >>> history["loss"]
    [0.5, 0.4]
    >>> history.best("val_loss")
    (1, 0.6)
    """

    def __init__(self, columns: Mapping[str, list[float]] | None = None) -> None:
        self.columns: dict[str, list[float]] = {k: list(v) for k, v in (columns or {}).items()}
        self.stop_reason = ""

    @property
    def history(self) -> dict[str, list[float]]:
        """Keras' name for `columns`."""
        return self.columns

    @property
    def epochs(self) -> int:
        """Number of epochs done."""
        return max(map(len, self.columns.values()), default=0)

    def append(self, **row: float) -> None:
        """Add one epoch. Columns that come up late are filled with nan before."""
        done = self.epochs
        for name, value in row.items():
            self.columns.setdefault(name, [math.nan] * done).append(float(value))
        for name, column in self.columns.items():
            if name not in row:
                column.append(math.nan)

    def best(self, monitor: str) -> tuple[int, float]:
        """The epoch (from 1) in which a measurement was best, and its value there."""
        column = self.columns[monitor]
        sign = 1.0 if higher_is_better(monitor) else -1.0
        scores = [-math.inf if math.isnan(v) else sign * v for v in column]
        i = scores.index(max(scores))
        return i + 1, column[i]

    def __getitem__(self, name: str) -> list[float]:
        return self.columns[name]

    def __len__(self) -> int:
        return self.epochs

    def rows(self) -> Iterator[dict[str, float]]:
        """One dictionary an epoch."""
        for i in range(self.epochs):
            yield {"epoch": i + 1, **{name: column[i] for name, column in self.columns.items()}}

    def to_dict(self) -> dict[str, list[float]]:
        """The columns, as plain lists."""
        return {name: list(column) for name, column in self.columns.items()}

    def table(self) -> str:
        """The rows as aligned text."""
        names = ["epoch", *self.columns]
        lines = [names] + [
            [str(int(row["epoch"])), *(f"{row[n]:.4g}" for n in self.columns)]
            for row in self.rows()
        ]
        widths = [max(len(line[i]) for line in lines) for i in range(len(names))]
        return "\n".join(
            "  ".join(cell.rjust(w) for cell, w in zip(line, widths, strict=True)).rstrip()
            for line in lines
        )

    def plot(self, ax: Any = None) -> Any:
        """Losses over epochs on a matplotlib axes (a new one by default), which is returned."""
        if ax is None:
            from matplotlib.figure import Figure

            ax = Figure(figsize=(6, 3.6), layout="constrained").subplots()
        for name, column in self.columns.items():
            if name.endswith("loss"):
                ax.plot(range(1, len(column) + 1), column, label=name)
        ax.set_xlabel("epoch")
        ax.set_ylabel("loss")
        ax.legend()
        return ax

    def __repr__(self) -> str:
        if not self.columns:
            return "History(0 epochs)"
        last = {name: column[-1] for name, column in self.columns.items()}
        values = ", ".join(f"{name}={value:.4g}" for name, value in last.items())
        return f"History({self.epochs} epochs: {values})"

    def _repr_html_(self) -> str:
        head = "".join(f"<th>{name}</th>" for name in ("epoch", *self.columns))
        body = "".join(
            "<tr>" + "".join(f"<td>{value:.4g}</td>" for value in row.values()) + "</tr>"
            for row in self.rows()
        )
        return f"<table><tr>{head}</tr>{body}</table>"


SCORES = (
    "accuracy", "auc", "average_precision", "balanced_accuracy", "f1", "kappa", "matthews",
    "precision", "r2", "recall", "roc_auc", "top_5",
)  # fmt: skip


def higher_is_better(monitor: str) -> bool:
    """Whether a measurement is to grow (accuracy, r2, f1) or to shrink (losses, errors).

    >>> higher_is_better("val_f1"), higher_is_better("val_loss")
    (True, False)
    """
    return monitor.removeprefix("val_") in SCORES
