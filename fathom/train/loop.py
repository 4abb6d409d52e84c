"""The training loop: zero_grad, forward, loss, backward, clip, step, schedule.

Everything else is a callback.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from typing import Any, Literal

import numpy as np

from fathom.data.loader import DataLoader
from fathom.engine import random
from fathom.engine.errors import ArgumentError, CheckpointError, DivergedError
from fathom.engine.tensor import Array, Tensor
from fathom.nn.module import Module
from fathom.nn.utils import clip_grad_norm_, clip_grad_value_
from fathom.optim import SAM, Optimizer
from fathom.optim.schedules import ReduceOnly, Schedule
from fathom.train import checkpoint as checkpoints
from fathom.train.arguments import (
    Loss,
    as_inputs,
    as_targets,
    at_least_one,
    find_loss,
    find_optimizer,
    find_schedule,
    function_or_none,
    make_validation,
    positive,
)
from fathom.train.callbacks import (
    Callback,
    CSVLogger,
    EarlyStopping,
    ModelCheckpoint,
    TimeLimit,
    kept_weights,
)
from fathom.train.history import History
from fathom.train.measure import (
    check_outputs,
    evaluate_arrays,
    find_metrics,
    hardened,
    measure,
    outputs_of,
)
from fathom.train.metrics import Metric
from fathom.train.progress import Progress
from fathom.train.weights import MovingAverage, row_weights, weighted_mean

Augment = Callable[[Array, Array, np.random.Generator], tuple[Array, Array]]
Batch = tuple[Array, Array, Array | None]  # inputs, targets, weights of the rows
AVERAGE = "average/"  # names of averaged weights among the best ones of a checkpoint


class Trainer:
    """One run: model, data, loss, optimizer, random streams, history and callbacks.

    `model.fit(...)` makes one and runs it. It can be stopped from a callback with
    `trainer.stop(reason)` and saved with `trainer.save(path)`.

    `loader` yields (x, y) or, with weights of the rows, (x, y, w); `loss` then returns a loss
    for each row. The other options are those of `fit`.
    """

    def __init__(
        self,
        model: Module,
        loader: DataLoader,
        loss: Loss,
        optimizer: Optimizer,
        metrics: dict[str, Metric],
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
    ) -> None:
        self.model = model
        self.loader = loader
        self.loss = loss
        self.optimizer = optimizer
        self.metrics = metrics
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
            if self.mass == 0:
                self.optimizer.zero_grad()
            output = self.model(Tensor(x))
            loss = self.loss_of(output, y, w)
            value = self.check(float(loss.item()))
            share = float(len(x) if w is None else w.sum())
            self.backward(loss, share)
            if batch % self.accumulate == 0 or batch == self.batches:
                self.clip()
                self.update((x, y, w))
                self.advance("batch")
            self.steps += 1
            total += value * share
            mass += share
            if self.metrics:
                outputs.append(output.value())
                targets.append(y if y.ndim < 2 or self.augment is None else hardened(y, output))
            self.tell("on_batch_end", batch, value)
        logs = {"loss": total / (mass or 1.0)}
        if self.metrics:
            logs |= measure(self.metrics, np.concatenate(outputs), np.concatenate(targets))
        if self.validation is not None:
            x, y = self.validation
            with self.averaged():
                found = evaluate_arrays(self.model, x, y, self.plain_loss, self.metrics)
            logs |= {f"val_{name}": value for name, value in found.items()}
        if self.schedule is not None:
            logs["lr"] = self.schedule.get_last_lr()[0]
            self.advance("epoch", logs)
        return logs

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
            "callbacks": {type(c).__name__: c.state_dict() for c in self.callbacks},
        }
        kept = dict(kept_weights(self.callbacks))
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
        best = {k: v for k, v in saved.best.items() if not k.startswith(AVERAGE)}
        if self.average is not None:
            self.average.count = state["average"]["count"]
            for name, array in self.average.arrays.items():
                array[...] = saved.best[AVERAGE + name]
        for callback in self.callbacks:
            own = state["callbacks"].get(type(callback).__name__)
            if own:
                callback.load_state_dict(own)
            if isinstance(callback, EarlyStopping):
                callback.weights = dict(best)


def saved_run(path: str | os.PathLike[str]) -> checkpoints.Checkpoint:
    """A checkpoint that holds a training run."""
    saved = checkpoints.load(path)
    if not {"epoch", "steps", "random", "history", "callbacks"} <= saved.state["state"].keys():
        raise CheckpointError(
            f"{path} holds a model but no training run to resume",
            fix="start a new fit from its weights",
        )
    return saved


# -- what users call -------------------------------------------------------------------------


class TrainMethods:
    """fit, evaluate, predict, save and load: mixed into every `Module`."""

    def fit(
        self: Any,
        x: Any,
        y: Any,
        *,
        epochs: int = 10,
        batch_size: int = 32,
        loss: str | Loss = "auto",
        optimizer: str | Optimizer = "adam",
        lr: float | None = None,
        metrics: Any = "auto",
        validation_data: tuple[Any, Any] | None = None,
        validation_split: float = 0.0,
        callbacks: Sequence[Callback] = (),
        patience: int | None = None,
        shuffle: bool = True,
        seed: int = 0,
        max_time: float | None = None,
        checkpoint: str | os.PathLike[str] | None = None,
        resume: str | os.PathLike[str] | None = None,
        schedule: str | Schedule | Callable[[Optimizer], Schedule] | None = None,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        accumulate: int = 1,
        class_weight: Any = None,
        sample_weight: Any = None,
        ema: float | None = None,
        augment: Augment | None = None,
        penalty: Callable[[Module], Tensor] | None = None,
        fast_dev_run: bool | int = False,
        verbose: bool | Literal["auto"] = "auto",
    ) -> History:
        """Train on arrays x (n, ...) and y (n,) labels or (n, ...) floats.

        Parameters
        ----------
        loss : "auto" (cross-entropy for whole-number y, squared error for floats), a name, or
            a function of (output, target).
        optimizer : a name ("adam", "sgd", "lbfgs", ...: `optim.OPTIMIZERS`), or an `Optimizer`
            of this model's parameters.
        metrics : names or functions of (outputs, targets); "auto" picks accuracy or MAE and R2.
        patience : stop after so many epochs without a better validation loss, and return to
            the best weights (`callbacks.EarlyStopping` has more options).
        checkpoint : folder to save the run to after every epoch; `resume` goes on from one, to
            `epochs` in total, bitwise as if there had been no break.
        schedule : of the learning rate: a name ("cosine", "onecycle", "plateau", ...:
            `optim.lr_scheduler.SCHEDULES`) fitted to the run, a schedule, or a function of the
            optimizer that makes one. It steps per batch or epoch as its `per` says.
        clip_norm, clip_value : bounds for the norm of the gradients, and for each element.
        accumulate : batches whose gradients are averaged before a step; the last step of an
            epoch takes what is left.
        class_weight : "balanced", or weights by class; `sample_weight` (n,) one for each row.
            The loss is divided by the sum of the weights. Validation is not weighted.
        ema : decay of a moving average of the weights, which validation measures and the model
            ends with.
        augment : function (x, y, rng) of a batch that returns a new (x, y); see `train.augment`.
        penalty : function of the model whose value is added to the loss of each batch.
        fast_dev_run : run 1 (or so many) batches of training and validation, without
            checkpoints, to see whether everything fits together.
        seed : fixes the order of the rows, the dropout masks and what `augment` draws.
        verbose : show progress (a bar on a terminal, else one line an epoch).

        Returns the `History`. Ctrl-C ends training cleanly with what there is. A loss that is
        not finite raises `DivergedError` and leaves the last finite weights.

        >>> import fathom
        >>> from fathom import nn
        >>> data = fathom.data.load("moons", n=200)
        >>> with fathom.seed(0):
        ...     model = nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, 2))
        >>> history = model.fit(data.x, data.y, epochs=50, lr=0.02, verbose=False)
        >>> history["accuracy"][-1] > 0.9
        True
        """
        inputs = as_inputs(self, x)
        targets = as_targets(y, inputs, loss)
        saved = None if resume is None else saved_run(resume)
        rng = random.Random(seed if saved is None else saved.state["state"]["random"]["seed"])
        check_outputs(self, inputs, targets, loss)
        weights = row_weights(sample_weight, class_weight, targets)
        rows, validation = make_validation(
            self, validation_data, inputs, targets, loss, validation_split, rng
        )
        inputs, targets = inputs[rows], targets[rows]
        weights = None if weights is None else weights[rows]
        if validation is not None:
            check_outputs(self, *validation, loss)
        calls = list(callbacks)
        if patience is not None:
            calls.insert(0, EarlyStopping(patience=patience))
        if max_time is not None:
            calls.append(TimeLimit(max_time))
        if checkpoint is not None:
            calls.append(ModelCheckpoint(checkpoint))
        size = at_least_one(batch_size, "batch_size")
        if fast_dev_run:
            few = size * at_least_one(int(fast_dev_run), "fast_dev_run")
            inputs, targets, epochs = inputs[:few], targets[:few], 1
            weights = None if weights is None else weights[:few]
            validation = validation and (validation[0][:few], validation[1][:few])
            keepers = ModelCheckpoint | EarlyStopping | CSVLogger
            calls = [call for call in calls if not isinstance(call, keepers)]
        if verbose is True or verbose == "auto":
            calls.append(Progress())
        loader = DataLoader(inputs, targets, size, shuffle=shuffle, rng=rng, sample_weight=weights)
        moved, runs = find_optimizer(optimizer, self, lr), at_least_one(epochs, "epochs")
        group = at_least_one(accumulate, "accumulate")
        if moved.needs_closure and group > 1:
            raise ArgumentError(
                f"{type(moved).__name__} evaluates the loss itself and cannot accumulate",
                fix="a larger batch_size",
            )
        trainer = Trainer(
            self,
            loader,
            find_loss(loss, targets, rows=weights is not None),
            moved,
            find_metrics(metrics, targets),
            validation,
            calls,
            runs,
            rng,
            schedule=find_schedule(schedule, moved, runs, math.ceil(len(loader) / group)),
            clip_norm=positive(clip_norm, "clip_norm"),
            clip_value=positive(clip_value, "clip_value"),
            accumulate=group,
            average=None if ema is None else MovingAverage(self, ema),
            augment=function_or_none(augment, "augment"),
            penalty=function_or_none(penalty, "penalty"),
        )
        if saved is not None:
            trainer.resume(saved)
        return trainer.run()

    def evaluate(
        self: Any,
        x: Any,
        y: Any,
        *,
        loss: str | Loss = "auto",
        metrics: Any = "auto",
        batch_size: int = 1024,
    ) -> dict[str, float]:
        """Loss and metrics on arrays, in eval mode, as a dictionary."""
        inputs = as_inputs(self, x)
        targets = as_targets(y, inputs, loss)
        size = at_least_one(batch_size, "batch_size")
        check_outputs(self, inputs, targets, loss)
        measured, chosen = find_loss(loss, targets), find_metrics(metrics, targets)
        return evaluate_arrays(self, inputs, targets, measured, chosen, size)

    def predict(self: Any, x: Any, *, batch_size: int = 1024) -> Array:
        """The outputs (n, ...) for inputs (n, ...), in eval mode, as an ndarray."""
        return outputs_of(self, as_inputs(self, x), at_least_one(batch_size, "batch_size"))

    def lr_find(self: Any, x: Any, y: Any, **options: Any) -> Any:
        """A learning-rate range test; see `fathom.train.lr_find`. The model is left as it was."""
        from fathom.train.lr_find import lr_find

        return lr_find(self, x, y, **options)

    def overfit_batch(self: Any, x: Any, y: Any, **options: Any) -> Any:
        """Whether a copy of the model can learn one batch by heart: see `train.learning_curve`."""
        from fathom.train.learning_curve import overfit_batch

        return overfit_batch(self, x, y, **options)

    def save(self: Any, path: str | os.PathLike[str], **state: Any) -> None:
        """Write the model (and JSON values in `state`) to a checkpoint folder."""
        checkpoints.save(path, self, state=state)

    def load(self: Any, path: str | os.PathLike[str]) -> Any:
        """Copy the weights of a checkpoint into this model. Returns itself."""
        checkpoints.load(path).restore(self)
        return self


def attach() -> None:
    """Give `Module` its training methods; called once, when `fathom.train` is imported."""
    for name, member in vars(TrainMethods).items():
        if not name.startswith("__"):
            setattr(Module, name, member)
