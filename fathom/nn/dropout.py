"""Layers that drop at random while training: elements, channels, branches, regions.

All draw from the stream "dropout" of the current `Random`, and change nothing in `eval()` mode
(but classic dropout, which scales there).
"""

from __future__ import annotations

import itertools
import math
from typing import Any, ClassVar

import numpy as np

from fathom.engine.errors import ArgumentError, ShapeError, mark_axes
from fathom.engine.random import current
from fathom.engine.tensor import Tensor, TensorLike
from fathom.nn import functional as F
from fathom.nn.checks import flag, positive
from fathom.nn.module import Module
from fathom.ops.checks import floats, on_arrays
from fathom.ops.create import as_tensor

__all__ = [
    "AlphaDropout",
    "DropBlock1d",
    "DropBlock2d",
    "DropBlock3d",
    "DropPath",
    "Dropout",
    "Dropout1d",
    "Dropout2d",
    "Dropout3d",
    "FeatureAlphaDropout",
]


def probability(p: Any, owner: str, name: str = "p") -> float:
    """A share between 0 and 1."""
    if isinstance(p, bool) or not isinstance(p, int | float | np.number) or not 0.0 <= p <= 1.0:
        raise ArgumentError(f"{owner}: {name} is a probability in [0, 1]; received {p!r}")
    return float(p)


class _Dropping(Module):
    def __init__(self, p: float = 0.5, inplace: bool = False) -> None:
        super().__init__()
        self.p = probability(p, type(self).__name__)

    def config(self) -> dict[str, Any]:
        return {"p": self.p}


class Dropout(_Dropping):
    """Each element is zero with probability p, the others grow by 1/(1-p), while training.

    Srivastava et al. (2014). With classic=True nothing grows while training; instead all shrink
    by 1-p in `eval()` mode, as in the paper. The expectation is the same either way.
    """

    def __init__(self, p: float = 0.5, inplace: bool = False, *, classic: bool = False) -> None:
        super().__init__(p)
        self.classic = flag(classic, "classic", self)

    def forward(self, x: TensorLike) -> Tensor:
        if not self.classic:
            return F.dropout(x, self.p, self.training)
        a: Any = as_tensor(x)
        floats("Dropout", a)
        if not self.training:
            return a * (1.0 - self.p)
        return a * current().stream("dropout").bernoulli(1.0 - self.p, a.shape).astype(a.dtype)

    def config(self) -> dict[str, Any]:
        return {"p": self.p, "classic": True} if self.classic else {"p": self.p}


class _ChannelDropout(_Dropping):
    rank: ClassVar[int]

    def forward(self, x: TensorLike) -> Tensor:
        function = (F.dropout1d, F.dropout2d, F.dropout3d)[self.rank - 1]
        return function(x, self.p, self.training)


class Dropout1d(_ChannelDropout):
    """Whole channels of (n, c, l) or (c, l) dropped together (Tompson et al., 2015)."""

    rank = 1


class Dropout2d(_ChannelDropout):
    """Whole channels of (n, c, h, w) or (c, h, w) dropped together: spatial dropout."""

    rank = 2


class Dropout3d(_ChannelDropout):
    """Whole channels of (n, c, d, h, w) or (c, d, h, w) dropped together."""

    rank = 3


class AlphaDropout(_Dropping):
    """Dropout for SELU: elements fall to -1.7581 = -scale alpha, then all go through a x + b.

    Klambauer et al. (2017). a = (q + low^2 q p)^-1/2 and b = -a p low with q = 1 - p restore
    mean 0 and variance 1 exactly.
    """

    def forward(self, x: TensorLike) -> Tensor:
        return F.alpha_dropout(x, self.p, self.training)


class FeatureAlphaDropout(_Dropping):
    """`AlphaDropout` of whole channels; (n, c, ...)."""

    def forward(self, x: TensorLike) -> Tensor:
        a = as_tensor(x)
        if a.ndim < 2:
            raise ShapeError(f"FeatureAlphaDropout: needs (n, c, ...); received shape {a.shape}")
        return F.feature_alpha_dropout(a, self.p, self.training)


class DropPath(_Dropping):
    """Stochastic depth: the branch of a residual block is dropped for whole samples.

    Huang et al. (2016). x (n, ...) times a mask (n, 1, ...) of zeros and 1/(1-p). mode="batch"
    drops it for all samples at once. Put it at the end of the branch of a `Residual`.

    >>> import fathom
    >>> with fathom.seed(0):
    ...     out = DropPath(0.5)(fathom.ones(6, 2))
    >>> out[:, 0].tolist() == out[:, 1].tolist()
    True
    """

    def __init__(self, p: float = 0.1, mode: str = "row") -> None:
        super().__init__(p)
        if mode not in ("row", "batch"):
            raise ArgumentError(f"DropPath: mode is 'row' or 'batch'; received {mode!r}")
        self.mode = mode

    def forward(self, x: TensorLike) -> Tensor:
        a: Any = as_tensor(x)
        if not self.training or self.p == 0.0:
            return a
        floats("DropPath", a)
        if not a.ndim:
            raise ShapeError("DropPath: needs a batch axis; received a single number")
        rows = a.shape[0] if self.mode == "row" else 1
        keep = current().stream("dropout").bernoulli(1.0 - self.p, (rows, *(1,) * (a.ndim - 1)))
        scale = 0.0 if self.p == 1.0 else 1.0 / (1.0 - self.p)
        return a * (keep * a.dtype.type(scale))

    def config(self) -> dict[str, Any]:
        return {"p": self.p, "mode": self.mode}


class _DropBlock(_Dropping):
    rank: ClassVar[int]
    layout: ClassVar[str]

    def __init__(self, p: float = 0.1, block_size: int = 7) -> None:
        super().__init__(p)
        self.block_size = positive(block_size, "block_size", self)

    def forward(self, x: TensorLike) -> Tensor:
        a: Any = as_tensor(x)
        name = type(self).__name__
        floats(name, a)
        if a.ndim != self.rank + 2:
            raise ShapeError(f"{name}: needs {self.layout}; received shape {a.shape}")
        if not self.training or self.p == 0.0:
            return a
        corners = self._corners(a.shape)
        return a * on_arrays(_outside, corners, shape=a.shape, size=self.block_size, dtype=a.dtype)

    def _corners(self, shape: tuple[int, ...]) -> Any:
        """Where blocks begin."""
        size, spatial = self.block_size, shape[2:]
        if size > min(spatial):
            raise ShapeError(
                f"{type(self).__name__}: block_size={size} does not fit into "
                f"{mark_axes(shape, range(2, len(shape)))}"
            )
        counts = tuple(n - size + 1 for n in spatial)
        blocks = size**self.rank * math.prod(counts)
        share = min(1.0, self.p * math.prod(spatial) / blocks)
        return current().stream("dropout").bernoulli(share, (*shape[:2], *counts))

    def config(self) -> dict[str, Any]:
        return {"p": self.p, "block_size": self.block_size}


def _outside(corners: Any, shape: tuple[int, ...], size: int, dtype: Any) -> Any:
    """The factor of each element: 0 in the blocks, outside such that the mean is 1."""
    dropped = np.zeros(shape, bool)
    for start in itertools.product(range(size), repeat=len(shape) - 2):
        inside = (slice(i, i + n) for i, n in zip(start, corners.shape[2:], strict=True))
        dropped[(slice(None), slice(None), *inside)] |= corners
    keep = ~dropped
    kept = float(keep.mean())
    return keep * dtype.type(1.0 / kept if kept else 0.0)


class DropBlock1d(_DropBlock):
    """Stretches of `block_size` elements dropped; (n, c, l). See `DropBlock2d`."""

    rank, layout = 1, "(n, c, l)"


class DropBlock2d(_DropBlock):
    """Square regions of a feature map dropped; (n, c, h, w) (Ghiasi, Lin and Le, 2018).

    Corners are drawn with the probability at which a share of about p is covered by squares of
    `block_size`; what stays is scaled so that the mean of the mask is 1.
    """

    rank, layout = 2, "(n, c, h, w)"


class DropBlock3d(_DropBlock):
    """Cubes of `block_size` elements along each edge dropped; (n, c, d, h, w)."""

    rank, layout = 3, "(n, c, d, h, w)"
