"""Normalization over the batch, the sample, groups of channels, or neighbours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from fathom.engine.errors import ArgumentError, ShapeError, mark_axes
from fathom.engine.modes import tracing
from fathom.engine.tensor import Tensor, TensorLike, mark_written
from fathom.nn import functional as F
from fathom.nn.checks import alike, flag, floating, number, positive
from fathom.nn.lazy import UninitializedBuffer, buffer, parameter, settle
from fathom.nn.module import Module
from fathom.nn.parameter import Parameter
from fathom.ops.create import as_tensor
from fathom.ops.elementwise import sqrt
from fathom.ops.normalization import move
from fathom.ops.shape import concatenate, reshape
from fathom.ops.tiling import split

__all__ = [
    "BatchNorm1d",
    "BatchNorm2d",
    "BatchNorm3d",
    "GroupNorm",
    "InstanceNorm1d",
    "InstanceNorm2d",
    "InstanceNorm3d",
    "LayerNorm",
    "LazyBatchNorm1d",
    "LazyBatchNorm2d",
    "LazyBatchNorm3d",
    "LazyInstanceNorm1d",
    "LazyInstanceNorm2d",
    "LazyInstanceNorm3d",
    "LocalResponseNorm",
    "RMSNorm",
    "SyncBatchNorm",
]


def small(eps: Any, name: str) -> float:
    """The number that keeps a division from failing."""
    return number(eps, "eps", name, 0.0)


class _Channels(Module):
    """Scale, shift and running statistics, one number a channel."""

    weight: Parameter | None
    bias: Parameter | None
    ndims: ClassVar[tuple[int, ...]] = ()
    layout: ClassVar[str] = "(n, c, ...)"

    def _set(
        self, num_features: int | None, eps: float, momentum: float | None, affine: bool,
        track_running_stats: bool, bias: bool = True,
    ) -> None:  # fmt: skip
        name = type(self).__name__
        known = num_features is not None
        self.num_features = positive(num_features, "num_features", name) if known else 0
        self.eps = small(eps, name)
        if momentum is not None:  # None: a plain average
            momentum = number(momentum, "momentum", self, 0.0, 1.0)
        self.momentum = momentum
        self.affine = flag(affine, "affine", self)
        self.track_running_stats = flag(track_running_stats, "track_running_stats", self)
        shape = (self.num_features,)
        shifted = flag(bias, "bias", self) and affine
        self.register_parameter("weight", parameter(shape, known) if affine else None)
        self.register_parameter("bias", parameter(shape, known) if shifted else None)
        for key in ("running_mean", "running_var"):
            self.register_buffer(key, buffer(shape, known) if track_running_stats else None)
        count = Tensor(np.zeros((), np.int64)) if track_running_stats else None
        self.register_buffer("num_batches_tracked", count)
        if known:
            self.reset_parameters()

    def reset_running_stats(self) -> None:
        """Mean 0, variance 1, no batch seen."""
        for key, value in (("running_mean", 0.0), ("running_var", 1.0), ("num_batches_tracked", 0)):
            kept = getattr(self, key)
            if kept is not None and not isinstance(kept, UninitializedBuffer):
                kept.data[...] = value
                mark_written(kept)

    def reset_parameters(self) -> None:
        """Scale 1, shift 0, statistics as new."""
        self.reset_running_stats()
        for key, value in (("weight", 1.0), ("bias", 0.0)):
            own = getattr(self, key)
            if own is not None:
                own.data[...] = value
                mark_written(own)

    def _settle(self, shape: Sequence[int]) -> None:
        if not self.num_features:
            size = shape[1] if len(shape) > 1 else 0
            names = ("weight", "bias", "running_mean", "running_var")
            waiting: dict[str, tuple[int, ...]] = {
                n: (size,) for n in names if getattr(self, n) is not None
            }
            settle(self, size, "num_features", waiting)

    def _checked(self, x: TensorLike, ndims: tuple[int, ...]) -> Any:
        a, name = as_tensor(floating(self, x)), type(self).__name__
        if ndims and a.ndim not in ndims:
            raise ShapeError(f"{name}: needs an input {self.layout}; received shape {a.shape}")
        self._settle(a.shape)
        if a.ndim > 1 and a.shape[1] != self.num_features:
            raise ShapeError(
                f"{name}: expected {self.num_features} channels, received {mark_axes(a.shape, [1])}"
            )
        own = self.weight if self.running_mean is None else self.running_mean
        return a if own is None else alike(self, a, own)

    def _factor(self) -> float:
        """How far the running statistics move; counts the batch."""
        if not (self.training and self.track_running_stats):
            return 0.0 if self.momentum is None else self.momentum
        seen: Any = self.num_batches_tracked
        seen.add_(1)
        if self.momentum is not None:
            return self.momentum
        tracer = tracing()
        return 1.0 / (float(seen) if tracer is None else tracer.counted(seen))

    def config(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        if "becomes" not in vars(type(self)):
            found["num_features"] = self.num_features or None
        found |= {"eps": self.eps, "momentum": self.momentum}
        found |= {"affine": self.affine, "track_running_stats": self.track_running_stats}
        return {**found, "bias": False} if self.affine and self.bias is None else found


class _BatchNorm(_Channels):
    def __init__(
        self,
        num_features: int | None,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self._set(num_features, eps, momentum, affine, track_running_stats, bias)

    def forward(self, x: TensorLike) -> Tensor:
        a = self._checked(x, self.ndims)
        factor = self._factor()
        moving = not self.training or self.track_running_stats
        return F.batch_norm(
            a,
            self.running_mean if moving else None,
            self.running_var if moving else None,
            self.weight,
            self.bias,
            self.training or self.running_mean is None,
            factor,
            self.eps,
        )


class BatchNorm1d(_BatchNorm):
    """Each feature standardized over the batch; (n, c) or (n, c, l).

    Ioffe and Szegedy (2015). In training mean and (biased) variance are the batch's, and the
    running ones move towards them by `momentum` (None: they are the plain average of all
    batches; the running variance is unbiased). In eval the running ones are used. With
    track_running_stats=False the batch's always are. num_features=None is read from the first
    batch.

    >>> import fathom
    >>> BatchNorm1d(1)(fathom.tensor([[1.0], [3.0]])).detach()
    tensor([[-1.],
            [ 1.]])
    """

    ndims, layout = (2, 3), "(n, c) or (n, c, l)"


class BatchNorm2d(_BatchNorm):
    """Each channel standardized over batch and image; (n, c, h, w). See `BatchNorm1d`."""

    ndims, layout = (4,), "(n, c, h, w)"


class BatchNorm3d(_BatchNorm):
    """Each channel standardized over batch and volume; (n, c, d, h, w). See `BatchNorm1d`."""

    ndims, layout = (5,), "(n, c, d, h, w)"


class _LazyBatchNorm(_BatchNorm):
    def __init__(
        self,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__(None, eps, momentum, affine, track_running_stats, bias=bias)


class LazyBatchNorm1d(_LazyBatchNorm, BatchNorm1d):
    """A `BatchNorm1d` whose num_features are those of its first input."""

    becomes = BatchNorm1d


class LazyBatchNorm2d(_LazyBatchNorm, BatchNorm2d):
    """A `BatchNorm2d` whose num_features are those of its first input."""

    becomes = BatchNorm2d


class LazyBatchNorm3d(_LazyBatchNorm, BatchNorm3d):
    """A `BatchNorm3d` whose num_features are those of its first input."""

    becomes = BatchNorm3d


class SyncBatchNorm(_BatchNorm):
    """`BatchNorm` whose statistics are those of all shards of a batch together.

    The shards of data-parallel training, simulated: `forward` takes a list of tensors
    (n_i, c, ...), one a worker, or one tensor and `shards`, into which it is cut. Every shard
    tells its count, mean and sum of squared deviations; these are merged (Chan, Golub and
    LeVeque, 1983), and each shard is normalized with the result, which is that of a
    `BatchNorm` over the whole batch.
    """

    def __init__(
        self,
        num_features: int | None,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        shards: int = 1,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__(num_features, eps, momentum, affine, track_running_stats, bias=bias)
        self.shards = positive(shards, "shards", "SyncBatchNorm")

    def forward(self, x: Any) -> Any:
        if not isinstance(x, list | tuple):
            a = self._checked(x, ())
            if self.shards == 1 or not self.training:
                return super().forward(a)
            return concatenate(self._together(split(a, -(-a.shape[0] // self.shards), 0)), 0)
        parts = [self._checked(part, ()) for part in x]
        if self.training or self.running_mean is None:
            return self._together(parts)
        return [super(SyncBatchNorm, self).forward(part) for part in parts]

    def _together(self, parts: Sequence[Any]) -> list[Any]:
        count, mean, squares = self._merged(parts)
        if count < 2:
            raise ShapeError(
                "SyncBatchNorm: all shards together give one value for each channel; its variance "
                "is 0"
            )
        var = squares * (1.0 / count)
        factor = self._factor()
        if self.training and self.track_running_stats:
            move(self.running_mean, mean, factor)
            move(self.running_var, var, factor, count / (count - 1))
        out = []
        for part in parts:
            shape = (self.num_features, *(1,) * (part.ndim - 2))
            y = (part - reshape(mean, shape)) / sqrt(reshape(var, shape) + self.eps)
            if self.weight is not None:
                y = y * reshape(self.weight, shape)
            if self.bias is not None:
                y = y + reshape(self.bias, shape)
            out.append(y)
        return out

    def _merged(self, parts: Sequence[Any]) -> tuple[int, Any, Any]:
        """Count, mean and sum of squared deviations of all shards, from those of each."""
        count, mean, squares = 0, None, None
        for part in parts:
            axes = (0, *range(2, part.ndim))
            own = part.size // self.num_features
            if not own:
                continue
            m = part.mean(axis=axes)
            d = part - reshape(m, (self.num_features, *(1,) * (part.ndim - 2)))
            s = (d * d).sum(axis=axes)
            if mean is None or squares is None:
                count, mean, squares = own, m, s
                continue
            total, gap = count + own, m - mean
            mean = mean + gap * (own / total)
            squares = squares + s + gap * gap * (count * own / total)
            count = total
        return count, mean, squares

    def config(self) -> dict[str, Any]:
        return {**super().config(), "shards": self.shards}


class _InstanceNorm(_Channels):
    def __init__(
        self,
        num_features: int | None,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = False,
        track_running_stats: bool = False,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self._set(num_features, eps, momentum, affine, track_running_stats, bias)

    def forward(self, x: TensorLike) -> Tensor:
        a = as_tensor(x)
        single = a.ndim == self.ndims[0] - 1  # no batch axis
        a = self._checked(reshape(a, (1, *a.shape)) if single else a, self.ndims)
        out = F.instance_norm(
            a,
            self.running_mean,
            self.running_var,
            self.weight,
            self.bias,
            self.training or not self.track_running_stats,
            0.0 if self.momentum is None else self.momentum,  # as PyTorch
            self.eps,
        )
        return reshape(out, out.shape[1:]) if single else out


class InstanceNorm1d(_InstanceNorm):
    """Each channel of each sample standardized by itself; (n, c, l). Ulyanov et al. (2016)."""

    ndims, layout = (3,), "(n, c, l) or (c, l)"


class InstanceNorm2d(_InstanceNorm):
    """Each channel of each image standardized by itself; (n, c, h, w)."""

    ndims, layout = (4,), "(n, c, h, w) or (c, h, w)"


class InstanceNorm3d(_InstanceNorm):
    """Each channel of each volume standardized by itself; (n, c, d, h, w)."""

    ndims, layout = (5,), "(n, c, d, h, w) or (c, d, h, w)"


class _LazyInstanceNorm(_InstanceNorm):
    def __init__(
        self,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__(None, eps, momentum, affine, track_running_stats, bias=bias)


class LazyInstanceNorm1d(_LazyInstanceNorm, InstanceNorm1d):
    """An `InstanceNorm1d` whose num_features are those of its first input.

    As in PyTorch, it is affine and tracks statistics unless told otherwise.
    """

    becomes = InstanceNorm1d


class LazyInstanceNorm2d(_LazyInstanceNorm, InstanceNorm2d):
    """An `InstanceNorm2d` whose num_features are those of its first input."""

    becomes = InstanceNorm2d


class LazyInstanceNorm3d(_LazyInstanceNorm, InstanceNorm3d):
    """An `InstanceNorm3d` whose num_features are those of its first input."""

    becomes = InstanceNorm3d


# -- within a sample -----------------------------------------------------------------------------


def _shape_of(normalized_shape: Any, name: str) -> tuple[int, ...]:
    one = not isinstance(normalized_shape, list | tuple)
    sizes = (normalized_shape,) if one else normalized_shape
    found = tuple(positive(n, "normalized_shape", name) for n in sizes)
    if not found:
        raise ArgumentError(f"{name}: normalized_shape must not be empty")
    return found


def _filled(shape: tuple[int, ...], value: float, wanted: bool) -> Parameter | None:
    return Parameter(np.full(shape, value, np.float32)) if wanted else None


class LayerNorm(Module):
    """The last axes of each sample standardized together (Ba, Kiros and Hinton, 2016).

    normalized_shape : sizes of those axes. elementwise_affine : scale and shift each element.

    >>> import fathom
    >>> LayerNorm(2)(fathom.tensor([[1.0, 3.0]])).detach()
    tensor([[-1.,  1.]])
    """

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.normalized_shape = _shape_of(normalized_shape, "LayerNorm")
        self.eps = small(eps, "LayerNorm")
        self.elementwise_affine = flag(elementwise_affine, "elementwise_affine", self)
        shift = elementwise_affine and flag(bias, "bias", self)
        self.register_parameter("weight", _filled(self.normalized_shape, 1.0, elementwise_affine))
        self.register_parameter("bias", _filled(self.normalized_shape, 0.0, shift))

    def forward(self, x: TensorLike) -> Tensor:
        if self.weight is not None:
            x = alike(self, x, self.weight)
        return F.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)

    def config(self) -> dict[str, Any]:
        found = {
            "normalized_shape": list(self.normalized_shape),
            "eps": self.eps,
            "elementwise_affine": self.elementwise_affine,
        }
        lacks = self.elementwise_affine and self.bias is None
        return {**found, "bias": False} if lacks else found


class RMSNorm(Module):
    """x / sqrt(mean of x^2 + eps) over the last axes, scaled (Zhang and Sennrich, 2019).

    eps is by default the machine epsilon of the input's dtype.
    """

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float | None = None,
        elementwise_affine: bool = True,
    ) -> None:
        super().__init__()
        self.normalized_shape = _shape_of(normalized_shape, "RMSNorm")
        self.eps = None if eps is None else small(eps, "RMSNorm")
        self.elementwise_affine = flag(elementwise_affine, "elementwise_affine", self)
        self.register_parameter("weight", _filled(self.normalized_shape, 1.0, elementwise_affine))

    def forward(self, x: TensorLike) -> Tensor:
        if self.weight is not None:
            x = alike(self, x, self.weight)
        return F.rms_norm(x, self.normalized_shape, self.weight, self.eps)

    def config(self) -> dict[str, Any]:
        return {
            "normalized_shape": list(self.normalized_shape),
            "eps": self.eps,
            "elementwise_affine": self.elementwise_affine,
        }


class GroupNorm(Module):
    """Groups of channels of each sample standardized together; (n, c, ...).

    Wu and He (2018): no statistics of the batch, so any batch size will do.
    """

    def __init__(
        self,
        num_groups: int,
        num_channels: int,
        eps: float = 1e-5,
        affine: bool = True,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.num_groups = positive(num_groups, "num_groups", "GroupNorm")
        self.num_channels = positive(num_channels, "num_channels", "GroupNorm")
        if self.num_channels % self.num_groups:
            raise ArgumentError(
                f"GroupNorm: num_channels={num_channels} cannot be split into "
                f"num_groups={num_groups} equal parts"
            )
        self.eps, self.affine = small(eps, "GroupNorm"), flag(affine, "affine", self)
        self.register_parameter("weight", _filled((self.num_channels,), 1.0, affine))
        shifted = flag(bias, "bias", self) and affine
        self.register_parameter("bias", _filled((self.num_channels,), 0.0, shifted))

    def forward(self, x: TensorLike) -> Tensor:
        a = floating(self, x) if self.weight is None else alike(self, x, self.weight)
        if a.ndim > 1 and a.shape[1] != self.num_channels:
            raise ShapeError(
                f"GroupNorm: expected {self.num_channels} channels, received "
                f"{mark_axes(a.shape, [1])}"
            )
        return F.group_norm(a, self.num_groups, self.weight, self.bias, self.eps)

    def config(self) -> dict[str, Any]:
        found = {
            "num_groups": self.num_groups,
            "num_channels": self.num_channels,
            "eps": self.eps,
            "affine": self.affine,
        }
        return {**found, "bias": False} if self.affine and self.bias is None else found


class LocalResponseNorm(Module):
    """x / (k + alpha * mean of x^2 over `size` neighbouring channels)^beta; (n, c, ...).

    Krizhevsky, Sutskever and Hinton (2012).
    """

    def __init__(self, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> None:
        super().__init__()
        self.size = positive(size, "size", "LocalResponseNorm")
        self.alpha, self.beta = number(alpha, "alpha", self), number(beta, "beta", self)
        self.k = number(k, "k", self)

    def forward(self, x: TensorLike) -> Tensor:
        return F.local_response_norm(x, self.size, self.alpha, self.beta, self.k)

    def config(self) -> dict[str, Any]:
        return {"size": self.size, "alpha": self.alpha, "beta": self.beta, "k": self.k}
