"""Convolutions of each channel by itself: no product is made, windows are summed where they lie."""

from __future__ import annotations

from functools import partial

import numpy as np

from fathom.compile.native.custom import Site
from fathom.compile.native.loops import (
    add_to,
    carried,
    lanes_of,
    load,
    nest,
    offset,
    plus,
    store,
    zero,
)
from fathom.compile.native.places import contiguous
from fathom.compile.native.text import Index, Writer, vector
from fathom.compile.native.windows import Sizes, Windows
from fathom.compile.native.work import Work
from fathom.compile.plan import Value

SUMS = 25  # vectors that are kept at a time


def depthwise(
    site: Site, ws: Windows, x: Value, weight: Value, bias: Value | None, *, turned: bool = False
) -> list[str]:
    """Each output as a sum over the places of the kernel, all weights in registers.

    With `turned`, the kernel is read from its end.
    """
    work, steps, dtype, out = Work(site, ws), site.steps(x), ws.numpy, site.step.out
    held = [work.dense(v) for v in (weight, bias) if v]
    order = range(ws.taps)[:: -1 if turned else 1]

    def write(first: int, count: int) -> list[str]:
        there = site.address(out, first * ws.out_channels * ws.positions)
        given = [site.address(x, first * steps[0]), *held, there, work.border()]
        return site.kernel(given, partial(body, count))

    def body(count: int, w: Writer, source: str, weights: str, *rest: str) -> None:
        *biases, target, border = rest
        if ws.is_padded:
            zero(w, border, ws.bytes_padded)
        with w.turns(count) as n:
            one = w.at(source, offset(w, [n], steps[:1]), ws.dtype)
            sample, own = ws.pad(w, one, steps[1:], border)
            inside, between = ws.walks(own)
            with nest(w, (ws.groups, ws.filters)) as (c, f):
                o = offset(w, [c, f], [ws.filters, 1])
                factors = [load(w, weights, offset(w, [o, k], [ws.taps, 1]), dtype) for k in order]
                start = load(w, biases[0], o, dtype) if biases else "0.0"
                plane = w.at(sample, offset(w, [c], own[:1]), ws.dtype)
                with nest(w, ws.counts) as at:
                    first = w.at(plane, offset(w, at, between), ws.dtype)
                    total = start
                    for place, factor in zip(np.ndindex(*ws.kernel), factors, strict=True):
                        value = load(w, first, offset(w, place, inside), dtype)
                        total = w.fma(value, factor, total, ws.dtype, 1)
                    store(w, total, target, offset(w, [n, o, *at], site.steps(out)), dtype)

    return work.run(x.shape[0], write)


def can_sum(ws: Windows) -> bool:
    """Whether `depthwise_weight` is the way: sums in registers, rows in a few vectors."""
    few = ws.taps <= SUMS and ws.counts[-1] <= 8 * lanes_of(ws.dtype)
    return ws.is_depthwise and ws.stride[-1] == 1 and few


def depthwise_weight(site: Site, ws: Windows, g: Value, x: Value) -> list[str]:
    """For each place of the kernel, the sum of gradient times input over a plane at a time."""
    work, steps, out = Work(site, ws), contiguous(x.shape), site.step.out
    slopes, source = work.dense(g), work.dense(x)
    lanes = min(lanes_of(ws.dtype), 1 << (ws.counts[-1] - 1).bit_length())
    walk = contiguous(ws.counts)[:-1]
    type, nothing = vector(ws.dtype, lanes), "zeroinitializer" if lanes > 1 else "0.0"

    def write(first: int, count: int, into: str) -> list[str]:
        there = work.at(slopes, first * ws.out_channels * ws.positions)
        given = [there, work.at(source, first * steps[0]), into, work.border()]
        return site.kernel(given, partial(body, count))

    def body(count: int, w: Writer, slope: str, source: str, target: str, border: str) -> None:
        zero(w, target, out.nbytes)
        if ws.is_padded:
            zero(w, border, ws.bytes_padded)
        with w.turns(count) as n:
            one = w.at(source, offset(w, [n], steps[:1]), ws.dtype)
            sample, own = ws.pad(w, one, steps[1:], border)
            inside, between = ws.walks(own)
            with nest(w, (ws.groups, ws.filters)) as (c, f):
                o = offset(w, [c, f], [ws.filters, 1])
                plane = w.at(sample, offset(w, [c], own[:1]), ws.dtype)
                far = offset(w, [n, o], [ws.out_channels * ws.positions, ws.positions])
                behind = w.at(slope, far, ws.dtype)

                def row(at: list[Index], sums: list[str]) -> list[str]:
                    left = w.at(behind, offset(w, at, walk), ws.dtype)
                    right = w.at(plane, offset(w, at, between[:-1]), ws.dtype)
                    return _products(w, ws, left, right, inside, list(sums), lanes)

                totals = carried(w, ws.counts[:-1], [(type, nothing)] * ws.taps, row)
                for k, total in enumerate(totals):
                    place = offset(w, [o, k], [ws.taps, 1])
                    add_to(w, w.total(total, ws.dtype, lanes), target, place, ws.numpy)

    return work.summed(x.shape[0], out, write)


def _products(
    w: Writer, ws: Windows, left: str, right: str, inside: Sizes, sums: list[str], lanes: int
) -> list[str]:
    """Sums for each place of the kernel, after one more row of positions."""
    for at in range(0, ws.counts[-1], lanes):
        used = min(lanes, ws.counts[-1] - at)
        slope = w.load(w.at(left, at, ws.dtype), ws.dtype, lanes, used)
        for k, place in enumerate(np.ndindex(*ws.kernel)):
            there = w.at(right, plus(w, offset(w, place, inside), at), ws.dtype)
            value = w.load(there, ws.dtype, lanes, used)
            sums[k] = w.fma(slope, value, sums[k], ws.dtype, lanes)
    return sums
