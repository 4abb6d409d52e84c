"""Convolutions that are cheap: depthwise, and separable into depthwise and pointwise."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from fathom.engine.tensor import Tensor, TensorLike
from fathom.nn import functional as F
from fathom.nn import init
from fathom.nn.checks import alike, flag, positive
from fathom.nn.conv import _Conv, check_padding, plain
from fathom.nn.lazy import fan_bound, parameter, settle
from fathom.nn.module import Module
from fathom.nn.parameter import Parameter
from fathom.ops.checks import sizes

__all__ = [
    "DepthwiseConv1d",
    "DepthwiseConv2d",
    "DepthwiseConv3d",
    "SeparableConv1d",
    "SeparableConv2d",
    "SeparableConv3d",
]


class _Depthwise(_Conv):
    def __init__(
        self,
        in_channels: int | None,
        kernel_size: Any,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        depth_multiplier: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
    ) -> None:
        name = type(self).__name__
        many = positive(depth_multiplier, "depth_multiplier", name)
        channels = None if in_channels is None else positive(in_channels, "in_channels", name)
        super().__init__(
            channels, many * (channels or 1), kernel_size, stride, padding, dilation,
            channels or 1, bias, padding_mode,
        )  # fmt: skip
        self.depth_multiplier = many

    def _settle(self, x: Any) -> None:
        shape = np.shape(x)
        if not self.in_channels and len(shape) > self.rank:
            self.groups = shape[-self.rank - 1]
            self.out_channels = self.groups * self.depth_multiplier
        super()._settle(x)

    def config(self) -> dict[str, Any]:
        found = super().config()
        del found["out_channels"]
        found.pop("groups", None)
        if self.depth_multiplier != 1:
            found["depth_multiplier"] = self.depth_multiplier
        return found


class DepthwiseConv1d(_Depthwise):
    """Each channel has filters of its own: (n, c, l) -> (n, c * depth_multiplier, l')."""

    rank = 1


class DepthwiseConv2d(_Depthwise):
    """Each channel has filters of its own (Sifre and Mallat, 2013; Chollet, 2017).

    (n, c, h, w) -> (n, c * depth_multiplier, h', w'), with k^2 weights for each output channel
    in place of k^2 c. The same as `Conv2d` with groups=in_channels; in_channels=None is read
    from the first batch.

    >>> import fathom
    >>> DepthwiseConv2d(None, 3, depth_multiplier=2)(fathom.zeros(1, 4, 5, 5)).shape
    (1, 8, 3, 3)
    """

    rank = 2


class DepthwiseConv3d(_Depthwise):
    """Each channel has filters of its own: (n, c, d, h, w) -> (n, c * depth_multiplier, ...)."""

    rank = 3


class _Separable(Module):
    rank: ClassVar[int]
    depthwise: Parameter
    pointwise: Parameter
    bias: Parameter | None

    def __init__(
        self,
        in_channels: int | None,
        out_channels: int,
        kernel_size: Any,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        depth_multiplier: int = 1,
        bias: bool = True,
    ) -> None:
        super().__init__()
        name, rank = type(self).__name__, self.rank
        known = in_channels is not None
        self.in_channels = positive(in_channels, "in_channels", name) if known else 0
        self.out_channels = positive(out_channels, "out_channels", name)
        self.depth_multiplier = positive(depth_multiplier, "depth_multiplier", name)
        self.kernel_size = sizes(name, "kernel_size", kernel_size, rank)
        self.stride = sizes(name, "stride", stride, rank)
        self.dilation = sizes(name, "dilation", dilation, rank)
        self.padding = check_padding(name, padding, self.stride)
        shapes = self._shapes(flag(bias, "bias", name))
        self.depthwise = parameter(shapes["depthwise"], known)
        self.pointwise = parameter(shapes["pointwise"], known)
        self.register_parameter("bias", parameter(shapes["bias"], known) if bias else None)
        if known:
            self.reset_parameters()

    def _shapes(self, bias: bool) -> dict[str, tuple[int, ...]]:
        middle = self.in_channels * self.depth_multiplier
        found: dict[str, tuple[int, ...]] = {
            "depthwise": (middle, 1, *self.kernel_size),
            "pointwise": (self.out_channels, middle, *(1,) * self.rank),
        }
        return {**found, "bias": (self.out_channels,)} if bias else found

    def reset_parameters(self) -> None:
        """Both weights and the bias uniform in +-1/sqrt(fan_in)."""
        for weight in (self.depthwise, self.pointwise):
            bound = fan_bound(weight.shape)
            init.uniform_(weight, -bound, bound)
        if self.bias is not None:
            bound = fan_bound(self.pointwise.shape)
            init.uniform_(self.bias, -bound, bound)

    def forward(self, x: TensorLike) -> Tensor:
        if not self.in_channels:
            shape = np.shape(x)
            size = shape[-self.rank - 1] if len(shape) > self.rank else 0
            self.in_channels = size
            settle(self, size, "in_channels", self._shapes(self.bias is not None))
        alike(self, x, self.depthwise)
        function = (F.conv1d, F.conv2d, F.conv3d)[self.rank - 1]
        x = function(x, self.depthwise, None, self.stride, self.padding, self.dilation,
                     self.in_channels)  # fmt: skip
        return function(x, self.pointwise, self.bias)

    def config(self) -> dict[str, Any]:
        found = {
            "in_channels": self.in_channels or None,
            "out_channels": self.out_channels,
            "kernel_size": plain(self.kernel_size),
            "stride": plain(self.stride),
            "padding": plain(self.padding),
            "dilation": plain(self.dilation),
            "depth_multiplier": self.depth_multiplier,
        }
        return found if self.bias is not None else {**found, "bias": False}


class SeparableConv1d(_Separable):
    """A depthwise convolution, then one of width 1 that mixes channels: (n, c, l)."""

    rank = 1


class SeparableConv2d(_Separable):
    """A depthwise convolution, then a 1x1 one that mixes channels (Chollet, 2017).

    k^2 c + c out weights (times depth_multiplier) in place of k^2 c out; the bias comes last.
    in_channels=None is read from the first batch.

    >>> sum(p.size for p in SeparableConv2d(16, 16, 3, bias=False).parameters())
    400
    """

    rank = 2


class SeparableConv3d(_Separable):
    """A depthwise convolution, then a 1x1x1 one that mixes channels: (n, c, d, h, w)."""

    rank = 3
