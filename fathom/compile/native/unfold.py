"""Windows laid out as columns, added up again, and the places of the largest in uneven regions."""

from __future__ import annotations

from fathom.compile.native.custom import Site, emitter
from fathom.compile.native.elements import TYPES
from fathom.compile.native.loops import add_to, load, nest, offset, plus, store, times, zero
from fathom.compile.native.overlap import overlap
from fathom.compile.native.places import contiguous
from fathom.compile.native.text import Index, Writer
from fathom.compile.native.windows import Sizes, Windows
from fathom.compile.native.work import Work
from fathom.compile.plan import Step, Value
from fathom.ops.window import window_counts


def _floats(step: Step) -> bool:
    return all(isinstance(a, Value) and a.dtype.kind == "f" for a in step.args)


def _windows(step: Step, shape: Sizes) -> Windows:
    """The windows of an image (..., c, h, w)."""
    p = step.params
    options = p["kernel"], p["stride"], p["padding"], p["dilation"]
    counts = window_counts(step.primitive.name, shape, *options)
    kind = TYPES[step.out.dtype.name]
    return Windows(shape[-3], shape[-2:], p["kernel"], counts, p["stride"], p["padding"],
                   p["dilation"], 1, 1, kind)  # fmt: skip


@emitter("unfold", can=_floats)
def _unfold(site: Site) -> list[str]:
    (x,), out = site.step.args, site.step.out
    ws, steps, cut = _windows(site.step, x.shape), site.steps(x), x.ndim - 3

    def body(w: Writer, source: str, target: str, border: str) -> None:
        if ws.is_padded:
            zero(w, border, ws.bytes_padded)
        with nest(w, x.shape[:cut]) as lead:
            one = w.at(source, offset(w, lead, steps[:cut]), ws.dtype)
            made = w.at(target, offset(w, lead, site.steps(out)[:cut]), ws.dtype)
            sample, own = ws.pad(w, one, steps[cut:], border)
            ws.columns(w, sample, own, 0, ws.counts[0], made)

    return site.kernel([x, out, Work(site, ws).border()], body)


@emitter("fold", can=_floats)
def _fold(site: Site) -> list[str]:
    (x,), out = site.step.args, site.step.out
    ws, cut = _windows(site.step, out.shape), out.ndim - 3
    work, own = Work(site, ws), contiguous(out.shape)
    given: list[Value | str] = [work.dense(x), out, work.border()]

    def body(w: Writer, source: str, target: str, border: str) -> None:
        with nest(w, out.shape[:cut]) as lead:
            columns = w.at(source, offset(w, lead, contiguous(x.shape)[:cut]), ws.dtype)
            made = w.at(target, offset(w, lead, own[:cut]), ws.dtype)
            sums = border if ws.is_padded else made
            zero(w, sums, ws.bytes_padded)
            overlap(w, ws, columns, sums, 0, ws.counts[0])
            if ws.is_padded:
                ws.crop(w, sums, made, own[cut:])

    return [*work.lines, *site.kernel(given, body)]


@emitter("overlap_add", can=_floats)
def _overlap_add(site: Site) -> list[str]:
    (g,), out, params = site.step.args, site.step.out, site.step.params
    axis, own = params["axis"], site.steps(out)
    into = (*own[:axis], own[axis] * params["step"], *own[axis + 1 :], own[axis])

    def body(w: Writer, source: str, target: str) -> None:
        zero(w, target, out.nbytes)
        with nest(w, g.shape) as at:
            value = load(w, source, offset(w, at, site.steps(g)), g.dtype)
            add_to(w, value, target, offset(w, at, into), g.dtype)

    return site.kernel([g, out], body)


@emitter("adaptive_max_index", can=_floats)
def _adaptive(site: Site) -> list[str]:
    (x,), out, counts = site.step.args, site.step.out, site.step.params["counts"]
    cut, steps = x.ndim - len(counts), site.steps(x)

    def body(w: Writer, source: str, target: str) -> None:
        with nest(w, x.shape[:cut]) as lead:
            plane = w.at(source, offset(w, lead, steps[:cut]), TYPES[x.dtype.name])
            with nest(w, counts) as cell:
                ends = [
                    _region(w, i, n, c) for i, n, c in zip(cell, x.shape[cut:], counts, strict=True)
                ]
                place = _largest(w, plane, ends, x, cut, steps[cut:])
                store(w, place, target, offset(w, [*lead, *cell], site.steps(out)), out.dtype)

    return site.kernel([x, out], body)


def _region(w: Writer, i: Index, size: int, count: int) -> tuple[Index, Index]:
    """Start and end of region i of `count` that cover `size` elements."""
    if isinstance(i, int):
        return i * size // count, -(-(i + 1) * size // count)
    start = w.op(f"udiv i64 {times(w, i, size)}, {count}")
    end = w.op(f"udiv i64 {plus(w, times(w, plus(w, i, 1), size), count - 1)}, {count}")
    return start, end


def _largest(
    w: Writer, plane: str, ends: list[tuple[Index, Index]], x: Value, cut: int, steps: Sizes
) -> str:
    """The place of the first of the largest elements (or of the first NaN) of a region."""
    kind, flat = TYPES[x.dtype.name], contiguous(x.shape[cut:])
    first = [start for start, _ in ends]
    begin = offset(w, first, flat)
    held = [load(w, plane, offset(w, first, steps), x.dtype), str(begin)]

    def run(axis: int, at: list[Index], held: list[str]) -> list[str]:
        if axis == len(ends):
            best, place = held
            new = load(w, plane, offset(w, at, steps), x.dtype)
            above = w.op(f"fcmp ogt {kind} {new}, {best}")
            unknown, known = (
                w.op(f"fcmp {o} {kind} {v}, {v}") for o, v in (("uno", new), ("ord", best))
            )
            taken = w.op(f"or i1 {above}, {w.op(f'and i1 {unknown}, {known}')}")
            here = offset(w, at, flat)
            return [
                w.op(f"select i1 {taken}, {kind} {new}, {kind} {best}"),
                w.op(f"select i1 {taken}, i64 {here}, i64 {place}"),
            ]
        start, stop = ends[axis]
        with w.loop(stop, start) as turn:
            inner = [turn.carry(t, v) for t, v in zip((kind, "i64"), held, strict=True)]
            after = run(axis + 1, [*at, turn.index], inner)
            turn.step(after)
        return after

    return run(0, [], held)[1]
