"""The rules a `Preprocessor` learns, one for each column, and what it knows of the target."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from fathom.data._checks import counted, listing
from fathom.data.dataset import Task
from fathom.data.stored import Stored
from fathom.data.table import Column, Kind
from fathom.engine.errors import DataError

Mode = Literal["standardize", "scale", "none"]
Floats = NDArray[np.float64]
BLOCK = 4096  # rows computed in float64 at a time


@dataclass(frozen=True)
class Numeric:
    """(value - mean) / scale, `fill` where missing; with `flag` also a 0/1 column "is missing"."""

    name: str
    fill: float
    mean: float
    scale: float
    flag: bool
    kind: Kind = "numeric"

    @staticmethod
    def fit(column: Column) -> Numeric:
        known = column.numbers[~column.missing]
        if not len(known):
            return Numeric(column.name, 0.0, 0.0, 1.0, True)
        fill = float(np.median(known))
        filled = np.where(column.missing, fill, column.numbers)
        mean, scale = mean_scale(filled)
        return Numeric(column.name, fill, mean, scale, bool(column.missing.any()))

    @property
    def outputs(self) -> tuple[str, ...]:
        return (self.name, f"{self.name} missing") if self.flag else (self.name,)

    def apply(self, column: Column, out: NDArray[np.float32], warnings: list[str]) -> None:
        filled = np.where(column.missing, self.fill, column.numbers)
        with np.errstate(over="ignore"):
            out[:, 0] = (filled - self.mean) / self.scale
        if self.flag:
            out[:, 1] = column.missing
        elif column.missing.any():
            warnings.append(
                f"column {self.name!r}: {counted(int(column.missing.sum()), 'missing value')} "
                f"filled with the training median {self.fill:g}; no training row lacked it"
            )


@dataclass(frozen=True)
class Categorical:
    """One 0/1 column for each category of training; with `flag` one more for "is missing"."""

    name: str
    categories: tuple[str, ...]
    flag: bool
    kind: Kind = "categorical"

    @staticmethod
    def fit(column: Column, most: int) -> Categorical:
        seen = sorted(set(column.raw[~column.missing]))
        if len(seen) > most:
            raise DataError(
                f"column {column.name!r} has {len(seen):,} categories in "
                f"{counted(len(column.raw), 'row')}; each would become an input",
                fix=f'leave it out: read_csv(..., drop=["{column.name}"]), or raise max_categories',
            )
        return Categorical(column.name, tuple(seen), bool(column.missing.any()))

    @property
    def outputs(self) -> tuple[str, ...]:
        named = tuple(f"{self.name}={category}" for category in self.categories)
        return (*named, f"{self.name} missing") if self.flag else named

    def apply(self, column: Column, out: NDArray[np.float32], warnings: list[str]) -> None:
        place = {category: i for i, category in enumerate(self.categories)}
        number = np.array([place.get(cell, -1) for cell in column.raw], np.int64)
        number[column.missing] = len(place) if self.flag else -1
        known = np.flatnonzero(number >= 0)
        out[:] = 0
        out[known, number[known]] = 1
        strange = (number < 0) & ~column.missing
        if strange.any():
            names = sorted(set(column.raw[strange]))
            warnings.append(
                f"column {self.name!r}: {counted(int(strange.sum()), 'cell')} with a category not "
                f"seen in training ({listing(names, 5)}); all its inputs are 0"
            )
        if column.missing.any() and not self.flag:
            warnings.append(
                f"column {self.name!r}: {counted(int(column.missing.sum()), 'missing cell')}, but "
                "no training row lacked it; all its inputs are 0"
            )


@dataclass(frozen=True)
class Target:
    """What is predicted: its classes, or the mean and scale a regression target was given."""

    name: str
    task: Task
    classes: tuple[str, ...] = ()
    mean: float = 0.0
    scale: float = 1.0


def plain(rule: Numeric | Categorical | Target) -> dict[str, Any]:
    return {
        key: list(value) if isinstance(value, tuple) else value for key, value in vars(rule).items()
    }


def stored_rule(entry: Stored) -> Numeric | Categorical:
    name, flag = entry.text("name"), entry.flag("flag")
    readers: dict[str, Callable[[], Numeric | Categorical]] = {
        "numeric": lambda: Numeric(
            name, entry.number("fill"), entry.number("mean"), entry.positive("scale"), flag
        ),
        "categorical": lambda: Categorical(name, entry.texts("categories", unique=True), flag),
    }
    return readers[entry.one_of("kind", readers)]()


def stored_target(entry: Stored) -> Target:
    task = entry.one_of("task", get_args(Task))
    classes = entry.texts("classes", unique=True)
    if (task == "classification") != bool(classes):
        raise DataError(f"{entry.where}.classes: {len(classes)} classes do not fit a {task}")
    mean, scale = entry.number("mean"), entry.positive("scale")
    return Target(
        entry.text("name"),
        "classification" if task == "classification" else "regression",
        classes,
        mean,
        scale,
    )


def mean_scale(values: Floats) -> tuple[float, float]:
    scale = float(values.std()) if values.min() < values.max() else 1.0
    return float(values.mean()), scale or 1.0


def statistics(x: NDArray[np.float32], mode: Mode) -> tuple[Floats, Floats]:
    """Mean and scale of each feature, summed in float64 block by block."""
    width = x.shape[1]
    mean, scale = np.zeros(width), np.ones(width)
    if mode == "scale":
        scale[:] = float(np.abs(x).max(initial=0.0)) or 1.0
    if mode == "standardize":
        blocks = [x[start : start + BLOCK] for start in range(0, len(x), BLOCK)]
        mean = sum((b.sum(axis=0, dtype=np.float64) for b in blocks), np.zeros(width)) / len(x)
        square = sum((((b - mean) ** 2).sum(axis=0) for b in blocks), np.zeros(width)) / len(x)
        constant = (x.min(axis=0) == x.max(axis=0)) | (square == 0)
        scale = np.where(constant, 1.0, np.sqrt(square))
    return mean, scale


def target_of(
    name: str, task: Task, classes: tuple[str, ...], values: Floats, standardize: bool
) -> Target:
    if task == "classification" or not standardize:
        return Target(name, task, classes)
    mean, scale = mean_scale(values)
    return Target(name, task, (), mean, scale)
