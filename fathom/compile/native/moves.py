"""Operations that only move elements: borders, blocks, rolls, diagonals."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from fathom.compile.native.custom import Site, emitter
from fathom.compile.native.elements import TYPES, literal
from fathom.compile.native.loops import load, nest, offset, plus, store
from fathom.compile.native.places import Place
from fathom.compile.native.text import Writer
from fathom.compile.plan import Step, Value, walk


def _basic(step: Step) -> bool:
    """Whether an index is made of slices, numbers, None and ... only."""
    index = step.params["index"]
    parts = index if isinstance(index, tuple) else (index,)
    return not any(isinstance(p, (bool, np.bool_, np.ndarray, list)) for p in walk(parts))


@emitter("getitem", can=_basic)
def _getitem(site: Site) -> list[str]:
    """What is no view to NumPy: a single element."""
    (x,), out = site.step.args, site.step.out
    source = site.part(x, site.step.params["index"])
    return site.move(source, site.place(out), out.dtype, out.shape)


@emitter("putitem", can=_basic)
def _putitem(site: Site) -> list[str]:
    (g,), out = site.step.args, site.step.out
    place, shape = site.within(out, site.step.params["index"])
    return [*site.fill(out, 0), *_into(site, g, place, shape)]


@emitter("at_set", can=_basic)
def _at_set(site: Site) -> list[str]:
    (x, value), out = site.step.args, site.step.out
    place, shape = site.within(out, site.step.params["index"])
    return [*_into(site, x, site.place(out), out.shape), *_into(site, value, place, shape)]


def _into(site: Site, source: Any, place: Place, shape: tuple[int, ...]) -> list[str]:
    if 0 in shape:
        return []
    if isinstance(source, Value) and source.ndim > len(shape):  # leading axes of 1
        source = site.part(source, (0,) * (source.ndim - len(shape)))
    return site.move(source, place, site.step.out.dtype, shape)


@emitter("pad", can=lambda step: min(n for pair in step.params["widths"] for n in pair) >= 0)
def _pad(site: Site) -> list[str]:
    (x,), out, widths = site.step.args, site.step.out, site.step.params["widths"]
    inside = tuple(slice(low, low + n) for n, (low, _) in zip(x.shape, widths, strict=True))
    place, shape = site.within(out, inside)
    return [*site.fill(out, site.step.params["value"]), *_into(site, x, place, shape)]


@emitter("roll")
def _roll(site: Site) -> list[str]:
    (x,), out = site.step.args, site.step.out
    halves: list[list[tuple[slice, slice]]] = [[(slice(None), slice(None))] for _ in x.shape]
    for axis, shift in _shifts(site.step):
        n = x.shape[axis]
        if shift % n:
            k = shift % n
            halves[axis] = [(slice(0, n - k), slice(k, n)), (slice(n - k, n), slice(0, k))]
    lines = []
    for parts in itertools.product(*halves):
        source = site.part(x, tuple(s for s, _ in parts))
        place, shape = site.within(out, tuple(t for _, t in parts))
        lines += site.move(source, place, out.dtype, shape)
    return lines


def _shifts(step: Step) -> list[tuple[int, int]]:
    """How far each axis is rolled, all shifts of one axis together."""
    ndim = step.out.ndim
    axes, shifts = np.broadcast_arrays(step.params["axis"], step.params["shifts"])
    total = dict.fromkeys(range(ndim), 0)
    for axis, shift in zip(axes.ravel().tolist(), shifts.ravel().tolist(), strict=True):
        total[axis % ndim] += shift
    return list(total.items())


def _line(v: Value, place: Place, offset: int) -> tuple[Place, tuple[int, ...]]:
    """Place and shape of the diagonals of the last two axes."""
    rows, columns = v.shape[-2:]
    down, right = place.steps[-2:]
    first = max(0, -offset) * down + max(0, offset) * right
    n = max(0, min(rows - max(0, -offset), columns - max(0, offset)))
    steps = (*place.steps[:-2], down + right)
    return Place(place.root, place.offset + first, steps), (*v.shape[:-2], n)


@emitter("diagonal")
def _diagonal(site: Site) -> list[str]:
    (x,), out = site.step.args, site.step.out
    place, shape = _line(x, site.place(x), site.step.params["offset"])
    return site.move(site.at(place, shape, x.dtype), site.place(out), out.dtype, shape)


@emitter("diagonal_embed")
def _embed(site: Site) -> list[str]:
    (x,), out = site.step.args, site.step.out
    place, shape = _line(out, site.place(out), site.step.params["offset"])
    return [*site.fill(out, 0), *site.move(x, place, out.dtype, shape)]


@emitter("tril", "triu")
def _triangle(site: Site) -> list[str]:
    (x,), out, below = site.step.args, site.step.out, site.step.primitive.name == "tril"
    kind, k = TYPES[out.dtype.name], site.step.params["offset"]
    own, steps = site.steps(x), site.steps(out)
    nothing = literal(0, out.dtype)

    def body(w: Writer, source: str, target: str) -> None:
        with nest(w, x.shape) as at:
            value = load(w, source, offset(w, at, own), x.dtype)
            edge = plus(w, at[-2], k)
            kept = w.op(f"icmp {'sle' if below else 'sge'} i64 {at[-1]}, {edge}")
            chosen = w.op(f"select i1 {kept}, {kind} {value}, {kind} {nothing}")
            store(w, chosen, target, offset(w, at, steps), out.dtype)

    return site.kernel([x, out], body)


@emitter("constant_of")
def _constant(site: Site) -> list[str]:
    (x,), out = site.step.args, site.step.out
    return site.move(x, site.place(out), out.dtype, out.shape)
