"""Elements picked by an array of places, and added into them.

No index leads outside: `indexing` has it checked before anything is written, and here it is held
between the ends all the same.
"""

from __future__ import annotations

from functools import partial
from math import prod
from typing import Any

from fathom.compile.native.custom import Site, emitter, moved
from fathom.compile.native.kernel import Operand, merge
from fathom.compile.native.loops import (
    add_to,
    clamped,
    load,
    nest,
    offset,
    plus,
    store,
    times,
    whole_number,
    zero,
)
from fathom.compile.native.text import Index, Writer
from fathom.compile.plan import Step, Value


def _index(step: Step) -> bool:
    """Whether the second argument is an array of places."""
    index = step.args[1]
    return isinstance(index, Value) and index.dtype.kind in "iu"


def _adds(step: Step) -> bool:
    return _index(step) and step.out.dtype.kind in "fi" and step.args[0].dtype == step.out.dtype


@emitter("take_rows", "take", can=_index)
def _take(site: Site) -> list[str]:
    (x, index), out = site.step.args, site.step.out
    return _slices(site, x, index, out, site.step.params.get("axis", 0), adds=False)


@emitter("add_rows", "put_axis", can=_adds)
def _put(site: Site) -> list[str]:
    (g, index), out = site.step.args, site.step.out
    return _slices(site, out, index, g, site.step.params.get("axis", 0), adds=True)


def _slices(
    site: Site, whole: Value, index: Value, parts: Value, axis: int, adds: bool
) -> list[str]:
    """Slices of `whole` along an axis, laid out in the place of that axis in `parts`.

    Threads share the first axis; when rows are added up, the last one, so that no two of them
    add to one element.
    """
    n, rank = whole.shape[axis], index.ndim
    own, steps, turn = site.steps(whole), site.steps(parts), site.steps(index)
    cut = parts.ndim - 1 if adds and axis == 0 else 0
    picked = axis <= cut < axis + rank  # an axis of the index
    size = 1 if not parts.ndim or (adds and picked) else parts.shape[cut]
    held = cut if cut < axis else cut - rank + 1  # the same axis of `whole`

    def write(first: int, count: int) -> list[str]:
        if size == 1:
            return site.kernel([whole, index, parts], partial(body, parts.shape))
        shape = tuple(count if i == cut else m for i, m in enumerate(parts.shape))
        spots = [
            site.address(whole, 0 if picked else first * own[held]),
            site.address(index, first * turn[cut - axis] if picked else 0),
            site.address(parts, first * steps[cut]),
        ]
        return site.kernel(spots, partial(body, shape))

    def body(shape: tuple[int, ...], w: Writer, x: str, places: str, y: str) -> None:
        both = [
            Operand(0, whole.dtype, own[axis + 1 :]), Operand(1, parts.dtype, steps[axis + rank :])
        ]  # fmt: skip
        inner, (a, b) = merge(shape[axis + rank :], both)
        with nest(w, shape[: axis + rank]) as outer:
            row = clamped(w, whole_number(w, places, index.dtype, offset(w, outer[axis:], turn)), n)
            first = plus(w, offset(w, outer[:axis], own[:axis]), times(w, row, own[axis]))
            second = offset(w, outer, steps[: axis + rank])
            with nest(w, inner) as last:
                one, two = (
                    plus(w, first, offset(w, last, a.steps)),
                    plus(w, second, offset(w, last, b.steps)),
                )
                _move(w, (x, one), (y, two), whole.dtype, adds)

    before = site.fill(whole, 0) if adds else []
    return [*before, *site.shared(size, 4 * parts.size, write)]


@emitter("take_along_axis", can=_index)
def _take_along(site: Site) -> list[str]:
    (x, index), out = site.step.args, site.step.out
    return _along(site, x, index, out, adds=False)


@emitter("put_along_axis", can=_adds)
def _put_along(site: Site) -> list[str]:
    (g, index), out = site.step.args, site.step.out
    return _along(site, out, index, g, adds=True)


def _along(site: Site, whole: Value, index: Value, parts: Value, adds: bool) -> list[str]:
    """whole[i, index[i, j]] and parts[i, j], and alike for other axes."""
    axis = site.step.params["axis"]
    own, steps, turn = site.steps(whole), site.steps(parts), site.steps(index)

    def body(w: Writer, x: str, places: str, y: str) -> None:
        if adds:
            zero(w, x, whole.nbytes)
        with nest(w, index.shape) as at:
            found = whole_number(w, places, index.dtype, offset(w, at, turn))
            there: list[Index] = list(at)
            there[axis] = clamped(w, found, whole.shape[axis])
            _move(w, (x, offset(w, there, own)), (y, offset(w, at, steps)), whole.dtype, adds)

    return site.kernel([whole, index, parts], body)


@emitter("pool_take", can=_index)
def _pool_take(site: Site) -> list[str]:
    (x, index), out = site.step.args, site.step.out
    return _flat(site, x, index, out, site.step.params["rank"], adds=False)


@emitter("pool_put", can=_adds)
def _pool_put(site: Site) -> list[str]:
    (g, index), out = site.step.args, site.step.out
    return _flat(site, out, index, g, len(site.step.params["spatial"]), adds=True)


def _flat(site: Site, whole: Value, index: Value, parts: Value, rank: int, adds: bool) -> list[str]:
    """The last axes of `whole` counted as one: the index is a place in them."""
    size = prod(whole.shape[whole.ndim - rank :])
    before, at = site.dense(whole)
    steps, turn, lead = site.steps(parts), site.steps(index), index.ndim - rank
    planes = prod(index.shape[1:lead])  # of one element of the first axis

    def write(first: int, count: int) -> list[str]:
        given = [
            moved(at, first * planes * size * whole.dtype.itemsize),
            site.address(index, first * turn[0]), site.address(parts, first * steps[0]),
        ]  # fmt: skip
        return site.kernel(given, partial(body, count))

    def body(count: int, w: Writer, x: str, places: str, y: str) -> None:
        outside = (count, *index.shape[1:lead])
        if adds:
            zero(w, x, count * planes * size * whole.dtype.itemsize)
        with nest(w, outside) as outer:
            row: Index = 0
            for i, n in zip(outer, outside, strict=True):
                row = plus(w, times(w, row, n), i)
            first = times(w, row, size)
            with nest(w, index.shape[lead:]) as inner:
                here = [*outer, *inner]
                found = whole_number(w, places, index.dtype, offset(w, here, turn))
                place = plus(w, first, clamped(w, found, size, wraps=False))
                _move(w, (x, place), (y, offset(w, here, steps)), whole.dtype, adds)

    return [*before, *site.shared(index.shape[0], 16 * index.size, write)]


def _move(
    w: Writer, whole: tuple[str, Index], part: tuple[str, Index], dtype: Any, adds: bool
) -> None:
    if adds:
        add_to(w, load(w, *part, dtype), *whole, dtype)
    else:
        store(w, load(w, *whole, dtype), *part, dtype)
