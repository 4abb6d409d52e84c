"""What users hand to `fit`, `evaluate` and `predict`, checked before the first step."""

from __future__ import annotations

from typing import Any

import numpy as np

from fathom.engine import random
from fathom.engine.errors import ArgumentError, DataError, ShapeError
from fathom.engine.tensor import Array, Tensor
from fathom.nn.embedding import Embedding, EmbeddingBag
from fathom.nn.module import Module
from fathom.nn.named import named
from fathom.optim import LevenbergMarquardt, Optimizer, make, schedules
from fathom.optim.schedules import Schedule
from fathom.train.callbacks import Callback
from fathom.train.losses import find_loss as find_loss
from fathom.train.losses import wants_floats

INDEXED = (Embedding, EmbeddingBag)


def as_inputs(model: Module, x: Any, name: str = "x") -> Array:
    """Inputs as a finite array of the model's float type, with a batch axis.

    Whole numbers stay whole in a model with an embedding: there they are indices.
    """
    array = as_array(x, name)
    if array.ndim == 0 or len(array) == 0:
        raise DataError(f"{name} is empty: shape {array.shape}")
    refuse_text(array, name, "turn text into numbers: one column for each category")
    if array.dtype.kind in "iu" and any(isinstance(m, INDEXED) for m in model.modules()):
        return np.ascontiguousarray(array, np.int64)
    wanted = next((p.dtype for p in model.parameters()), np.dtype(np.float32))
    refuse_non_finite(array, name)
    return np.ascontiguousarray(narrowed(array, wanted, name))


def as_targets(y: Any, inputs: Array, loss: Any = "auto", name: str = "y") -> Array:
    """Targets as labels (int64) or floats, as many as there are inputs."""
    array = as_array(y, name)
    if array.ndim == 0 or len(array) != len(inputs):
        count = "a single number" if array.ndim == 0 else f"{len(array)} targets"
        raise ShapeError(f"{len(inputs)} inputs, but {count} in {name}: one target for each input")
    refuse_text(
        array, name, "number the classes: classes, y = numpy.unique(y, return_inverse=True)"
    )
    if array.dtype.kind in "iub" and not wants_floats(loss):
        return array.astype(np.int64)
    refuse_non_finite(array, name)
    return narrowed(array, inputs.dtype, name)


def as_array(values: Any, name: str) -> Array:
    try:
        return np.asarray(values.value() if isinstance(values, Tensor) else values)
    except ValueError as error:
        raise DataError(
            f"{name} is not an array: {error}", fix="every row needs the same length"
        ) from None


def refuse_text(array: Array, name: str, fix: str) -> None:
    if array.dtype.kind not in "fiub":
        raise DataError(f"{name} holds {array.dtype.name} values, not numbers", fix=fix)


def narrowed(array: Array, dtype: Any, name: str) -> Array:
    """The array in another float type; numbers too large for it are refused."""
    with np.errstate(over="ignore"):
        cast = array.astype(dtype, copy=False)
    refuse_non_finite(cast, f"{name} as {cast.dtype}")
    return cast


def refuse_non_finite(array: Array, name: str) -> None:
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        where = np.unravel_index(int(np.argmin(np.isfinite(array))), array.shape)
        axes = ("row", "column", *(f"axis {i}" for i in range(2, array.ndim)))
        place = ", ".join(f"{axis} {int(i)}" for axis, i in zip(axes, where, strict=False))
        raise DataError(
            f"{name} holds {array[where]} at {place}",
            fix="drop such rows or fill them in (reading a CSV with fathom does)",
        )


# -- the rest ------------------------------------------------------------------------------------


def find_optimizer(optimizer: Any, model: Module, lr: float | None) -> Optimizer:
    """An optimizer by name, or the one given, if it moves this model."""
    if isinstance(optimizer, str | dict):
        name, options = named(optimizer, "optimizer")
        if lr is not None and "lr" in options:
            raise ArgumentError(f"lr is given twice: {lr!r}, and {options['lr']!r} as an option")
        optimizer = make(name, model.parameters(), **{"lr": lr, **options})
        lr = None
    if isinstance(optimizer, LevenbergMarquardt):
        raise ArgumentError(
            f"{type(optimizer).__name__} works on residuals, which fit does not have",
            fix="call optimizer.step(closure) with a closure that returns the residuals",
        )
    if not isinstance(optimizer, Optimizer):
        raise ArgumentError(
            f"an optimizer is a name or an optimizer object; received {optimizer!r}",
            fix="optimizer=optim.Adam(model.parameters(), lr=0.001)",
        )
    if lr is not None:
        raise ArgumentError("give lr to the optimizer you pass, not to fit")
    own = {id(p) for p in model.parameters()}
    if not any(id(p) in own for group in optimizer.param_groups for p in group["params"]):
        raise ArgumentError(
            "the optimizer holds no parameter of this model, so nothing would be learned",
            fix=f"{type(optimizer).__name__}(model.parameters(), ...)",
        )
    return optimizer


def find_schedule(schedule: Any, optimizer: Optimizer, epochs: int, batches: int) -> Any:
    """A schedule by name, fitted to the run; one of this optimizer; or what makes one."""
    if schedule is None:
        return None
    if isinstance(schedule, str | dict):
        name, options = named(schedule, "schedule")
        return schedules.make(name, optimizer, epochs, batches, **options)
    if callable(schedule) and not isinstance(schedule, Schedule):
        schedule = schedule(optimizer)
    if not isinstance(schedule, Schedule):
        raise ArgumentError(
            f"a schedule is a name, a schedule, or a function of the optimizer; got {schedule!r}",
            fix="schedule='cosine', or schedule=lambda optimizer: StepLR(optimizer, 10)",
        )
    if schedule.optimizer is not optimizer:
        raise ArgumentError(
            "the schedule moves the rate of another optimizer than the one that trains",
            fix="pass both: fit(..., optimizer=optimizer, schedule=schedule)",
        )
    return schedule


def positive(value: Any, name: str) -> float | None:
    """A number above 0, or None."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float | np.number) or not value > 0:
        raise ArgumentError(f"{name} must be a number > 0; received {value!r}")
    return float(value)


def find_augment(augment: Any, y: Array, output: Array) -> Any:
    """A function (x, y, rng), or what stands under these names in `train.augment`."""
    if augment is None or callable(augment):
        return augment
    if not isinstance(augment, str | dict | list | tuple):
        raise ArgumentError(f"augment must be a function or names; received {augment!r}")
    from fathom.train.augment import find

    classes = output.shape[1] if y.dtype.kind == "i" and output.ndim > 1 else None
    return find(augment, classes)


def find_penalty(penalty: Any) -> tuple[Any, list[Callback]]:
    """A penalty that is added to the loss, or None, and callbacks that do it otherwise."""
    if penalty is None or callable(penalty):
        return penalty, []
    if not isinstance(penalty, str | dict):
        raise ArgumentError(f"penalty must be a function or a name; received {penalty!r}")
    from fathom.train.penalty import make_penalty

    made = make_penalty(penalty)
    return (None, [made]) if isinstance(made, Callback) else (made, [])


def at_least_one(value: Any, name: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise ArgumentError(f"{name} must be a whole number >= 1; received {value!r}")
    return int(value)


def make_validation(
    model: Module, given: Any, x: Array, y: Array, loss: Any, split: float, rng: random.Random
) -> tuple[Any, tuple[Array, Array] | None]:
    """The rows to train on, and validation arrays, given or split off at random."""
    if given is not None:
        if split:
            raise ArgumentError("give validation_data or validation_split, not both")
        return slice(None), read_validation(model, given, y, loss)
    if not isinstance(split, int | float | np.number) or not 0.0 <= split < 1.0:
        raise ArgumentError(f"validation_split is a share in [0, 1); received {split!r}")
    if not split:
        return slice(None), None
    held = round(float(split) * len(x))
    if not 1 <= held < len(x):
        raise ArgumentError(
            f"validation_split={split!r} of {len(x)} rows leaves nothing on one side",
            fix="a larger or smaller share, or validation_data=(x, y)",
        )
    order = rng.stream("split").permutation(len(x))
    out, kept = order[:held], order[held:]
    return kept, (x[out], y[out])


def read_validation(model: Module, given: Any, y: Array, loss: Any) -> tuple[Array, Array]:
    if not isinstance(given, tuple | list) or len(given) != 2:
        raise ArgumentError("validation_data is a pair (x, y) of arrays")
    xv = as_inputs(model, given[0], "validation x")
    # float training targets make amounts of whole-number validation targets, too
    yv = as_targets(given[1], xv, "mse" if y.dtype.kind == "f" else loss, "validation y")
    if yv.dtype.kind != y.dtype.kind:
        raise DataError(f"validation y holds {yv.dtype} and y holds {y.dtype}: one kind is needed")
    return xv, yv
