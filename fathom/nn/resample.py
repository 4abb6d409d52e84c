"""Images in another size or order: upsampling, pixels from channels, windows as columns."""

from __future__ import annotations

from typing import Any

from fathom.engine.errors import ArgumentError
from fathom.engine.tensor import Tensor, TensorLike
from fathom.nn import functional as F
from fathom.nn.checks import flag, number, positive
from fathom.nn.conv import plain
from fathom.nn.module import Module
from fathom.ops.checks import one_of, sizes
from fathom.ops.create import as_tensor

__all__ = [
    "ChannelShuffle",
    "Fold",
    "PixelShuffle",
    "PixelUnshuffle",
    "Unfold",
    "Upsample",
    "UpsamplingBilinear2d",
    "UpsamplingNearest2d",
]

MODES = ("nearest", "nearest-exact", "linear", "bilinear", "bicubic", "trilinear", "area")


class Upsample(Module):
    """(n, c, *spatial) in another size; see `functional.interpolate`.

    Give `size`, the sizes of the spatial axes, or `scale_factor`, by which they grow; one number
    counts for all axes. mode : nearest, nearest-exact, linear, bilinear, bicubic, trilinear,
    area. align_corners : the outermost points of input and output lie upon each other.

    >>> import fathom
    >>> Upsample(scale_factor=2)(fathom.tensor([[[1.0, 2.0]]]))
    tensor([[[1., 1., 2., 2.]]])
    """

    def __init__(
        self,
        size: Any = None,
        scale_factor: Any = None,
        mode: str = "nearest",
        align_corners: bool | None = None,
        recompute_scale_factor: bool | None = None,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        if (size is None) == (scale_factor is None):
            raise ArgumentError(
                f"{name}: give size or scale_factor, one of them; received "
                f"size={size!r}, scale_factor={scale_factor!r}"
            )
        one_of(name, "mode", mode, MODES)
        if size is not None:
            several = isinstance(size, tuple | list)
            found = sizes(name, "size", size, min(len(size), 3) if several else 1)
            self.size: Any = found if several else found[0]
            self.scale_factor: Any = None
        else:
            self.size, self.scale_factor = None, self._factors(scale_factor)
        if align_corners is not None:
            flag(align_corners, "align_corners", self)
        if recompute_scale_factor is not None:
            flag(recompute_scale_factor, "recompute_scale_factor", self)
        self.mode, self.align_corners = mode, align_corners
        self.recompute_scale_factor = recompute_scale_factor

    def _factors(self, given: Any) -> Any:
        if isinstance(given, tuple | list):
            return tuple(number(f, "scale_factor", self, 0.0, above=True) for f in given)
        return number(given, "scale_factor", self, 0.0, above=True)

    def forward(self, x: TensorLike) -> Tensor:
        return F.interpolate(
            x, self.size, self.scale_factor, self.mode, self.align_corners,
            self.recompute_scale_factor,
        )  # fmt: skip

    def config(self) -> dict[str, Any]:
        given = {
            "size": self.size,
            "scale_factor": self.scale_factor,
            "mode": self.mode,
            "align_corners": self.align_corners,
            "recompute_scale_factor": self.recompute_scale_factor,
        }
        return {
            k: list(v) if isinstance(v, tuple) else v for k, v in given.items() if v is not None
        }


class UpsamplingNearest2d(Upsample):
    """`Upsample` of (n, c, h, w) by repeating pixels."""

    def __init__(self, size: Any = None, scale_factor: Any = None) -> None:
        super().__init__(size, scale_factor)

    def config(self) -> dict[str, Any]:
        return {k: v for k, v in super().config().items() if k in ("size", "scale_factor")}


class UpsamplingBilinear2d(Upsample):
    """`Upsample` of (n, c, h, w) along straight lines between pixels, with aligned corners."""

    def __init__(self, size: Any = None, scale_factor: Any = None) -> None:
        super().__init__(size, scale_factor, "bilinear", True)

    def config(self) -> dict[str, Any]:
        return {k: v for k, v in super().config().items() if k in ("size", "scale_factor")}


class PixelShuffle(Module):
    """Channels spread over the plane: (..., c * r^2, h, w) -> (..., c, h * r, w * r).

    Shi et al. (2016): a convolution before it computes a larger image at the small size.

    >>> import fathom
    >>> PixelShuffle(2)(fathom.arange(4.0).reshape(1, 4, 1, 1))
    tensor([[[[0., 1.],
              [2., 3.]]]])
    """

    def __init__(self, upscale_factor: int) -> None:
        super().__init__()
        self.upscale_factor = positive(upscale_factor, "upscale_factor", self)

    def forward(self, x: TensorLike) -> Tensor:
        return F.pixel_shuffle(as_tensor(x), self.upscale_factor)

    def config(self) -> dict[str, Any]:
        return {"upscale_factor": self.upscale_factor}


class PixelUnshuffle(Module):
    """The way back of `PixelShuffle`: (..., c, h * r, w * r) -> (..., c * r^2, h, w)."""

    def __init__(self, downscale_factor: int) -> None:
        super().__init__()
        self.downscale_factor = positive(downscale_factor, "downscale_factor", self)

    def forward(self, x: TensorLike) -> Tensor:
        return F.pixel_unshuffle(as_tensor(x), self.downscale_factor)

    def config(self) -> dict[str, Any]:
        return {"downscale_factor": self.downscale_factor}


class ChannelShuffle(Module):
    """Channels of (n, c, ...) dealt out anew, one from each group in turn (Zhang et al., 2018).

    Between two grouped convolutions it lets the groups see each other.

    >>> import fathom
    >>> ChannelShuffle(2)(fathom.arange(4.0).reshape(1, 4, 1)).flatten()
    tensor([0., 2., 1., 3.])
    """

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.groups = positive(groups, "groups", self)

    def forward(self, x: TensorLike) -> Tensor:
        return F.channel_shuffle(as_tensor(x), self.groups)

    def config(self) -> dict[str, Any]:
        return {"groups": self.groups}


class _Columns(Module):
    def __init__(
        self, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1
    ) -> None:
        super().__init__()
        name = type(self).__name__
        self.kernel_size = sizes(name, "kernel_size", kernel_size, 2)
        self.dilation = sizes(name, "dilation", dilation, 2)
        self.padding = sizes(name, "padding", padding, 2, 0)
        self.stride = sizes(name, "stride", stride, 2)

    def config(self) -> dict[str, Any]:
        names = ("kernel_size", "dilation", "padding", "stride")
        return {name: plain(getattr(self, name)) for name in names}


class Unfold(_Columns):
    """Every window as a column: (n, c, h, w) -> (n, c * kernel, windows); see the function.

    >>> import fathom
    >>> Unfold(2, stride=2)(fathom.ones(1, 3, 4, 4)).shape
    (1, 12, 4)
    """

    def forward(self, x: TensorLike) -> Tensor:
        return F.unfold(x, self.kernel_size, self.dilation, self.padding, self.stride)


class Fold(_Columns):
    """Columns added up where their windows lie: (n, c * kernel, windows) -> (n, c, h, w).

    The transpose of `Unfold`; output_size : (h, w).

    >>> import fathom
    >>> Fold(3, 2)(fathom.ones(1, 4, 4))
    tensor([[[[1., 2., 1.],
              [2., 4., 2.],
              [1., 2., 1.]]]])
    """

    def __init__(
        self,
        output_size: Any,
        kernel_size: Any,
        dilation: Any = 1,
        padding: Any = 0,
        stride: Any = 1,
    ) -> None:
        super().__init__(kernel_size, dilation, padding, stride)
        self.output_size = sizes("Fold", "output_size", output_size, 2)

    def forward(self, x: TensorLike) -> Tensor:
        return F.fold(
            x, self.output_size, self.kernel_size, self.dilation, self.padding, self.stride
        )

    def config(self) -> dict[str, Any]:
        return {"output_size": plain(self.output_size), **super().config()}
