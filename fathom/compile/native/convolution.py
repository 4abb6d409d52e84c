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

from functools import partial
from math import prod

from fathom.compile.native.custom import Site, emitter
from fathom.compile.native.depthwise import can_sum, depthwise, depthwise_weight
from fathom.compile.native.gemm import Epilogue, Product, Spot
from fathom.compile.native.loops import offset, zero
from fathom.compile.native.overlap import overlap
from fathom.compile.native.places import contiguous
from fathom.compile.native.text import Writer
from fathom.compile.native.windows import Windows
from fathom.compile.native.work import Work, side_by_side
from fathom.compile.plan import Step, Value


def _floats(step: Step) -> bool:
    values = [a for a in step.args if isinstance(a, Value)]
    return all(v.dtype == step.out.dtype and v.dtype.name in ("float32", "float64") for v in values)


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
        return depthwise(site, ws, x, weight, bias)
    if ws.is_pointwise:
        return _pointwise(Work(site, ws), x, weight, bias)
    ws, b = ws.merged(x.shape[0])
    work, steps = Work(site, ws), site.steps(x)
    g, k, f, p = ws.groups, ws.taps, ws.filters, ws.positions

    def product(size: int) -> Product:
        n = size * ws.area
        return Product(f, n, k, (k, 1), (n, 1), p, ws.dtype, False, g, (f * k, k * n, f * p))

    work.multiply(_sizes(ws), product, _bias(ws) if bias else None)
    held = [work.dense(v) for v in (weight, bias) if v]

    def write(first: int, count: int) -> list[str]:
        given: list[Value | str] = [
            site.address(x, first * b * steps[0]), *held,
            site.address(out, first * ws.out_channels * p), work.border(), work.columns(),
            work.joined(b), work.room(),
        ]  # fmt: skip
        return site.kernel(given, partial(body, count))

    def body(count: int, w: Writer, source: str, weights: str, *rest: str) -> None:
        *biases, target, border, columns, joined, room = rest
        if ws.is_padded:
            zero(w, border, ws.bytes_padded)
        with w.turns(count) as n:
            one = w.at(source, offset(w, [n], [b * steps[0]]), ws.dtype)
            into = w.at(target, offset(w, [n], [ws.out_channels * p]), ws.dtype)
            made = joined if b > 1 else into
            sample, own = ws.pad(w, one, side_by_side(steps, b), border)
            for chunk, size in ws.chunks(w):
                with chunk as start:
                    ws.columns(w, sample, own, start, size, columns)
                    there = w.at(made, offset(w, [start], [ws.area]), ws.dtype)
                    work.products[size].call(w, weights, columns, there, *biases, scratch=room)
            if b > 1:
                work.part(w, joined, into, b)

    return work.run(x.shape[0] // b, write)


def _pointwise(work: Work, x: Value, weight: Value, bias: Value | None) -> list[str]:
    """A product for each sample, right where they lie."""
    ws, out = work.windows, work.site.step.out
    g, k, f, p = ws.groups, ws.taps, ws.filters, ws.positions
    work.multiply(
        {0}, lambda _: Product(f, p, k, (k, 1), (p, 1), p, ws.dtype, False, g,
                               (f * k, k * p, f * p)), _bias(ws) if bias else None,
    )  # fmt: skip
    source, *held = (work.dense(v) for v in (x, weight, bias) if v)

    def write(first: int, count: int) -> list[str]:
        given: list[Value | str] = [
            work.at(source, first * ws.channels * p), *held,
            work.site.address(out, first * ws.out_channels * p), work.room(),
        ]  # fmt: skip
        return work.site.kernel(given, partial(body, count))

    def body(count: int, w: Writer, source: str, weights: str, *rest: str) -> None:
        *biases, target, room = rest
        with w.turns(count) as n:
            one = w.at(source, offset(w, [n], [ws.channels * p]), ws.dtype)
            made = w.at(target, offset(w, [n], [ws.out_channels * p]), ws.dtype)
            work.products[0].call(w, weights, one, made, *biases, scratch=room)

    return work.run(x.shape[0], write)


# -- the gradient of the weight ------------------------------------------------------------------


@emitter("conv_weight", can=_floats)
def _conv_weight(site: Site) -> list[str]:
    (g, x), out, params = site.step.args, site.step.out, site.step.params
    ws = Windows.of(x.shape, out.shape, g.shape[2:], out.dtype, params)
    if can_sum(ws):
        return depthwise_weight(site, ws, g, x)
    ws, b = (ws, 1) if ws.is_pointwise else ws.merged(x.shape[0])
    work, steps = Work(site, ws), site.steps(x)
    groups, k, f, p = ws.groups, ws.taps, ws.filters, ws.positions

    def product(size: int) -> Product:
        n = size * ws.area
        right = (1, p) if ws.is_pointwise else (k, 1)
        return Product(f, k, n, (p, 1), right, k, ws.dtype, True, groups, (f * p, k * n, f * k))

    work.multiply({ws.counts[0]} if ws.is_pointwise else _sizes(ws), product)
    slopes, source = work.dense(g), work.dense(x) if ws.is_pointwise else site.address(x)
    if ws.is_pointwise:
        steps = contiguous(x.shape)

    def write(first: int, count: int, into: str) -> list[str]:
        given: list[Value | str] = [
            work.at(slopes, first * ws.out_channels * p), work.at(source, first * b * steps[0]),
            into, work.border(), work.columns(), work.joined(b), work.room(),
        ]  # fmt: skip
        return site.kernel(given, partial(body, count))

    def body(
        count: int, w: Writer, slope: str, source: str, target: str, border: str, rows: str,
        joined: str, room: str,
    ) -> None:  # fmt: skip
        zero(w, target, out.nbytes)
        if ws.is_padded:
            zero(w, border, ws.bytes_padded)
        with w.turns(count) as n:
            one = w.at(source, offset(w, [n], [b * steps[0]]), ws.dtype)
            side = w.at(slope, offset(w, [n], [ws.out_channels * p]), ws.dtype)
            if ws.is_pointwise:
                work.products[ws.counts[0]].call(w, side, one, target, scratch=room)
                return
            side = work.join(w, side, joined, b)
            sample, own = ws.pad(w, one, side_by_side(steps, b), border)
            for chunk, size in ws.chunks(w):
                with chunk as start:
                    ws.rows(w, sample, own, start, size, rows)
                    part = w.at(side, offset(w, [start], [ws.area]), ws.dtype)
                    work.products[size].call(w, part, rows, target, scratch=room)

    return work.summed(x.shape[0] // b, out, write)


# -- the gradient of the input -------------------------------------------------------------------


@emitter("conv_input", can=_floats)
def _conv_input(site: Site) -> list[str]:
    (g, weight), out, params = site.step.args, site.step.out, site.step.params
    ws = Windows.of(out.shape, weight.shape, g.shape[2:], out.dtype, params)
    if ws.is_depthwise and ws.filters == 1 and all(s == 1 for s in ws.stride):
        return depthwise(site, ws.mirrored(), g, weight, None, turned=True)
    ws, b = (ws, 1) if ws.is_pointwise else ws.merged(out.shape[0])
    work, steps = Work(site, ws), contiguous(out.shape)
    groups, k, f, p = ws.groups, ws.taps, ws.filters, ws.positions

    def product(size: int) -> Product:
        n = size * ws.area
        return Product(k, n, f, (1, k), (p, 1), n, ws.dtype, False, groups, (f * k, f * p, k * n))

    work.multiply({ws.counts[0]} if ws.is_pointwise else _sizes(ws), product)
    slopes, weights, whole = work.dense(g), work.dense(weight), ws.channels * prod(ws.spatial)

    def write(first: int, count: int) -> list[str]:
        given: list[Value | str] = [
            work.at(slopes, first * ws.out_channels * p), weights, site.address(out, first * whole),
            work.border(b > 1), work.columns(), work.joined(b), work.room(),
        ]  # fmt: skip
        return site.kernel(given, partial(body, count))

    def body(
        count: int, w: Writer, slope: str, weights: str, target: str, border: str, columns: str,
        joined: str, room: str,
    ) -> None:  # fmt: skip
        with w.turns(count) as n:
            side = w.at(slope, offset(w, [n], [ws.out_channels * p]), ws.dtype)
            made = w.at(target, offset(w, [n], [whole]), ws.dtype)
            if ws.is_pointwise:
                work.products[ws.counts[0]].call(w, weights, side, made, scratch=room)
                return
            side = work.join(w, side, joined, b)
            sums = border if ws.is_padded or b > 1 else made
            zero(w, sums, ws.bytes_padded)
            for chunk, size in ws.chunks(w):
                with chunk as start:
                    part = w.at(side, offset(w, [start], [ws.area]), ws.dtype)
                    work.products[size].call(w, weights, part, columns, scratch=room)
                    overlap(w, ws, columns, sums, start, size)
            if sums is border:
                ws.crop(w, sums, made, side_by_side(steps, b))

    return work.run(out.shape[0] // b, write)
