"""The training loop: zero_grad, forward, loss, backward, step. Everything else is a callback."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from fathom.data.loader import DataLoader
from fathom.engine import random
from fathom.engine.errors import CheckpointError, DivergedError
from fathom.engine.tensor import Array, Tensor, no_grad
from fathom.nn.module import Module
from fathom.ops.loss import check_labels
from fathom.optim import Optimizer
from fathom.train import checkpoint as checkpoints
from fathom.train.arguments import (
    Loss,
    as_inputs,
    as_targets,
    at_least_one,
    default_metrics,
    find_loss,
    find_optimizer,
    make_validation,
    wants_labels,
)
from fathom.train.callbacks import (
    Callback,
    EarlyStopping,
    ModelCheckpoint,
    TimeLimit,
    kept_weights,
)
from fathom.train.history import History
from fathom.train.metrics import Metric, find
from fathom.train.progress import Progress


class Trainer:
    """One run: model, data, loss, optimizer, random streams, history and callbacks.

    `model.fit(...)` makes one and runs it. It can be stopped from a callback with
    `trainer.stop(reason)` and saved with `trainer.save(path)`.
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
            self.tell("on_train_end")
        return self.history

    def run_epoch(self) -> dict[str, float]:
        """Every batch once; the mean loss and the metrics of what was put out on the way."""
        self.model.train()
        total, outputs, targets = 0.0, [], []
        for batch, (x, y) in enumerate(self.loader, start=1):
            self.optimizer.zero_grad()
            output = self.model(Tensor(x))
            loss = self.loss(output, Tensor(y))
            value = self.check(float(loss.item()))
            loss.backward()
            self.update()
            self.steps += 1
            total += value * len(x)
            if self.metrics:
                outputs.append(output.value())
                targets.append(y)
            self.tell("on_batch_end", batch, value)
        logs = {"loss": total / self.loader.rows}
        if self.metrics:
            logs |= measure(self.metrics, np.concatenate(outputs), np.concatenate(targets))
        if self.validation is not None:
            x, y = self.validation
            found = evaluate_arrays(self.model, x, y, self.loss, self.metrics)
            logs |= {f"val_{name}": value for name, value in found.items()}
        return logs

    def check(self, loss: float) -> float:
        """The loss, if it is a number to go on with."""
        if math.isfinite(loss):
            return loss
        raise self.diverged(f"the loss is {loss}")

    def update(self) -> None:
        """The optimizer's step, refused where it would make a weight infinite or nan."""
        try:
            self.optimizer.step()
        except DivergedError:
            raise self.diverged("the gradients or the update are not finite") from None

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
        checkpoints.save(path, self.model, self.optimizer, state, kept_weights(self.callbacks))

    def resume(self, saved: checkpoints.Checkpoint) -> None:
        """Take over weights, optimizer, random streams, history and callbacks' states."""
        state = saved.state["state"]
        checkpoints.check_optimizer(saved, self.optimizer)
        saved.restore(self.model)
        checkpoints.restore_optimizer(saved, self.optimizer)
        self.rng.load_state_dict(state["random"])
        self.history = History(state["history"])
        self.epoch, self.steps = state["epoch"], state["steps"]
        for callback in self.callbacks:
            own = state["callbacks"].get(type(callback).__name__)
            if own:
                callback.load_state_dict(own)
            if isinstance(callback, EarlyStopping):
                callback.weights = dict(saved.best)


def saved_run(path: str | os.PathLike[str]) -> checkpoints.Checkpoint:
    """A checkpoint that holds a training run."""
    saved = checkpoints.load(path)
    if not {"epoch", "steps", "random", "history", "callbacks"} <= saved.state["state"].keys():
        raise CheckpointError(
            f"{path} holds a model but no training run to resume",
            fix="start a new fit from its weights",
        )
    return saved


# -- measuring -----------------------------------------------------------------------------------


def measure(metrics: dict[str, Metric], outputs: Array, targets: Array) -> dict[str, float]:
    return {name: metric(outputs, targets) for name, metric in metrics.items()}


def outputs_of(model: Module, x: Array, batch_size: int) -> Array:
    """The model's outputs in eval mode, batch by batch; its mode is put back afterwards."""
    modes = [(m, m.training) for m in model.modules()]
    model.eval()
    try:
        with no_grad():
            starts = range(0, len(x), batch_size)
            parts = [model(Tensor(x[i : i + batch_size])).value() for i in starts]
    finally:
        for module, training in modes:
            object.__setattr__(module, "training", training)
    return np.concatenate(parts)


def evaluate_arrays(
    model: Module, x: Array, y: Array, loss: Loss, metrics: dict[str, Metric], size: int = 1024
) -> dict[str, float]:
    outputs = outputs_of(model, x, size)
    with no_grad():
        value = float(loss(Tensor(outputs), Tensor(y)).item())
    return {"loss": value, **measure(metrics, outputs, y)}


def check_outputs(model: Module, x: Array, y: Array, loss: Any) -> None:
    """Fail before the first step, not in the middle: shapes, and labels against outputs."""
    output = outputs_of(model, x[:1], 1)
    if wants_labels(loss, y) and output.ndim == y.ndim + 1:
        check_labels(y, output.shape[1], getattr(loss, "ignore_index", -100))


def find_metrics(metrics: Any, y: Array) -> dict[str, Metric]:
    automatic = isinstance(metrics, str) and metrics == "auto"
    return find(default_metrics(y) if automatic else metrics or ())


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
        verbose: bool | Literal["auto"] = "auto",
    ) -> History:
        """Train on arrays x (n, ...) and y (n,) labels or (n, ...) floats.

        Parameters
        ----------
        loss : "auto" (cross-entropy for whole-number y, squared error for floats), a name, or
            a function of (output, target).
        optimizer : "adam", "sgd" or an `Optimizer` of this model's parameters.
        metrics : names or functions of (outputs, targets); "auto" picks accuracy or MAE and R2.
        patience : stop after so many epochs without a better validation loss, and return to
            the best weights (`callbacks.EarlyStopping` has more options).
        checkpoint : folder to save the run to after every epoch; `resume` goes on from one, to
            `epochs` in total, bitwise as if there had been no break.
        seed : fixes the order of the rows and the dropout masks.
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
        inputs, targets, validation = make_validation(
            self, validation_data, inputs, targets, loss, validation_split, rng
        )
        if validation is not None:
            check_outputs(self, *validation, loss)
        calls = list(callbacks)
        if patience is not None:
            calls.insert(0, EarlyStopping(patience=patience))
        if max_time is not None:
            calls.append(TimeLimit(max_time))
        if checkpoint is not None:
            calls.append(ModelCheckpoint(checkpoint))
        if verbose is True or verbose == "auto":
            calls.append(Progress())
        trainer = Trainer(
            self,
            DataLoader(
                inputs, targets, at_least_one(batch_size, "batch_size"), shuffle=shuffle, rng=rng
            ),
            find_loss(loss, targets),
            find_optimizer(optimizer, self, lr),
            find_metrics(metrics, targets),
            validation,
            calls,
            at_least_one(epochs, "epochs"),
            rng,
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
