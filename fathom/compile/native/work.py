"""What the kernels of convolutions share: operands in one piece, memory to work in, products."""

from __future__ import annotations

from collections.abc import Callable
from math import prod

from fathom.compile.native.custom import Made, Site, moved
from fathom.compile.native.gemm import Epilogue, Product
from fathom.compile.native.loops import add_to, copy, load
from fathom.compile.native.places import contiguous
from fathom.compile.native.text import SIZES, Writer
from fathom.compile.native.windows import Sizes, Windows
from fathom.compile.plan import Value


def side_by_side(steps: Sizes, samples: int) -> Sizes:
    """The steps of one sample (channels, ...), or of several: (channels, samples, ...)."""
    return steps[1:] if samples == 1 else (steps[1], steps[0], *steps[2:])


class Work:
    """One convolution on its way into a program."""

    def __init__(self, site: Site, windows: Windows) -> None:
        self.site, self.windows = site, windows
        self.lines: list[str] = []
        self.pointers: list[Value | str] = []
        self.products: dict[int, Made] = {}

    def dense(self, v: Value) -> str:
        lines, address = self.site.dense(v)
        self.lines += lines
        return address

    def columns(self) -> str:
        """Memory for the windows of a chunk."""
        size = self.windows.channels * prod(self.windows.kernel) * self.windows.area
        return self.site.scratch(self.windows.chunk * size * SIZES[self.windows.dtype])

    def joined(self, samples: int) -> str:
        """Memory for the output of several samples side by side."""
        size = self.windows.out_channels * self.windows.positions * SIZES[self.windows.dtype]
        return self.site.scratch(size if samples > 1 else 0)

    def join(self, w: Writer, source: str, into: str, samples: int) -> str:
        """(samples, o, positions) as (o, samples, positions)."""
        if samples == 1:
            return source
        shape, apart = self._sides(samples)
        copy(w, source, into, shape, (apart, contiguous(shape)), self.windows.numpy)
        return into

    def part(self, w: Writer, source: str, into: str, samples: int) -> None:
        """The way back."""
        shape, apart = self._sides(samples)
        copy(w, source, into, shape, (contiguous(shape), apart), self.windows.numpy)

    def _sides(self, samples: int) -> tuple[Sizes, Sizes]:
        channels, p = self.windows.out_channels, self.windows.positions // samples
        return (channels, samples, p), (p, channels * p, 1)

    def multiply(
        self, sizes: set[int], product: Callable[[int], Product], epilogue: Epilogue | None = None
    ) -> None:
        """Have a product made for each size of chunk."""
        for size in sizes:
            self.products[size] = self.site.product(product(size), epilogue, repr(self.windows))

    def room(self) -> str:
        """Memory that the products need."""
        return self.site.scratch(max(made.scratch for made in self.products.values()))

    def border(self, apart: bool = False) -> str:
        """Memory for the sample with its borders, if it has any or must lie apart."""
        needed = apart or self.windows.is_padded
        return self.site.scratch(self.windows.bytes_padded if needed else 0)

    def at(self, address: str, elements: int) -> str:
        return moved(address, elements * SIZES[self.windows.dtype])

    def run(self, count: int, write: Callable[[int, int], list[str]]) -> list[str]:
        """The lines for as many samples (or lots of them): see `Site.shared`."""
        ws = self.windows
        flops = 2 * count * ws.positions * ws.out_channels * ws.taps
        return [*self.lines, *self.site.shared(count, flops, write)]

    def summed(
        self, count: int, out: Value, write: Callable[[int, int, str], list[str]]
    ) -> list[str]:
        """As `run`, for what all samples add to: parts that run at once have one each."""
        rest: list[str] = []

        def own(first: int, count: int) -> list[str]:
            if first:
                rest.append(self.site.scratch(out.nbytes))
            return write(first, count, rest[-1] if first else self.site.address(out))

        def add(w: Writer, target: str, *parts: str) -> None:
            with w.turns(out.size) as i:
                for part in parts:
                    add_to(w, load(w, part, i, out.dtype), target, i, out.dtype)

        lines = self.run(count, own)
        return [*lines, *self.site.kernel([out, *rest], add)] if rest else lines
