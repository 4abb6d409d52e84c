"""Losses as modules, with PyTorch's names, and `sample_weight` for every one of them."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np

from fathom.engine.errors import ArgumentError, FathomError, ShapeError
from fathom.engine.tensor import Tensor, TensorLike
from fathom.nn import ctc, objectives
from fathom.nn import functional as F
from fathom.nn.checks import flag, number, whole
from fathom.nn.module import Module
from fathom.ops.checks import one_of, raw
from fathom.ops.create import as_tensor

__all__ = [
    "BCELoss",
    "BCEWithLogitsLoss",
    "CTCLoss",
    "ContrastiveLoss",
    "CosineEmbeddingLoss",
    "CosineSimilarity",
    "CrossEntropyLoss",
    "DIoULoss",
    "DistillationLoss",
    "FocalLoss",
    "GIoULoss",
    "GaussianNLLLoss",
    "HingeEmbeddingLoss",
    "HingeLoss",
    "HuberLoss",
    "InfoNCELoss",
    "IoULoss",
    "KLDivLoss",
    "L1Loss",
    "LogCoshLoss",
    "MSELoss",
    "MarginRankingLoss",
    "MultiLabelMarginLoss",
    "MultiLabelSoftMarginLoss",
    "MultiMarginLoss",
    "NLLLoss",
    "PairwiseDistance",
    "PoissonNLLLoss",
    "QuantileLoss",
    "SigmoidFocalLoss",
    "SmoothL1Loss",
    "SoftMarginLoss",
    "SquaredHingeLoss",
    "TripletMarginLoss",
    "TripletMarginWithDistanceLoss",
]

REDUCTIONS = ("mean", "sum", "none")


class Loss(Module):
    """Base of the losses: a function of its inputs, a reduction, options.

    `forward` takes the inputs and `sample_weight`, one number for each sample (axis 0) or an
    array of the shape of the unreduced losses. The inputs may go by the names of the function's
    arguments: `loss(input=x, target=y)`. With weights the mean is sum(w * loss) / sum(w): a
    sample of weight 2 counts like two of them.
    """

    function: ClassVar[Callable[..., Any]]
    options: ClassVar[tuple[str, ...]] = ()
    reductions: ClassVar[tuple[str, ...]] = REDUCTIONS

    def __init__(self, reduction: str = "mean") -> None:
        super().__init__()
        one_of(type(self).__name__, "reduction", reduction, self.reductions)
        self.reduction = reduction

    def losses(self, inputs: tuple[Any, ...], reduction: str) -> Any:
        """The loss function with this module's options."""
        options = {name: getattr(self, name) for name in self.options}
        return type(self).function(*inputs, **options, reduction=reduction)

    def shares(self, inputs: tuple[Any, ...]) -> Any:
        """What each unreduced loss counts in the mean, beside the sample weights."""
        return 1.0

    def __call__(self, *inputs: Any, **keywords: Any) -> Any:
        named = {k: v for k, v in keywords.items() if k != "sample_weight"}
        if not named:
            return super().__call__(*inputs, **keywords)
        ordered = self._in_order(inputs, named)
        return super().__call__(*ordered, sample_weight=keywords.get("sample_weight"))

    def forward(self, *inputs: TensorLike, sample_weight: TensorLike | None = None) -> Tensor:
        if sample_weight is None:
            return self.losses(inputs, self.reduction)
        each = self.losses(inputs, "none")
        weight = _broadcast(type(self).__name__, as_tensor(sample_weight), each)
        if self.reduction in ("none", "sum"):
            return each * weight if self.reduction == "none" else (each * weight).sum()
        total: Any = (weight * np.ones(each.shape, each.dtype) * self.shares(inputs)).sum()
        return (each * weight).sum() / total

    def _in_order(self, inputs: tuple[Any, ...], named: dict[str, Any]) -> tuple[Any, ...]:
        """Inputs given by the names of the function's arguments, behind those given in order."""
        names = list(inspect.signature(type(self).function).parameters)[len(inputs) :]
        last = max((names.index(key) for key in named if key in names), default=-1)
        unknown = named.keys() - set(names) | named.keys() & set(self.options)
        if unknown or {*names[: last + 1]} - named.keys():
            raise ArgumentError(
                f"{type(self).__name__}: received inputs named {', '.join(sorted(named))}; they "
                f"are {', '.join(names[: max(last + 1, 2)])}"
            )
        return (*inputs, *(named[key] for key in names[: last + 1]))

    def config(self) -> dict[str, Any]:
        found = {name: _plain(getattr(self, name)) for name in self.options}
        return {**found, "reduction": self.reduction}


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return list(value)
    return value.tolist() if isinstance(value, Tensor) else value


def _broadcast(name: str, weight: Any, each: Any) -> Any:
    """Sample weights in a shape that multiplies the unreduced losses."""
    if not np.isfinite(raw(weight)).all():
        raise ArgumentError(f"{name}: sample_weight must hold finite numbers")
    if weight.dtype.kind != "f":
        weight = weight.astype(each.dtype)
    if tuple(weight.shape) == tuple(each.shape):
        return weight
    if each.ndim and tuple(weight.shape) == (each.shape[0],):
        return weight.reshape(-1, *(1,) * (each.ndim - 1))
    raise ShapeError(
        f"{name}: sample_weight {tuple(weight.shape)} fits neither the samples "
        f"({each.shape[0] if each.ndim else 'none'}) nor the losses {tuple(each.shape)}"
    )


class _Weighted(Loss):
    """With a buffer of weights."""

    def _own(self, **weights: TensorLike | None) -> None:
        for name, value in weights.items():
            self.register_buffer(name, None if value is None else self._weights(name, value))

    def _weights(self, name: str, value: TensorLike) -> Tensor:
        """Finite weights, not negative, as a tensor of floats."""
        try:
            kept = Tensor(value)
        except FathomError as error:
            raise ArgumentError(f"{type(self).__name__}: {name}: {error.message}") from None
        if kept.dtype.kind != "f":
            kept = Tensor(np.asarray(kept.value(), np.float32))
        if not (kept.value() >= 0).all() or not np.isfinite(kept.value()).all():
            raise ArgumentError(
                f"{type(self).__name__}: {name} must hold finite numbers >= 0; received "
                f"{kept.tolist()}"
            )
        return kept


# -- regression ----------------------------------------------------------------------------------


class MSELoss(Loss):
    """Mean squared error; see `functional.mse_loss`."""

    function = staticmethod(F.mse_loss)


class L1Loss(Loss):
    """Mean absolute error, also called MAE; see `functional.l1_loss`."""

    function = staticmethod(F.l1_loss)


class SmoothL1Loss(Loss):
    """Quadratic below `beta`, linear beyond; see `functional.smooth_l1_loss`."""

    function = staticmethod(F.smooth_l1_loss)
    options = ("beta",)

    def __init__(self, reduction: str = "mean", beta: float = 1.0) -> None:
        super().__init__(reduction)
        self.beta = number(beta, "beta", self, 0.0)


class HuberLoss(Loss):
    """Quadratic up to `delta`, linear beyond; see `functional.huber_loss`."""

    function = staticmethod(F.huber_loss)
    options = ("delta",)

    def __init__(self, reduction: str = "mean", delta: float = 1.0) -> None:
        super().__init__(reduction)
        self.delta = number(delta, "delta", self, 0.0, above=True)


class LogCoshLoss(Loss):
    """log cosh of the error; see `objectives.log_cosh_loss`."""

    function = staticmethod(objectives.log_cosh_loss)


class QuantileLoss(Loss):
    """Pinball loss, whose minimizer is the q-quantile; several q make one column each."""

    function = staticmethod(objectives.quantile_loss)
    options = ("q",)

    def __init__(self, q: float | Sequence[float] = 0.5, reduction: str = "mean") -> None:
        super().__init__(reduction)
        shares = objectives.quantiles("QuantileLoss", q)
        self.q: Any = float(shares) if not shares.ndim else tuple(shares.tolist())


class PoissonNLLLoss(Loss):
    """Likelihood of counts; see `functional.poisson_nll_loss`."""

    function = staticmethod(F.poisson_nll_loss)
    options = ("log_input", "full", "eps")

    def __init__(
        self, log_input: bool = True, full: bool = False, eps: float = 1e-8,
        reduction: str = "mean",
    ) -> None:  # fmt: skip
        super().__init__(reduction)
        self.log_input, self.full = flag(log_input, "log_input", self), flag(full, "full", self)
        self.eps = number(eps, "eps", self, 0.0)


class GaussianNLLLoss(Loss):
    """Likelihood of a normal distribution: (input, target, var); see the function."""

    function = staticmethod(F.gaussian_nll_loss)
    options = ("full", "eps")

    def __init__(self, *, full: bool = False, eps: float = 1e-6, reduction: str = "mean") -> None:
        super().__init__(reduction)
        self.full, self.eps = flag(full, "full", self), number(eps, "eps", self, 0.0, above=True)


class KLDivLoss(Loss):
    """Kullback-Leibler divergence of log-probabilities; see `functional.kl_div`.

    reduction="batchmean" is the divergence proper.
    """

    function = staticmethod(F.kl_div)
    options = ("log_target",)
    reductions = (*REDUCTIONS, "batchmean")

    def __init__(self, reduction: str = "mean", log_target: bool = False) -> None:
        super().__init__(reduction)
        self.log_target = flag(log_target, "log_target", self)

    def forward(self, *inputs: TensorLike, sample_weight: TensorLike | None = None) -> Tensor:
        if sample_weight is None or self.reduction != "batchmean":
            return super().forward(*inputs, sample_weight=sample_weight)
        each = self.losses(inputs, "none")
        weight = _broadcast("KLDivLoss", as_tensor(sample_weight), each)
        return (each * weight).sum() / weight.sum()

    def config(self) -> dict[str, Any]:
        return {"reduction": self.reduction, "log_target": self.log_target}


# -- classes -------------------------------------------------------------------------------------


class CrossEntropyLoss(_Weighted):
    """Cross-entropy of logits; see `functional.cross_entropy`."""

    function = staticmethod(F.cross_entropy)
    options = ("weight", "ignore_index", "label_smoothing")

    def __init__(
        self,
        weight: TensorLike | None = None,
        ignore_index: int = -100,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(reduction)
        self._own(weight=weight)
        self.ignore_index = whole(ignore_index, "ignore_index", self)
        self.label_smoothing = number(label_smoothing, "label_smoothing", self, 0.0, 1.0)

    def shares(self, inputs: tuple[Any, ...]) -> Any:
        return _class_shares(inputs, self.weight, self.ignore_index)

    def config(self) -> dict[str, Any]:
        return {
            "weight": _plain(self.weight),
            "ignore_index": self.ignore_index,
            "reduction": self.reduction,
            "label_smoothing": self.label_smoothing,
        }


def _class_shares(inputs: tuple[Any, ...], weight: Any, ignore_index: int) -> Any:
    x, target = as_tensor(inputs[0]), as_tensor(inputs[1])
    if target.dtype.kind == "f":  # probabilities
        return 1.0
    return objectives.kept_share(x, target, weight, ignore_index)


class NLLLoss(_Weighted):
    """-log-probability of the right class; see `functional.nll_loss`."""

    function = staticmethod(F.nll_loss)
    options = ("weight", "ignore_index")

    def __init__(
        self, weight: TensorLike | None = None, ignore_index: int = -100, reduction: str = "mean"
    ) -> None:
        super().__init__(reduction)
        self._own(weight=weight)
        self.ignore_index = whole(ignore_index, "ignore_index", self)

    def shares(self, inputs: tuple[Any, ...]) -> Any:
        return _class_shares(inputs, self.weight, self.ignore_index)


class FocalLoss(_Weighted):
    """(1 - p)^gamma times the cross-entropy of logits; see `objectives.focal_loss`."""

    function = staticmethod(objectives.focal_loss)
    options = ("gamma", "weight", "ignore_index")

    def __init__(
        self,
        gamma: float = 2.0,
        weight: TensorLike | None = None,
        ignore_index: int = -100,
        reduction: str = "mean",
    ) -> None:
        super().__init__(reduction)
        self.gamma = number(gamma, "gamma", self, 0.0)
        self.ignore_index = whole(ignore_index, "ignore_index", self)
        self._own(weight=weight)

    def shares(self, inputs: tuple[Any, ...]) -> Any:
        return _class_shares(inputs, self.weight, self.ignore_index)


class SigmoidFocalLoss(Loss):
    """The focal loss of yes/no logits; see `objectives.sigmoid_focal_loss`."""

    function = staticmethod(objectives.sigmoid_focal_loss)
    options = ("alpha", "gamma")

    def __init__(
        self, alpha: float | None = 0.25, gamma: float = 2.0, reduction: str = "mean"
    ) -> None:
        super().__init__(reduction)
        self.alpha = None if alpha is None else number(alpha, "alpha", self, 0.0, 1.0)
        self.gamma = number(gamma, "gamma", self, 0.0)


class BCELoss(_Weighted):
    """Cross-entropy of probabilities of yes; see `functional.binary_cross_entropy`."""

    function = staticmethod(F.binary_cross_entropy)
    options = ("weight",)

    def __init__(self, weight: TensorLike | None = None, reduction: str = "mean") -> None:
        super().__init__(reduction)
        self._own(weight=weight)


class BCEWithLogitsLoss(_Weighted):
    """Cross-entropy of logits of yes; see `functional.binary_cross_entropy_with_logits`."""

    function = staticmethod(F.binary_cross_entropy_with_logits)
    options = ("weight", "pos_weight")

    def __init__(
        self,
        weight: TensorLike | None = None,
        reduction: str = "mean",
        pos_weight: TensorLike | None = None,
    ) -> None:
        super().__init__(reduction)
        self._own(weight=weight, pos_weight=pos_weight)


class DistillationLoss(Loss):
    """(student, teacher[, target]): softened KL and cross-entropy; see the function."""

    function = staticmethod(objectives.distillation_loss)
    options = ("temperature", "alpha")

    def __init__(
        self, temperature: float = 4.0, alpha: float = 0.5, reduction: str = "mean"
    ) -> None:
        super().__init__(reduction)
        self.temperature = number(temperature, "temperature", self, 0.0, above=True)
        self.alpha = number(alpha, "alpha", self, 0.0, 1.0)


class CTCLoss(Loss):
    """(log_probs, targets, input_lengths, target_lengths); see `ctc.ctc_loss`."""

    function = staticmethod(ctc.ctc_loss)
    options = ("blank", "zero_infinity")

    def __init__(
        self, blank: int = 0, reduction: str = "mean", zero_infinity: bool = False
    ) -> None:
        super().__init__(reduction)
        self.blank = whole(blank, "blank", self, 0)
        self.zero_infinity = flag(zero_infinity, "zero_infinity", self)


# -- margins -------------------------------------------------------------------------------------


class _Margin(Loss):
    options = ("margin",)

    def __init__(self, margin: float = 1.0, reduction: str = "mean") -> None:
        super().__init__(reduction)
        self.margin = number(margin, "margin", self)


class HingeLoss(_Margin):
    """max(0, margin - target * input), target -1 or 1; margin 0: the perceptron criterion."""

    function = staticmethod(objectives.hinge_loss)


class SquaredHingeLoss(_Margin):
    """max(0, margin - target * input)^2, target -1 or 1."""

    function = staticmethod(objectives.squared_hinge_loss)


class HingeEmbeddingLoss(_Margin):
    """input where the target is 1, max(0, margin - input) where it is -1."""

    function = staticmethod(F.hinge_embedding_loss)


class SoftMarginLoss(Loss):
    """log(1 + exp(-target * input)), target -1 or 1."""

    function = staticmethod(F.soft_margin_loss)


class MultiMarginLoss(_Weighted):
    """The hinge of several classes; see `functional.multi_margin_loss`."""

    function = staticmethod(F.multi_margin_loss)
    options = ("p", "margin", "weight")

    def __init__(
        self, p: int = 1, margin: float = 1.0, weight: TensorLike | None = None,
        reduction: str = "mean",
    ) -> None:  # fmt: skip
        super().__init__(reduction)
        if whole(p, "p", self) not in (1, 2):
            raise ArgumentError(f"MultiMarginLoss: p is 1 or 2; received {p!r}")
        self.p, self.margin = p, number(margin, "margin", self)
        self._own(weight=weight)


class MultiLabelMarginLoss(Loss):
    """Margins between the classes listed in each row and the others; see the function."""

    function = staticmethod(F.multilabel_margin_loss)


class MultiLabelSoftMarginLoss(_Weighted):
    """The binary cross-entropy of every class, averaged over classes."""

    function = staticmethod(F.multilabel_soft_margin_loss)
    options = ("weight",)

    def __init__(self, weight: TensorLike | None = None, reduction: str = "mean") -> None:
        super().__init__(reduction)
        self._own(weight=weight)


# -- similarity ----------------------------------------------------------------------------------


class CosineEmbeddingLoss(_Margin):
    """(input1, input2, target): 1 - cos, or max(0, cos - margin) for target -1."""

    function = staticmethod(F.cosine_embedding_loss)

    def __init__(self, margin: float = 0.0, reduction: str = "mean") -> None:
        super().__init__(margin, reduction)


class MarginRankingLoss(_Margin):
    """(input1, input2, target): with target 1, input1 shall be larger by the margin."""

    function = staticmethod(F.margin_ranking_loss)

    def __init__(self, margin: float = 0.0, reduction: str = "mean") -> None:
        super().__init__(margin, reduction)


class ContrastiveLoss(_Margin):
    """(input1, input2, target): d^2, or max(0, margin - d)^2 for target 0."""

    function = staticmethod(objectives.contrastive_loss)


class InfoNCELoss(Loss):
    """(query, positive[, negatives]): find the partner; see `objectives.info_nce_loss`."""

    function = staticmethod(objectives.info_nce_loss)
    options = ("temperature",)

    def __init__(self, temperature: float = 0.1, reduction: str = "mean") -> None:
        super().__init__(reduction)
        self.temperature = number(temperature, "temperature", self, 0.0, above=True)


class TripletMarginLoss(Loss):
    """(anchor, positive, negative): see `functional.triplet_margin_loss`."""

    function = staticmethod(F.triplet_margin_loss)
    options = ("margin", "p", "eps", "swap")

    def __init__(
        self, margin: float = 1.0, p: float = 2.0, eps: float = 1e-6, swap: bool = False,
        reduction: str = "mean",
    ) -> None:  # fmt: skip
        super().__init__(reduction)
        self.margin = number(margin, "margin", self, 0.0, above=True)
        self.p = p if p == math.inf else number(p, "p", self, 0.0)
        self.eps = number(eps, "eps", self, 0.0)
        self.swap = flag(swap, "swap", self)


class TripletMarginWithDistanceLoss(Loss):
    """`TripletMarginLoss` with a distance of one's own (which a stored spec cannot hold)."""

    function = staticmethod(F.triplet_margin_with_distance_loss)
    options = ("distance_function", "margin", "swap")

    def __init__(
        self,
        *,
        distance_function: Callable[..., Any] | None = None,
        margin: float = 1.0,
        swap: bool = False,
        reduction: str = "mean",
    ) -> None:
        super().__init__(reduction)
        if distance_function is not None and not callable(distance_function):
            raise ArgumentError(
                "TripletMarginWithDistanceLoss: distance_function must be a function of two "
                f"tensors; received {distance_function!r}"
            )
        self.distance_function = distance_function
        self.margin = number(margin, "margin", self, 0.0, above=True)
        self.swap = flag(swap, "swap", self)


class PairwiseDistance(Module):
    """The p-norm of x1 - x2 + eps along the last axis."""

    def __init__(self, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False) -> None:
        super().__init__()
        self.norm = p if p == math.inf else number(p, "p", self, 0.0)
        self.eps = number(eps, "eps", self, 0.0)
        self.keepdim = flag(keepdim, "keepdim", self)

    def forward(self, x1: TensorLike, x2: TensorLike) -> Tensor:
        return F.pairwise_distance(x1, x2, self.norm, self.eps, self.keepdim)

    def config(self) -> dict[str, Any]:
        return {"p": self.norm, "eps": self.eps, "keepdim": self.keepdim}


class CosineSimilarity(Module):
    """The cosine of the angle between x1 and x2 along `dim`."""

    def __init__(self, dim: int = 1, eps: float = 1e-8) -> None:
        super().__init__()
        self.dim, self.eps = whole(dim, "dim", self), number(eps, "eps", self, 0.0)

    def forward(self, x1: TensorLike, x2: TensorLike) -> Tensor:
        return F.cosine_similarity(x1, x2, self.dim, self.eps)

    def config(self) -> dict[str, Any]:
        return {"dim": self.dim, "eps": self.eps}


# -- boxes ---------------------------------------------------------------------------------------


class IoULoss(Loss):
    """1 - intersection over union of boxes (n, 4), as x1, y1, x2, y2."""

    function = staticmethod(objectives.iou_loss)


class GIoULoss(Loss):
    """1 - generalized IoU, which has a gradient for boxes that do not overlap."""

    function = staticmethod(objectives.generalized_box_iou_loss)


class DIoULoss(Loss):
    """1 - IoU + normalized distance of the centres."""

    function = staticmethod(objectives.distance_iou_loss)
