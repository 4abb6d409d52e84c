"""`train_many`: many small networks of one architecture, trained at once.

Seeds times settings, each network as it would be alone: its own initial weights, its own order
of the rows, its own optimizer. They share one native plan; a call trains one of them for an
epoch without the interpreter, and every core has a lane of its own.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fathom.compile.function import Compiled
from fathom.engine import random
from fathom.engine.errors import ArgumentError, DivergedError, FathomError, suggest
from fathom.engine.modes import no_grad
from fathom.engine.tensor import Array, Tensor
from fathom.nn.module import Module
from fathom.optim import Optimizer
from fathom.train.arguments import find_optimizer
from fathom.train.losses import find_loss

CALL = 4096  # steps in one native call


@dataclass
class Run:
    """One network of a fleet.

    Attributes
    ----------
    settings : what the grid chose for it; `seed` fixes its weights and the order of the rows.
    losses : (epochs,) mean loss of each epoch, nan from where it diverged.
    model : in eval mode, trained.
    """

    settings: dict[str, Any]
    seed: int
    model: Module
    losses: Array
    diverged: str = ""


@dataclass
class Fleet:
    """What became of many networks; `runs` in the order of settings, then seeds."""

    runs: list[Run]
    engine: str  # "native" where one plan trained them, else "steps"
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
    threads : lanes; all cores by default.
    progress : called with (runs done, runs) now and then.

    A network's result does not depend on the others: it is that of the same call with its seed
    and settings alone. Where no native plan can be made (random masks, say), the networks are
    trained one after the other by their compiled steps, with the same meaning.

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
    plans = [_Settings(spec, chosen) for chosen in _points(grid or {})]
    numbers = list(range(seeds)) if isinstance(seeds, int) else [int(s) for s in seeds]
    if not numbers:
        raise ArgumentError("train_many: seeds is empty", fix="seeds=10, or a list of numbers")
    lanes = _lanes(threads)
    total, done = len(plans) * len(numbers), 0
    runs: list[Run] = []
    native = True
    for settings in plans:
        squadron = _Squadron(settings, numbers, rows, targets)
        native &= squadron.native
        for finished in squadron.train(lanes):
            runs.append(finished)
            done += 1
            if progress is not None:
                progress(done, total)
    loss = find_loss(plans[0].loss, targets)
    return Fleet(runs, "native" if native else "steps", loss)


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


def _lanes(threads: int | None) -> int:
    if threads is None:
        from fathom.compile.native.threads import cores

        return cores()
    if isinstance(threads, bool) or not isinstance(threads, int) or threads < 1:
        raise ArgumentError(f"train_many: threads is 1 or more; received {threads!r}")
    return threads


class _Settings:
    """One point of the grid, told apart: what the model takes, what the run, what the optimizer."""

    def __init__(self, spec: Mapping[str, Any], chosen: dict[str, Any]) -> None:
        import inspect

        self.chosen = chosen
        merged = {**spec, **chosen}
        self.make = merged.pop("model", None)
        if not callable(self.make):
            fix = suggest("model", list(spec)) if spec else 'spec = {"model": lambda: ...}'
            raise ArgumentError(
                "train_many: spec['model'] is a function that builds a network", fix=fix
            )
        self.optimizer = merged.pop("optimizer", "adam")
        self.loss = merged.pop("loss", "auto")
        self.epochs = _whole(merged.pop("epochs", 10), "epochs")
        self.batch_size = _whole(merged.pop("batch_size", 32), "batch_size")
        self.shuffle = bool(merged.pop("shuffle", True))
        takes = inspect.signature(self.make).parameters
        self.model_options = {k: merged.pop(k) for k in list(merged) if k in takes}
        self.options = merged

    def build(self, seed: int) -> tuple[Module, Optimizer]:
        with random.seed(seed):
            model = self.make(**self.model_options)
        if not isinstance(model, Module):
            raise ArgumentError(
                f"train_many: model() returned a {type(model).__name__}, not a Module"
            )
        named = (
            {"name": self.optimizer} if isinstance(self.optimizer, str) else dict(self.optimizer)
        )
        return model.train(), find_optimizer({**named, **self.options}, model, None)


def _whole(n: Any, name: str) -> int:
    if isinstance(n, bool) or not isinstance(n, int) or n < 1:
        raise ArgumentError(f"train_many: {name} is 1 or more; received {n!r}")
    return n


class _Squadron:
    """The networks of one point of the grid."""

    def __init__(self, settings: _Settings, seeds: list[int], x: Array, y: Array) -> None:
        self.settings, self.seeds, self.data = settings, seeds, [x, y]
        self.pairs = [settings.build(seed) for seed in seeds]
        self.loss = find_loss(settings.loss, y)
        self.size = min(settings.batch_size, len(x))
        self.first = self._compiled(*self.pairs[0])
        self.entries: list[Any] = []
        self.native = self._find_plans()

    def _compiled(self, model: Module, optimizer: Optimizer) -> Compiled:
        def step(x: Any, y: Any) -> Tensor:
            loss = self.loss(model(Tensor(x)), Tensor(y))
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            return loss.detach()

        return Compiled(step)

    def _find_plans(self) -> bool:
        """The plans for full batches and for the rest of an epoch, if they run without Python."""
        x, y = self.data
        if not self.first.native:
            return False
        parts = [self.size] * (len(x) >= self.size) + [len(x) % self.size] * (
            len(x) % self.size > 0
        )
        for n in parts:
            entry = self.first.entry(x[:n], y[:n])
            if not entry.program.repeats or entry.program.kept_slots:
                return False
            self.entries.append((n, entry))
        return True

    def train(self, lanes: int) -> Iterator[Run]:
        """All networks, in order, as they are done."""
        if not self.native:
            for seed, pair in zip(self.seeds, self.pairs, strict=True):
                yield self._alone(seed, *pair)
            return
        from concurrent.futures import ThreadPoolExecutor

        from fathom.compile.replica import Lane

        shares = [range(i, len(self.seeds), lanes) for i in range(min(lanes, len(self.seeds)))]

        def fly(share: range) -> list[Run]:
            own = [Lane(entry) for _, entry in self.entries]
            return [self._one(i, own) for i in share]

        with ThreadPoolExecutor(len(shares)) as pool:
            found = list(pool.map(fly, shares))
        for i in range(len(self.seeds)):
            yield found[i % len(shares)][i // len(shares)]

    def _orders(self, seed: int) -> Iterator[Array | None]:
        """The order of the rows in each epoch, as `fit` draws it."""
        stream = random.Random(seed).stream("shuffle")
        for _ in range(self.settings.epochs):
            yield stream.permutation(len(self.data[0])) if self.settings.shuffle else None

    def _one(self, i: int, lanes: list[Any]) -> Run:
        """One network, all epochs, on the lane of this thread."""
        from fathom.compile.replica import Replica, twins

        model, optimizer = self.pairs[i]
        first = self.pairs[0]
        twin = twins([(first[0], model), (first[1], optimizer)])
        replicas = [Replica(entry, twin) for _, entry in self.entries]
        n, losses = len(self.data[0]), []
        together = max(1, CALL * self.size // n) if len(self.entries) == 1 else 1
        orders = self._orders(self.seeds[i])
        while some := list(itertools.islice(orders, together)):
            found, start = np.zeros(len(some)), 0
            for (rows, _), replica, lane in zip(self.entries, replicas, lanes, strict=True):
                count = (n - start) // rows
                part = slice(start, start + count * rows)
                if some[0] is None:
                    made = self._steps(
                        replica, lane, count, None, [d[part] for d in self.data], some
                    )
                else:
                    order = np.concatenate([o[part] for o in some])  # type: ignore[index]
                    made = self._steps(replica, lane, count, order, self.data, some)
                found += made * (rows * count / n)
                start = part.stop
            losses += found.tolist()
            if not np.isfinite(found).all():
                break
        return self._run(i, losses)

    def _steps(
        self, replica: Any, lane: Any, count: int, order: Any, data: list[Array], epochs: list[Any]
    ) -> Array:
        """The mean loss of `count` batches of each epoch, all in as few calls as can be."""
        calls = [count * len(epochs)] if order is not None else [count] * len(epochs)
        losses = []
        for turns in calls:
            (found,), made = replica.run(lane, turns, order, data)
            if made < turns:
                raise FathomError("a batch was refused by a check of the plan")
            losses.append(found.astype(np.float64))
        return np.concatenate(losses).reshape(len(epochs), count).mean(axis=1)

    def _alone(self, seed: int, model: Module, optimizer: Optimizer) -> Run:
        """One network by its own compiled step."""
        compiled, diverged = self._compiled(model, optimizer), ""
        losses: list[float] = []
        rng = random.Random(seed)
        with random.use(rng):
            for order in self._orders(seed):
                try:
                    found = compiled.epoch(*self.data, batch_size=self.size, order=order).value()
                except DivergedError as error:
                    diverged = error.message
                    break
                sizes = np.full(len(found), self.size)
                sizes[-1] = len(self.data[0]) - self.size * (len(found) - 1)
                losses.append(float((found.astype(np.float64) * sizes).sum() / len(self.data[0])))
                if not math.isfinite(losses[-1]):
                    break
        return self._run(self.seeds.index(seed), losses, diverged)

    def _run(self, i: int, losses: list[float], diverged: str = "") -> Run:
        full = np.full(self.settings.epochs, np.nan)
        bad = next((k for k, v in enumerate(losses) if not math.isfinite(v)), None)
        if bad is not None:
            diverged, losses = f"the loss is {losses[bad]} in epoch {bad + 1}", losses[:bad]
        full[: len(losses)] = losses
        return Run(self.settings.chosen, self.seeds[i], self.pairs[i][0].eval(), full, diverged)
