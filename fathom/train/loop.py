"""What users call on a model: fit, evaluate, predict, save, load; the loop is in `trainer`."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from typing import Any, Literal

from fathom.data.loader import DataLoader
from fathom.engine import random
from fathom.engine.errors import ArgumentError
from fathom.engine.tensor import Array, Tensor
from fathom.nn.module import Module
from fathom.optim import Optimizer
from fathom.optim.schedules import Schedule
from fathom.train import checkpoint as checkpoints
from fathom.train.arguments import (
    as_inputs,
    as_targets,
    at_least_one,
    find_augment,
    find_optimizer,
    find_penalty,
    find_schedule,
    make_validation,
    positive,
)
from fathom.train.callbacks import (
    Callback,
    CSVLogger,
    EarlyStopping,
    ModelCheckpoint,
    TimeLimit,
)
from fathom.train.compiled import Wanted
from fathom.train.history import History
from fathom.train.losses import Loss, find_loss
from fathom.train.measure import check_outputs, evaluate_arrays, find_metrics, outputs_of
from fathom.train.progress import Progress
from fathom.train.trainer import Augment, Trainer, saved_run
from fathom.train.weights import MovingAverage, row_weights

Named = str | dict[str, Any]  # a name, or {"name": ..., options}


class TrainMethods:
    """fit, evaluate, predict, save and load: mixed into every `Module`."""

    def fit(
        self: Any,
        x: Any,
        y: Any,
        *,
        epochs: int = 10,
        batch_size: int = 32,
        loss: Named | Loss = "auto",
        optimizer: Named | Optimizer = "adam",
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
        schedule: Named | Schedule | Callable[[Optimizer], Schedule] | None = None,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        accumulate: int = 1,
        class_weight: Any = None,
        sample_weight: Any = None,
        ema: float | None = None,
        augment: Named | Sequence[Named] | Augment | None = None,
        penalty: Named | Callable[[Module], Tensor] | None = None,
        fast_dev_run: bool | int = False,
        compile: Wanted = "auto",
        verbose: bool | Literal["auto"] = "auto",
    ) -> History:
        """Train on arrays x (n, ...) and y (n,) labels or (n, ...) floats.

        What has a name may have options, too: "huber:delta=0.5" or {"name": "huber", "delta": 0.5}.

        Parameters
        ----------
        loss : "auto" (cross-entropy for whole-number y, squared error for floats), a name
            (`train.losses.LOSSES`), or a function of (output, target).
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
        augment : function (x, y, rng) of a batch that returns a new (x, y), or names
            ("flip", "crop", "mixup", ...: `train.augment.TRANSFORMS`).
        penalty : function of the model whose value is added to the loss of each batch, or a name
            ("l1", "l2", "elastic_net", "proximal_l1": `train.penalty.PENALTIES`).
        fast_dev_run : run 1 (or so many) batches of training and validation, without
            checkpoints, to see whether everything fits together.
        compile : whether steps run as a compiled plan (`fathom.compile`): "auto" where every part
            is Fathom's own and an epoch has 16 batches or more, True wherever it can be traced.
            `verbose` says in one line when they do not. Results differ from eager ones in the
            last bits; the same seed still gives the same bytes. Validation goes along. A step
            inside `doctor.record` runs as a plan that puts out what is recorded.
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
        output = check_outputs(self, inputs, targets, loss)
        weights = row_weights(sample_weight, class_weight, targets)
        rows, validation = make_validation(
            self, validation_data, inputs, targets, loss, validation_split, rng
        )
        inputs, targets = inputs[rows], targets[rows]
        weights = None if weights is None else weights[rows]
        if validation is not None:
            check_outputs(self, *validation, loss)
        fined, proximal = find_penalty(penalty)
        calls = [*proximal, *callbacks]
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
            find_metrics(metrics, targets, loss, output),
            validation,
            calls,
            runs,
            rng,
            schedule=find_schedule(schedule, moved, runs, math.ceil(len(loader) / group)),
            clip_norm=positive(clip_norm, "clip_norm"),
            clip_value=positive(clip_value, "clip_value"),
            accumulate=group,
            average=None if ema is None else MovingAverage(self, ema),
            augment=find_augment(augment, targets, output),
            penalty=fined,
            compile=compile,
        )
        if saved is not None:
            trainer.resume(saved)
        return trainer.run()

    def evaluate(
        self: Any,
        x: Any,
        y: Any,
        *,
        loss: Named | Loss = "auto",
        metrics: Any = "auto",
        batch_size: int = 1024,
        compile: Wanted = "auto",
    ) -> dict[str, float]:
        """Loss and metrics on arrays, in eval mode, as a dictionary. `compile`: see `predict`."""
        inputs = as_inputs(self, x)
        targets = as_targets(y, inputs, loss)
        size = at_least_one(batch_size, "batch_size")
        output = check_outputs(self, inputs, targets, loss)
        measured = find_loss(loss, targets)
        chosen = find_metrics(metrics, targets, loss, output)
        return evaluate_arrays(self, inputs, targets, measured, chosen, size, compile)

    def predict(self: Any, x: Any, *, batch_size: int = 1024, compile: Wanted = "auto") -> Array:
        """The outputs (n, ...) for inputs (n, ...), in eval mode, as an ndarray.

        compile : whether batches run as a compiled plan (`fathom.compile`). "auto": where every
            module is Fathom's own, from the 16th batch of a shape on (in this call or before it,
            the last and smaller batch counted by itself); True: at once, and whatever can be
            traced; False: never. Plans stay with the model. An `EagerWarning` says in one line
            what keeps a model from being compiled. Outputs differ from eager ones in the last
            bits, with FATHOM_NATIVE=0 not at all.

        >>> import fathom
        >>> model = fathom.nn.Sequential(fathom.nn.Linear(2, 3), fathom.nn.Tanh())
        >>> model.predict([[0.0, 1.0], [1.0, 0.0]], compile=True).shape
        (2, 3)
        """
        size = at_least_one(batch_size, "batch_size")
        return outputs_of(self, as_inputs(self, x), size, compile)

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
