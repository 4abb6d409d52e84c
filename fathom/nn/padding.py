"""Borders as layers: zeros, a constant, the mirrored input, its edge, its other end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from fathom.engine.errors import ArgumentError
from fathom.engine.tensor import Tensor, TensorLike
from fathom.nn import functional as F
from fathom.nn.checks import number, whole, whole_numbers
from fathom.nn.module import Module
from fathom.ops.checks import need_axes
from fathom.ops.create import as_tensor

__all__ = [
    "CircularPad1d",
    "CircularPad2d",
    "CircularPad3d",
    "ConstantPad1d",
    "ConstantPad2d",
    "ConstantPad3d",
    "ReflectionPad1d",
    "ReflectionPad2d",
    "ReflectionPad3d",
    "ReplicationPad1d",
    "ReplicationPad2d",
    "ReplicationPad3d",
    "ZeroPad1d",
    "ZeroPad2d",
    "ZeroPad3d",
]


class _Pad(Module):
    rank: ClassVar[int]
    mode: ClassVar[str] = "constant"

    def __init__(self, padding: int | Sequence[int]) -> None:
        super().__init__()
        count = 2 * self.rank
        if isinstance(padding, list | tuple):
            widths = whole_numbers(padding, "padding", self)
        else:
            widths = (whole(padding, "padding", self),) * count
        if len(widths) != count:
            raise ArgumentError(
                f"{type(self).__name__}: padding is one whole number, or {count} of them, a pair "
                f"for each axis from the last one on; received {padding!r}"
            )
        self.padding = widths

    def forward(self, x: TensorLike) -> Tensor:
        return F.pad(self._checked(x), self.padding, self.mode)

    def _checked(self, x: TensorLike) -> Tensor:
        a, layout = as_tensor(x), "(n, c, *spatial) or (c, *spatial)"
        need_axes(type(self).__name__, "the input", a, (self.rank + 1, self.rank + 2), layout)
        return a

    def config(self) -> dict[str, Any]:
        return {"padding": list(self.padding)}


class _ConstantPad(_Pad):
    def __init__(self, padding: int | Sequence[int], value: float) -> None:
        super().__init__(padding)
        self.value = number(value, "value", self)

    def forward(self, x: TensorLike) -> Tensor:
        return F.pad(self._checked(x), self.padding, value=self.value)

    def config(self) -> dict[str, Any]:
        return {**super().config(), "value": self.value}


class ConstantPad1d(_ConstantPad):
    """A border of `value` around (n, c, l); padding : (left, right), or one for both."""

    rank = 1


class ConstantPad2d(_ConstantPad):
    """A border of `value` around (n, c, h, w); padding : (left, right, top, bottom).

    Negative widths take away.

    >>> import fathom
    >>> ConstantPad2d((1, 0, 0, 1), 7.0)(fathom.ones(1, 1, 1, 2))
    tensor([[[[7., 1., 1.],
              [7., 7., 7.]]]])
    """

    rank = 2


class ConstantPad3d(_ConstantPad):
    """A border of `value` around (n, c, d, h, w); padding : (left, right, top, bottom, ...)."""

    rank = 3


class ZeroPad1d(_Pad):
    """A border of zeros around (n, c, l)."""

    rank = 1


class ZeroPad2d(_Pad):
    """A border of zeros around (n, c, h, w); padding : (left, right, top, bottom)."""

    rank = 2


class ZeroPad3d(_Pad):
    """A border of zeros around (n, c, d, h, w)."""

    rank = 3


class ReflectionPad1d(_Pad):
    """(n, c, l) mirrored at both ends, the ends themselves not repeated."""

    rank, mode = 1, "reflect"


class ReflectionPad2d(_Pad):
    """(n, c, h, w) mirrored at its edges, which are not repeated; each width below the size."""

    rank, mode = 2, "reflect"


class ReflectionPad3d(_Pad):
    """(n, c, d, h, w) mirrored at its faces, which are not repeated."""

    rank, mode = 3, "reflect"


class ReplicationPad1d(_Pad):
    """(n, c, l) with its ends repeated."""

    rank, mode = 1, "replicate"


class ReplicationPad2d(_Pad):
    """(n, c, h, w) with its edges repeated."""

    rank, mode = 2, "replicate"


class ReplicationPad3d(_Pad):
    """(n, c, d, h, w) with its faces repeated."""

    rank, mode = 3, "replicate"


class CircularPad1d(_Pad):
    """(n, c, l) continued from its other end.

    >>> import fathom
    >>> CircularPad1d((2, 1))(fathom.tensor([[[1.0, 2.0, 3.0]]]))
    tensor([[[2., 3., 1., 2., 3., 1.]]])
    """

    rank, mode = 1, "circular"


class CircularPad2d(_Pad):
    """(n, c, h, w) continued from its other side: an image on a torus."""

    rank, mode = 2, "circular"


class CircularPad3d(_Pad):
    """(n, c, d, h, w) continued from its other side."""

    rank, mode = 3, "circular"
