"""Training loops as people write them, for inputs with targets; and how good a model is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fathom.doctor.corpus.data import Data
from fathom.doctor.corpus.parts import Build
from fathom.doctor.corpus.recipe import Program, Recipe
from fathom.engine.random import Stream
from fathom.engine.tensor import Array


def descend(recipe: Recipe, model: Any, optimizer: Any, loss: Any) -> float:
    """Backward pass and step, with the recipe's habits."""
    if recipe.zero_grad in ("before", "model"):
        optimizer.zero_grad()
    loss.backward()
    if recipe.zero_grad == "between":
        optimizer.zero_grad()
    if recipe.step:
        optimizer.step()
    if recipe.zero_grad == "after":
        optimizer.zero_grad()
    return float(loss.item())


@dataclass
class Supervised:
    """A model, its data, and what one step is."""

    build: Build
    model: Any
    loss_fn: Any
    data: Data
    optimizer: Any
    scheduler: Any = None
    penalty: Callable[[], Any] | None = None  # a further term of the loss
    forward: Callable[[Any], Any] | None = None  # from the model's inputs to the loss's
    stream: Stream = field(init=False)

    def __post_init__(self) -> None:
        self.stream = self.build.random.stream("shuffle")
        self.recipe = self.build.recipe
        self.api = self.build.api

    def predict(self, x: Array) -> Any:
        return (self.forward or self.model)(self.api.tensor(x))

    def loss(self, x: Array, y: Array) -> Any:
        loss = self.loss_fn(self.predict(x), self.api.tensor(y))
        return loss if self.penalty is None else loss + self.penalty()

    def clear(self, moment: str) -> None:
        if self.recipe.zero_grad != moment:
            return
        if moment == "model":
            self.model.zero_grad()
        else:
            self.optimizer.zero_grad()

    def update(self, x: Array, y: Array) -> float:
        """One batch: forward, backward, step."""
        r = self.recipe
        self.clear("before")
        self.clear("model")
        loss = self.loss(x, y)
        loss.backward()
        self.clear("between")
        if r.clip:
            self.api.utils.clip_grad_norm_(list(self.model.parameters()), r.clip)
        if r.step:
            self.optimizer.step()
        self.clear("after")
        if self.scheduler is not None and r.schedule.endswith("@batch"):
            self.scheduler.step()
        return float(loss.item())

    def batches(self) -> Iterator[tuple[Array, Array]]:
        """One pass in random order; a last batch of one row is left out."""
        size = self.recipe.batch
        order = self.stream.permutation(len(self.data.x))
        for start in range(0, len(order), size):
            rows = order[start : start + size]
            if len(rows) > 1 or size == 1:
                yield self.data.x[rows], self.data.y[rows]

    @property
    def per_epoch(self) -> int:
        return max(-(-len(self.data.x) // self.recipe.batch), 1)

    def train_mode(self, evaluated: bool) -> None:
        """What stands at the start of an epoch."""
        if self.recipe.mode == "eval":
            self.model.eval()
        elif not (self.recipe.mode == "forgot" and evaluated):
            self.model.train()

    def validate(self, most: int = 400) -> float:
        """The loss on data that is not trained on."""
        if self.recipe.mode != "noisy":
            self.model.eval()
        with self.api.no_grad():
            x, y = self.data.vx[:most], self.data.vy[:most]
            return float(self.loss_fn(self.predict(x), self.api.tensor(y)).item())


def by_epochs(run: Supervised, seen: Any) -> None:
    """Passes over the data; after each, a look at the validation data."""
    done, epoch = 0, 0
    while done < run.recipe.steps:
        run.train_mode(evaluated=epoch > 0)
        for x, y in run.batches():
            run.update(x, y)
            done += 1
            if done == run.recipe.steps:
                break
        seen.validation(run.validate())
        epoch += 1
        if run.scheduler is not None and run.recipe.schedule.endswith("@epoch"):
            run.scheduler.step()


def by_steps(run: Supervised, seen: Any) -> None:
    """A fixed number of batches drawn at random; now and then a look at the validation data."""
    every = max(run.recipe.steps // 5, 1)
    run.train_mode(evaluated=False)
    for step in range(run.recipe.steps):
        rows = run.stream.integers(0, len(run.data.x), (run.recipe.batch,))
        run.update(run.data.x[rows], run.data.y[rows])
        if (step + 1) % every == 0:
            run.validate()
            run.train_mode(evaluated=True)


def full_batch(run: Supervised, seen: Any) -> None:
    """All data in each step, no validation."""
    run.train_mode(evaluated=False)
    for _ in range(run.recipe.steps):
        run.update(run.data.x, run.data.y)


def accumulating(run: Supervised, seen: Any) -> None:
    """Gradients of several small batches in each step."""
    r = run.recipe
    done, waiting = 0, 0
    while done < r.steps:
        run.train_mode(evaluated=done > 0)
        if done == 0:
            run.clear("before")
        for x, y in run.batches():
            (run.loss(x, y) / r.accumulation).backward()
            waiting += 1
            if waiting % r.accumulation:
                continue
            run.clear("between")
            if r.clip:
                run.api.utils.clip_grad_norm_(list(run.model.parameters()), r.clip)
            if r.step:
                run.optimizer.step()
            run.clear("before")
            if run.scheduler is not None:
                run.scheduler.step()
            done += 1
            if done == r.steps:
                break
        seen.validation(run.validate())


FIRST_LOOK: dict[Any, Callable[[Supervised], int]] = {
    by_epochs: lambda run: min(run.per_epoch, run.recipe.steps),
    accumulating: lambda run: min(run.per_epoch // run.recipe.accumulation, run.recipe.steps),
    by_steps: lambda run: max(run.recipe.steps // 5, 1),
    full_batch: lambda run: 0,
}


def supervised(
    build: Build, model: Any, data: Data, loop: Any = by_epochs, *, kind: str = "classes",
    penalty: Callable[[], Any] | None = None, forward: Callable[[Any], Any] | None = None,
    optimizer: Any = None, loss_fn: Any = None, ready: bool = True,
) -> Program:  # fmt: skip
    """The program of a model that is trained on inputs with targets; kind : how it is scored."""
    if ready:
        model = build.ready(model)
    optimizer = optimizer or build.optimizer(model)
    loss_fn = loss_fn or build.criterion()
    run = Supervised(build, model, loss_fn, data, optimizer, penalty=penalty, forward=forward)
    run.scheduler = build.scheduler(run.optimizer, run.per_epoch)

    def score() -> float:
        return scored(run, "ids" if build.recipe.loss == "ids" else kind)

    return Program(build.api, build.seed, model, run.optimizer, run.loss_fn, build.recipe.steps,
                   lambda seen: loop(run, seen), score, FIRST_LOOK[loop](run),
                   (data.vx, data.vy))  # fmt: skip


def scored(run: Supervised, kind: str, most: int = 500) -> float:
    """1 perfect, 0 the best constant answer, on the validation data, by what is asked for."""
    run.model.eval()
    with run.api.no_grad():
        output = run.api.numpy(run.predict(run.data.vx[:most])).astype(np.float64)
    return measure(output, run.data.truth[:most], kind)


def measure(output: Array, truth: Array, kind: str) -> float:
    """The score of answers in one of four ways.

    >>> import numpy as np
    >>> measure(np.array([[2.0, 1.0], [0.0, 3.0]]), np.array([0, 1]), "classes")
    1.0
    >>> measure(np.array([[0.2], [0.1], [0.9]]), np.array([0, 0, 1]), "binary")
    1.0
    """
    if not np.isfinite(output).all():
        return -1.0
    truth = truth.astype(np.float64).ravel() if kind != "amounts" else truth.astype(np.float64)
    if kind == "binary":
        return _separation(output.ravel(), truth)
    if kind == "amounts":
        error = ((output.reshape(truth.shape) - truth) ** 2).mean()
        return float(np.clip(1 - error / max(truth.var(axis=0).mean(), 1e-12), -1, 1))
    chosen = np.round(output.ravel()) if kind == "ids" else output.reshape(
        -1, output.shape[-1]).argmax(axis=1)  # fmt: skip
    chance = np.bincount(truth.astype(np.int64)).max() / len(truth)
    return float(((chosen == truth).mean() - chance) / max(1 - chance, 1e-9))


def _separation(output: Array, truth: Array) -> float:
    """2 AUC - 1: whether rows of class 1 get larger answers than those of class 0."""
    zero, one = output[truth < 0.5], output[truth > 0.5]
    if not len(zero) or not len(one):
        return 0.0
    apart = np.sign(one[:, None] - zero[None])
    return float(apart.mean())


__all__ = [
    "Supervised", "accumulating", "by_epochs", "by_steps", "descend", "full_batch", "measure",
    "scored", "supervised",
]  # fmt: skip
