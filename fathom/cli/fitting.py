"""How a run is trained: optimizer, loss, schedule and the rest, from its settings."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from fathom.engine.errors import ArgumentError
from fathom.nn.named import named

if TYPE_CHECKING:
    from fathom.cli.prepare import Prepared
    from fathom.cli.settings import Settings
    from fathom.nn import Module
    from fathom.optim import Optimizer

# Names of `optim.OPTIMIZERS` that need residuals, which a loss by name does not give.
ON_RESIDUALS = ("gauss_newton", "levenberg_marquardt")
# Names of `SCHEDULES` that need more than the length of the run.
NOT_BY_NAME = ("lambda", "noam")
LIKE_ADAM = ("adam", "adamax", "adamw", "nadam", "radam")
WRAPPERS = ("lookahead", "sam")  # take their steps with the optimizer `base`


def optimizers() -> list[str]:
    """The names that --optimizer takes.

    >>> "adamw" in optimizers(), "gauss_newton" in optimizers()
    (True, False)
    """
    from fathom.optim import OPTIMIZERS

    return [name for name in OPTIMIZERS if name not in ON_RESIDUALS]


def optimizer_name(settings: Settings) -> str:
    """The optimizer that takes the steps: what `sam` and `lookahead` wrap, or the one named."""
    name, options = named(settings.optimizer, "--optimizer")
    return str(options.get("base", "sgd") if name.lower() in WRAPPERS else name).lower()


def named_optimizer(settings: Settings) -> dict[str, Any]:
    """Name and options of the optimizer without its rate; those it does not have are an error."""
    from fathom.optim import OPTIMIZERS

    name, options = named(settings.optimizer, "--optimizer")
    if name.lower() in ON_RESIDUALS:
        raise ArgumentError(
            f"--optimizer {name} works on residuals, which this training does not have",
            fix="--optimizer lbfgs, newton or newton_cg",
        )
    steps = optimizer_name(settings)
    given = {key: getattr(settings, key) for key in ("lr", "momentum", "weight_decay")}
    given = {key: value for key, value in given.items() if value is not None}
    for key in given:
        if steps in OPTIMIZERS and not _takes(steps, key):
            able = [one for one in optimizers() if one not in WRAPPERS and _takes(one, key)]
            raise ArgumentError(
                f"--{key.replace('_', '-')} is no option of --optimizer {steps}",
                fix="--optimizer " + ", ".join(sorted(able, key=lambda one: one != "sgd")),
            )
    both = {"name": name, **given, **options}
    return {key: value for key, value in both.items() if key != "lr"}


def optimizer(settings: Settings, parameters: Iterable[Any]) -> Optimizer:
    """The optimizer of the settings."""
    from fathom.optim import make

    found = named_optimizer(settings)
    _, options = named(settings.optimizer)
    return make(found.pop("name"), parameters, lr=options.get("lr", settings.lr), **found)


def _takes(name: str, option: str) -> bool:
    from fathom.optim import OPTIMIZERS

    return option in inspect.signature(OPTIMIZERS[name]).parameters


def usual_lr(settings: Settings, images: bool, tiny: bool) -> float:
    """The rate to begin with, for data of this kind."""
    from fathom.nn import Parameter
    from fathom.optim import make

    _, options = named(settings.optimizer)
    name = optimizer_name(settings)
    if "lr" in options:
        return float(options["lr"])
    if name in LIKE_ADAM:
        return 1e-3 if images else 1e-2 if tiny else 3e-3
    return 0.05 if name == "sgd" else float(make(name, [Parameter([0.0])]).param_groups[0]["lr"])


def usual_momentum(settings: Settings) -> float | None:
    """0.9 for plain gradient descent, unless the name came with another."""
    _, options = named(settings.optimizer)
    return float(options.get("momentum", 0.9)) if optimizer_name(settings) == "sgd" else None


# -- what no data could make right ---------------------------------------------------------------


def check(settings: Settings) -> None:
    """Refuse options of the training that no data could make right."""
    from fathom.nn import Parameter
    from fathom.optim import schedules

    trial = optimizer(settings, [Parameter([0.0])])
    _check_network(settings)
    if settings.schedule is not None:
        name, options = named(settings.schedule, "--schedule")
        if name.lower() in NOT_BY_NAME:
            raise ArgumentError(
                f"--schedule {name} needs arguments that only Python can give",
                fix=f"--schedule {'inverse_sqrt' if name == 'noam' else 'cosine'}",
            )
        schedules.make(name, trial, epochs=10, batches=10, **options)
    if settings.accumulate and settings.accumulate > 1 and trial.needs_closure:
        raise ArgumentError(
            f"--accumulate is not for --optimizer {settings.optimizer}, which evaluates the loss "
            "itself",
            fix="a larger --batch-size",
        )
    for option in ("ema", "label_smoothing"):
        value = getattr(settings, option)
        if value is not None and not 0 <= value < 1:
            raise ArgumentError(
                f"--{option.replace('_', '-')} must be at least 0 and below 1; received {value:g}"
            )
    if settings.min_delta is not None and not 0 <= settings.min_delta < float("inf"):
        raise ArgumentError(f"--min-delta must be at least 0; received {settings.min_delta:g}")
    class_weights(settings)
    _check_names(settings)


def _check_names(settings: Settings) -> None:
    """Refuse names that are not there, and options they do not have."""
    from fathom.train import augment, metrics, penalty
    from fathom.train.losses import make_loss

    if settings.loss not in (None, "auto"):
        make_loss(settings.loss)
    if settings.penalty is not None:
        penalty.make_penalty(settings.penalty)
    augment.find(settings.transform, classes=2)
    metrics.find(metric_names(settings))


def metric_names(settings: Settings) -> list[str]:
    """The metrics asked for, those in one text divided at commas."""
    parts = (name for text in settings.metrics for name in text.split(","))
    return [name.strip() for name in parts if name.strip()]


def _check_network(settings: Settings) -> None:
    """Build a small network with the activation and the first weights of the settings."""
    import numpy as np

    from fathom.engine import random
    from fathom.models import mlp

    with random.seed(0):
        trial = np.random.default_rng(0).standard_normal((8, 4))
        mlp(4, 2, (4,), settings.activation, init=settings.init, data=trial)


def class_weights(settings: Settings) -> Any:
    """What fit takes: None, "balanced", or a weight for each class.

    >>> from fathom.cli.settings import Settings
    >>> class_weights(Settings("iris", class_weight="1,2,0.5"))
    [1.0, 2.0, 0.5]
    """
    given = settings.class_weight
    if given in (None, "balanced"):
        return given
    try:
        return [float(part) for part in str(given).split(",")]
    except ValueError:
        raise ArgumentError(
            f"--class-weight is balanced or numbers such as 1,2,0.5; received {given!r}"
        ) from None


# -- what does not go with the data --------------------------------------------------------------


def check_task(settings: Settings, prepared: Prepared) -> None:
    """Refuse options that belong to the other task, or to other data."""
    task = prepared.task
    for name in ("class_weight", "label_smoothing"):
        if task == "regression" and getattr(settings, name) is not None:
            raise ArgumentError(f"--{name.replace('_', '-')} is for classes; this is {task}")
    weights = class_weights(settings)
    if isinstance(weights, list) and len(weights) != prepared.outputs:
        raise ArgumentError(
            f"--class-weight has {len(weights)} weights for {prepared.outputs} classes: "
            + ", ".join(prepared.classes)
        )
    _check_loss(settings, task)
    if prepared.image_shape is None:
        _check_transforms(settings, prepared.name)


def _check_loss(settings: Settings, task: str) -> None:
    from fathom.train import losses

    if settings.loss in (None, "auto"):
        return
    entry = losses.entry_of(settings.loss)
    name, options = named(settings.loss)
    name = losses.canonical(name)
    if isinstance(options.get("q"), list):
        raise ArgumentError(
            f"--loss {settings.loss} needs an output for each quantile; this network has one",
            fix="--loss quantile:q=0.9",
        )
    if entry is not None and entry.output != "scores":
        instead = losses.HEADS.get(name, ("the default",))[0]
        raise ArgumentError(
            f"--loss {name} needs {entry.output}, and this network puts out scores",
            fix=f"--loss {instead}" if name in losses.HEADS else "leave --loss out",
        )
    fitting = {
        "classification": (losses.CLASSES, *losses.TWO_SIDED), "regression": (losses.AMOUNTS,)
    }[task]  # fmt: skip
    if entry is not None and entry.target not in fitting:
        able = [key for key, one in losses.LOSSES.items()
                if one.target in fitting and one.output == "scores"]  # fmt: skip
        raise ArgumentError(
            f"--loss {name} does not go with {task}", fix="leave it out, or one of "
            + ", ".join(able),
        )  # fmt: skip
    if settings.label_smoothing and name != "cross_entropy":
        raise ArgumentError(f"--label-smoothing is for --loss cross_entropy, not {name}")


def _check_transforms(settings: Settings, data: str) -> None:
    from fathom.train.augment import FOR_IMAGES

    for text in settings.transform:
        name, _ = named(text)
        if name.lower() in FOR_IMAGES:
            raise ArgumentError(
                f"--transform {name} is for images; {data} has none",
                fix="--transform noise, scale, mask or mixup",
            )


# -- what is handed on ---------------------------------------------------------------------------


def network(settings: Settings, prepared: Prepared) -> Module:
    """The network, its first weights drawn from the seed."""
    from fathom.engine import random
    from fathom.models import mlp

    inputs = len(prepared.preprocessor.feature_names_out)
    if inputs == 0:
        raise ArgumentError(f"{prepared.name} has no columns to learn from")
    with random.seed(settings.seed):
        return mlp(
            inputs,
            prepared.outputs,
            settings.layers or (),
            settings.activation,
            settings.dropout or 0.0,
            init=settings.init,
            data=prepared.train.x[:256],
        )


def loss(settings: Settings) -> Any:
    """The loss of the settings, as fit takes it."""
    if not settings.label_smoothing:
        return settings.loss or "auto"
    return {"name": "cross_entropy", "label_smoothing": settings.label_smoothing}


def options(settings: Settings, prepared: Prepared) -> dict[str, Any]:
    """What `Module.fit` takes of the settings, beside rows, epochs, optimizer and folders."""
    from fathom.train.augment import find

    classes = len(prepared.classes) or None
    transforms = settings.transform
    return {
        "loss": loss(settings),
        "schedule": settings.schedule,
        "clip_norm": settings.clip_norm,
        "clip_value": settings.clip_value,
        "accumulate": settings.accumulate or 1,
        "ema": settings.ema,
        "class_weight": class_weights(settings),
        "penalty": settings.penalty,
        "metrics": metric_names(settings) or "auto",
        "augment": find(transforms, classes, prepared.image_shape) if transforms else None,
    }


def words(settings: Settings) -> list[str]:
    """The options that were given, in words for a line."""
    names = ("init", "momentum", "weight_decay", "schedule", "clip_norm", "clip_value", "penalty",
             "accumulate", "ema", "transform", "label_smoothing", "class_weight", "loss",
             "metrics", "monitor", "min_delta")  # fmt: skip
    given = ((name.replace("_", " "), getattr(settings, name)) for name in names)
    return [
        f"{name} {' '.join(value) if isinstance(value, tuple) else value}"
        for name, value in given
        if value is not None and value != ()
    ]
