"""The end of a network by task: a layer of logits, the loss that belongs to it, the answer.

A loss is *canonical* if its gradient with respect to a logit is prediction - target: the negative
log-likelihood of an exponential family under its own link (Nelder & Wedderburn, 1972). Then a
unit that is sure and wrong learns fast; sigmoid and squared error do not have that.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fathom.engine.errors import ArgumentError, ShapeError
from fathom.engine.tensor import Tensor, TensorLike
from fathom.nn import Linear, Module
from fathom.nn import functional as F
from fathom.nn.checks import positive
from fathom.nn.objectives import quantile_loss
from fathom.nn.parameter import Parameter
from fathom.nn.spec import register
from fathom.ops.checks import one_of, operand, raw
from fathom.ops.cumulate import cumsum
from fathom.ops.elementwise import exp
from fathom.ops.loss import reduce_loss
from fathom.ops.reduce import sum as sum_
from fathom.ops.shape import concatenate, reshape

TASKS = (
    "binary", "multiclass", "multilabel", "regression", "counts", "positive", "quantiles",
    "bounded", "ordinal",
)  # fmt: skip

Loss = Callable[[Any, Any], Any]
Answer = Callable[[Any], Any]


@dataclass(frozen=True)
class Head:
    """What `head` returns.

    layer : (n, in_features) -> logits (n, outputs); the end of the network.
    loss(logits, targets, reduction="mean") : the losses of a sample are summed over its outputs,
        and averaged over the samples, summed ("sum") or given one by one ("none").
    predict(logits) : what the logits mean, as an array: probabilities, values, rates.
    decide(logits) : the answer: labels, or values.
    canonical : the gradient of the loss of a sample is prediction - target, for each logit.
    """

    task: str
    layer: Module
    canonical: bool
    predict: Answer
    decide: Answer
    _each: Loss  # losses, (n, outputs) or (n,)

    def loss(self, logits: TensorLike, targets: TensorLike, reduction: str = "mean") -> Tensor:
        """The loss of logits (n, outputs); goes as `loss=` into `fit`."""
        one_of("Head.loss", "reduction", reduction, ("none", "mean", "sum"))
        each = self._each(operand(logits), operand(targets))
        return reduce_loss(each if each.ndim == 1 else sum_(each, -1), reduction)


def head(task: str, in_features: int, n: int = 1, **options: Any) -> Head:
    """Layer, loss and answers for a task.

    task :
        "binary" : one yes or no, targets (batch,) of 0 and 1; sigmoid.
        "multiclass" : one of n classes, targets (batch,) of class numbers; softmax.
        "multilabel" : n times yes or no, targets (batch, n) of 0 and 1; sigmoids.
        "regression" : n values, half the squared error: a normal distribution of deviation 1.
        "counts" : n counts, targets >= 0; a Poisson distribution, log link.
        "positive" : n values > 0, log link; a gamma distribution, which weighs relative errors.
        "quantiles" : `levels=(0.1, 0.5, 0.9)` of one value, pinball loss; targets (batch,).
        "bounded" : n values from `low=0.0` to `high=1.0`, sigmoid and cross-entropy.
        "ordinal" : one of n >= 2 grades in order; n - 1 rising thresholds on one score.
    n : outputs or classes. With n = 1, targets may be (batch,) or (batch, 1).

    >>> import fathom
    >>> counts = head("counts", 4)
    >>> logits = counts.layer(fathom.ones(3, 4))
    >>> counts.loss(logits, [0, 1, 2]).shape, counts.predict(logits).shape
    ((), (3, 1))
    """
    one_of("head", "task", task, TASKS)
    count = positive(n, "n", "head")
    if task in ("binary", "quantiles") and n != 1:
        raise ArgumentError(f"head: {task} is about one value; received n={n}")
    if task in ("multiclass", "ordinal") and n < 2:
        raise ArgumentError(f"head: {task} needs n >= 2 classes; received {n}")
    try:
        return _MAKERS[task](in_features, count, **options)
    except TypeError as error:
        raise ArgumentError(f"head: {task} does not take these options: {error}") from None


def _like(logits: Any, targets: Any) -> Any:
    """Targets in the shape and dtype of the logits; (batch,) for one output."""
    if targets.shape != logits.shape:
        if logits.shape[-1] != 1 or targets.shape != logits.shape[:-1]:
            raise ShapeError(
                f"head: logits {logits.shape} need targets of that shape; received {targets.shape}"
            )
        targets = reshape(targets, logits.shape)
    return targets.astype(logits.dtype)


def _sigmoid(logits: Any) -> Any:
    return raw(F.sigmoid(operand(logits)))


def _bits(logits: Any, targets: Any) -> Any:
    """Cross-entropy of each yes or no."""
    wanted = _like(logits, targets)
    return F.binary_cross_entropy_with_logits(logits, wanted, reduction="none")


def _binary(in_features: int, n: int, threshold: float = 0.5) -> Head:
    """Yes where the probability is `threshold` or more: 0.5, or what the costs ask for."""

    def answer(z: Any) -> Any:
        return (_sigmoid(z) >= threshold).astype(np.int64)[:, 0]

    return Head("binary", Linear(in_features, n), True, _sigmoid, answer, _bits)


def _multilabel(in_features: int, n: int, threshold: float = 0.5) -> Head:
    def answer(z: Any) -> Any:
        return (_sigmoid(z) >= threshold).astype(np.int64)

    return Head("multilabel", Linear(in_features, n), True, _sigmoid, answer, _bits)


def _multiclass(in_features: int, n: int) -> Head:
    return Head(
        "multiclass", Linear(in_features, n), True,
        lambda z: raw(F.softmax(operand(z), -1)),
        lambda z: raw(operand(z)).argmax(-1),
        lambda z, y: F.cross_entropy(z, y, reduction="none"),
    )  # fmt: skip


def _regression(in_features: int, n: int) -> Head:
    def value(z: Any) -> Any:
        return raw(operand(z))

    def half_square(z: Any, y: Any) -> Any:
        return 0.5 * F.mse_loss(z, _like(z, y), "none")

    return Head("regression", Linear(in_features, n), True, value, value, half_square)


def _rates(z: Any) -> Any:
    return np.exp(raw(operand(z)))


def _counts(in_features: int, n: int) -> Head:
    def likeliest(z: Any) -> Any:
        return np.floor(_rates(z)).astype(np.int64)  # the mode of a Poisson distribution

    def each(z: Any, y: Any) -> Any:
        return F.poisson_nll_loss(z, _like(z, y), reduction="none")

    return Head("counts", Linear(in_features, n), True, _rates, likeliest, each)


def _positive(in_features: int, n: int) -> Head:
    def each(z: Any, y: Any) -> Any:  # slope 1 - y / p: relative, not prediction - target
        return _like(z, y) * exp(-z) + z

    return Head("positive", Linear(in_features, n), False, _rates, _rates, each)


def _quantiles(in_features: int, n: int, levels: Sequence[float] = (0.1, 0.5, 0.9)) -> Head:
    """The answer is the level nearest to the median; predictions are sorted, so they rise."""
    shares = np.sort(np.asarray(levels, np.float64))
    middle = int(np.argmin(abs(shares - 0.5)))

    def each(z: Any, y: Any) -> Any:
        wanted = reshape(y, (-1,)).astype(z.dtype)
        return quantile_loss(z, wanted, shares.tolist(), "none")

    def rising(z: Any) -> Any:
        return np.sort(raw(operand(z)), -1)

    layer = Linear(in_features, len(shares))
    return Head("quantiles", layer, False, rising, lambda z: rising(z)[..., middle], each)


def _bounded(in_features: int, n: int, low: float = 0.0, high: float = 1.0) -> Head:
    """In units of the interval: prediction and target lie between 0 and 1 in loss and gradient."""
    if not low < high:
        raise ArgumentError(f"head: bounded needs low < high; received {low}, {high}")

    def value(z: Any) -> Any:
        return low + (high - low) * _sigmoid(z)

    def each(z: Any, y: Any) -> Any:
        share = (_like(z, y) - low) * (1.0 / (high - low))
        if not ((raw(share) >= 0) & (raw(share) <= 1)).all():
            raise ArgumentError(f"head: bounded targets must lie between {low} and {high}")
        return F.binary_cross_entropy_with_logits(z, share, reduction="none")

    return Head("bounded", Linear(in_features, n), True, value, value, each)


@register
class OrdinalLogits(Module):
    """Logits of "above grade k" for all but the last grade: (n, in_features) -> (n, grades - 1).

    One score w . x and rising thresholds (McCullagh, 1980): the first one, and gaps that are
    softplus of what is learnt, so that P(above k) falls with k.

    >>> import fathom
    >>> OrdinalLogits(3, 4)(fathom.ones(2, 3)).shape
    (2, 3)
    """

    builds_children = True

    def __init__(self, in_features: int, grades: int) -> None:
        super().__init__()
        self.grades = positive(grades, "grades", "OrdinalLogits")
        if self.grades < 2:
            raise ArgumentError(f"OrdinalLogits: needs 2 grades or more; received {grades}")
        self.score = Linear(in_features, 1, bias=False)
        self.first = Parameter(np.full(1, -0.5 * (grades - 2), np.float32))
        gap = np.full(grades - 2, math.log(math.e - 1.0), np.float32)  # softplus of it is 1
        self.register_parameter("gaps", Parameter(gap) if grades > 2 else None)

    @property
    def thresholds(self) -> Any:
        """(grades - 1,), rising."""
        if self.gaps is None:
            return self.first
        return cumsum(concatenate([self.first, F.softplus(self.gaps)], 0), 0)

    def forward(self, x: TensorLike) -> Tensor:
        return self.score(x) - self.thresholds

    def config(self) -> dict[str, Any]:
        return {"in_features": self.score.in_features, "grades": self.grades}


def _ordinal(in_features: int, n: int) -> Head:
    def each(z: Any, y: Any) -> Any:
        above = raw(y).reshape(-1, 1) > np.arange(n - 1)
        return F.binary_cross_entropy_with_logits(z, above.astype(z.dtype), reduction="none")

    def shares(z: Any) -> Any:
        above = np.pad(_sigmoid(z), ((0, 0), (1, 1)), constant_values=((0, 0), (1, 0)))
        return above[:, :-1] - above[:, 1:]  # (n, grades)

    def grade(z: Any) -> Any:
        return (raw(operand(z)) >= 0).sum(-1)  # the median grade

    return Head("ordinal", OrdinalLogits(in_features, n), True, shares, grade, each)


_MAKERS: dict[str, Callable[..., Head]] = {
    "binary": _binary,
    "multiclass": _multiclass,
    "multilabel": _multilabel,
    "regression": _regression,
    "counts": _counts,
    "positive": _positive,
    "quantiles": _quantiles,
    "bounded": _bounded,
    "ordinal": _ordinal,
}
