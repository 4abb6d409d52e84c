"""How a run is trained: optimizer, loss, schedule and the rest, from its settings."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from fathom.engine.errors import ArgumentError, suggest

if TYPE_CHECKING:
    from fathom.cli.settings import Settings
    from fathom.optim import Optimizer

# Names of `optim.OPTIMIZERS` that need residuals, which a loss by name does not give.
ON_RESIDUALS = ("gauss_newton", "levenberg_marquardt")
# Names of `SCHEDULES` that need more than the length of the run.
NOT_BY_NAME = ("lambda", "noam")
LIKE_ADAM = ("adam", "adamax", "adamw", "nadam", "radam")
LIKE_SGD = ("sgd", "sam")  # sam takes its steps with sgd


def optimizers() -> list[str]:
    """The names that --optimizer takes.

    >>> "adamw" in optimizers(), "gauss_newton" in optimizers()
    (True, False)
    """
    from fathom.optim import OPTIMIZERS

    return [name for name in OPTIMIZERS if name not in ON_RESIDUALS]


def optimizer(settings: Settings, parameters: Iterable[Any]) -> Optimizer:
    """The optimizer of the settings; options it does not have are an error."""
    from fathom.optim import OPTIMIZERS, make

    name = settings.optimizer.lower()
    if name in ON_RESIDUALS:
        raise ArgumentError(
            f"--optimizer {name} works on residuals, which this training does not have",
            fix="--optimizer lbfgs, newton or newton_cg",
        )
    given = {key: getattr(settings, key) for key in ("lr", "momentum", "weight_decay")}
    for key, value in given.items():
        if value is not None and name in OPTIMIZERS and not _takes(name, key):
            able = [one for one in optimizers() if _takes(one, key)]
            raise ArgumentError(
                f"--{key.replace('_', '-')} is no option of --optimizer {name}",
                fix="--optimizer " + ", ".join(sorted(able, key=lambda one: one != "sgd")),
            )
    return make(name, parameters, **given)


def _takes(name: str, option: str) -> bool:
    from fathom.optim import OPTIMIZERS

    name = "sgd" if name == "sam" else name
    return option in inspect.signature(OPTIMIZERS[name]).parameters


def usual_lr(name: str, images: bool, tiny: bool) -> float:
    """The rate to begin with, for data of this kind."""
    from fathom.nn import Parameter
    from fathom.optim import make

    if name in LIKE_ADAM:
        return 1e-3 if images else 1e-2 if tiny else 3e-3
    if name in LIKE_SGD:
        return 0.05
    return float(make(name, [Parameter([0.0])]).param_groups[0]["lr"])


def check(settings: Settings) -> None:
    """Refuse options of the training that no data could make right."""
    from fathom.nn import Parameter
    from fathom.optim import schedules
    from fathom.train.arguments import LOSSES

    trial = optimizer(settings, [Parameter([0.0])])
    _check_shape(settings.activation)
    if settings.schedule is not None:
        if settings.schedule.lower() in NOT_BY_NAME:
            raise ArgumentError(
                f"--schedule {settings.schedule} needs arguments that only Python can give",
                fix=f"--schedule {'inverse_sqrt' if settings.schedule == 'noam' else 'cosine'}",
            )
        schedules.make(settings.schedule, trial, epochs=10, batches=10)
    if settings.accumulate and settings.accumulate > 1 and trial.needs_closure:
        raise ArgumentError(
            f"--accumulate is not for --optimizer {settings.optimizer}, which evaluates the loss "
            "itself",
            fix="a larger --batch-size",
        )
    if settings.ema is not None and not 0 <= settings.ema < 1:
        raise ArgumentError(f"--ema must be at least 0 and below 1; received {settings.ema:g}")
    if settings.label_smoothing is not None and not 0 <= settings.label_smoothing < 1:
        raise ArgumentError(
            f"--label-smoothing must be at least 0 and below 1; "
            f"received {settings.label_smoothing:g}"
        )
    if settings.loss not in (None, "auto", *LOSSES):
        raise ArgumentError(
            f"unknown loss {settings.loss!r}", fix=suggest(str(settings.loss), LOSSES)
        )
    if settings.class_weight not in (None, "balanced"):
        raise ArgumentError(f"--class-weight is balanced; received {settings.class_weight!r}")


def _check_shape(name: str) -> None:
    """Refuse activations that halve the width, as gated units do."""
    from fathom.engine.tensor import no_grad
    from fathom.nn import activation
    from fathom.ops.create import zeros

    layer = activation(name)
    with no_grad():
        width = layer(zeros(1, 4)).shape[-1]
    if width != 4:
        raise ArgumentError(
            f"--activation {name} makes {width} features of 4, which does not fit between layers "
            "whose widths --layers gives",
            fix="one that keeps the width: relu, gelu, silu, ...",
        )


def check_task(settings: Settings, task: str) -> None:
    """Refuse options that belong to the other task."""
    wrong = {"regression": "cross_entropy", "classification": "mse"}.get(task)
    if wrong is not None and settings.loss == wrong:
        raise ArgumentError(
            f"--loss {wrong} does not go with {task}",
            fix="leave it out: the loss follows from the target",
        )
    for name in ("class_weight", "label_smoothing"):
        if task == "regression" and getattr(settings, name) is not None:
            raise ArgumentError(f"--{name.replace('_', '-')} is for classes; this is {task}")


def options(settings: Settings) -> dict[str, Any]:
    """What `Module.fit` takes of the settings, beside rows, epochs, optimizer and folders."""
    from fathom.nn import CrossEntropyLoss

    loss: Any = settings.loss or "auto"
    if settings.label_smoothing:
        loss = CrossEntropyLoss(label_smoothing=settings.label_smoothing)
    return {
        "loss": loss,
        "schedule": settings.schedule,
        "clip_norm": settings.clip_norm,
        "accumulate": settings.accumulate or 1,
        "ema": settings.ema,
        "class_weight": settings.class_weight,
    }


def words(settings: Settings) -> list[str]:
    """The options that were given, in words for a line."""
    names = ("momentum", "weight_decay", "schedule", "clip_norm", "accumulate", "ema",
             "label_smoothing", "class_weight", "loss")  # fmt: skip
    given = ((name.replace("_", " "), getattr(settings, name)) for name in names)
    return [f"{name} {value}" for name, value in given if value is not None]
