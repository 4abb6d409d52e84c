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

from fathom.engine.tensor import Tensor, TensorLike
from fathom.ops import conv as _conv
from fathom.ops import pool as _pool
from fathom.ops import sample as _sample
from fathom.ops.attention import scaled_dot_product_attention
from fathom.ops.axes import torch_names
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
from fathom.ops.resize import fold, interpolate, pixel_shuffle, pixel_unshuffle, unfold
from fathom.ops.sample import alpha_dropout, dropout, feature_alpha_dropout, gumbel_softmax
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
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "conv1d",
    "conv2d",
    "conv3d",
    "conv_transpose1d",
    "conv_transpose2d",
    "conv_transpose3d",
    "cosine_embedding_loss",
    "cosine_similarity",
    "cross_entropy",
    "dropout",
    "dropout1d",
    "dropout2d",
    "dropout3d",
    "embedding",
    "embedding_bag",
    "feature_alpha_dropout",
    "fold",
    "gaussian_nll_loss",
    "group_norm",
    "gumbel_softmax",
    "hinge_embedding_loss",
    "huber_loss",
    "instance_norm",
    "interpolate",
    "kl_div",
    "l1_loss",
    "layer_norm",
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
    "relu",
    "rms_norm",
    "scaled_dot_product_attention",
    "sigmoid",
    "smooth_l1_loss",
    "soft_margin_loss",
    "softmax",
    "softmin",
    "softplus",
    "tanh",
    "triplet_margin_loss",
    "triplet_margin_with_distance_loss",
    "unfold",
]

linear = affine


@torch_names
def softmin(x: TensorLike, axis: int = -1) -> Tensor:
    """`softmax` of -x: the smallest element gets the largest share.

    >>> import fathom
    >>> softmin(fathom.tensor([0.0, 0.0]))
    tensor([0.5, 0.5])
    """
    return softmax(neg(x), axis)


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
    _of_rank(_pool.max_unpool_nd, r, f"max_unpool{r}d") for r in (1, 2, 3)
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
