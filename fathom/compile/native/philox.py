"""The Philox4x64-10 generator (Salmon et al., 2011) as IR, with NumPy's own way to use its bits.

A stream's state is three numbers: two of the key, and how many draws were made. Draw i begins at
counter (1, 0, i, 0), and each counter gives four words of 64 bits, so any part of a draw can be
made alone: eight blocks at a time here, in vectors where the machine has them.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache

from fathom.compile.native.engine import Compiler, Library
from fathom.compile.native.loops import lanes_of
from fathom.compile.native.text import Writer, vector

MULTIPLY = (0xD2E7470EE14C6C93, 0xCA5A826395121157)
ADD = (0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B)  # to the key, from round to round
ROUNDS, BLOCKS = 10, 8
WORDS = 4 * BLOCKS  # of 64 bits, made at a time
LOW = 0xFFFFFFFF

Pair = tuple[str, str]


def _all(number: int, lanes: int) -> str:
    """A constant in every lane, as i64."""
    signed = number - (1 << 64) if number >> 63 else number
    return str(signed) if lanes == 1 else "<" + ", ".join([f"i64 {signed}"] * lanes) + ">"


def _multiply(w: Writer, a: str, factor: int, lanes: int) -> Pair:
    """The upper and the lower half of a product of 128 bits."""
    if lanes == 1:
        product = w.op(f"mul i128 {w.op(f'zext i64 {a} to i128')}, {factor}")
        above = w.op(f"lshr i128 {product}, 64")
        return w.op(f"trunc i128 {above} to i64"), w.op(f"trunc i128 {product} to i64")
    kind, low, half = vector("i64", lanes), _all(LOW, lanes), _all(32, lanes)

    def op(name: str, x: str, y: str) -> str:
        return w.op(f"{name} {kind} {x}, {y}")

    ones = (op("and", a, low), op("lshr", a, half))
    ll, hl = (op("mul", x, _all(factor & LOW, lanes)) for x in ones)
    lh, hh = (op("mul", x, _all(factor >> 32, lanes)) for x in ones)
    first = op("add", hl, op("lshr", ll, half))
    second = op("add", lh, op("and", first, low))
    high = op("add", op("add", hh, op("lshr", first, half)), op("lshr", second, half))
    return high, op("or", op("shl", second, half), op("and", ll, low))


def _rounds(w: Writer, block: str, lanes: int) -> list[str]:
    """The four words of `lanes` blocks."""
    kind, zero = vector("i64", lanes), _all(0, lanes)
    a, b, c, d = block, zero, w.broadcast("%draw", "i64", lanes), zero
    keys = ["%key0", "%key1"]
    for turn in range(ROUNDS):
        if turn:
            keys = [w.op(f"add i64 {k}, {_all(n, 1)}") for k, n in zip(keys, ADD, strict=True)]
        one, two = (w.broadcast(k, "i64", lanes) for k in keys)
        high, low = _multiply(w, a, MULTIPLY[0], lanes)
        upper, lower = _multiply(w, c, MULTIPLY[1], lanes)
        a, b, c, d = (
            w.op(f"xor {kind} {w.op(f'xor {kind} {upper}, {b}')}, {one}"), lower,
            w.op(f"xor {kind} {w.op(f'xor {kind} {high}, {d}')}, {two}"), low,
        )  # fmt: skip
    return [a, b, c, d]


def _blocks() -> str:
    """`fathom.philox(key0, key1, draw, block, out)`: the words of eight blocks, in order."""
    w, wide = Writer(), lanes_of("double")
    lanes = wide if wide in (4, 8) else 1  # of two, four multiplications cost more than one
    with w.loop(BLOCKS, step=lanes) as turn:
        first = w.op(f"add i64 %block, {turn.index}")
        at = w.at("%out", w.times(turn.index, 4), "i64")
        if lanes == 1:
            for i, word in enumerate(_rounds(w, first, 1)):
                w.line(f"store i64 {word}, ptr {w.at(at, i, 'i64')}, align 8")
        else:
            numbers = "<" + ", ".join(f"i64 {i}" for i in range(lanes)) + ">"
            kind = vector("i64", lanes)
            block = w.op(f"add {kind} {w.broadcast(first, 'i64', lanes)}, {numbers}")
            words = _in_order(w, _rounds(w, block, lanes), lanes)
            w.line(f"store {vector('i64', 4 * lanes)} {words}, ptr {at}, align 8")
    w.line("ret void")
    head = "@fathom.philox(i64 %key0, i64 %key1, i64 %draw, i64 %block, ptr noalias %out) #0"
    return "\n".join([f"define internal void {head} {{", "entry:", *w.lines, "}"])


def _in_order(w: Writer, words: list[str], lanes: int) -> str:
    """All words of a block beside each other, block after block."""
    kind = vector("i64", lanes)
    pairs = [j for i in range(lanes) for j in (i, lanes + i)]
    first, second = (w.shuffle(words[i], words[i + 1], pairs, kind) for i in (0, 2))
    fours = [j + k for i in range(0, 2 * lanes, 2) for j in (i, 2 * lanes + i) for k in (0, 1)]
    return w.shuffle(first, second, fours, vector("i64", 2 * lanes))


def _filled(name: str, given: str, result: str, part: str, convert: Callable[..., str]) -> str:
    """A function that fills an array from equally many bits for each element.

    `name(state, out, turn, first, count, ...)`: `count` elements of a draw, from part `first`
    on, each of `WORDS` words. `part` is the type of these; `convert(w, words)` makes elements.
    """
    n = int(part[1 : part.index(" ")])
    nbytes = {"i8": 1, "float": 4, "double": 8}[result]
    kind, w = vector(result, n), Writer()
    _open(w)
    words = w.op(f"alloca [{WORDS} x i64], align 64")
    rest = w.op(f"alloca [{n} x {result}], align 64")
    parts = w.op(f"udiv i64 {w.op(f'add i64 %count, {n - 1}')}, {n}")
    with w.loop(parts) as turn:
        number = w.op(f"add i64 %first, {turn.index}")
        block = w.op(f"add i64 {w.op(f'mul i64 {number}, {BLOCKS}')}, 1")
        w.line(
            f"call void @fathom.philox(i64 %key0, i64 %key1, i64 %draw, i64 {block}, ptr {words})"
        )
        made = convert(w, w.op(f"load {part}, ptr {words}, align 64"))
        done = w.times(turn.index, n)
        target = w.at("%out", done, result)
        left = w.op(f"sub i64 %count, {done}")
        whole = w.op(f"icmp uge i64 {left}, {n}")
        w.line(f"br i1 {whole}, label %all, label %some")
        w.label("all")
        w.line(f"store {kind} {made}, ptr {target}, align {nbytes}")
        w.line("br label %on")
        w.label("some")
        w.line(f"store {kind} {made}, ptr {rest}, align 64")
        size = w.op(f"mul i64 {left}, {nbytes}")
        w.line(f"call void @llvm.memcpy.p0.p0.i64(ptr {target}, ptr {rest}, i64 {size}, i1 false)")
        w.line("br label %on")
        w.label("on")
    w.line("ret void")
    given = f"ptr %state, ptr noalias %out, i64 %turn, i64 %first, i64 %count, {given}"
    return "\n".join([f"define void @{name}({given}) {{", "entry:", *w.lines, "}"])


def _open(w: Writer) -> None:
    """Read a stream's state."""
    for i, name in enumerate(("key0", "key1", "drawn")):
        w.line(f"%{name} = load i64, ptr {w.at('%state', i, 'i64')}, align 8")
    w.line("%draw = add i64 %drawn, %turn")


def _bernoulli(w: Writer, words: str) -> str:
    """Whether the upper 24 bits are below a number."""
    n = 2 * WORDS
    kind = vector("i32", n)
    bits = w.op(f"lshr {kind} {words}, <{', '.join(['i32 8'] * n)}>")
    below = w.op(f"icmp slt {kind} {bits}, {w.broadcast('%bound', 'i32', n)}")
    return w.op(f"zext <{n} x i1> {below} to {vector('i8', n)}")


def _uniform(result: str) -> Callable[[Writer, str], str]:
    """low + width * (upper bits / 2^24), or / 2^53, as NumPy rounds it."""
    whole, n, shift = ("i32", 2 * WORDS, 8) if result == "float" else ("i64", WORDS, 11)
    share = 2.0**-24 if result == "float" else 2.0**-53

    def convert(w: Writer, words: str) -> str:
        kind = vector(result, n)
        bits = w.op(f"lshr {vector(whole, n)} {words}, <{', '.join([f'{whole} {shift}'] * n)}>")
        number = w.op(f"sitofp {vector(whole, n)} {bits} to {kind}")
        ones = ", ".join([f"{result} {share:.16e}"] * n)
        number = w.op(f"fmul {kind} {number}, <{ones}>")
        number = w.op(f"fmul {kind} {number}, {w.broadcast('%width', result, n)}")
        return w.op(f"fadd {kind} {w.broadcast('%low', result, n)}, {number}")

    return convert


def _even(name: str) -> str:
    """Masks, and numbers spread evenly."""
    halves, kind = f"<{2 * WORDS} x i32>", name.rpartition(".")[2]
    if kind == "bernoulli":
        return _filled(name, "i32 %bound", "i8", halves, _bernoulli)
    part = halves if kind == "float" else f"<{WORDS} x i64>"
    return _filled(name, f"{kind} %low, {kind} %width", kind, part, _uniform(kind))


# -- what takes as many bits as it needs: NumPy's functions, on a generator of ours ---------------

# a generator's state: key, key, draw, block, words used, whether half a word is left, that half
FIELDS = 8  # numbers before the words

SEQUENCE = f"""
declare void @random_standard_normal_fill(ptr, i64, ptr)
declare void @random_standard_normal_fill_f(ptr, i64, ptr)
declare void @random_bounded_uint64_fill(ptr, i64, i64, i64, i1 zeroext, ptr)
declare i64 @random_interval(ptr, i64)

define internal i64 @draw.next64(ptr %s) {{
entry:
  %usedp = getelementptr i64, ptr %s, i64 4
  %words = getelementptr i64, ptr %s, i64 {FIELDS}
  %used = load i64, ptr %usedp, align 8
  %empty = icmp eq i64 %used, {WORDS}
  br i1 %empty, label %more, label %take
more:
  %key1p = getelementptr i64, ptr %s, i64 1
  %drawp = getelementptr i64, ptr %s, i64 2
  %blockp = getelementptr i64, ptr %s, i64 3
  %key0 = load i64, ptr %s, align 8
  %key1 = load i64, ptr %key1p, align 8
  %draw = load i64, ptr %drawp, align 8
  %block = load i64, ptr %blockp, align 8
  call void @fathom.philox(i64 %key0, i64 %key1, i64 %draw, i64 %block, ptr %words)
  %following = add i64 %block, {BLOCKS}
  store i64 %following, ptr %blockp, align 8
  br label %take
take:
  %i = phi i64 [%used, %entry], [0, %more]
  %at = getelementptr i64, ptr %words, i64 %i
  %word = load i64, ptr %at, align 8
  %i1 = add i64 %i, 1
  store i64 %i1, ptr %usedp, align 8
  ret i64 %word
}}

define internal i32 @draw.next32(ptr %s) {{
entry:
  %hasp = getelementptr i64, ptr %s, i64 5
  %halfp = getelementptr i64, ptr %s, i64 6
  %has = load i64, ptr %hasp, align 8
  %some = icmp ne i64 %has, 0
  %other = xor i64 %has, 1
  store i64 %other, ptr %hasp, align 8
  br i1 %some, label %old, label %new
old:
  %half = load i64, ptr %halfp, align 8
  %upper = trunc i64 %half to i32
  ret i32 %upper
new:
  %word = call i64 @draw.next64(ptr %s)
  %rest = lshr i64 %word, 32
  store i64 %rest, ptr %halfp, align 8
  %lower = trunc i64 %word to i32
  ret i32 %lower
}}

define internal double @draw.nextdouble(ptr %s) {{
  %word = call i64 @draw.next64(ptr %s)
  %bits = lshr i64 %word, 11
  %number = sitofp i64 %bits to double
  %share = fmul double %number, {2.0**-53:.16e}
  ret double %share
}}

define internal void @draw.open(ptr %state, i64 %turn, ptr %s, ptr %generator) {{
  %key1p = getelementptr i64, ptr %state, i64 1
  %drawnp = getelementptr i64, ptr %state, i64 2
  %key0 = load i64, ptr %state, align 8
  %key1 = load i64, ptr %key1p, align 8
  %drawn = load i64, ptr %drawnp, align 8
  %draw = add i64 %drawn, %turn
  %s1 = getelementptr i64, ptr %s, i64 1
  %s2 = getelementptr i64, ptr %s, i64 2
  %s3 = getelementptr i64, ptr %s, i64 3
  %s4 = getelementptr i64, ptr %s, i64 4
  %s5 = getelementptr i64, ptr %s, i64 5
  store i64 %key0, ptr %s, align 8
  store i64 %key1, ptr %s1, align 8
  store i64 %draw, ptr %s2, align 8
  store i64 1, ptr %s3, align 8
  store i64 {WORDS}, ptr %s4, align 8
  store i64 0, ptr %s5, align 8
  %g1 = getelementptr ptr, ptr %generator, i64 1
  %g2 = getelementptr ptr, ptr %generator, i64 2
  %g3 = getelementptr ptr, ptr %generator, i64 3
  %g4 = getelementptr ptr, ptr %generator, i64 4
  store ptr %s, ptr %generator, align 8
  store ptr @draw.next64, ptr %g1, align 8
  store ptr @draw.next32, ptr %g2, align 8
  store ptr @draw.nextdouble, ptr %g3, align 8
  store ptr @draw.next64, ptr %g4, align 8
  ret void
}}
"""

GENERATOR = f"""entry:
  %s = alloca [{FIELDS + WORDS} x i64], align 64
  %generator = alloca [5 x ptr], align 8
  call void @draw.open(ptr %state, i64 %turn, ptr %s, ptr %generator)"""


def _normal(kind: str) -> str:
    """mean + std * noise."""
    name = "random_standard_normal_fill" + ("_f" if kind == "float" else "")
    w = Writer()
    w.line(f"call void @{name}(ptr %generator, i64 %count, ptr %out)")
    with w.loop("%count") as turn:
        at = w.at("%out", turn.index, kind)
        noise = w.op(f"load {kind}, ptr {at}, align {4 if kind == 'float' else 8}")
        scaled = w.op(f"fmul {kind} %std, {noise}")
        w.line(f"store {kind} {w.op(f'fadd {kind} %mean, {scaled}')}, ptr {at}")
    w.line("ret void")
    given = f"ptr %state, ptr noalias %out, i64 %turn, i64 %count, {kind} %mean, {kind} %std"
    head = f"define void @draw.normal.{kind}({given}) {{"
    return "\n".join([head, GENERATOR, *w.lines, "}"])


WHOLE = f"""
define void @draw.integers(
    ptr %state, ptr noalias %out, i64 %turn, i64 %count, i64 %low, i64 %range) {{
{GENERATOR}
  call void @random_bounded_uint64_fill(
    ptr %generator, i64 %low, i64 %range, i64 %count, i1 zeroext false, ptr %out)
  ret void
}}

define void @draw.permutation(ptr %state, ptr noalias %out, i64 %turn, i64 %count) {{
{GENERATOR}
  br label %fill
fill:
  %i = phi i64 [0, %entry], [%i1, %fill]
  %at = getelementptr i64, ptr %out, i64 %i
  store i64 %i, ptr %at, align 8
  %i1 = add i64 %i, 1
  %again = icmp ult i64 %i1, %count
  br i1 %again, label %fill, label %next
next:
  %k = phi i64 [%count, %fill], [%last, %swap]
  %last = sub i64 %k, 1
  %some = icmp sgt i64 %last, 0
  br i1 %some, label %swap, label %done
swap:
  %j = call i64 @random_interval(ptr %generator, i64 %last)
  %p = getelementptr i64, ptr %out, i64 %last
  %q = getelementptr i64, ptr %out, i64 %j
  %a = load i64, ptr %p, align 8
  %b = load i64, ptr %q, align 8
  store i64 %b, ptr %p, align 8
  store i64 %a, ptr %q, align 8
  br label %next
done:
  ret void
}}"""


@cache
def symbols() -> dict[str, int]:
    """Addresses of NumPy's functions (its documented C interface); empty where they are hidden."""
    import numpy.random._generator as numpy_functions

    names = (
        "random_standard_normal_fill", "random_standard_normal_fill_f",
        "random_bounded_uint64_fill", "random_interval",
    )  # fmt: skip
    try:
        library = ctypes.CDLL(numpy_functions.__file__)
        return {n: ctypes.cast(getattr(library, n), ctypes.c_void_p).value or 0 for n in names}
    except (OSError, AttributeError):
        return {}


# -- the functions ---------------------------------------------------------------------------------


def text(name: str) -> str:
    """The module with the function of a name: draw.bernoulli, draw.uniform.float, ..."""
    if name == "draw.bernoulli" or name.startswith("draw.uniform"):
        parts = [_even(name)]
    else:
        normal = name.startswith("draw.normal")
        parts = [SEQUENCE, _normal(name.rpartition(".")[2]) if normal else WHOLE]
    return "\n\n".join([_blocks(), *parts, "attributes #0 = { noinline nounwind }"])


@cache
def library(name: str) -> Library:
    """The compiled function: once for all plans, and never given back."""
    return Compiler().compile(text(name), symbols=symbols())
