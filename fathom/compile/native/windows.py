"""The windows of a convolution: how many, where they lie, and copies of them side by side."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np

from fathom.compile.native.elements import TYPES
from fathom.compile.native.loops import copy, offset, zero
from fathom.compile.native.places import contiguous
from fathom.compile.native.text import SIZES, Index, Writer

CACHE = 1 << 18  # bytes of windows at a time
FEW, MANY = 64, 128  # positions: columns of a product that are too few, and enough
Sizes = tuple[int, ...]


@dataclass(frozen=True)
class Windows:
    """The windows of one sample (channels, *spatial): sizes, and how they are multiplied."""

    channels: int
    spatial: Sizes
    kernel: Sizes
    counts: Sizes
    stride: Sizes
    padding: tuple[tuple[int, int], ...]
    dilation: Sizes
    groups: int
    out_channels: int
    dtype: str

    @classmethod
    def of(
        cls, x: Sizes, weight: Sizes, counts: Sizes, dtype: Any, params: dict[str, Any]
    ) -> Windows:
        """From the shapes of the input, the weight and the output."""
        return cls(
            x[1], x[2:], weight[2:], counts, params["stride"], params["padding"],
            params["dilation"], params["groups"], weight[0], TYPES[np.dtype(dtype).name],
        )  # fmt: skip

    def merged(self, samples: int) -> tuple[Windows, int]:
        """Windows of several samples side by side, and of how many: for products wide enough.

        The samples are an axis (channels, samples, *spatial) on which windows have one element.
        """
        most = MANY // self.positions if self.positions < FEW else 1
        b = next(b for b in range(min(most, samples), 0, -1) if samples % b == 0) if most else 1
        if b == 1:
            return self, 1
        both = replace(
            self, spatial=(b, *self.spatial), kernel=(1, *self.kernel), counts=(b, *self.counts),
            stride=(1, *self.stride), padding=((0, 0), *self.padding),
            dilation=(1, *self.dilation),
        )  # fmt: skip
        return both, b

    @property
    def numpy(self) -> np.dtype[Any]:
        return np.dtype({"float": "float32", "double": "float64"}[self.dtype])

    @property
    def taps(self) -> int:
        """Elements of a window of one group."""
        return self.channels // self.groups * prod(self.kernel)

    @property
    def filters(self) -> int:
        """Output channels of one group."""
        return self.out_channels // self.groups

    @property
    def positions(self) -> int:
        return prod(self.counts)

    @property
    def area(self) -> int:
        """Positions of one step along the first axis."""
        return prod(self.counts[1:])

    @property
    def is_padded(self) -> bool:
        return any(lo or hi for lo, hi in self.padding)

    @property
    def is_pointwise(self) -> bool:
        """A 1x1 kernel: the sample itself is its columns."""
        alone = prod(self.kernel) == 1 and not self.is_padded
        return alone and all(s == 1 for s in self.stride)

    @property
    def is_depthwise(self) -> bool:
        """Each channel by itself."""
        return self.channels == self.groups and self.filters <= 2 and self.taps <= 49

    def mirrored(self) -> Windows:
        """The windows over the gradient of the output that give the gradient of the input.

        For depthwise windows with stride 1: the kernel is turned around.
        """
        reach = [d * (k - 1) for k, d in zip(self.kernel, self.dilation, strict=True)]
        ends = zip(self.padding, reach, self.spatial, self.counts, strict=True)
        padding = tuple((r - lo, n + lo - m) for (lo, _), r, n, m in ends)
        return replace(self, spatial=self.counts, counts=self.spatial, padding=padding)

    @property
    def sizes(self) -> Sizes:
        """Spatial sizes with the borders."""
        return tuple(n + lo + hi for n, (lo, hi) in zip(self.spatial, self.padding, strict=True))

    @property
    def bytes_padded(self) -> int:
        return self.channels * prod(self.sizes) * SIZES[self.dtype]

    @property
    def chunk(self) -> int:
        """Steps along the first axis whose windows fit into the cache, or nearly so."""
        step = self.channels * prod(self.kernel) * self.area * SIZES[self.dtype]
        return min(self.counts[0], max(1, CACHE // step, -(-FEW // self.area)))

    def chunks(self, w: Writer) -> Iterator[tuple[AbstractContextManager[Index], int]]:
        """Loops over chunks of windows: where one begins, and its size."""
        whole, rest = divmod(self.counts[0], self.chunk)
        if whole:
            yield w.turns(whole, self.chunk), self.chunk
        if rest:
            yield w.turns(1, 1, whole * self.chunk), rest

    def pad(self, w: Writer, x: str, steps: Sizes, border: str) -> tuple[str, Sizes]:
        """The sample with its borders, which are zero already; negative ones are cut off."""
        if not self.is_padded:
            return x, steps
        own = contiguous((self.channels, *self.sizes))
        self._move(w, (x, steps), (border, own), 1)
        return border, own

    def crop(self, w: Writer, border: str, into: str, steps: Sizes) -> None:
        """The sample without its borders; what was cut off is zero."""
        shape = (self.channels, *self.spatial)
        if min(n for pair in self.padding for n in pair) < 0:
            zero(w, into, prod(shape) * SIZES[self.dtype])
        own = contiguous((self.channels, *self.sizes))
        self._move(w, (border, own), (into, steps), -1)

    def _move(
        self, w: Writer, source: tuple[str, Sizes], target: tuple[str, Sizes], sign: int
    ) -> None:
        """What a sample has in common with its padded form, from the one to the other."""
        both = [
            n + min(lo, 0) + min(hi, 0)
            for n, (lo, hi) in zip(self.spatial, self.padding, strict=True)
        ]
        places = []
        for (pointer, steps), way in ((source, -sign), (target, sign)):
            start = sum(
                max(way * lo, 0) * s for (lo, _), s in zip(self.padding, steps[1:], strict=True)
            )
            places.append(w.at(pointer, start, self.dtype))
        copy(w, places[0], places[1], (self.channels, *both), (source[1], target[1]), self.numpy)

    def walks(self, steps: Sizes) -> tuple[Sizes, Sizes]:
        """Steps in a padded sample of the places in a window, and from window to window."""
        inside = tuple(s * d for s, d in zip(steps[1:], self.dilation, strict=True))
        between = tuple(s * t for s, t in zip(steps[1:], self.stride, strict=True))
        return inside, between

    def columns(self, w: Writer, x: str, steps: Sizes, start: Index, size: int, into: str) -> None:
        """(c * kernel, positions) of some windows."""
        inside, between = self.walks(steps)
        first = w.at(x, offset(w, [start], between[:1]), self.dtype)
        shape = (self.channels, *self.kernel, size, *self.counts[1:])
        walk = (steps[0], *inside, *between)
        copy(w, first, into, shape, (walk, contiguous(shape)), self.numpy)

    def rows(self, w: Writer, x: str, steps: Sizes, start: Index, size: int, into: str) -> None:
        """For each group (positions, c * kernel) of some windows."""
        inside, between = self.walks(steps)
        first = w.at(x, offset(w, [start], between[:1]), self.dtype)
        own = self.channels // self.groups
        shape = (self.groups, size, *self.counts[1:], own, *self.kernel)
        walk = (own * steps[0], *between, steps[0], *inside)
        copy(w, first, into, shape, (walk, contiguous(shape)), self.numpy)
