"""The training loop: zero_grad, forward, loss, backward, clip, step, schedule.

Everything else is a callback.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np

from fathom.data.loader import DataLoader
from fathom.engine import random
from fathom.engine.errors import CheckpointError, DivergedError
from fathom.engine.tensor import Array, Tensor
from fathom.nn.module import Module
from fathom.nn.utils import clip_grad_norm_, clip_grad_value_
from fathom.optim import SAM, Optimizer
from fathom.optim.schedules import ReduceOnly, Schedule
from fathom.train import checkpoint as checkpoints
from fathom.train.callbacks import (
    Callback,
    ModelCheckpoint,
    kept_arrays,
    load_states,
    states,
)
from fathom.train.compiled import FastStep, Wanted, step_obstacle, worth
from fathom.train.history import History
from fathom.train.losses import Loss, by_name, find_loss
from fathom.train.measure import evaluate_arrays, hardened, measure
from fathom.train.metrics import Metric, find
from fathom.train.weights import MovingAverage, weighted_mean

Augment = Callable[[Array, Array, np.random.Generator], tuple[Array, Array]]
Batch = tuple[Array, Array, Array | None]  # inputs, targets, weights of the rows
AVERAGE = "average/"  # names of averaged weights among the best ones of a checkpoint


class Trainer:
    """One run: model, data, loss, optimizer, random streams, history and callbacks.

    `model.fit(...)` makes one and runs it. It can be stopped from a callback with
    `trainer.stop(reason)` and saved with `trainer.save(path)`.

    `loader` yields (x, y) or, with weights of the rows, (x, y, w); `loss` then returns a loss
    for each row; a name of `train.losses.LOSSES` sees to that itself. `metrics` are names or
    functions. The other options are those of `fit`.
    """

    def __init__(
        self,
        model: Module,
        loader: DataLoader,
        loss: str | dict[str, Any] | Loss,
        optimizer: Optimizer,
        metrics: Any,
        validation: tuple[Array, Array] | None,
        callbacks: Sequence[Callback],
        epochs: int,
        rng: random.Random,
        *,
        schedule: Schedule | None = None,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        accumulate: int = 1,
        average: MovingAverage | None = None,
        augment: Augment | None = None,
        penalty: Callable[[Module], Tensor] | None = None,
        compile: Wanted = "auto",
    ) -> None:
        self.model = model
        self.loader = loader
        if by_name(loss):
            loss = find_loss(loss, np.asarray(loader.y), rows=loader.sample_weight is not None)
        self.loss: Any = loss
        self.optimizer = optimizer
        self.metrics: dict[str, Metric] = metrics if isinstance(metrics, dict) else find(metrics)
        self.validation = validation
        # checkpoints last: they save what the others have noted
        self.callbacks = sorted(callbacks, key=lambda c: isinstance(c, ModelCheckpoint))
        optimizer.check_finite = True
        self.epochs = epochs
        self.rng = rng
        self.schedule = schedule
        self.clip_norm, self.clip_value = clip_norm, clip_value
        self.accumulate = accumulate
        self.average = average
        self.augment = augment
        self.penalty = penalty
        wanted = compile is True
        consider = compile is not False and worth(self, wanted)
        self.eager_because = step_obstacle(self, wanted) if consider else ""
        self.fast = FastStep(self) if consider and not self.eager_because else None
        self.mass = 0.0  # rows (or their weights) whose gradients have been accumulated
        self.history = History()
        self.epoch = 0  # epochs done, or the one under way
        self.steps = 0
        self.stopping = ""

    @property
    def batches(self) -> int:
        """Steps in an epoch."""
        return len(self.loader)

    def run(self) -> History:
        """Train to the end, to a stop, or to Ctrl-C; the callbacks' endings always run."""
        try:
            self.tell("on_train_begin")
            with random.use(self.rng):
                while self.epoch < self.epochs and not self.stopping:
                    self.epoch += 1
                    self.tell("on_epoch_begin", self.epoch)
                    logs = self.run_epoch()
                    self.history.append(**logs)
                    self.tell("on_epoch_end", self.epoch, logs)
        except KeyboardInterrupt:
            self.stopping = "interrupted"
        except DivergedError as error:
            self.stopping = error.message
            raise
        finally:
            self.history.stop_reason = self.stopping
            if self.average is not None:
                self.average.give()
            self.tell("on_train_end")
        return self.history

    def run_epoch(self) -> dict[str, float]:
        """Every batch once; the mean loss and the metrics of what was put out on the way."""
        self.model.train()
        total, mass, outputs, targets = 0.0, 0.0, [], []
        for batch, (x, y, w) in enumerate(self.draw(), start=1):
            share = float(len(x) if w is None else w.sum())
            value, output = self.run_step(batch, share, (x, y, w))
            total += value * share
            mass += share
            if self.metrics:
                outputs.append(output)
                targets.append(
                    y if y.ndim < 2 or self.augment is None else hardened(y, Tensor(output))
                )
            self.tell("on_batch_end", batch, value)
        logs = {"loss": total / (mass or 1.0)}
        if self.metrics:
            logs |= measure(self.metrics, np.concatenate(outputs), np.concatenate(targets))
        if self.validation is not None:
            x, y = self.validation
            with self.averaged():
                scores = evaluate_arrays(
                    self.model, x, y, self.plain_loss, self.metrics, compile=self.compiles
                )
            logs |= {f"val_{name}": value for name, value in scores.items()}
        if self.schedule is not None:
            logs["lr"] = self.schedule.get_last_lr()[0]
            self.advance("epoch", logs)
        return logs

    @property
    def compiles(self) -> bool:
        """Whether steps run as plans; validation then does, too."""
        return self.fast is not None and not self.fast.failed

    def run_step(self, batch: int, share: float, rows: Batch) -> tuple[float, Array]:
        """One step, as a plan where that can be; the loss and what the model put out."""
        found = self.fast(*rows) if self.fast and self.fast.takes(rows[0]) else None
        if found is None:
            found = self.step(batch, share, rows)
        else:
            self.check(found[0])
            self.average_weights()
            self.advance("batch")
        self.steps += 1
        return found

    def step(self, batch: int, share: float, rows: Batch) -> tuple[float, Array]:
        """One step as it reads; the loss and what the model put out."""
        x, y, w = rows
        if self.mass == 0:
            self.optimizer.zero_grad()
        output = self.model(Tensor(x))
        loss = self.loss_of(output, y, w)
        value = self.check(float(loss.item()))
        self.backward(loss, share)
        if batch % self.accumulate == 0 or batch == self.batches:
            self.clip()
            self.update(rows)
            self.advance("batch")
        return value, output.value()

    def draw(self) -> Iterator[Batch]:
        """The batches of an epoch, augmented."""
        for batch in self.loader:
            x, y, w = batch if len(batch) == 3 else (*batch, None)
            if self.augment is not None:
                x, y = self.augment(x, y, self.rng.stream("augment").next())
            yield x, y, w

    def loss_of(self, output: Tensor, y: Array, w: Array | None) -> Tensor:
        """The mean loss of a batch, by weight if there are any, and the penalty."""
        loss = self.loss(output, Tensor(y))
        if w is not None:
            loss = weighted_mean(loss, w)
        return loss if self.penalty is None else loss + self.penalty(self.model)

    def plain_loss(self, output: Tensor, y: Any) -> Tensor:
        """The mean loss, as validation measures it."""
        loss = self.loss(output, y)
        return loss.mean() if self.loader.sample_weight is not None else loss

    def backward(self, loss: Tensor, share: float) -> None:
        """Gradients of the mean over all rows since the last step, however many batches."""
        if self.accumulate == 1:
            loss.backward()
            return
        self.mass += share
        (loss * share).backward()

    def clip(self) -> None:
        if self.mass:
            for p in self.model.parameters():
                if p.grad is not None:
                    gradient = p.grad.value()
                    gradient /= self.mass
            self.mass = 0.0
        if self.clip_norm is not None:
            clip_grad_norm_(self.model.parameters(), self.clip_norm)
        if self.clip_value is not None:
            clip_grad_value_(self.model.parameters(), self.clip_value)

    def advance(self, per: str, logs: dict[str, float] | None = None) -> None:
        """The schedule's step, if it steps per batch or epoch as said."""
        if self.schedule is None or self.schedule.per != per:
            return
        if isinstance(self.schedule, ReduceOnly):
            logs = logs or {}
            self.schedule.step(logs.get("val_loss", logs.get("loss")))
        else:
            self.schedule.step()

    def check(self, loss: float) -> float:
        """The loss, if it is a number to go on with."""
        if math.isfinite(loss):
            return loss
        raise self.diverged(f"the loss is {loss}")

    def update(self, batch: Batch) -> None:
        """The optimizer's step, refused where it would make a weight infinite or nan."""
        try:
            if not self.optimizer.needs_closure:
                self.optimizer.step()
            elif isinstance(self.optimizer, SAM):
                self.optimizer.first_step()
                self.again(batch)
                self.optimizer.second_step()
            else:
                self.optimizer.step(lambda: self.again(batch))
        except DivergedError:
            raise self.diverged("the gradients or the update are not finite") from None
        self.average_weights()

    def average_weights(self) -> None:
        """Let the moving average take in the new weights."""
        if self.average is not None:
            self.average.update()

    def again(self, batch: Batch) -> Tensor:
        """The loss of a batch and its gradients at the present weights: the closure."""
        x, y, w = batch
        self.optimizer.zero_grad()
        loss = self.loss_of(self.model(Tensor(x)), y, w)
        if not self.optimizer.wants_graph:
            loss.backward()
            self.clip()
        return loss

    def averaged(self) -> Any:
        """Inside this block the model has its averaged weights, if there is an average."""
        return nullcontext() if self.average is None else self.average.in_place()

    def diverged(self, what: str) -> DivergedError:
        return DivergedError(
            f"{what} at step {self.steps + 1} (epoch {self.epoch}); training stopped and the "
            "last finite weights are kept",
            fix="a smaller learning rate, standardized inputs, or gradient clipping",
        )

    def tell(self, hook: str, *details: Any) -> None:
        for callback in self.callbacks:
            getattr(callback, hook)(self, *details)

    def stop(self, reason: str) -> None:
        """End after the current epoch."""
        self.stopping = reason

    def copy_weights(self) -> dict[str, Array]:
        """The weights that are measured: the averaged ones, if there is an average."""
        with self.averaged():
            return self._copy()

    def _copy(self) -> dict[str, Array]:
        return {name: t.value().copy() for name, t in self.model.state_dict().items()}

    # -- the whole run on disk

    def save(self, path: str | os.PathLike[str], extra: dict[str, Any] | None = None) -> None:
        """A checkpoint from which `fit(resume=path)` goes on, bitwise as if never stopped."""
        state = {
            **(extra or {}),
            "epoch": self.epoch,
            "steps": self.steps,
            "random": self.rng.state_dict(),
            "history": self.history.to_dict(),
            "callbacks": states(self.callbacks),
        }
        kept = kept_arrays(self.callbacks)
        if self.schedule is not None:
            state["schedule"] = self.schedule.state_dict()
        if self.average is not None:
            state["average"] = {"decay": self.average.decay, "count": self.average.count}
            kept |= {AVERAGE + name: array for name, array in self.average.arrays.items()}
        checkpoints.save(path, self.model, self.optimizer, state, kept)

    def resume(self, saved: checkpoints.Checkpoint) -> None:
        """Take over weights, optimizer, random streams, history and callbacks' states."""
        state = saved.state["state"]
        checkpoints.check_optimizer(saved, self.optimizer)
        saved.restore(self.model)
        checkpoints.restore_optimizer(saved, self.optimizer)
        self.rng.load_state_dict(state["random"])
        self.history = History(state["history"])
        self.epoch, self.steps = state["epoch"], state["steps"]
        for option, own_one in (("schedule", self.schedule), ("average", self.average)):
            if (own_one is None) != (state.get(option) is None):
                name = {"schedule": "schedule", "average": "ema"}[option]
                said = "no " if own_one is not None else "a "
                raise CheckpointError(
                    f"{saved.path} was trained with {said}{name}, unlike this run",
                    fix=f"resume with the same {name}= as the run that is resumed",
                )
        if self.schedule is not None:
            self.schedule.go_to(state["schedule"])
        if self.average is not None:
            self.average.count = state["average"]["count"]
            for name, array in self.average.arrays.items():
                array[...] = saved.best[AVERAGE + name]
        best = {k: v for k, v in saved.best.items() if not k.startswith(AVERAGE)}
        load_states(self.callbacks, state["callbacks"], best)


def saved_run(path: str | os.PathLike[str]) -> checkpoints.Checkpoint:
    """A checkpoint that holds a training run."""
    saved = checkpoints.load(path)
    if not {"epoch", "steps", "random", "history", "callbacks"} <= saved.state["state"].keys():
        raise CheckpointError(
            f"{path} holds a model but no training run to resume",
            fix="start a new fit from its weights",
        )
    return saved
