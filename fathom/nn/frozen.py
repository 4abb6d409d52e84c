"""Batch norms that never learn, for fine-tuning with small batches."""

from __future__ import annotations

from typing import Any, ClassVar, Self

import numpy as np

from fathom.engine.errors import ArgumentError, ShapeError
from fathom.engine.tensor import Tensor, TensorLike
from fathom.nn import functional as F
from fathom.nn.checks import alike, positive
from fathom.nn.module import Module
from fathom.nn.norm import BatchNorm1d, BatchNorm2d, BatchNorm3d, _BatchNorm, small

__all__ = [
    "FrozenBatchNorm1d",
    "FrozenBatchNorm2d",
    "FrozenBatchNorm3d",
]


class _FrozenBatchNorm(Module):
    ndims: ClassVar[tuple[int, ...]]
    layout: ClassVar[str]

    def __init__(self, num_features: int, eps: float = 1e-5) -> None:
        super().__init__()
        name = type(self).__name__
        self.num_features = positive(num_features, "num_features", name)
        self.eps = small(eps, name)
        for key, value in (("weight", 1), ("bias", 0), ("running_mean", 0), ("running_var", 1)):
            start = np.full(self.num_features, value, np.float32)
            self.register_buffer(key, Tensor(start))

    @classmethod
    def of(cls, layer: Any) -> Self:
        """A frozen copy of a trained batch norm."""
        if not isinstance(layer, _BatchNorm) or layer.running_mean is None:
            raise ArgumentError(
                f"{cls.__name__}.of: needs a batch norm with running statistics; received "
                f"{type(layer).__name__}"
            )
        frozen = cls(layer.num_features, layer.eps)
        for key in ("weight", "bias", "running_mean", "running_var"):
            kept = getattr(layer, key)
            if kept is not None:
                setattr(frozen, key, Tensor(np.array(kept.value())))
        return frozen

    def forward(self, x: TensorLike) -> Tensor:
        a = alike(self, x, self.running_mean)
        if a.ndim not in self.ndims:
            name = type(self).__name__
            raise ShapeError(f"{name}: needs an input {self.layout}; received shape {a.shape}")
        return F.batch_norm(
            a, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps
        )

    def config(self) -> dict[str, Any]:
        return {"num_features": self.num_features, "eps": self.eps}


class FrozenBatchNorm1d(_FrozenBatchNorm):
    """A `BatchNorm1d` that never learns; see `FrozenBatchNorm2d`."""

    ndims, layout = BatchNorm1d.ndims, BatchNorm1d.layout


class FrozenBatchNorm2d(_FrozenBatchNorm):
    """A `BatchNorm2d` that never learns: statistics, scale and shift are fixed buffers.

    For fine-tuning with batches too small for statistics (He et al., 2017); the same in train
    and eval mode. `FrozenBatchNorm2d.of(layer)` freezes a trained one.

    >>> import fathom
    >>> frozen = FrozenBatchNorm2d.of(BatchNorm2d(3))
    >>> frozen(fathom.ones(1, 3, 2, 2)).shape, len(list(frozen.parameters()))
    ((1, 3, 2, 2), 0)
    """

    ndims, layout = BatchNorm2d.ndims, BatchNorm2d.layout


class FrozenBatchNorm3d(_FrozenBatchNorm):
    """A `BatchNorm3d` that never learns; see `FrozenBatchNorm2d`."""

    ndims, layout = BatchNorm3d.ndims, BatchNorm3d.layout
