"""What users hand to `fit`, `evaluate` and `predict`, checked before the first step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fathom.engine import random
from fathom.engine.errors import ArgumentError, DataError, ShapeError, suggest
from fathom.engine.tensor import Array, Tensor
from fathom.nn import functional as F
from fathom.nn.embedding import Embedding, EmbeddingBag
from fathom.nn.losses import CrossEntropyLoss, MSELoss
from fathom.nn.module import Module
from fathom.optim import LevenbergMarquardt, Optimizer, make, schedules
from fathom.optim.schedules import Schedule
from fathom.train.weights import unreduced

Loss = Callable[[Tensor, Any], Tensor]
INDEXED = (Embedding, EmbeddingBag)
LOSSES: dict[str, Loss] = {"cross_entropy": F.cross_entropy, "mse": F.mse_loss}


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


# -- the loss ------------------------------------------------------------------------------------


def wants_floats(loss: Any) -> bool:
    """Whether a loss measures distances, so that whole-number targets are amounts, not labels."""
    return (isinstance(loss, str) and loss == "mse") or loss is F.mse_loss or type(loss) is MSELoss


def wants_labels(loss: Any, y: Array) -> bool:
    """Whether a loss will read y as class indices."""
    if y.dtype.kind != "i":
        return False
    named = isinstance(loss, str) and loss in ("auto", "cross_entropy")
    return named or loss is F.cross_entropy or type(loss) is CrossEntropyLoss


def find_loss(loss: Any, y: Array, rows: bool = False) -> Loss:
    """A loss function by name; "auto" is cross-entropy for labels, squared error for floats.

    With `rows`, it returns a loss for each row.
    """
    if isinstance(loss, str):
        if loss == "auto":
            loss = "cross_entropy" if y.dtype.kind == "i" else "mse"
        if loss not in LOSSES:
            raise ArgumentError(f"unknown loss {loss!r}", fix=suggest(loss, LOSSES))
        loss = LOSSES[loss]
    if not callable(loss) or isinstance(loss, type):
        raise ArgumentError(f"a loss is a name or a function; received {loss!r}")
    return aligned(unreduced(loss) if rows else loss)


def aligned(loss: Loss) -> Loss:
    """Let a column of outputs (n, 1) meet n float targets: the one case that is unambiguous."""

    def call(output: Tensor, y: Any) -> Tensor:
        if y.dtype.kind == "f" and output.shape == (len(y), 1) and y.ndim == 1:
            output = output.reshape(-1)
        return loss(output, y)

    return call


def default_metrics(y: Array) -> tuple[str, ...]:
    return ("accuracy",) if y.dtype.kind == "i" else ("mae", "r2")


# -- the rest ------------------------------------------------------------------------------------


def find_optimizer(optimizer: Any, model: Module, lr: float | None) -> Optimizer:
    """An optimizer by name, or the one given, if it moves this model."""
    if isinstance(optimizer, str):
        optimizer, lr = make(optimizer, model.parameters(), lr=lr), None
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
    if isinstance(schedule, str):
        return schedules.make(schedule, optimizer, epochs, batches)
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


def function_or_none(value: Any, name: str) -> Any:
    if value is not None and not callable(value):
        raise ArgumentError(f"{name} must be a function; received {value!r}")
    return value


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
