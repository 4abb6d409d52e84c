"""`train_many`: many small networks of one architecture, trained at once.

Seeds times settings, each network as it would be alone: its own initial weights, its own order
of the rows, its own optimizer, its own random masks. They share one native plan, whose vectors go
across networks: 16 of them (8 on a machine with AVX2) take a step at once, thousands of steps
without the interpreter, on every core.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fathom.engine.errors import ArgumentError
from fathom.engine.modes import no_grad
from fathom.engine.tensor import Array, Tensor
from fathom.train.losses import find_loss
from fathom.train.squadron import Run, Settings, Squadron

ENGINES = ("steps", "native", "lanes")  # the slowest first


@dataclass
class Fleet:
    """What became of many networks; `runs` in the order of settings, then seeds."""

    runs: list[Run]
    engine: str  # "lanes": vectors across networks; "native": one plan, in turn; else "steps"
    note: str = ""  # why not all of them were trained in lanes
    loss: Any = field(repr=False, default=None)

    @property
    def losses(self) -> Array:
        """(runs, epochs)."""
        return np.stack([r.losses for r in self.runs])

    def evaluate(self, x: Any, y: Any) -> dict[str, Array]:
        """Loss (and accuracy, for labels) of every network on the same rows: (runs,) each."""
        rows, targets = np.asarray(x), np.asarray(y)
        found: dict[str, list[float]] = {"loss": []}
        with no_grad():
            for r in self.runs:
                output = r.model(Tensor(rows))
                found["loss"].append(float(self.loss(output, Tensor(targets)).mean()))
                if targets.dtype.kind in "iu" and output.ndim == 2 and output.shape[1] > 1:
                    hits = output.value().argmax(axis=1) == targets
                    found.setdefault("accuracy", []).append(float(hits.mean()))
        return {name: np.asarray(values) for name, values in found.items()}

    def groups(self) -> Iterator[tuple[dict[str, Any], list[Run]]]:
        """The runs that share their settings, one for each seed."""
        for _, runs in itertools.groupby(self.runs, key=lambda r: repr(r.settings)):
            same = list(runs)
            yield same[0].settings, same

    def table(self) -> str:
        """Mean, deviation and range of the last loss, by settings."""
        rows: list[tuple[str, ...]] = [
            ("settings", "runs", "mean loss", "deviation", "lowest", "highest", "diverged")
        ]
        for settings, runs in self.groups():
            last = np.array([r.losses[-1] for r in runs if not r.diverged])
            shown = ", ".join(f"{k}={v}" for k, v in settings.items()) or "-"
            numbers = [f"{f(last):.4g}" if len(last) else "-" for f in _STATISTICS]
            rows.append((shown, str(len(runs)), *numbers, str(len(runs) - len(last))))
        widths = [max(len(r[i]) for r in rows) for i in range(len(rows[0]))]
        return "\n".join(
            "  ".join(c.ljust(w) for c, w in zip(r, widths, strict=True)).rstrip() for r in rows
        )

    def __len__(self) -> int:
        return len(self.runs)


_STATISTICS: tuple[Callable[[Any], Any], ...] = (np.mean, np.std, np.min, np.max)


def train_many(
    spec: Mapping[str, Any],
    x: Any,
    y: Any,
    *,
    seeds: int | Sequence[int] = 10,
    grid: Mapping[str, Sequence[Any]] | None = None,
    threads: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Fleet:
    """Train a network for every seed and every point of a grid, all of one architecture at once.

    Parameters
    ----------
    spec : "model", a function that builds a network (called under `fathom.seed(seed)`, with what
        of the grid it takes by name); "optimizer" ("adam"), a name with options as in `fit`;
        "loss" ("auto"); "epochs" (10); "batch_size" (32); "shuffle" (True); any other key is an
        option of the optimizer, such as "lr".
    seeds : how many (from 0), or which.
    grid : values for keys of the spec, for arguments of the model's function, or for options of
        the optimizer: every combination is trained.
    threads : all cores by default.
    progress : called with (runs done, runs) now and then.

    A network's result does not depend on the others, to the last bit: it is that of the same call
    with its seed and settings alone. Settings that differ in numbers of the optimizer (`lr`) share
    a plan. Networks that are too large for vectors across them, or hold operations without such
    code (convolutions), are trained in turn by one plan; where no native plan can be made, by the
    compiled step of each: `engine` and `note` of the result tell. The meaning is the same.

    >>> import fathom
    >>> from fathom import nn
    >>> data = fathom.data.load("moons", n=64)
    >>> spec = {"model": lambda: nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 2)),
    ...         "epochs": 5}
    >>> fleet = train_many(spec, data.x, data.y, seeds=3, grid={"lr": [0.01, 0.1]})
    >>> len(fleet), fleet.losses.shape
    (6, (6, 5))
    """
    rows, targets = _data(x, y)
    plans = [Settings(spec, chosen) for chosen in _points(grid or {})]
    numbers = list(range(seeds)) if isinstance(seeds, int) else [int(s) for s in seeds]
    if not numbers:
        raise ArgumentError("train_many: seeds is empty", fix="seeds=10, or a list of numbers")
    workers = _workers(threads)
    squadrons = _squadrons(plans, numbers, rows, targets)
    total = len(plans) * len(numbers)
    found: dict[int, Run] = {}
    for squadron in squadrons:
        for place, run in squadron.train(workers):
            found[place] = run
            if progress is not None:
                progress(len(found), total)
    engines, notes = {s.engine for s in squadrons}, dict.fromkeys(s.note for s in squadrons)
    return Fleet(
        [found[i] for i in range(total)], next(e for e in ENGINES if e in engines),
        "; ".join(filter(None, notes)), find_loss(plans[0].loss, targets),
    )  # fmt: skip


def _squadrons(plans: list[Settings], seeds: list[int], x: Array, y: Array) -> list[Squadron]:
    """The points of the grid, together where one trace serves them."""
    found: list[Squadron] = []
    for i, settings in enumerate(plans):
        home = next((s for s in found if s.takes(settings, seeds[0])), None)
        if home is None:
            home = Squadron(settings, seeds[0], x, y)
            found.append(home)
        home.add(settings, seeds, i * len(seeds))
    return found


def _data(x: Any, y: Any) -> tuple[Array, Array]:
    rows = np.ascontiguousarray(x.value() if isinstance(x, Tensor) else x)
    targets = np.ascontiguousarray(y.value() if isinstance(y, Tensor) else y)
    if rows.dtype == np.float64:
        rows = rows.astype(np.float32)
    if targets.dtype.kind == "f":
        targets = targets.astype(np.float32)
    elif targets.dtype.kind in "iu":
        targets = targets.astype(np.int64)
    if len(rows) != len(targets) or not len(rows):
        raise ArgumentError(f"train_many: {len(rows)} rows of x and {len(targets)} of y")
    return rows, targets


def _points(grid: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """Every combination of the grid, the last key fastest."""
    for key, values in grid.items():
        if isinstance(values, str) or not isinstance(values, Sequence) or not values:
            raise ArgumentError(
                f"train_many: grid[{key!r}] is a list of values; received {values!r}"
            )
    return [dict(zip(grid, point, strict=True)) for point in itertools.product(*grid.values())]


def _workers(threads: int | None) -> int:
    if threads is None:
        from fathom.compile.native.threads import cores

        return cores()
    if isinstance(threads, bool) or not isinstance(threads, int) or threads < 1:
        raise ArgumentError(f"train_many: threads is 1 or more; received {threads!r}")
    return threads
