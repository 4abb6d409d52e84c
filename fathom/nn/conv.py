"""Convolutions and transposed ones; the cheap ones are in `separable`."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from fathom.engine.errors import ArgumentError, suggest
from fathom.engine.tensor import Tensor, TensorLike
from fathom.nn import functional as F
from fathom.nn import init
from fathom.nn.checks import alike, flag, positive, whole_numbers
from fathom.nn.lazy import fan_bound, parameter, settle
from fathom.nn.module import Module
from fathom.nn.parameter import Parameter
from fathom.ops.checks import sizes
from fathom.ops.padding import pad

__all__ = [
    "Conv1d",
    "Conv2d",
    "Conv3d",
    "ConvTranspose1d",
    "ConvTranspose2d",
    "ConvTranspose3d",
    "LazyConv1d",
    "LazyConv2d",
    "LazyConv3d",
    "LazyConvTranspose1d",
    "LazyConvTranspose2d",
    "LazyConvTranspose3d",
]

PADDING_MODES = ("zeros", "reflect", "replicate", "circular")


def plain(value: Any) -> Any:
    """Tuples as lists, for a config that survives JSON; one number stays one number."""
    return [int(v) for v in value] if isinstance(value, tuple | list) else value


def check_padding(name: str, padding: Any, stride: tuple[int, ...]) -> Any:
    """Widths for every axis, or "same" or "valid"."""
    if not isinstance(padding, str):
        return sizes(name, "padding", padding, len(stride), 0)
    if padding not in ("same", "valid"):
        raise ArgumentError(
            f"{name}: padding is a number, one for each axis, 'same' or 'valid'; "
            f"received {padding!r}"
        )
    if padding == "same" and any(s != 1 for s in stride):
        raise ArgumentError(
            f"{name}: padding='same' needs stride 1; received {stride}", fix="give numbers"
        )
    return padding


class _Window(Module):
    """What all convolutions share: channels, kernel, stride, padding, weights."""

    rank: ClassVar[int]
    transposed: ClassVar[bool] = False
    weight: Parameter
    bias: Parameter | None

    def _set(
        self,
        in_channels: int | None,
        out_channels: int,
        kernel_size: Any,
        stride: Any,
        padding: Any,
        dilation: Any,
        groups: int,
        padding_mode: str,
    ) -> None:
        name, rank = type(self).__name__, self.rank
        known = in_channels is not None
        self.in_channels = positive(in_channels, "in_channels", name) if known else 0
        self.out_channels = positive(out_channels, "out_channels", name)
        self.groups = positive(groups, "groups", name)
        self.kernel_size = sizes(name, "kernel_size", kernel_size, rank)
        self.stride = sizes(name, "stride", stride, rank)
        self.dilation = sizes(name, "dilation", dilation, rank)
        if padding_mode not in PADDING_MODES:
            raise ArgumentError(
                f"{name}: unknown padding_mode {padding_mode!r}",
                fix=suggest(str(padding_mode), PADDING_MODES),
            )
        self.padding_mode = padding_mode
        self.padding: Any = check_padding(name, padding, self.stride)
        for key in ("in_channels", "out_channels"):
            if getattr(self, key) % self.groups:
                raise ArgumentError(
                    f"{name}: {key}={getattr(self, key)} cannot be split into "
                    f"groups={self.groups} equal parts"
                )

    def _shape(self) -> tuple[int, ...]:
        """Of the weight."""
        first, second = self.out_channels, self.in_channels
        if self.transposed:
            first, second = second, first
        return (first, second // self.groups, *self.kernel_size)

    def _make(self, bias: bool) -> None:
        known = self.in_channels > 0
        self.weight = parameter(self._shape(), known)
        if flag(bias, "bias", self):
            self.bias = parameter((self.out_channels,), known)
        else:
            self.register_parameter("bias", None)
        if known:
            self.reset_parameters()

    def reset_parameters(self) -> None:
        """Weight and bias uniform in +-1/sqrt(fan_in), as in PyTorch."""
        bound = fan_bound(self.weight.shape)
        init.uniform_(self.weight, -bound, bound)
        if self.bias is not None:
            init.uniform_(self.bias, -bound, bound)

    def _settle(self, x: Any) -> None:
        if self.in_channels:
            return
        shape = np.shape(x)
        size = shape[-self.rank - 1] if len(shape) > self.rank else 0
        if size % self.groups:
            raise ArgumentError(
                f"{type(self).__name__}: the {size} channels of the first batch cannot be split "
                f"into groups={self.groups} equal parts"
            )
        self.in_channels = size
        shapes = {"weight": self._shape(), "bias": (self.out_channels,)}
        settle(self, size, "in_channels", shapes)

    def config(self) -> dict[str, Any]:
        """What differs from the defaults, beside the sizes."""
        zero, one = (0,) * self.rank, (1,) * self.rank
        found: dict[str, Any] = {}
        if "becomes" not in vars(type(self)):
            found["in_channels"] = self.in_channels or None
        found |= {
            "out_channels": self.out_channels,
            "kernel_size": plain(self.kernel_size),
            "stride": plain(self.stride),
        }
        optional = {
            "padding": (self.padding, zero),
            "output_padding": (getattr(self, "output_padding", zero), zero),
            "dilation": (self.dilation, one),
            "groups": (self.groups, 1),
            "bias": (self.bias is not None, True),
            "padding_mode": (self.padding_mode, "zeros"),
        }
        found |= {k: plain(v) for k, (v, default) in optional.items() if v != default}
        return found


class _Conv(_Window):
    def __init__(
        self,
        in_channels: int | None,
        out_channels: int,
        kernel_size: Any,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
    ) -> None:
        super().__init__()
        self._set(
            in_channels, out_channels, kernel_size, stride, padding, dilation, groups, padding_mode
        )
        self._make(bias)

    def forward(self, x: TensorLike) -> Tensor:
        self._settle(x)
        x = alike(self, x, self.weight)
        function = (F.conv1d, F.conv2d, F.conv3d)[self.rank - 1]
        padding = self.padding
        if self.padding_mode != "zeros":
            x, padding = pad(x, self._borders(), self.padding_mode), 0
        return function(x, self.weight, self.bias, self.stride, padding, self.dilation, self.groups)

    def _borders(self) -> list[int]:
        """Widths from the last axis on, as `pad` takes them."""
        found: list[int] = []
        for i in reversed(range(self.rank)):
            if self.padding == "valid":
                found += [0, 0]
            elif self.padding == "same":
                total = self.dilation[i] * (self.kernel_size[i] - 1)
                found += [total // 2, total - total // 2]
            else:
                found += [self.padding[i]] * 2
        return found


class Conv1d(_Conv):
    """A filter slides along one axis: (n, in, l) -> (n, out, l') (Waibel et al., 1989).

    Weight (out_channels, in_channels/groups, kernel). in_channels=None is read from the first
    batch. For `padding`, `dilation` and `groups` see `functional.conv1d`; `padding_mode` is
    "zeros", "reflect", "replicate" or "circular".
    """

    rank = 1


class Conv2d(_Conv):
    """Filters slide over an image: (n, in, h, w) -> (n, out, h', w') (LeCun et al., 1989).

    Weight (out_channels, in_channels/groups, kh, kw) and bias start uniform in
    +-1/sqrt(fan_in), as in PyTorch. in_channels=None is read from the first batch. padding : a
    number, one for each axis, "same" or "valid"; padding_mode : "zeros", "reflect", "replicate"
    or "circular".

    >>> import fathom
    >>> Conv2d(3, 8, 3, padding="same")(fathom.zeros(2, 3, 16, 16)).shape
    (2, 8, 16, 16)
    """

    rank = 2


class Conv3d(_Conv):
    """Filters slide through a volume: (n, in, d, h, w) -> (n, out, d', h', w')."""

    rank = 3


class _LazyConv(_Conv):
    def __init__(
        self,
        out_channels: int,
        kernel_size: Any,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
    ) -> None:
        super().__init__(
            None, out_channels, kernel_size, stride, padding, dilation, groups, bias, padding_mode
        )


class LazyConv1d(_LazyConv, Conv1d):
    """A `Conv1d` whose in_channels are those of its first input."""

    becomes = Conv1d


class LazyConv2d(_LazyConv, Conv2d):
    """A `Conv2d` whose in_channels are those of its first input; then it is a `Conv2d`."""

    becomes = Conv2d


class LazyConv3d(_LazyConv, Conv3d):
    """A `Conv3d` whose in_channels are those of its first input."""

    becomes = Conv3d


class _ConvTranspose(_Window):
    transposed = True

    def __init__(
        self,
        in_channels: int | None,
        out_channels: int,
        kernel_size: Any,
        stride: Any = 1,
        padding: Any = 0,
        output_padding: Any = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: Any = 1,
        padding_mode: str = "zeros",
    ) -> None:
        super().__init__()
        name = type(self).__name__
        if padding_mode != "zeros":
            raise ArgumentError(f"{name}: only padding_mode='zeros'; received {padding_mode!r}")
        if isinstance(padding, str):
            raise ArgumentError(f"{name}: padding is numbers; received {padding!r}")
        self._set(in_channels, out_channels, kernel_size, stride, padding, dilation, groups,
                  padding_mode)  # fmt: skip
        self.output_padding = sizes(name, "output_padding", output_padding, self.rank, 0)
        self._make(bias)

    def forward(self, x: TensorLike, output_size: Any = None) -> Tensor:
        self._settle(x)
        x = alike(self, x, self.weight)
        function = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[self.rank - 1]
        extra = self.output_padding if output_size is None else self._extra(x, output_size)
        return function(x, self.weight, self.bias, self.stride, self.padding, extra, self.groups,
                        self.dilation)  # fmt: skip

    def _extra(self, x: Any, output_size: Any) -> tuple[int, ...]:
        """The output_padding that gives the size asked for."""
        name, spatial = type(self).__name__, np.shape(x)[-self.rank :]
        if not hasattr(output_size, "__index__"):
            output_size = whole_numbers(output_size, "output_size", self)[-self.rank :]
        wanted = sizes(name, "output_size", output_size, self.rank)
        least = tuple(
            (n - 1) * s - 2 * p + d * (k - 1) + 1
            for n, s, p, d, k in zip(
                spatial, self.stride, self.padding, self.dilation, self.kernel_size, strict=True
            )
        )
        extra = tuple(w - m for w, m in zip(wanted, least, strict=True))
        if any(e < 0 or e >= s for e, s in zip(extra, self.stride, strict=True)):
            most = tuple(m + s - 1 for m, s in zip(least, self.stride, strict=True))
            raise ArgumentError(
                f"{name}: an output of {wanted} cannot come from an input of {tuple(spatial)}; "
                f"it lies between {least} and {most}"
            )
        return extra


class ConvTranspose1d(_ConvTranspose):
    """The transpose of a `Conv1d`: (n, in, l) -> (n, out, l')."""

    rank = 1


class ConvTranspose2d(_ConvTranspose):
    """The transpose of a `Conv2d`, which enlarges an image (Zeiler et al., 2010).

    Weight (in_channels, out_channels/groups, kh, kw). `forward` also takes an `output_size`,
    which stride > 1 leaves open.

    >>> import fathom
    >>> ConvTranspose2d(8, 3, 2, stride=2)(fathom.zeros(2, 8, 4, 4)).shape
    (2, 3, 8, 8)
    """

    rank = 2


class ConvTranspose3d(_ConvTranspose):
    """The transpose of a `Conv3d`."""

    rank = 3


class _LazyConvTranspose(_ConvTranspose):
    def __init__(
        self,
        out_channels: int,
        kernel_size: Any,
        stride: Any = 1,
        padding: Any = 0,
        output_padding: Any = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: Any = 1,
        padding_mode: str = "zeros",
    ) -> None:
        super().__init__(
            None, out_channels, kernel_size, stride, padding, output_padding, groups, bias,
            dilation, padding_mode,
        )  # fmt: skip


class LazyConvTranspose1d(_LazyConvTranspose, ConvTranspose1d):
    """A `ConvTranspose1d` whose in_channels are those of its first input."""

    becomes = ConvTranspose1d


class LazyConvTranspose2d(_LazyConvTranspose, ConvTranspose2d):
    """A `ConvTranspose2d` whose in_channels are those of its first input.

    >>> import fathom
    >>> layer = LazyConvTranspose2d(3, 2, stride=2)
    >>> layer(fathom.zeros(1, 8, 4, 4)).shape, layer.in_channels
    ((1, 3, 8, 8), 8)
    """

    becomes = ConvTranspose2d


class LazyConvTranspose3d(_LazyConvTranspose, ConvTranspose3d):
    """A `ConvTranspose3d` whose in_channels are those of its first input."""

    becomes = ConvTranspose3d
