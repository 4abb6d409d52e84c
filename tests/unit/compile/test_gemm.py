"""Generated matrix products against float64 NumPy, and that they touch nothing else."""

from __future__ import annotations

import ctypes
import itertools
import subprocess
import sys
import textwrap
from typing import Any

import numpy as np
import pytest

from fathom.compile.native.gemm import (
    Epilogue,
    Kernel,
    Product,
    Shape,
    Spot,
    Target,
    bias,
    choose,
    generate,
    module,
    relu,
    target_for,
)
from fathom.engine.errors import ArgumentError

pytest.importorskip("llvmlite")

AVX512, AVX2, SSE = Target(64, 32), Target(32, 16), Target(16, 16)
CANARY = 64  # bytes of 0xA5 on either side of a buffer
DTYPES = {"float": np.float32, "double": np.float64}
Array = np.ndarray[Any, Any]


class Guarded:
    """`size` numbers of memory, not aligned to vectors, between canaries."""

    def __init__(self, size: int, dtype: str, fill: Array | None = None) -> None:
        width = np.dtype(DTYPES[dtype]).itemsize
        self.raw = np.full(size * width + 2 * CANARY + 64, 0xA5, np.uint8)
        start = CANARY + -self.raw.ctypes.data % 64 + width  # one element off a cache line
        self.bounds = start, start + size * width
        self.array = self.raw[start : start + size * width].view(DTYPES[dtype])
        if fill is not None:
            self.array[:] = fill.ravel()
        self.address = self.array.ctypes.data

    def intact(self) -> bool:
        start, stop = self.bounds
        return bool((self.raw[:start] == 0xA5).all() and (self.raw[stop:] == 0xA5).all())


def compiled(kernels: list[Kernel]) -> Any:
    from fathom.compile.native.engine import Compiler

    return Compiler(cache=False).compile(module(kernels))


def call(library: Any, kernel: Kernel, *arrays: int) -> None:
    """Run a kernel on addresses; scratch memory is brought along and watched."""
    scratch = Guarded(kernel.scratch + 64, "float")
    inside = scratch.address + -scratch.address % 64
    function = library.function(kernel.name, *[ctypes.c_void_p] * len(kernel.parameters))
    function(*arrays, *([inside] if kernel.scratch else []))
    assert scratch.intact()


def size_of(shape: tuple[int, int], strides: tuple[int, int]) -> int:
    return sum((n - 1) * s for n, s in zip(shape, strides, strict=True)) + 1


def matrix(buffer: Array, shape: tuple[int, int], strides: tuple[int, int], start: int = 0) -> Any:
    step = buffer.itemsize
    return np.lib.stride_tricks.as_strided(
        buffer[start:], shape, (strides[0] * step, strides[1] * step)
    )


def check(library: Any, kernel: Kernel) -> None:
    """One product against float64, with canaries around and in the gaps of C."""
    p = kernel.product
    rng = np.random.default_rng([p.m, p.n, p.k])
    shapes = ((p.m, p.k), p.a), ((p.k, p.n), p.b), ((p.m, p.n), (p.c, 1))
    buffers = []
    for (shape, strides), step in zip(shapes, p.steps, strict=True):
        size = size_of(shape, strides) + (p.batch - 1) * step
        buffers.append(Guarded(size, p.dtype, rng.standard_normal(size)))
    a, b, c = (buffer.array for buffer in buffers)
    before = [x.copy() for x in (a, b, c)]
    expected = before[2].astype(np.float64)
    for i in range(p.batch):
        views = [
            matrix(x, *pair, start=i * step)
            for x, pair, step in zip((before[0], before[1], expected), shapes, p.steps, strict=True)
        ]
        product = views[0].astype(np.float64) @ views[1].astype(np.float64)
        views[2][:] = product + views[2] * p.accumulate
    call(library, kernel, *(buffer.address for buffer in buffers))
    eps = np.finfo(a.dtype).eps
    np.testing.assert_allclose(c, expected, rtol=0, atol=4 * eps * (p.k + 4), err_msg=str(p))
    written = np.zeros(c.size, bool)
    for i in range(p.batch):
        matrix(written, *shapes[2], start=i * p.steps[2])[:] = True
    assert np.array_equal(c[~written], before[2][~written]), "a gap of C was written"
    assert np.array_equal(a, before[0]) and np.array_equal(b, before[1])
    assert all(buffer.intact() for buffer in buffers)


SIZES = [(1, 1, 1), (1, 17, 9), (2, 16, 32), (3, 2, 5), (5, 1, 40), (7, 10, 13), (16, 33, 8),
         (19, 15, 31), (29, 40, 3), (33, 65, 17), (17, 35, 9)]  # fmt: skip


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("target", [AVX512, AVX2, SSE], ids=["avx512", "avx2", "sse"])
def test_odd_sizes_in_every_layout(target: Target, dtype: str) -> None:
    sides = itertools.product((False, True), repeat=2)
    kernels = [
        generate(
            Product.of(*size, transpose_a=ta, transpose_b=tb, dtype=dtype, accumulate=(i % 2 == 1)),
            f"p{i}",
            target=target,
        )
        for i, ((ta, tb), size) in enumerate(itertools.product(sides, SIZES))
        if (i + (dtype == "double")) % 2 or target is AVX512  # every other one on the rest
    ]
    library = compiled(kernels)
    for kernel in kernels:
        check(library, kernel)


def test_strided_operands_and_gaps_in_c() -> None:
    cases = [
        ((40, 1), (1, 50), 30),  # rows apart
        ((1, 20), (25, 1), 23),
        ((60, 2), (90, 3), 29),  # no side has neighbours
        ((2, 60), (3, 90), 24),
        ((33, 1), (1, 40), 31),
        ((0, 1), (40, 1), 23),  # a row that is broadcast
    ]
    kernels = [
        generate(Product(11, 23, 19, a, b, c, accumulate=bool(i % 2)), f"p{i}", target=AVX512)
        for i, (a, b, c) in enumerate(cases)
    ]
    library = compiled(kernels)
    for kernel in kernels:
        check(library, kernel)


def test_several_passes_over_k_with_and_without_panels() -> None:
    plain = Product.of(30, 40, 83)
    turned = Product.of(30, 40, 83, transpose_a=True, transpose_b=True)
    kernels = []
    for p, (a, b), more in itertools.product(
        (plain, turned), itertools.product((False, True), repeat=2), (False, True)
    ):
        if b or p is plain:
            wanted = Product(**{**vars(p), "accumulate": more})
            shape = Shape(6, 2, 8, 24, a, b)
            kernels.append(generate(wanted, f"p{len(kernels)}", target=AVX2, shape=shape))
    library = compiled(kernels)
    for kernel in kernels:
        check(library, kernel)


@pytest.mark.parametrize(
    "m, n, k", [(64, 256, 784), (70, 129, 400), (256, 10, 1024), (65, 96, 1024)]
)
def test_large_products_choose_their_own_panels(m: int, n: int, k: int) -> None:
    kernels = [
        generate(Product.of(m, n, k, transpose_a=ta, transpose_b=tb), f"p{ta}{tb}", target=AVX512)
        for ta, tb in ((0, 0), (0, 1), (1, 0))
    ]
    library = compiled(kernels)
    for kernel in kernels:
        check(library, kernel)


def test_choice_of_panels() -> None:
    assert not choose(Product.of(64, 64, 64), AVX512).pack_b
    assert choose(Product.of(64, 64, 64, transpose_b=True), AVX512).pack_b
    assert choose(Product.of(256, 784, 1024), AVX512).pack_a  # rows 4096 bytes apart
    assert choose(Product.of(1, 64, 256, transpose_b=True), AVX512).dot


@pytest.mark.parametrize("target", [AVX512, AVX2, Target(16, 32), SSE])
def test_tiles_fit_the_registers(target: Target) -> None:
    for size in [*SIZES, (128, 128, 128), (1000, 10, 300)]:
        for sides in itertools.product((False, True), repeat=2):
            shape = choose(Product.of(*size, transpose_a=sides[0], transpose_b=sides[1]), target)
            held = shape.rows * shape.vectors + min(shape.rows, shape.vectors) + 1
            assert held <= target.registers, (size, shape)


def test_batch_of_attention_products() -> None:
    """Scores q @ k.T of heads that lie behind each other, and p @ v from a packed layout."""
    scores = Product.of(12, 12, 8, transpose_b=True, batch=5)
    heads, d = 3, 8  # (T, heads, d): a head's rows are heads * d apart
    mixed = Product(12, d, 12, (12, 1), (heads * d, 1), heads * d, batch=heads, steps=(144, d, d))
    shared = Product.of(4, 6, 5, batch=3)
    shared = Product(**{**vars(shared), "steps": (20, 0, 24)})  # one B for all
    kernels = [generate(p, f"p{i}", target=AVX512) for i, p in enumerate((scores, mixed, shared))]
    library = compiled(kernels)
    for kernel in kernels:
        check(library, kernel)


# -- epilogues --------------------------------------------------------------------------------


def square(spot: Spot, value: str) -> str:
    return spot.w.op(f"fmul {spot.type} {value}, {value}")


def gate(spot: Spot, value: str) -> str:
    """Times an array laid out like C; what came in is kept in another."""
    spot.store(value, "%kept")
    return spot.w.op(f"fmul {spot.type} {value}, {spot.load('%gate')}")


def rows(spot: Spot, value: str) -> str:
    """Minus one number a row."""
    return spot.w.op(f"fsub {spot.type} {value}, {spot.scalar('%rows', spot.row)}")


@pytest.mark.parametrize("long", [False, True], ids=["short", "long"])
def test_epilogues(long: bool) -> None:
    products = [
        (Product.of(9, 21, 12), None),
        (Product.of(9, 21, 12, transpose_b=True, accumulate=True), None),
        (Product.of(3, 7, 40, transpose_b=True), None),  # vectors along k
        (Product.of(13, 1, 6, transpose_b=True), None),
        (Product.of(18, 37, 50), Shape(6, 2, 8, 16, False, True)),  # four passes over k
    ]
    chain = bias().then(relu()).then(Epilogue(rows, ("%rows",)))
    chain = chain.then(Epilogue(square, long=long)).then(Epilogue(gate, ("%gate", "%kept")))
    assert chain.pointers == ("%bias", "%rows", "%gate", "%kept") and chain.long is long
    kernels = [
        generate(p, f"p{i}", epilogue=chain, target=AVX2, shape=shape)
        for i, (p, shape) in enumerate(products)
    ]
    library = compiled(kernels)
    for kernel in kernels:
        p = kernel.product
        rng = np.random.default_rng(p.n)
        tb = p.layout == "nt"
        shapes = [(p.m, p.k), (p.n, p.k) if tb else (p.k, p.n), (p.m, p.n), (p.n,), (p.m,),
                  (p.m, p.n), (p.m, p.n)]  # fmt: skip
        arrays = [rng.standard_normal(shape).astype(np.float32) for shape in shapes]
        buffers = [Guarded(x.size, "float", x) for x in arrays]
        a, b, c, shift, low, gates, _ = (x.astype(np.float64) for x in arrays)
        z = a @ (b.T if tb else b) + c * p.accumulate
        kept = (np.maximum(z + shift, 0) - low[:, None]) ** 2
        call(library, kernel, *(buffer.address for buffer in buffers))
        np.testing.assert_allclose(buffers[2].array.reshape(p.m, p.n), kept * gates, 0, 2e-4)
        np.testing.assert_allclose(buffers[6].array.reshape(p.m, p.n), kept, 0, 2e-4)
        assert all(buffer.intact() for buffer in buffers)


def test_relu_lets_nan_through() -> None:
    kernel = generate(Product.of(2, 3, 2), epilogue=relu(), target=AVX2)
    a = np.array([[1, 0], [np.nan, 0]], np.float32)
    b, c = np.array([[-1, 0, 2], [0, 0, 0]], np.float32), np.empty((2, 3), np.float32)
    call(compiled([kernel]), kernel, a.ctypes.data, b.ctypes.data, c.ctypes.data)
    np.testing.assert_array_equal(c, [[0, 0, 2], [np.nan] * 3])


# -- the rest ---------------------------------------------------------------------------------


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs mprotect")
def test_nothing_is_read_beyond_the_end() -> None:
    """Operands end where a page ends, and the next may not be read: a crash would tell."""
    script = """
        import ctypes, mmap
        import numpy as np
        from fathom.compile.native.engine import Compiler
        from fathom.compile.native.gemm import Product, Target, generate, module

        libc, page = ctypes.CDLL(None), mmap.PAGESIZE
        kept = []

        def at_the_end(count, fill):
            pages = -(-count * 4 // page)
            memory = mmap.mmap(-1, (pages + 1) * page)
            kept.append(memory)
            start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
            if libc.mprotect(ctypes.c_void_p(start + pages * page), page, 0):
                raise OSError("mprotect")
            array = np.frombuffer(memory, np.float32, count, pages * page - count * 4)
            array[:] = fill
            return array

        sizes = [(1, 9, 13), (7, 10, 13), (17, 35, 9), (4, 3, 21), (30, 18, 70)]
        kernels = [
            generate(Product.of(*size, transpose_a=ta, transpose_b=tb), f"p{ta}{tb}{i}", target=t)
            for i, (size, t) in enumerate((s, t) for s in sizes
                                          for t in (Target(64, 32), Target(32, 16)))
            for ta, tb in ((0, 0), (0, 1), (1, 0))
        ]
        library = Compiler(cache=False).compile(module(kernels))
        for kernel in kernels:
            p = kernel.product
            operands = [at_the_end(n, 1) for n in (p.m * p.k, p.k * p.n, p.m * p.n)]
            if kernel.scratch:
                operands.append(np.empty(kernel.scratch + 64, np.uint8))
            run = library.function(kernel.name, *[ctypes.c_void_p] * len(operands))
            run(*(x.ctypes.data + (-x.ctypes.data % 64 if i == 3 else 0)
                  for i, x in enumerate(operands)))
            if not (operands[2] == p.k).all():
                raise ValueError(p)
        print("whole")
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=False
    )
    assert done.stdout == "whole\n", (done.returncode, done.stderr)


def test_kernels_of_a_module_share_what_they_need() -> None:
    kernels = [generate(Product.of(16, 16, 16, transpose_b=True), f"p{i}") for i in range(3)]
    text = module(kernels)
    assert text.count("define internal void @fathom.square.float(") == 1
    assert kernels[0].text.startswith(
        "define void @p0(ptr noalias readonly %A, ptr noalias readonly %B, ptr noalias %C, "
        "ptr noalias %scratch) noinline optsize {"
    )
    assert kernels[0].parameters == ("%A", "%B", "%C", "%scratch")


def test_the_same_product_gives_the_same_text() -> None:
    p = Product.of(33, 17, 65, transpose_b=True)
    assert generate(p, target=AVX2) == generate(p, target=AVX2)


def test_targets() -> None:
    assert target_for("+avx512f,+avx512vl,+avx2,+fma") == AVX512
    assert target_for("+avx2,+fma,-avx512f") == AVX2
    assert target_for("+sse2,-avx2") == SSE
    assert target_for("+neon,+fp-armv8") == Target(16, 32)


@pytest.mark.parametrize("sizes", [(0, 1, 1), (1, 1, 0)])
def test_empty_products_are_refused(sizes: tuple[int, int, int]) -> None:
    with pytest.raises(ArgumentError, match="at least 1, got m, n, k"):
        Product.of(*sizes)


def test_unknown_dtype() -> None:
    with pytest.raises(ArgumentError, match=r"'half'.*float or double"):
        Product.of(1, 1, 1, dtype="half")
