"""Networks of a fleet that one trace serves, and how they are trained.

By rank: side by side in the lanes of vectors, a block at a time; each by itself, with the plan of
the first; each by its own compiled step.
"""

from __future__ import annotations

import contextvars
import inspect
import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from fathom.compile.function import Compiled
from fathom.engine import random
from fathom.engine.errors import ArgumentError, DivergedError, FathomError, suggest
from fathom.engine.tensor import Array, Tensor
from fathom.nn.module import Module
from fathom.optim import Optimizer
from fathom.train.arguments import find_optimizer
from fathom.train.losses import find_loss

CALL = 1024  # steps for which orders and numbers are made at a time
CHUNK = 16  # networks of a task where they are trained one by one
PLAIN = (bool, int, float, str, type(None))


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


class Settings:
    """One point of the grid, told apart: what the model takes, what the run, what the optimizer."""

    def __init__(self, spec: Mapping[str, Any], chosen: dict[str, Any]) -> None:
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
        self.epochs = whole(merged.pop("epochs", 10), "epochs")
        self.batch_size = whole(merged.pop("batch_size", 32), "batch_size")
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

    def differing(self, other: Settings) -> list[str] | None:
        """The numbers of the optimizer in which two points differ; None if there is more."""
        own, theirs = vars(self), vars(other)
        names = ("make", "optimizer", "loss", "epochs", "batch_size", "shuffle", "model_options")
        if not all(_same(own[n], theirs[n]) for n in names):
            return None
        a, b = self.options, other.options
        found = [k for k in a if not (k in b and _same(a[k], b[k]))]
        fine = a.keys() == b.keys() and all(_number(a[k]) and _number(b[k]) for k in found)
        return found if fine else None


def whole(n: Any, name: str) -> int:
    if isinstance(n, bool) or not isinstance(n, int) or n < 1:
        raise ArgumentError(f"train_many: {name} is 1 or more; received {n!r}")
    return n


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_same(a[k], b[k]) for k in a)
    return a is b or (type(a) is type(b) and isinstance(a, PLAIN) and a == b)


def _number(x: Any) -> bool:
    return isinstance(x, (int, float)) and not isinstance(x, bool)


@dataclass
class Member:
    """A network to be trained: its place in the fleet, and what makes it."""

    place: int
    kind: int  # which of the squadron's settings
    settings: Settings
    seed: int


class Squadron:
    """Networks of one make, whose settings differ in numbers of the optimizer at most."""

    def __init__(self, settings: Settings, seed: int, x: Array, y: Array) -> None:
        self.settings, self.data = settings, [x, y]
        self.members: list[Member] = []
        self.kinds = 0
        self.leader = settings.build(seed)  # it is traced, not trained
        self.loss = find_loss(settings.loss, y)
        self.size = min(settings.batch_size, len(x))
        self.first = self._compiled(*self.leader)
        self.entries: list[Any] = []  # for full batches, and for the rest of an epoch
        full, rest = divmod(len(x), self.size)
        self.parts = [(self.size, full), *([(rest, 1)] if rest else [])]  # rows, batches
        self.note = self._find_plans()

    @property
    def engine(self) -> str:
        return "steps" if not self.entries else "native" if self.note else "lanes"

    def add(self, settings: Settings, seeds: list[int], first: int) -> None:
        """Take the networks of one point of the grid, from a place of the fleet on."""
        numbered = enumerate(seeds, first)
        self.members += [Member(place, self.kinds, settings, seed) for place, seed in numbered]
        self.kinds += 1

    def takes(self, settings: Settings, seed: int) -> bool:
        """Whether the plans are right for another point of the grid."""
        from fathom.compile.block import holds

        names = self.settings.differing(settings)
        if names is None or self.note:
            return False
        model, optimizer = settings.build(seed)
        groups = optimizer.param_groups
        read = all(g.get(n) == settings.options[n] for g in groups for n in names)
        twin = self._twin(model, optimizer)
        return read and all(holds(entry, twin) for entry in self.entries)

    def _compiled(self, model: Module, optimizer: Optimizer) -> Compiled:
        def step(x: Any, y: Any) -> Tensor:
            loss = self.loss(model(Tensor(x)), Tensor(y))
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            return loss.detach()

        return Compiled(step)

    def _find_plans(self) -> str:
        """Make the plans; why they do not train a block at once, "" if they do."""
        if not self.first.native:
            return "there is no native code here"
        from fathom.compile.block import shared_writes
        from fathom.compile.native.fleet_code import why_not

        x, y = self.data
        entries = [self.first.entry(x[:rows], y[:rows]) for rows, _ in self.parts]
        if not all(e.turns_to_come(1) and not e.program.kept_slots for e in entries):
            return "the step does not run without Python"
        if any(e.book.moving(e.plan.guards, e.texts, e.plan.counters) for e in entries):
            return "the step changes as it goes on"
        if any(shared_writes(e, self._twin(*self.leader)) for e in entries):
            return "a step changes something that all networks share"
        self.entries = entries
        return next(filter(None, (why_not(e.program) for e in entries)), "")

    def _twin(self, model: Module, optimizer: Optimizer) -> dict[int, Any]:
        from fathom.compile.replica import twins

        return twins([(self.leader[0], model), (self.leader[1], optimizer)])

    # -- training ---------------------------------------------------------------------------

    def train(self, threads: int) -> Iterator[tuple[int, Run]]:
        """All networks with their places in the fleet, as they are done."""
        if not self.entries:
            for member in self.members:
                yield member.place, self._alone(member)
            return
        from concurrent.futures import ThreadPoolExecutor

        size, work = self._work(-(-len(self.members) // threads))
        tasks = [self.members[i : i + size] for i in range(0, len(self.members), size)]
        with ThreadPoolExecutor(min(threads, len(tasks))) as pool:
            started = [pool.submit(contextvars.copy_context().run, work, t) for t in tasks]
            for task, done in zip(tasks, started, strict=True):
                yield from zip((m.place for m in task), done.result(), strict=True)

    def _work(self, share: int) -> tuple[int, Callable[[list[Member]], list[Run]]]:
        """How many networks a task has, and what is done with them. share : those of a thread."""
        if self.note:
            return min(CHUNK, share), self._one_by_one
        from fathom.compile.native.fleet_code import Formation

        plans = [(entry, Formation(entry.program, share)) for entry in self.entries]
        return plans[0][1].lanes, partial(self._block, plans)

    def _orders(self, seed: int) -> Iterator[Array]:
        """The order of the rows in each epoch, as `fit` draws it."""
        stream, n = random.Random(seed).stream("shuffle"), len(self.data[0])
        for _ in range(self.settings.epochs):
            yield stream.permutation(n) if self.settings.shuffle else np.arange(n)

    def _chunks(self) -> Iterator[int]:
        """How many epochs are made at a time."""
        steps = sum(count for _, count in self.parts)
        most = max(1, CALL // steps)
        for at in range(0, self.settings.epochs, most):
            yield min(most, self.settings.epochs - at)

    def _calls(self, epochs: int) -> Iterator[tuple[int, slice, slice]]:
        """What follows each other in some epochs: which plan, its steps and its rows."""
        step = row = 0
        joined = len(self.parts) == 1
        for _ in range(1 if joined else epochs):
            for plan, (rows, count) in enumerate(self.parts):
                count *= epochs if joined else 1
                yield plan, slice(step, step + count), slice(row, row + rows * count)
                step, row = step + count, row + rows * count

    def _means(self, losses: Array) -> Array:
        """The mean loss of epochs, (epochs, ...), of that of their steps."""
        weights = np.concatenate([np.full(count, rows) for rows, count in self.parts])
        steps = losses.reshape(-1, len(weights), *losses.shape[1:]).astype(np.float64)
        shaped = weights.reshape(-1, *(1,) * (steps.ndim - 2))
        mean: Array = (steps * shaped).sum(axis=1) / len(self.data[0])
        return mean

    def _block(self, plans: list[tuple[Any, Any]], members: list[Member]) -> list[Run]:
        """Networks side by side."""
        from fathom.compile.block import Block

        pairs = [m.settings.build(m.seed) for m in members]
        block = Block(
            plans, [self._twin(*pair) for pair in pairs], [m.kind for m in members],
            [random.Random(m.seed) for m in members],
        )  # fmt: skip
        orders = [self._orders(m.seed) for m in members]
        found = []
        for epochs in self._chunks():
            order = self._side_by_side(orders, epochs, block.lanes)
            steps = epochs * sum(count for _, count in self.parts)
            numbers = [block.numbers(plan, steps) for plan in range(len(self.parts))]
            losses = np.empty((steps, block.lanes))
            for plan, made, rows in self._calls(epochs):
                losses[made] = block.run(plan, numbers[plan][made], order[rows], self.data)
            found.append(self._means(losses))
        block.give_back()
        every = np.concatenate(found)
        return [
            self._run(m, pair[0], every[:, i].tolist())
            for i, (m, pair) in enumerate(zip(members, pairs, strict=True))
        ]

    def _side_by_side(self, orders: list[Iterator[Array]], epochs: int, lanes: int) -> Array:
        """The rows of some epochs, (epochs * rows, lanes); lanes left over follow the last one."""
        found = np.empty((epochs * len(self.data[0]), lanes), np.int64)
        if self.settings.shuffle:
            for lane, order in enumerate(orders):
                own = np.concatenate(list(itertools.islice(order, epochs)))
                found[:, lane : None if lane + 1 == len(orders) else lane + 1] = own[:, None]
        else:
            found[...] = np.tile(np.arange(len(self.data[0])), epochs)[:, None]
        return found

    def _one_by_one(self, members: list[Member]) -> list[Run]:
        """Networks by the plan of the leader, in turn."""
        from fathom.compile.replica import Lane

        lanes = [Lane(entry) for entry in self.entries]
        found = []
        for member in members:
            with random.seed(member.seed):
                found.append(self._single(member, lanes))
        return found

    def _single(self, member: Member, lanes: list[Any]) -> Run:
        from fathom.compile.replica import Replica

        model, optimizer = member.settings.build(member.seed)
        twin = self._twin(model, optimizer)
        replicas = [Replica(entry, twin) for entry in self.entries]
        orders, losses = self._orders(member.seed), list[float]()
        for epochs in self._chunks():
            order = np.concatenate(list(itertools.islice(orders, epochs)))
            found = []
            for plan, steps, rows in self._calls(epochs):
                turns = steps.stop - steps.start
                (made,), count = replicas[plan].run(lanes[plan], turns, order[rows], self.data)
                if count < turns:
                    raise FathomError("a batch was refused by a check of the plan")
                found.append(made)
            losses += self._means(np.concatenate(found)).tolist()
            if not math.isfinite(losses[-1]):
                break
        return self._run(member, model, losses)

    def _alone(self, member: Member) -> Run:
        """One network by its own compiled step."""
        model, optimizer = member.settings.build(member.seed)
        compiled, diverged = self._compiled(model, optimizer), ""
        losses: list[float] = []
        with random.seed(member.seed):
            for order in self._orders(member.seed):
                try:
                    found = compiled.epoch(*self.data, batch_size=self.size, order=order).value()
                except DivergedError as error:
                    diverged = error.message
                    break
                losses += self._means(found).tolist()
                if not math.isfinite(losses[-1]):
                    break
        return self._run(member, model, losses, diverged)

    def _run(self, member: Member, model: Module, losses: list[float], diverged: str = "") -> Run:
        full = np.full(self.settings.epochs, np.nan)
        bad = next((k for k, v in enumerate(losses) if not math.isfinite(v)), None)
        if bad is not None:
            diverged, losses = f"the loss is {losses[bad]} in epoch {bad + 1}", losses[:bad]
        full[: len(losses)] = losses
        return Run(member.settings.chosen, member.seed, model.eval(), full, diverged)
