"""Sorting along an axis, and what goes along an axis element by element: running sums."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from fathom.compile.native.custom import Site, emitter
from fathom.compile.native.elements import TYPES
from fathom.compile.native.loops import load, nest, offset, plus, store
from fathom.compile.native.schedule import steps_of
from fathom.compile.native.text import Index, Writer, vector
from fathom.compile.plan import Step, Value

# Merge sort of places, from runs of one element up: stable. Of two runs, the second one's element
# is taken if it stands strictly before the first one's. Returns where the places lie in the end.
MERGE = """
define internal ptr @{name}(ptr %x, i64 %step, i64 %n, ptr noalias %one, ptr noalias %two) #0 {{
entry:
  br label %fill
fill:
  %p = phi i64 [0, %entry], [%p1, %fill]
  %at = getelementptr i64, ptr %one, i64 %p
  store i64 %p, ptr %at, align 8
  %p1 = add nuw i64 %p, 1
  %unfilled = icmp ult i64 %p1, %n
  br i1 %unfilled, label %fill, label %pass
pass:
  %width = phi i64 [1, %fill], [%wider, %passed]
  %from = phi ptr [%one, %fill], [%into, %passed]
  %into = phi ptr [%two, %fill], [%from, %passed]
  %unsorted = icmp ult i64 %width, %n
  br i1 %unsorted, label %merge, label %done
merge:
  %low = phi i64 [0, %pass], [%high, %merged]
  %low1 = add nuw i64 %low, %width
  %mid = call i64 @llvm.umin.i64(i64 %low1, i64 %n)
  %mid1 = add nuw i64 %mid, %width
  %high = call i64 @llvm.umin.i64(i64 %mid1, i64 %n)
  br label %take
take:
  %i = phi i64 [%low, %merge], [%i1, %take]
  %j = phi i64 [%mid, %merge], [%j1, %take]
  %k = phi i64 [%low, %merge], [%k1, %take]
  %first = icmp ult i64 %i, %mid
  %second = icmp ult i64 %j, %high
  %is = select i1 %first, i64 %i, i64 %low
  %js = select i1 %second, i64 %j, i64 %low
  %pa = getelementptr i64, ptr %from, i64 %is
  %pb = getelementptr i64, ptr %from, i64 %js
  %ia = load i64, ptr %pa, align 8
  %ib = load i64, ptr %pb, align 8
  %oa = mul i64 %ia, %step
  %ob = mul i64 %ib, %step
  %xa = getelementptr {kind}, ptr %x, i64 %oa
  %xb = getelementptr {kind}, ptr %x, i64 %ob
  %a = load {kind}, ptr %xa
  %b = load {kind}, ptr %xb
{before}
  %over = xor i1 %first, true
  %better = or i1 %over, %before
  %other = select i1 %second, i1 %better, i1 false
  %chosen = select i1 %other, i64 %ib, i64 %ia
  %target = getelementptr i64, ptr %into, i64 %k
  store i64 %chosen, ptr %target, align 8
  %step2 = zext i1 %other to i64
  %step1 = xor i64 %step2, 1
  %i1 = add nuw i64 %i, %step1
  %j1 = add nuw i64 %j, %step2
  %k1 = add nuw i64 %k, 1
  %more = icmp ult i64 %k1, %high
  br i1 %more, label %take, label %merged
merged:
  %again = icmp ult i64 %high, %n
  br i1 %again, label %merge, label %passed
passed:
  %wider = shl i64 %width, 1
  br label %pass
done:
  ret ptr %from
}}"""


def _before(dtype: np.dtype[Any], descending: bool) -> str:
    """Lines that tell whether %b stands strictly before %a: nan last, first if descending."""
    kind = TYPES[dtype.name]
    if dtype.kind != "f":
        sign = "u" if dtype.kind in "ub" else "s"
        return f"  %before = icmp {sign}{'gt' if descending else 'lt'} {kind} %b, %a"
    lost, fine = ("%b", "%a") if descending else ("%a", "%b")
    return "\n".join([
        f"  %beyond = fcmp {'ogt' if descending else 'olt'} {kind} %b, %a",
        f"  %lost = fcmp uno {kind} {lost}, {lost}",
        f"  %fine = fcmp ord {kind} {fine}, {fine}",
        "  %apart = and i1 %lost, %fine",
        "  %before = or i1 %beyond, %apart",
    ])  # fmt: skip


@emitter("argsort")
def _argsort(site: Site) -> list[str]:
    """Every line along the axis on its own; several threads take lines of the longest axis."""
    (x,), out, options = site.step.args, site.step.out, site.step.params
    axis, descending = options["axis"], options["descending"]
    n, own, steps = x.shape[axis], site.steps(x), site.steps(out)
    name = f"order.{x.dtype.name}.{'down' if descending else 'up'}"
    site.needs(
        MERGE.format(name=name, kind=TYPES[x.dtype.name], before=_before(x.dtype, descending))
    )
    sizes = [1 if i == axis else m for i, m in enumerate(x.shape)]
    cut = int(np.argmax(sizes))

    def write(first: int, count: int) -> list[str]:
        here = [count if i == cut else m for i, m in enumerate(sizes)]

        def body(w: Writer, source: str, target: str, one: str, two: str) -> None:
            with nest(w, here) as at:
                line = w.at(source, offset(w, at, own), TYPES[x.dtype.name])
                given = f"ptr {line}, i64 {own[axis]}, i64 {n}, ptr {one}, ptr {two}"
                order = w.op(f"call ptr @{name}({given})")
                start = offset(w, at, steps)
                with nest(w, [n]) as (k,):
                    place = load(w, order, k, np.int64)
                    store(w, place, target, plus(w, start, offset(w, [k], [steps[axis]])), np.int64)

        memory = [site.scratch(8 * n), site.scratch(8 * n)]
        spots = [site.address(x, first * own[cut]), site.address(out, first * steps[cut])]
        return site.kernel([*spots, *memory], body)

    return site.shared(sizes[cut], 8 * prod(sizes) * n * n.bit_length(), write)


@emitter("argmax", "argmin")
def _extreme(site: Site) -> list[str]:
    """The first of the largest (or smallest) elements along an axis; the first nan, if any."""
    (x,), out, options = site.step.args, site.step.out, site.step.params
    axis, kind = options["axis"], TYPES[x.dtype.name]
    own, steps = site.steps(x), list(site.steps(out))
    if not options["keepdims"]:
        steps.insert(axis, 0)
    greater = site.step.primitive.name == "argmax"
    sizes = [1 if i == axis else m for i, m in enumerate(x.shape)]
    wide = 64 // x.dtype.itemsize if own[axis] == 1 and x.dtype.itemsize > 1 else 1

    def body(w: Writer, source: str, target: str) -> None:
        with nest(w, sizes) as at:
            line = w.at(source, offset(w, at, own), kind)
            place = _first_of_the_best(w, line, x.dtype, x.shape[axis], own[axis], wide, greater)
            store(w, place, target, offset(w, at, steps), np.int64)

    return site.kernel([x, out], body)


def _first_of_the_best(
    w: Writer, line: str, dtype: np.dtype[Any], n: int, step: int, lanes: int, greater: bool
) -> str:
    """Where the best element of a line is: lanes look for their own, then one after the other."""
    kind, whole = TYPES[dtype.name], n // lanes * lanes if lanes > 1 else 0

    def better(new: str, old: str, lanes: int) -> str:
        type, bits = vector(kind, lanes), vector("i1", lanes)
        found = w.op(f"{_beyond(dtype, greater)} {type} {new}, {old}")
        if dtype.kind == "f":  # also if only the new one is nan
            found = w.op(f"and {bits} {found}, {w.op(f'fcmp ord {type} {old}, {old}')}")
        return found

    def follow(here: str, held: tuple[str, str]) -> tuple[str, str]:
        new = load(w, line, offset(w, [here], [step]), dtype)
        found = better(new, held[0], 1)
        number = w.op(f"select i1 {found}, i64 {here}, i64 {held[1]}")
        return w.op(f"select i1 {found}, {kind} {new}, {kind} {held[0]}"), number

    best, place = load(w, line, 0, dtype), "0"
    if whole > lanes:
        type, places, bits = (vector(k, lanes) for k in (kind, "i64", "i1"))
        numbers = "<" + ", ".join(f"i64 {i}" for i in range(lanes)) + ">"
        first = w.op(f"load {type}, ptr {line}, align {dtype.itemsize}")
        with w.loop(whole, start=lanes, step=lanes) as turn:
            old, at = turn.carry(type, first), turn.carry(places, numbers)
            new = w.op(f"load {type}, ptr {w.at(line, turn.index, kind)}, align {dtype.itemsize}")
            found = better(new, old, lanes)
            start = w.broadcast(str(turn.index), "i64", lanes)
            here = w.op(f"add {places} {start}, {numbers}")
            old = w.op(f"select {bits} {found}, {type} {new}, {type} {old}")
            at = w.op(f"select {bits} {found}, {places} {here}, {places} {at}")
            turn.step([old, at])
        best, place = (
            w.op(f"extractelement {t} {v}, i64 0") for t, v in ((type, old), (places, at))
        )
        for i in range(1, lanes):
            new = w.op(f"extractelement {type} {old}, i64 {i}")
            spot = w.op(f"extractelement {places} {at}, i64 {i}")
            found = better(new, best, 1)
            level = w.op(f"xor i1 {w.op(f'or i1 {found}, {better(best, new, 1)}')}, true")
            before = w.op(f"and i1 {level}, {w.op(f'icmp slt i64 {spot}, {place}')}")
            found = w.op(f"or i1 {found}, {before}")
            best = w.op(f"select i1 {found}, {kind} {new}, {kind} {best}")
            place = w.op(f"select i1 {found}, i64 {spot}, i64 {place}")
    else:
        whole = 0
    if whole == n:
        return place
    with w.loop(n, start=whole) as turn:  # what is left, or all of a short line
        after = follow(turn.index, (turn.carry(kind, best), turn.carry("i64", place)))
        turn.step(after)
    return after[1]


def _beyond(dtype: np.dtype[Any], greater: bool) -> str:
    """The comparison of a new element with the best one; true if one is nan."""
    if dtype.kind == "f":
        return f"fcmp u{'gt' if greater else 'lt'}"
    return f"icmp {'u' if dtype.kind in 'ub' else 's'}{'gt' if greater else 'lt'}"


def _alike(step: Step) -> bool:
    values = [v for v in (*step.args, step.out) if isinstance(v, Value)]
    return step.out.dtype.kind in "fi" and {v.dtype for v in values} == {step.out.dtype}


@emitter("cumsum", "cumprod", "recurrence", can=_alike)
def _running(site: Site) -> list[str]:
    """Each element from the one before it: y + x, y * x, or x + a * y."""
    step, out = site.step, site.step.out
    axis, kind, name = step.params["axis"], TYPES[out.dtype.name], step.primitive.name
    steps = [steps_of(site.place(v), v.shape, out.shape) for v in step.args]
    target, point = site.steps(out), "f" if out.dtype.kind == "f" else ""

    def body(w: Writer, *pointers: str) -> None:
        *given, into = pointers

        def elements(at: list[Index]) -> list[str]:
            spots = zip(given, steps, strict=True)
            return [load(w, p, offset(w, at, s), out.dtype) for p, s in spots]

        with nest(w, out.shape[:axis]) as outer:
            with nest(w, out.shape[axis + 1 :]) as inner:
                at = [*outer, 0, *inner]
                store(w, elements(at)[0], into, offset(w, at, target), out.dtype)
            if out.shape[axis] == 1:
                return
            with w.loop(out.shape[axis], start=1) as turn, nest(w, out.shape[axis + 1 :]) as inner:
                here = offset(w, [*outer, turn.index, *inner], target)
                old = load(w, into, plus(w, here, -target[axis]), out.dtype)
                x, *factor = elements([*outer, turn.index, *inner])
                if factor:
                    old = w.op(f"{point}mul {kind} {factor[0]}, {old}")
                joined = "mul" if name == "cumprod" else "add"
                new = w.op(f"{point}{joined} {kind} {old}, {x}")
                store(w, new, into, here, out.dtype)

    return site.kernel([*step.args, out], body)
