"""Losses by name for `fit`, and whether loss, targets and outputs agree."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from fathom.engine.errors import ArgumentError, suggest
from fathom.engine.tensor import Array, Tensor
from fathom.nn import losses as modules
from fathom.nn.named import build, check_options, named
from fathom.train.weights import unreduced

Loss = Callable[[Tensor, Any], Tensor]


class GaussianColumns(modules.GaussianNLLLoss):
    """The Gaussian likelihood of outputs (n, 2k): k means, then k logarithms of variances.

    Nix and Weigend (1994).

    >>> import fathom
    >>> GaussianColumns()(fathom.tensor([[1.0, 0.0]]), fathom.tensor([3.0]))
    tensor(2.)
    """

    def forward(self, *inputs: Any, sample_weight: Any = None) -> Tensor:
        output, y = inputs
        half = output.shape[-1] // 2
        mean, log_variance = output[..., :half], output[..., half:]
        target = y.reshape(mean.shape)
        return super().forward(mean, target, log_variance.exp(), sample_weight=sample_weight)


@dataclass(frozen=True)
class Entry:
    """A loss of (output, target): what makes it, what y holds, and what the model puts out."""

    make: Callable[..., Any]
    target: str
    output: str = "scores"


CLASSES = "classes"  # numbers of classes, or shares of them (n, classes)
AMOUNTS = "amounts"
COUNTS = "counts"  # amounts >= 0
YES = "yes or no"  # 0 or 1, or shares between
SIGNS = "signs"  # -1 or 1
SHARES = "shares"  # of classes, each row with sum 1
LISTS = "lists"  # numbers of classes, ended by -1
BOXES = "boxes"  # (n, 4): x1, y1, x2, y2
FLOATS = (AMOUNTS, COUNTS, BOXES)
TWO_SIDED = (YES, SIGNS)
PROBABILITIES, LOG_PROBABILITIES = "probabilities", "log probabilities"
DISTANCES = "distances"
MOMENTS = "means and log variances"

LOSSES: dict[str, Entry] = {
    "bce": Entry(modules.BCELoss, YES, PROBABILITIES),
    "bce_with_logits": Entry(modules.BCEWithLogitsLoss, YES),
    "cross_entropy": Entry(modules.CrossEntropyLoss, CLASSES),
    "diou": Entry(modules.DIoULoss, BOXES),
    "focal": Entry(modules.FocalLoss, CLASSES),
    "gaussian_nll": Entry(GaussianColumns, AMOUNTS, MOMENTS),
    "giou": Entry(modules.GIoULoss, BOXES),
    "hinge": Entry(modules.HingeLoss, SIGNS),
    "hinge_embedding": Entry(modules.HingeEmbeddingLoss, SIGNS, DISTANCES),
    "huber": Entry(modules.HuberLoss, AMOUNTS),
    "info_nce": Entry(modules.InfoNCELoss, AMOUNTS, "vectors"),
    "iou": Entry(modules.IoULoss, BOXES),
    "kl_div": Entry(modules.KLDivLoss, SHARES, LOG_PROBABILITIES),
    "log_cosh": Entry(modules.LogCoshLoss, AMOUNTS),
    "mae": Entry(modules.L1Loss, AMOUNTS),
    "mse": Entry(modules.MSELoss, AMOUNTS),
    "multi_margin": Entry(modules.MultiMarginLoss, CLASSES),
    "multilabel_margin": Entry(modules.MultiLabelMarginLoss, LISTS),
    "multilabel_soft_margin": Entry(modules.MultiLabelSoftMarginLoss, YES),
    "nll": Entry(modules.NLLLoss, CLASSES, LOG_PROBABILITIES),
    "poisson_nll": Entry(modules.PoissonNLLLoss, COUNTS),
    "quantile": Entry(modules.QuantileLoss, AMOUNTS),
    "sigmoid_focal": Entry(modules.SigmoidFocalLoss, YES),
    "smooth_l1": Entry(modules.SmoothL1Loss, AMOUNTS),
    "soft_margin": Entry(modules.SoftMarginLoss, SIGNS),
    "squared_hinge": Entry(modules.SquaredHingeLoss, SIGNS),
}

SOFT = modules.CrossEntropyLoss  # the one of class numbers that takes shares of them as well

# What else these are called: by NumPy and Keras people, and after the names of functions.
ALIASES = {
    "binary_cross_entropy": "bce", "binary_cross_entropy_with_logits": "bce_with_logits",
    "crossentropy": "cross_entropy", "distance_iou": "diou", "gaussian": "gaussian_nll",
    "generalized_box_iou": "giou", "l1": "mae", "l2": "mse", "pinball": "quantile",
    "poisson": "poisson_nll",
}  # fmt: skip

# Losses that compare more than an output with a target, and with what.
OF_MORE = {
    "contrastive": "(input1, input2, target)", "cosine_embedding": "(input1, input2, target)",
    "ctc": "(log_probs, targets, input_lengths, target_lengths)",
    "distillation": "(student, teacher, target)", "margin_ranking": "(input1, input2, target)",
    "triplet_margin": "(anchor, positive, negative)",
}  # fmt: skip


def _plain(name: str) -> str:
    return name.lower().replace("-", "_").removesuffix("_loss").replace("_", "")


_BY_NAME = {_plain(name): name for name in (*LOSSES, *OF_MORE)} | {
    _plain(alias): name for alias, name in ALIASES.items()
}
_BY_CLASS = {
    entry.make.__name__.lower().removesuffix("loss"): name for name, entry in LOSSES.items()
}


def canonical(name: str) -> str:
    """The name a loss is listed under: "HuberLoss" and "huber" are one, so are "l1" and "mae".

    >>> canonical("HuberLoss"), canonical("l1"), canonical("binary_cross_entropy")
    ('huber', 'mae', 'bce')
    """
    plain = _plain(name)
    key = _BY_NAME.get(plain) or _BY_CLASS.get(plain.removesuffix("loss"))
    if key is None:
        raise ArgumentError(f"unknown loss {name!r}", fix=suggest(name, LOSSES))
    if key in OF_MORE:
        raise ArgumentError(
            f"loss {name!r} compares {OF_MORE[key]}, and fit gives it (output, target)",
            fix="write the loop yourself, or wrap it in a function of (output, target)",
        )
    return key


def by_name(value: Any) -> bool:
    """Whether a loss is given by name, with options or without."""
    return isinstance(value, str | dict)


def make_loss(value: Any) -> Any:
    """The loss of a name with options: `"huber"`, `{"name": "huber", "delta": 0.5}`.

    >>> make_loss("huber:delta=0.5")
    HuberLoss(delta=0.5, reduction='mean')
    """
    name, options = named(value, "loss")
    if "reduction" in options:
        raise ArgumentError(f"loss {name!r}: training takes the mean; leave reduction out")
    make = LOSSES[canonical(name)].make
    known = [key for key in inspect.signature(make).parameters if key != "reduction"]
    check_options(known, options, f"loss {name!r}")
    return build(make, options, f"loss {name!r}")


def entry_of(loss: Any, y: Array | None = None) -> Entry | None:
    """What is known of a loss by name, module or function; None for one of the user's own."""
    if by_name(loss):
        name, _ = named(loss, "loss")
        if name == "auto":
            return None if y is None else LOSSES[auto(y)]
        return LOSSES[canonical(name)]
    for entry in LOSSES.values():
        if type(loss) is entry.make or loss is getattr(entry.make, "function", None):
            return entry
    return None


def auto(y: Array) -> str:
    """The loss that targets ask for: cross-entropy for labels, squared error for floats."""
    return "cross_entropy" if y.dtype.kind == "i" else "mse"


def wants_floats(loss: Any) -> bool:
    """Whether a loss measures distances, so that whole-number targets are amounts, not labels."""
    entry = entry_of(loss)
    return entry is not None and entry.target in FLOATS


def find_loss(loss: Any, y: Array, rows: bool = False) -> Loss:
    """A loss by name, as a module or a function; "auto" is what the targets ask for.

    It meets targets as they come: a column of outputs (n, 1) and n floats; labels as yes or no,
    or one class against the rest. With `rows`, it returns a loss for each row.
    """
    if not by_name(loss) and (not callable(loss) or isinstance(loss, type)):
        raise ArgumentError(f"a loss is a name or a function; received {loss!r}")
    entry = entry_of(loss, y)
    if by_name(loss):
        name, options = named(loss, "loss")
        loss = make_loss({"name": auto(y) if name == "auto" else name, **options})
    made = unreduced(loss) if rows else loss
    labels = y.dtype.kind == "i"
    if entry is not None and labels:
        if entry.target == SIGNS or (entry.target == CLASSES and entry.make is not SOFT):
            made = unmixed(made, getattr(loss, "__name__", type(loss).__name__), entry.target)
        made = encoded(made, entry.target)
    found: Any = aligned(made)
    found.__wrapped__ = loss  # what the user gave
    return found


def aligned(loss: Loss) -> Loss:
    """Let a column of outputs (n, 1) meet n float targets: the one case that is unambiguous."""

    def call(output: Tensor, y: Any) -> Tensor:
        if y.dtype.kind == "f" and output.shape == (len(y), 1) and y.ndim == 1:
            output = output.reshape(-1)
        return loss(output, y)

    return call


def unmixed(loss: Loss, name: str, target: str) -> Loss:
    """A loss of class numbers or signs, which the shares of classes of mixed rows are not."""

    def call(output: Tensor, y: Any) -> Tensor:
        mixed = y.dtype.kind == "f"
        if mixed and not (target == SIGNS and np.isin(y.value(), (-1, 1)).all()):
            raise ArgumentError(
                f"{name} takes class numbers; mixed rows have shares of the classes",
                fix="loss='cross_entropy', or no augmentation that mixes rows",
            )
        return loss(output, y)

    return call


def encoded(loss: Loss, target: str) -> Loss:
    """Let labels meet a loss of floats: one class against the rest, or 0 and 1 of a column."""
    if target not in (*TWO_SIDED, SHARES):
        return loss

    def call(output: Tensor, y: Any) -> Tensor:
        values = np.asarray(y.value())
        if values.dtype.kind == "i":
            columns = output.shape[1] if output.ndim > 1 else 1
            if columns > 1:
                values = np.eye(columns)[values]
            else:
                output = output.reshape(-1)
            if target == SIGNS and values.min() >= 0:
                values = 2.0 * values - 1.0
        return loss(output, Tensor(values.astype(output.dtype)))

    return call


# -- do they agree? ------------------------------------------------------------------------------


def check_agreement(loss: Any, y: Array, output: Array) -> None:
    """Refuse targets, and the output for a first row, that a loss cannot mean."""
    entry = entry_of(loss, y)
    if entry is None:
        return
    name = next(key for key, one in LOSSES.items() if one is entry)
    _check_targets(name, entry.target, y, output)
    _check_output(name, entry.output, output)


def _check_targets(name: str, target: str, y: Array, output: Array) -> None:
    floats = y.dtype.kind == "f"
    held = f"y holds {y.dtype} of shape {y.shape}"
    if target == CLASSES and floats and y.shape[1:] != output.shape[1:]:
        raise ArgumentError(
            f"loss {name!r} needs a class number for each row (or a share for each class); {held}",
            fix="y.astype(int) if these are labels, or loss='mse' for amounts",
        )
    bad = ""
    if target in (YES, SHARES) and floats and _outside(y, 0.0, 1.0):
        bad = "targets from 0 to 1"
    elif target == SIGNS and floats and not np.isin(y, (-1.0, 1.0)).all():
        bad = "targets -1 and 1, or labels as whole numbers from 0"
    elif target == COUNTS and _outside(y, 0.0, np.inf):
        bad = "counts >= 0"
    elif target in TWO_SIDED and not floats and y.ndim == 1:
        columns = output.shape[1] if output.ndim > 1 else 1
        low = -1 if target == SIGNS and columns == 1 else 0
        if _outside(y, low, max(columns - 1, 1)):
            bad = f"labels from 0 to {max(columns - 1, 1)}"
    elif target == BOXES and y.shape[1:] != (4,):
        bad = "boxes (n, 4)"
    elif target == LISTS and y.ndim != 2:
        bad = "lists of classes (n, classes), ended by -1"
    if bad:
        span = f", from {y.min():.4g} to {y.max():.4g}" if y.size else ""
        raise ArgumentError(f"loss {name!r} needs {bad}; {held}{span}")


def _outside(y: Array, low: float, high: float) -> bool:
    return bool(y.size) and bool(y.min() < low or y.max() > high)


HEADS = {
    "bce": ("bce_with_logits", "nn.Sigmoid"), "nll": ("cross_entropy", "nn.LogSoftmax"),
    "kl_div": ("cross_entropy", "nn.LogSoftmax"),
}  # fmt: skip


def _check_output(name: str, kind: str, output: Array) -> None:
    if kind == PROBABILITIES:
        good = not _outside(output, 0.0, 1.0)
    elif kind == LOG_PROBABILITIES:
        good = output.ndim > 1 and bool(np.allclose(np.exp(output).sum(axis=1), 1.0, atol=1e-3))
    elif kind == MOMENTS:
        if output.ndim < 2 or output.shape[-1] % 2:
            raise ArgumentError(
                f"loss {name!r} needs two outputs for each target, mean and log variance; the "
                f"model puts out shape {output.shape}"
            )
        return
    else:
        return
    if not good:
        instead, layer = HEADS[name]
        raise ArgumentError(
            f"loss {name!r} needs {kind}; the model puts out {output.min():.4g} to "
            f"{output.max():.4g}",
            fix=f"loss={instead!r}, or {layer}() as the last layer",
        )
