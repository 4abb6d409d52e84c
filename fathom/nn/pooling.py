"""Pooling: the largest, the mean or the p-norm of windows, or of everything."""

from __future__ import annotations

from typing import Any, ClassVar

from fathom.engine.errors import ArgumentError
from fathom.engine.tensor import Tensor, TensorLike
from fathom.nn import functional as F
from fathom.nn.checks import flag, floating, number, whole
from fathom.nn.conv import plain
from fathom.nn.module import Module
from fathom.ops.checks import sizes
from fathom.ops.create import as_tensor

__all__ = [
    "AdaptiveAvgPool1d",
    "AdaptiveAvgPool2d",
    "AdaptiveAvgPool3d",
    "AdaptiveMaxPool1d",
    "AdaptiveMaxPool2d",
    "AdaptiveMaxPool3d",
    "AvgPool1d",
    "AvgPool2d",
    "AvgPool3d",
    "GlobalAvgPool",
    "GlobalMaxPool",
    "LPPool1d",
    "LPPool2d",
    "LPPool3d",
    "MaxPool1d",
    "MaxPool2d",
    "MaxPool3d",
    "MaxUnpool1d",
    "MaxUnpool2d",
    "MaxUnpool3d",
]


class _Pool(Module):
    rank: ClassVar[int]
    options: ClassVar[tuple[str, ...]] = ("kernel_size", "stride", "padding")

    def _windows(self, kernel_size: Any, stride: Any, padding: Any = 0) -> None:
        name, rank = type(self).__name__, self.rank
        self.kernel_size = sizes(name, "kernel_size", kernel_size, rank)
        self.stride = self.kernel_size if stride is None else sizes(name, "stride", stride, rank)
        self.padding = sizes(name, "padding", padding, rank, 0)
        if any(p > k // 2 for p, k in zip(self.padding, self.kernel_size, strict=True)):
            raise ArgumentError(
                f"{name}: padding {self.padding} may be at most half of the kernel "
                f"{self.kernel_size}",
                fix="some windows would hold nothing but padding",
            )

    def _pick(self, kind: str) -> Any:
        return getattr(F, f"{kind}{self.rank}d")

    def config(self) -> dict[str, Any]:
        found = {name: plain(getattr(self, name)) for name in self.options}
        usual = {"return_indices": False, "divisor_override": None}  # left out where they are so
        return {k: v for k, v in found.items() if k not in usual or v != usual[k]}


class _MaxPool(_Pool):
    options = (*_Pool.options, "dilation", "return_indices", "ceil_mode")

    def __init__(
        self,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        dilation: Any = 1,
        return_indices: bool = False,
        ceil_mode: bool = False,
    ) -> None:
        super().__init__()
        self._windows(kernel_size, stride, padding)
        self.dilation = sizes(type(self).__name__, "dilation", dilation, self.rank)
        self.return_indices = flag(return_indices, "return_indices", self)
        self.ceil_mode = flag(ceil_mode, "ceil_mode", self)

    def forward(self, x: TensorLike) -> Any:
        return self._pick("max_pool")(
            x, self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode,
            self.return_indices,
        )  # fmt: skip


class MaxPool1d(_MaxPool):
    """The largest of each window: (n, c, l) -> (n, c, l')."""

    rank = 1


class MaxPool2d(_MaxPool):
    """The largest of each window: (n, c, h, w) -> (n, c, h', w') (Ranzato et al., 2007).

    stride : `kernel_size` by default. return_indices : also the flat place of each maximum.

    >>> import fathom
    >>> MaxPool2d(2)(fathom.arange(16.0).reshape(1, 1, 4, 4))
    tensor([[[[ 5.,  7.],
              [13., 15.]]]])
    """

    rank = 2


class MaxPool3d(_MaxPool):
    """The largest of each window: (n, c, d, h, w)."""

    rank = 3


class _AvgPool(_Pool):
    options = (*_Pool.options, "ceil_mode", "count_include_pad", "divisor_override")

    def __init__(
        self,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> None:
        super().__init__()
        self._windows(kernel_size, stride, padding)
        self.ceil_mode = flag(ceil_mode, "ceil_mode", self)
        self.count_include_pad = flag(count_include_pad, "count_include_pad", self)
        if divisor_override is not None and whole(divisor_override, "divisor_override", self) == 0:
            raise ArgumentError(f"{type(self).__name__}: divisor_override must not be 0")
        self.divisor_override = divisor_override

    def forward(self, x: TensorLike) -> Tensor:
        return self._pick("avg_pool")(
            x, self.kernel_size, self.stride, self.padding, self.ceil_mode,
            self.count_include_pad, self.divisor_override,
        )  # fmt: skip


class AvgPool1d(_AvgPool):
    """The mean of each window: (n, c, l) -> (n, c, l')."""

    rank = 1


class AvgPool2d(_AvgPool):
    """The mean of each window: (n, c, h, w) -> (n, c, h', w') (LeCun et al., 1989)."""

    rank = 2


class AvgPool3d(_AvgPool):
    """The mean of each window: (n, c, d, h, w)."""

    rank = 3


class _LPPool(_Pool):
    options = ("norm_type", "kernel_size", "stride", "ceil_mode")

    def __init__(
        self, norm_type: float, kernel_size: Any, stride: Any = None, ceil_mode: bool = False
    ) -> None:
        super().__init__()
        self.norm_type = number(norm_type, "norm_type", self, 0.0, above=True)
        self._windows(kernel_size, stride)
        self.ceil_mode = flag(ceil_mode, "ceil_mode", self)

    def forward(self, x: TensorLike) -> Tensor:
        return self._pick("lp_pool")(
            x, self.norm_type, self.kernel_size, self.stride, self.ceil_mode
        )


class LPPool1d(_LPPool):
    """(sum of x^p over each window)^(1/p): p = 1 sums, p to infinity takes the maximum."""

    rank = 1


class LPPool2d(_LPPool):
    """(sum of x^p over each window)^(1/p) of images."""

    rank = 2


class LPPool3d(_LPPool):
    """(sum of x^p over each window)^(1/p) of volumes."""

    rank = 3


class _MaxUnpool(_Pool):
    def __init__(self, kernel_size: Any, stride: Any = None, padding: Any = 0) -> None:
        super().__init__()
        self._windows(kernel_size, stride, padding)

    def forward(self, x: TensorLike, indices: TensorLike, output_size: Any = None) -> Tensor:
        return self._pick("max_unpool")(
            x, indices, self.kernel_size, self.stride, self.padding, output_size
        )


class MaxUnpool1d(_MaxUnpool):
    """Values back where `MaxPool1d(return_indices=True)` took them from, zeros elsewhere."""

    rank = 1


class MaxUnpool2d(_MaxUnpool):
    """Values back where `MaxPool2d(return_indices=True)` took them from, zeros elsewhere."""

    rank = 2


class MaxUnpool3d(_MaxUnpool):
    """Values back where `MaxPool3d(return_indices=True)` took them from, zeros elsewhere."""

    rank = 3


# -- the output size is given --------------------------------------------------------------------


class _Adaptive(Module):
    rank: ClassVar[int]
    kind: ClassVar[str]

    def __init__(self, output_size: Any) -> None:
        super().__init__()
        name = type(self).__name__
        if isinstance(output_size, tuple | list):
            filled = tuple(1 if n is None else n for n in output_size)
            sizes(name, "output_size", filled, self.rank)
            self.output_size: Any = tuple(None if n is None else int(n) for n in output_size)
        elif output_size is None:
            self.output_size = (None,) * self.rank
        else:
            self.output_size = sizes(name, "output_size", output_size, self.rank)

    def forward(self, x: TensorLike) -> Any:
        return getattr(F, f"{self.kind}{self.rank}d")(x, self.output_size)

    def config(self) -> dict[str, Any]:
        return {"output_size": list(self.output_size)}


class AdaptiveAvgPool1d(_Adaptive):
    """The mean of as many regions as asked for: (n, c, l) -> (n, c, output_size)."""

    rank, kind = 1, "adaptive_avg_pool"


class AdaptiveAvgPool2d(_Adaptive):
    """The mean of as many regions as asked for; None keeps an axis.

    >>> import fathom
    >>> AdaptiveAvgPool2d((2, None))(fathom.zeros(1, 3, 8, 5)).shape
    (1, 3, 2, 5)
    """

    rank, kind = 2, "adaptive_avg_pool"


class AdaptiveAvgPool3d(_Adaptive):
    """The mean of as many regions of a volume as asked for."""

    rank, kind = 3, "adaptive_avg_pool"


class _AdaptiveMax(_Adaptive):
    kind = "adaptive_max_pool"

    def __init__(self, output_size: Any, return_indices: bool = False) -> None:
        super().__init__(output_size)
        self.return_indices = flag(return_indices, "return_indices", self)

    def forward(self, x: TensorLike) -> Any:
        return getattr(F, f"{self.kind}{self.rank}d")(x, self.output_size, self.return_indices)

    def config(self) -> dict[str, Any]:
        found = super().config()
        return {**found, "return_indices": True} if self.return_indices else found


class AdaptiveMaxPool1d(_AdaptiveMax):
    """The largest of as many regions as asked for: (n, c, l) -> (n, c, output_size)."""

    rank = 1


class AdaptiveMaxPool2d(_AdaptiveMax):
    """The largest of as many regions as asked for; None keeps an axis."""

    rank = 2


class AdaptiveMaxPool3d(_AdaptiveMax):
    """The largest of as many regions of a volume as asked for."""

    rank = 3


class _Global(Module):
    def __init__(self, keepdims: bool = False) -> None:
        super().__init__()
        self.keepdims = flag(keepdims, "keepdims", self)

    def _axes(self, x: Any) -> tuple[int, ...]:
        if x.ndim < 3:
            raise ArgumentError(
                f"{type(self).__name__}: needs (n, c, *spatial); received shape {tuple(x.shape)}"
            )
        return tuple(range(2, x.ndim))

    def config(self) -> dict[str, Any]:
        return {"keepdims": self.keepdims}


class GlobalAvgPool(_Global):
    """One mean for each channel: (n, c, *spatial) -> (n, c) (Lin, Chen and Yan, 2014).

    keepdims : keep the spatial axes with size 1.
    """

    def forward(self, x: TensorLike) -> Tensor:
        a: Any = as_tensor(floating(self, x))
        return a.mean(axis=self._axes(a), keepdims=self.keepdims)


class GlobalMaxPool(_Global):
    """One maximum for each channel: (n, c, *spatial) -> (n, c)."""

    def forward(self, x: TensorLike) -> Tensor:
        a: Any = as_tensor(floating(self, x))
        return a.amax(axis=self._axes(a), keepdims=self.keepdims)
