"""Layers and losses as plain functions, with the names and arguments of `torch.nn.functional`.

>>> import fathom
>>> from fathom.nn import functional as F
>>> x, kernel = fathom.ones(1, 1, 4, 4), fathom.ones(1, 1, 3, 3)
>>> F.conv2d(x, kernel, padding="same").shape
(1, 1, 4, 4)
>>> F.max_pool2d(x, 2).shape
(1, 1, 2, 2)
>>> F.adaptive_avg_pool2d(x, 1)
tensor([[[[1.]]]])
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from fathom.activations.formulas import (
    celu,
    elu,
    leaky_relu,
    mish,
    relu6,
    selu,
    silu,
    softsign,
    threshold,
)
from fathom.activations.formulas import gelu as _gelu
from fathom.activations.formulas import gelu_sigmoid as _gelu_sigmoid
from fathom.activations.formulas import gelu_tanh as _gelu_tanh
from fathom.activations.formulas import hard_shrink as hardshrink
from fathom.activations.formulas import hard_sigmoid as hardsigmoid
from fathom.activations.formulas import hard_swish as hardswish
from fathom.activations.formulas import hard_tanh as hardtanh
from fathom.activations.formulas import prelu as _prelu
from fathom.activations.formulas import soft_shrink as softshrink
from fathom.activations.formulas import tanh_shrink as tanhshrink
from fathom.activations.groups import entmax15, glu, maxout, rrelu, sparsemax
from fathom.engine.errors import ArgumentError, ShapeError, mark_axes, suggest
from fathom.engine.tensor import Tensor, TensorLike
from fathom.nn.ctc import ctc_loss
from fathom.ops import conv as _conv
from fathom.ops import pool as _pool
from fathom.ops import sample as _sample
from fathom.ops import unpool as _unpool
from fathom.ops.attention import scaled_dot_product_attention
from fathom.ops.axes import torch_names
from fathom.ops.checks import floats as _floats
from fathom.ops.create import as_tensor as _as_tensor
from fathom.ops.elementwise import neg, relu, sigmoid, tanh
from fathom.ops.embedding import embedding, embedding_bag, one_hot
from fathom.ops.linalg import affine
from fathom.ops.loss import cross_entropy, log_softmax, softmax
from fathom.ops.losses.classify import (
    binary_cross_entropy,
    binary_cross_entropy_with_logits,
    multi_margin_loss,
    multilabel_margin_loss,
    multilabel_soft_margin_loss,
    nll_loss,
    soft_margin_loss,
)
from fathom.ops.losses.distance import (
    cosine_embedding_loss,
    cosine_similarity,
    hinge_embedding_loss,
    margin_ranking_loss,
    pairwise_distance,
    triplet_margin_loss,
    triplet_margin_with_distance_loss,
)
from fathom.ops.losses.regression import (
    gaussian_nll_loss,
    huber_loss,
    kl_div,
    l1_loss,
    mse_loss,
    poisson_nll_loss,
    smooth_l1_loss,
)
from fathom.ops.normalization import (
    batch_norm,
    group_norm,
    instance_norm,
    layer_norm,
    normalize,
    rms_norm,
)
from fathom.ops.padding import pad
from fathom.ops.pool import local_response_norm
from fathom.ops.resize import (
    channel_shuffle,
    fold,
    interpolate,
    pixel_shuffle,
    pixel_unshuffle,
    unfold,
)
from fathom.ops.sample import alpha_dropout, dropout, feature_alpha_dropout, gumbel_softmax
from fathom.ops.shape import reshape as _reshape
from fathom.ops.special import logsigmoid, softplus

__all__ = [
    "adaptive_avg_pool1d",
    "adaptive_avg_pool2d",
    "adaptive_avg_pool3d",
    "adaptive_max_pool1d",
    "adaptive_max_pool2d",
    "adaptive_max_pool3d",
    "alpha_dropout",
    "avg_pool1d",
    "avg_pool2d",
    "avg_pool3d",
    "batch_norm",
    "bilinear",
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "celu",
    "channel_shuffle",
    "conv1d",
    "conv2d",
    "conv3d",
    "conv_transpose1d",
    "conv_transpose2d",
    "conv_transpose3d",
    "cosine_embedding_loss",
    "cosine_similarity",
    "cross_entropy",
    "ctc_loss",
    "dropout",
    "dropout1d",
    "dropout2d",
    "dropout3d",
    "elu",
    "embedding",
    "embedding_bag",
    "entmax15",
    "feature_alpha_dropout",
    "fold",
    "gaussian_nll_loss",
    "gelu",
    "glu",
    "group_norm",
    "gumbel_softmax",
    "hardshrink",
    "hardsigmoid",
    "hardswish",
    "hardtanh",
    "hinge_embedding_loss",
    "huber_loss",
    "instance_norm",
    "interpolate",
    "kl_div",
    "l1_loss",
    "layer_norm",
    "leaky_relu",
    "linear",
    "local_response_norm",
    "log_softmax",
    "logsigmoid",
    "lp_pool1d",
    "lp_pool2d",
    "lp_pool3d",
    "margin_ranking_loss",
    "max_pool1d",
    "max_pool2d",
    "max_pool3d",
    "max_unpool1d",
    "max_unpool2d",
    "max_unpool3d",
    "maxout",
    "mish",
    "mse_loss",
    "multi_margin_loss",
    "multilabel_margin_loss",
    "multilabel_soft_margin_loss",
    "nll_loss",
    "normalize",
    "one_hot",
    "pad",
    "pairwise_distance",
    "pixel_shuffle",
    "pixel_unshuffle",
    "poisson_nll_loss",
    "prelu",
    "relu",
    "relu6",
    "rms_norm",
    "rrelu",
    "scaled_dot_product_attention",
    "selu",
    "sigmoid",
    "silu",
    "smooth_l1_loss",
    "soft_margin_loss",
    "softmax",
    "softmin",
    "softplus",
    "softshrink",
    "softsign",
    "sparsemax",
    "tanh",
    "tanhshrink",
    "threshold",
    "triplet_margin_loss",
    "triplet_margin_with_distance_loss",
    "unfold",
]

linear = affine


def bilinear(
    input1: TensorLike, input2: TensorLike, weight: TensorLike, bias: TensorLike | None = None
) -> Tensor:
    """x1^T W x2 + b for each output: (..., in1), (..., in2), (out, in1, in2) -> (..., out).

    >>> import fathom
    >>> x, y = fathom.tensor([1.0, 2.0]), fathom.tensor([3.0, 4.0])
    >>> bilinear(x, y, fathom.eye(2).reshape(1, 2, 2))
    tensor([11.])
    """
    a, b, w = _as_tensor(input1), _as_tensor(input2), _as_tensor(weight)
    _floats("bilinear", a, b, w)
    if w.ndim != 3:
        raise ShapeError(f"bilinear: the weight is (out, in1, in2); received {tuple(w.shape)}")
    for i, (x, size) in enumerate(((a, w.shape[1]), (b, w.shape[2])), 1):
        if not x.ndim or x.shape[-1] != size:
            marked = mark_axes(x.shape, [-1]) if x.ndim else "()"
            raise ShapeError(
                f"bilinear: input {i} {marked} must have {size} features on its last axis"
            )
    lead = tuple(a.shape[:-1])
    if lead != tuple(b.shape[:-1]):
        raise ShapeError(
            f"bilinear: {tuple(a.shape)} and {tuple(b.shape)} must agree in all axes but the last"
        )
    rows, columns = _reshape(a, (-1, 1, 1, a.shape[-1])), _reshape(b, (-1, 1, b.shape[-1], 1))
    out = _reshape(rows @ w @ columns, (*lead, w.shape[0]))
    return out if bias is None else out + _as_tensor(bias)


@torch_names
def softmin(x: TensorLike, axis: int = -1) -> Tensor:
    """`softmax` of -x: the smallest element gets the largest share.

    >>> import fathom
    >>> softmin(fathom.tensor([0.0, 0.0]))
    tensor([0.5, 0.5])
    """
    return softmax(neg(x), axis)


def gelu(x: TensorLike, approximate: str = "none") -> Tensor:
    """x Phi(x): exact ("none"), or approximated with "tanh" or "sigmoid".

    >>> import fathom
    >>> gelu(fathom.tensor([0.0, 1.0]))
    tensor([0.    , 0.8413])
    """
    kinds = {"none": _gelu, "tanh": _gelu_tanh, "sigmoid": _gelu_sigmoid}
    if approximate not in kinds:
        raise ArgumentError(
            f"gelu: unknown approximate {approximate!r}", fix=suggest(str(approximate), kinds)
        )
    return kinds[approximate](_as_tensor(x))


def prelu(x: TensorLike, weight: TensorLike) -> Tensor:
    """x where x > 0, weight x below; one weight for all, or one for each channel (axis 1)."""
    a, w = _as_tensor(x), _as_tensor(weight)
    if w.ndim > 1 or (w.size != 1 and (a.ndim < 2 or a.shape[1] != w.size)):
        shape = mark_axes(a.shape, [1]) if a.ndim > 1 else str(a.shape)
        raise ShapeError(
            f"prelu: the weight must hold 1 number, or one for each channel of the input {shape}; "
            f"received shape {tuple(w.shape)}",
            fix="channels stand on axis 1: (n, c, ...)",
        )
    shared = w.size == 1 or a.ndim < 3
    return _prelu(a, w if shared else _reshape(w, (-1, *(1,) * (a.ndim - 2))))


def _of_rank(function: Callable[..., Any], rank: int, name: str) -> Callable[..., Any]:
    """The function for that many spatial axes, with a name and a signature of its own."""

    def call(*args: Any, **keywords: Any) -> Any:
        return function(rank, *args, **keywords)

    call.__name__ = call.__qualname__ = name
    axes = {1: "one spatial axis", 2: "height and width", 3: "depth, height and width"}
    first, _, rest = (function.__doc__ or "").partition("\n")
    call.__doc__ = f"{first}\n\n    Over {axes[rank]}.\n{rest}"
    signature = inspect.signature(function)
    parameters = [p for p in signature.parameters.values() if p.name != "rank"]
    call.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    return call


conv1d, conv2d, conv3d = (_of_rank(_conv.conv_nd, r, f"conv{r}d") for r in (1, 2, 3))
conv_transpose1d, conv_transpose2d, conv_transpose3d = (
    _of_rank(_conv.conv_transpose_nd, r, f"conv_transpose{r}d") for r in (1, 2, 3)
)
max_pool1d, max_pool2d, max_pool3d = (
    _of_rank(_pool.max_pool_nd, r, f"max_pool{r}d") for r in (1, 2, 3)
)
avg_pool1d, avg_pool2d, avg_pool3d = (
    _of_rank(_pool.avg_pool_nd, r, f"avg_pool{r}d") for r in (1, 2, 3)
)
lp_pool1d, lp_pool2d, lp_pool3d = (_of_rank(_pool.lp_pool_nd, r, f"lp_pool{r}d") for r in (1, 2, 3))
max_unpool1d, max_unpool2d, max_unpool3d = (
    _of_rank(_unpool.max_unpool_nd, r, f"max_unpool{r}d") for r in (1, 2, 3)
)
adaptive_avg_pool1d, adaptive_avg_pool2d, adaptive_avg_pool3d = (
    _of_rank(_pool.adaptive_avg_pool_nd, r, f"adaptive_avg_pool{r}d") for r in (1, 2, 3)
)
adaptive_max_pool1d, adaptive_max_pool2d, adaptive_max_pool3d = (
    _of_rank(_pool.adaptive_max_pool_nd, r, f"adaptive_max_pool{r}d") for r in (1, 2, 3)
)
dropout1d, dropout2d, dropout3d = (
    _of_rank(_sample.dropout_channels, r, f"dropout{r}d") for r in (1, 2, 3)
)
