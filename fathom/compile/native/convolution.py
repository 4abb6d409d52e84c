"""Convolutions: windows copied side by side (im2col), then generated products.

The work is done sample by sample, and for large ones some rows of windows at a time, so that the
copied windows stay in the cache between the copy and the product. With

    columns (c * kernel, positions)     rows (positions, c * kernel)

the output is weight @ columns, the gradient of the weight is the sum of g @ rows, and the
gradient of the input is what weight.T @ g leaves at the places the windows came from, added up
(Chellapilla et al., 2006). A 1x1 kernel needs no copies; channels that are convolved each by
itself are convolved directly.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from fathom.compile.native.custom import Made, Site, emitter
from fathom.compile.native.elements import TYPES
from fathom.compile.native.gemm import Epilogue, Product, Spot
from fathom.compile.native.loops import (
    add_to,
    copy,
    lanes_of,
    load,
    nest,
    offset,
    plus,
    store,
    vectors,
    zero,
)
from fathom.compile.native.places import contiguous
from fathom.compile.native.text import SIZES, Index, Writer
from fathom.compile.plan import Step, Value

CACHE = 1 << 18  # bytes of windows at a time
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
        return self.channels == self.groups and self.filters <= 2 and self.taps <= 49

    @property
    def sizes(self) -> Sizes:
        """Spatial sizes with the borders."""
        return tuple(n + lo + hi for n, (lo, hi) in zip(self.spatial, self.padding, strict=True))

    @property
    def bytes_padded(self) -> int:
        return self.channels * prod(self.sizes) * SIZES[self.dtype]

    @property
    def chunk(self) -> int:
        """Steps along the first axis whose windows fit into the cache."""
        step = self.channels * prod(self.kernel) * self.area * SIZES[self.dtype]
        return min(self.counts[0], max(1, CACHE // step))

    def chunks(self, w: Writer) -> Iterator[tuple[AbstractContextManager[Index], int]]:
        """Loops over chunks of windows: where one begins, and its size."""
        whole, rest = divmod(self.counts[0], self.chunk)
        if whole:
            yield w.turns(whole, self.chunk), self.chunk
        if rest:
            yield w.turns(1, 1, whole * self.chunk), rest

    def pad(self, w: Writer, x: str, steps: Sizes, border: str) -> tuple[str, Sizes]:
        """The sample with its borders, which are zero already."""
        if not self.is_padded:
            return x, steps
        own = contiguous((self.channels, *self.sizes))
        start = sum(lo * s for (lo, _), s in zip(self.padding, own[1:], strict=True))
        inside = w.at(border, start, self.dtype)
        copy(w, x, inside, (self.channels, *self.spatial), (steps, own), self.numpy)
        return border, own

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


def _floats(step: Step) -> bool:
    values = [a for a in step.args if isinstance(a, Value)]
    same = all(v.dtype == step.out.dtype and v.dtype.name in ("float32", "float64") for v in values)
    return same and min(n for pair in step.params["padding"] for n in pair) >= 0


class Work:
    """What the three kernels share: operands in one piece, memory to work in, products."""

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

    def multiply(
        self, sizes: set[int], product: Callable[[int], Product], epilogue: Epilogue | None = None
    ) -> str:  # noqa: E501
        """The product for each size of chunk, and memory that they need."""
        for size in sizes:
            self.products[size] = self.site.product(product(size), epilogue, repr(self.windows))
        return self.site.scratch(max(made.scratch for made in self.products.values()))

    def run(self, given: list[Value | str], body: Callable[..., None]) -> list[str]:
        return [*self.lines, *self.site.kernel(given, body)]


def _sizes(windows: Windows) -> set[int]:
    rest = windows.counts[0] % windows.chunk
    return {windows.chunk, *([rest] if rest else [])}


def _bias(windows: Windows) -> Epilogue:
    """Add one number for each row of the product."""

    def emit(spot: Spot, value: str) -> str:
        row = spot.w.plus(spot.w.times(spot.batch, windows.filters), spot.row)
        return spot.w.op(f"fadd {spot.type} {value}, {spot.scalar('%bias', row)}")

    return Epilogue(emit, ("%bias",))


# -- forward -----------------------------------------------------------------------------------


@emitter("conv", can=_floats)
def _conv(site: Site) -> list[str]:
    (x, weight, bias), out = site.step.args, site.step.out
    ws = Windows.of(x.shape, weight.shape, out.shape[2:], out.dtype, site.step.params)
    if ws.is_depthwise:
        return _depthwise(site, ws)
    work, steps = Work(site, ws), site.steps(x)
    if ws.is_pointwise:
        return _pointwise(work, x, weight, bias)
    g, k, f, p = ws.groups, ws.taps, ws.filters, ws.positions

    def product(size: int) -> Product:
        n = size * ws.area
        return Product(f, n, k, (k, 1), (n, 1), p, ws.dtype, False, g, (f * k, k * n, f * p))

    scratch = work.multiply(_sizes(ws), product, _bias(ws) if bias else None)
    given = [x, work.dense(weight), *([work.dense(bias)] if bias else []), out,
             site.scratch(ws.bytes_padded), work.columns(), scratch]  # fmt: skip

    def body(w: Writer, source: str, weights: str, *rest: str) -> None:
        *biases, target, border, columns, room = rest
        if ws.is_padded:
            zero(w, border, ws.bytes_padded)
        with w.turns(x.shape[0]) as n:
            one = w.at(source, offset(w, [n], steps[:1]), ws.dtype)
            made = w.at(target, offset(w, [n], [ws.out_channels * p]), ws.dtype)
            sample, own = ws.pad(w, one, steps[1:], border)
            for chunk, size in ws.chunks(w):
                with chunk as start:
                    ws.columns(w, sample, own, start, size, columns)
                    there = w.at(made, offset(w, [start], [ws.area]), ws.dtype)
                    work.products[size].call(w, weights, columns, there, *biases, scratch=room)

    return work.run(given, body)


def _pointwise(work: Work, x: Value, weight: Value, bias: Value | None) -> list[str]:
    """A product for each sample, right where they lie."""
    ws, out = work.windows, work.site.step.out
    g, k, f, p = ws.groups, ws.taps, ws.filters, ws.positions
    batch = (
        (x.shape[0], (0, ws.channels * p, ws.out_channels * p))
        if g == 1
        else (g, (f * k, k * p, f * p))
    )
    scratch = work.multiply(
        {0}, lambda _: Product(f, p, k, (k, 1), (p, 1), p, ws.dtype, False, *batch),
        _bias_once(ws) if bias else None,
    )  # fmt: skip
    given = [work.dense(x), work.dense(weight), *([work.dense(bias)] if bias else []), out, scratch]

    def body(w: Writer, source: str, weights: str, *rest: str) -> None:
        *biases, target, room = rest
        with w.turns(1 if g == 1 else x.shape[0]) as n:
            one = w.at(source, offset(w, [n], [ws.channels * p]), ws.dtype)
            made = w.at(target, offset(w, [n], [ws.out_channels * p]), ws.dtype)
            work.products[0].call(w, weights, one, made, *biases, scratch=room)

    return work.run(given, body)


def _bias_once(windows: Windows) -> Epilogue:
    """As `_bias`; with one group, the products of a batch are samples."""
    if windows.groups > 1:
        return _bias(windows)

    def emit(spot: Spot, value: str) -> str:
        return spot.w.op(f"fadd {spot.type} {value}, {spot.scalar('%bias', spot.row)}")

    return Epilogue(emit, ("%bias",))


def _depthwise(site: Site, ws: Windows) -> list[str]:
    """Each output row as a sum over the places of the kernel, all weights in registers."""
    (x, weight, bias), out = site.step.args, site.step.out
    work, steps, dtype = Work(site, ws), site.steps(x), ws.numpy
    given = [x, work.dense(weight), *([work.dense(bias)] if bias else []), out,
             site.scratch(ws.bytes_padded)]  # fmt: skip

    def body(w: Writer, source: str, weights: str, *rest: str) -> None:
        *biases, target, border = rest
        if ws.is_padded:
            zero(w, border, ws.bytes_padded)
        with w.turns(x.shape[0]) as n:
            one = w.at(source, offset(w, [n], steps[:1]), ws.dtype)
            sample, own = ws.pad(w, one, steps[1:], border)
            inside, between = ws.walks(own)
            with nest(w, (ws.groups, ws.filters)) as (c, f):
                o = offset(w, [c, f], [ws.filters, 1])
                held = [
                    load(w, weights, offset(w, [o, k], [ws.taps, 1]), dtype) for k in range(ws.taps)
                ]
                start = load(w, biases[0], o, dtype) if biases else "0.0"
                plane = w.at(sample, offset(w, [c], own[:1]), ws.dtype)
                with nest(w, ws.counts) as at:
                    first = w.at(plane, offset(w, at, between), ws.dtype)
                    total = start
                    for k, place in enumerate(np.ndindex(*ws.kernel)):
                        value = load(w, first, offset(w, place, inside), dtype)
                        total = w.fma(value, held[k], total, ws.dtype, 1)
                    where = offset(w, [n, o, *at], site.steps(out))
                    store(w, total, target, where, dtype)

    return work.run(given, body)


# -- the gradient of the weight ------------------------------------------------------------------


@emitter("conv_weight", can=_floats)
def _conv_weight(site: Site) -> list[str]:
    (g, x), out, params = site.step.args, site.step.out, site.step.params
    ws = Windows.of(x.shape, out.shape, g.shape[2:], out.dtype, params)
    work, steps = Work(site, ws), site.steps(x)
    groups, k, f, p = ws.groups, ws.taps, ws.filters, ws.positions

    def product(size: int) -> Product:
        n = size * ws.area
        b = (1, p) if ws.is_pointwise else (k, 1)
        return Product(f, k, n, (p, 1), b, k, ws.dtype, True, groups, (f * p, k * n, f * k))

    scratch = work.multiply({ws.counts[0]} if ws.is_pointwise else _sizes(ws), product)
    given = [work.dense(g), work.dense(x) if ws.is_pointwise else x, out,
             site.scratch(ws.bytes_padded), work.columns(), scratch]  # fmt: skip
    if ws.is_pointwise:
        steps = contiguous(x.shape)

    def body(
        w: Writer, slope: str, source: str, target: str, border: str, rows: str, room: str
    ) -> None:
        zero(w, target, out.nbytes)
        if ws.is_padded:
            zero(w, border, ws.bytes_padded)
        with w.turns(x.shape[0]) as n:
            one = w.at(source, offset(w, [n], steps[:1]), ws.dtype)
            side = w.at(slope, offset(w, [n], [ws.out_channels * p]), ws.dtype)
            if ws.is_pointwise:
                work.products[ws.counts[0]].call(w, side, one, target, scratch=room)
                return
            sample, own = ws.pad(w, one, steps[1:], border)
            for chunk, size in ws.chunks(w):
                with chunk as start:
                    ws.rows(w, sample, own, start, size, rows)
                    part = w.at(side, offset(w, [start], [ws.area]), ws.dtype)
                    work.products[size].call(w, part, rows, target, scratch=room)

    return work.run(given, body)


# -- the gradient of the input -------------------------------------------------------------------


@emitter("conv_input", can=_floats)
def _conv_input(site: Site) -> list[str]:
    (g, weight), out, params = site.step.args, site.step.out, site.step.params
    ws = Windows.of(out.shape, weight.shape, g.shape[2:], out.dtype, params)
    work = Work(site, ws)
    groups, k, f, p = ws.groups, ws.taps, ws.filters, ws.positions

    def product(size: int) -> Product:
        n = size * ws.area
        return Product(k, n, f, (1, k), (p, 1), n, ws.dtype, False, groups, (f * k, f * p, k * n))

    scratch = work.multiply({ws.counts[0]} if ws.is_pointwise else _sizes(ws), product)
    given = [work.dense(g), work.dense(weight), out, site.scratch(ws.bytes_padded),
             work.columns(), scratch]  # fmt: skip
    whole = ws.channels * prod(ws.spatial)
    own = contiguous((ws.channels, *ws.sizes))

    def body(
        w: Writer, slope: str, weights: str, target: str, border: str, columns: str, room: str
    ) -> None:
        with w.turns(out.shape[0]) as n:
            side = w.at(slope, offset(w, [n], [ws.out_channels * p]), ws.dtype)
            made = w.at(target, offset(w, [n], [whole]), ws.dtype)
            if ws.is_pointwise:
                work.products[ws.counts[0]].call(w, weights, side, made, scratch=room)
                return
            sums = border if ws.is_padded else made
            zero(w, sums, ws.bytes_padded)
            for chunk, size in ws.chunks(w):
                with chunk as start:
                    part = w.at(side, offset(w, [start], [ws.area]), ws.dtype)
                    work.products[size].call(w, weights, part, columns, scratch=room)
                    _overlap(w, ws, columns, sums, start, size)
            if ws.is_padded:
                first = sum(lo * s for (lo, _), s in zip(ws.padding, own[1:], strict=True))
                shape = (ws.channels, *ws.spatial)
                inside = w.at(sums, first, ws.dtype)
                copy(w, inside, made, shape, (own, contiguous(shape)), ws.numpy)

    return work.run(given, body)


def _overlap(w: Writer, ws: Windows, columns: str, sums: str, start: Index, size: int) -> None:
    """Add columns (c, *kernel, *positions) up at the places they belong to.

    Short rows of the result are kept in registers while all their parts are added.
    """
    own, rank = contiguous((ws.channels, *ws.sizes)), len(ws.kernel)
    inside, between = ws.walks(own)
    counts = (size, *ws.counts[1:])
    shape = (ws.channels, *ws.kernel, *counts)
    walk = contiguous(shape)
    base = w.at(sums, offset(w, [start], between[:1]), ws.dtype)
    short = ws.stride[-1] == 1 and ws.sizes[-1] <= 6 * lanes_of(ws.dtype)
    if not short or rank == 1:
        with nest(w, shape) as at:
            value = load(w, columns, offset(w, at, walk), ws.numpy)
            add_to(w, value, base, offset(w, at, (own[0], *inside, *between)), ws.numpy)
        return
    once = ws.stride[-2] == ws.dilation[-2] == 1
    tall = (counts[-2] + ws.kernel[-2] - 1,) if once else (ws.kernel[-2], counts[-2])
    with nest(w, (ws.channels, *ws.kernel[:-2], *counts[:-2], *tall)) as at:
        outer, last = at[: 2 * rank - 3], at[2 * rank - 3 :]
        source = offset(w, outer, [*walk[: rank - 1], *walk[1 + rank : 2 * rank - 1]])
        target = offset(w, outer, [own[0], *inside[:-2], *between[:-2]])
        part, row = w.at(columns, source, ws.dtype), w.at(base, target, ws.dtype)
        down = (walk[rank - 1], walk[2 * rank - 1])  # place in the kernel, position
        if once:
            row = w.at(row, offset(w, last, between[-2:-1]), ws.dtype)
            _gather_row(w, ws, part, row, last[0], counts[-2], (*down, walk[rank]))
        else:
            row = w.at(row, offset(w, last, [inside[-2], between[-2]]), ws.dtype)
            there = w.at(part, offset(w, last, down), ws.dtype)
            _store(w, ws, row, _shifted(w, ws, there, walk[rank], _load(w, ws, row)))


def _gather_row(
    w: Writer, ws: Windows, part: str, row: str, i: Index, count: int, walk: tuple[int, int, int]
) -> None:
    """Row i of a plane of sums: what all rows of the kernel leave there."""
    below = plus(w, i, 1 - count)
    first = w.call("llvm.smax.i64", "i64", ("i64", str(below)), ("i64", "0"))
    above = plus(w, i, 1)
    stop = w.call("llvm.smin.i64", "i64", ("i64", str(above)), ("i64", str(ws.kernel[-2])))
    start, kinds = _load(w, ws, row), _pieces(ws)
    with w.loop(stop, first) as turn:
        held = [
            turn.carry(_type(ws, lanes), x) for (_, lanes, _), x in zip(kinds, start, strict=True)
        ]
        back = w.op(f"sub nsw i64 {i}, {turn.index}")
        there = w.at(part, offset(w, [turn.index, back], walk[:2]), ws.dtype)
        total = _shifted(w, ws, there, walk[2], held)
        turn.step(total)
    _store(w, ws, row, total)


def _pieces(ws: Windows) -> list[tuple[int, int, int]]:
    """A row of sums in vectors."""
    return list(vectors(ws.dtype, ws.counts[-1] + ws.dilation[-1] * (ws.kernel[-1] - 1)))


def _load(w: Writer, ws: Windows, row: str) -> list[str]:
    return [w.load(w.at(row, at, ws.dtype), ws.dtype, *rest) for at, *rest in _pieces(ws)]


def _store(w: Writer, ws: Windows, row: str, sums: Sequence[str]) -> None:
    for (at, *rest), value in zip(_pieces(ws), sums, strict=True):
        w.store(value, w.at(row, at, ws.dtype), ws.dtype, *rest)


def _shifted(w: Writer, ws: Windows, source: str, step: int, sums: Sequence[str]) -> list[str]:
    """A row of sums, and for each place along the kernel the positions moved by as much."""
    count, found = ws.counts[-1], []
    for (at, lanes, _), value in zip(_pieces(ws), sums, strict=True):
        total = value
        for k in range(ws.kernel[-1]):
            first = at - k * ws.dilation[-1]  # of the source, in lane 0
            low, high = max(0, -first), min(lanes, count - first)
            if low < high:
                there = w.at(source, k * step + first, ws.dtype)
                more = _between(w, ws, there, lanes, low, high)
                total = w.op(f"fadd {_type(ws, lanes)} {total}, {more}")
        found.append(total)
    return found


def _type(ws: Windows, lanes: int) -> str:
    return ws.dtype if lanes == 1 else f"<{lanes} x {ws.dtype}>"


def _between(w: Writer, ws: Windows, place: str, lanes: int, low: int, high: int) -> str:
    """A vector of which only lanes from `low` to `high` are read, zeros elsewhere."""
    if low == 0 or lanes == 1:
        return w.load(place, ws.dtype, lanes, high)
    kind, size = _type(ws, lanes), SIZES[ws.dtype]
    mask = ", ".join(f"i1 {int(low <= i < high)}" for i in range(lanes))
    suffix = {"float": "f32", "double": "f64"}[ws.dtype]
    return w.call(
        f"llvm.masked.load.v{lanes}{suffix}.p0", kind, ("ptr", place), ("i32", str(size)),
        (f"<{lanes} x i1>", f"<{mask}>"), (kind, "zeroinitializer"),
    )  # fmt: skip
