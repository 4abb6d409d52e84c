"""Matrix products of networks: the generated kernel beside the BLAS that NumPy brought.

    python benchmarks/gemm.py [--json FILE] [--quick] [--threads 1 2]

For each layer the forward product (x @ W.T), and the two of its backward pass: weights (dy.T @ x)
and inputs (dy @ W). The kernel runs on one thread, BLAS on each number given. Calls are repeated
inside native code, so no interpreter is timed. First comes how far one can go: the highest speed
of multiply-adds between registers, of a large product of BLAS, and of a copy of memory. Needs
llvmlite.
"""

from __future__ import annotations

import argparse
import ctypes
import itertools
import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))
import harness

from fathom.compile.native import blas
from fathom.compile.native.engine import Compiler, Library
from fathom.compile.native.gemm import Kernel, Product, generate, module, target_for
from fathom.compile.native.text import Writer

NETWORKS: dict[str, tuple[int, tuple[int, ...]]] = {
    "2-16-16-2, batch 32": (32, (2, 16, 16, 2)),
    "64-64-32-10, batch 64": (64, (64, 64, 32, 10)),
    "784-256-128-10, batch 64": (64, (784, 256, 128, 10)),
    "784-1024-1024-10, batch 256": (256, (784, 1024, 1024, 10)),
    "LSTM 32 to 64, batch 32, four gates at once": (32, (96, 256)),
}
HEADS = 64  # of attention, with 64 places and 16 features each
COPY = 1 << 26  # bytes
CALL = 1e-4  # seconds of native code timed at once
compiler = Compiler(cache=False)


def groups() -> dict[str, list[tuple[str, Product]]]:
    """The products by network: what each is for, and itself."""
    found = {name: layers(*network) for name, network in NETWORKS.items()}
    found[f"attention, 64 places, 16 features, {HEADS} heads"] = [
        ("scores q @ k.T", Product.of(64, 64, 16, transpose_b=True, batch=HEADS)),
        ("values p @ v", Product.of(64, 16, 64, batch=HEADS)),
        ("dv = p.T @ dy", Product.of(64, 16, 64, transpose_a=True, batch=HEADS)),
    ]
    found["squares"] = [
        (str(n), Product.of(n, n, n, transpose_b=True)) for n in (32, 64, 128, 256, 512)
    ]
    return found


def layers(batch: int, widths: Sequence[int]) -> list[tuple[str, Product]]:
    found = []
    for i, (fan_in, fan_out) in enumerate(itertools.pairwise(widths)):
        found += [
            (f"layer {i} forward", Product.of(batch, fan_out, fan_in, transpose_b=True)),
            (f"layer {i} weights", Product.of(fan_out, fan_in, batch, transpose_a=True)),
        ]
        if i:
            found.append((f"layer {i} inputs", Product.of(batch, fan_in, fan_out)))
    return found


def key(p: Product) -> str:
    return json.dumps([p.m, p.n, p.k, p.layout, p.batch])


def product(case: str) -> Product:
    m, n, k, layout, batch = json.loads(case)
    sides = {"transpose_a": layout[0] == "t", "transpose_b": layout[1] == "t"}
    return Product.of(m, n, k, **sides, batch=batch)


# -- what is timed ------------------------------------------------------------------------------


def kernel_of(case: str) -> Kernel:
    target = target_for(compiler.machine.features)
    return generate(product(case), "own", target=target)


def make_own(case: str) -> tuple[Callable[[], Any], float]:
    kernel = kernel_of(case)
    pointers = ", ".join(f"ptr {name}" for name in kernel.parameters)
    text = repeat("run", f"call void @own({pointers})")
    return native(compiler.compile(f"{module([kernel])}\n{text}"), product(case), kernel.scratch)


def make_blas(case: str) -> tuple[Callable[[], Any], float]:
    library = blas.find()
    if library is None:
        raise SystemExit("NumPy's BLAS cannot be called by pointer")
    text = repeat("run", "call void @one(ptr %A, ptr %B, ptr %C)")
    code = f"{library.declaration()}\n{library.text('one', product(case))}\n{text}"
    return native(compiler.compile(code, library.symbols), product(case), 0)


def repeat(name: str, call: str) -> str:
    """A function that makes a call so many times."""
    w = Writer()
    with w.loop("%n"):
        w.line(call)
    w.line("ret void")
    head = f"define void @{name}(ptr %A, ptr %B, ptr %C, ptr %scratch, i64 %n) {{"
    return "\n".join([head, "entry:", *w.lines, "}"])


def seconds(run: Any, addresses: Sequence[int], calls: int) -> float:
    """Of one call among so many."""
    start = time.perf_counter()
    run(*addresses, calls)
    return (time.perf_counter() - start) / calls


def native(code: Library, p: Product, scratch: int) -> tuple[Callable[[], Any], float]:
    """A call of `run` that lasts about `CALL`, and how many products it makes."""
    sizes = (p.batch * p.m * p.k, p.batch * p.k * p.n, p.batch * p.m * p.n, scratch // 4)
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(size + 16).astype(np.float32) for size in sizes]
    addresses = [array.ctypes.data + -array.ctypes.data % 64 for array in arrays]
    run = code.function("run", *[ctypes.c_void_p] * 4, ctypes.c_int64)
    calls = 1
    while seconds(run, addresses, calls) * calls < CALL:
        calls *= 2

    def call() -> Any:
        run(*addresses, calls)
        return arrays  # they must live as long as this

    return call, calls


def make_limit(case: str) -> tuple[Callable[[], Any], float]:
    """`peak`: multiply-adds between registers; `copy`: memory read and written. Giga units."""
    if case == "copy":
        source = np.ones(COPY, np.uint8)
        target = np.empty_like(source)
        return lambda: np.copyto(target, source), 2 * COPY / 1e9
    lanes, sums, turns = target_for(compiler.machine.features).lanes("float"), 12, 20_000
    w = Writer()
    type = f"<{lanes} x float>"
    factor = w.broadcast(w.load("%A", "float", 1), "float", lanes)
    with w.loop(turns) as turn:
        held = [turn.carry(type, "zeroinitializer") for _ in range(sums)]
        turn.step([w.fma(factor, factor, x, "float", lanes) for x in held])
    for i, x in enumerate(turn.following):
        w.store(x, w.at("%A", i * lanes, "float"), "float", lanes)
    w.line("ret void")
    text = "\n".join([*w.declarations, "define void @peak(ptr %A) {", "entry:", *w.lines, "}"])
    room = np.zeros(sums * lanes, np.float32)
    run = compiler.compile(text).function("peak", ctypes.c_void_p)
    return lambda: run(room.ctypes.data), 2 * lanes * sums * turns / 1e9


MAKERS = {"own": make_own, "blas": make_blas, "limit": make_limit}


def making(case: str) -> tuple[float, float]:
    """Milliseconds to write and to compile a kernel, the best of three."""
    best = [float("inf")] * 2
    for _ in range(3):
        start = time.perf_counter()
        text = module([kernel_of(case)])
        written = time.perf_counter()
        compiler.compile(text)
        took = written - start, time.perf_counter() - written
        best = [min(old, new * 1e3) for old, new in zip(best, took, strict=True)]
    return best[0], best[1]


# -- the report -----------------------------------------------------------------------------------


def report(threads: Sequence[int], rounds: int, seconds: float) -> dict[str, Any]:
    script = str(Path(__file__).resolve())
    limits = harness.Worker(script, "limit", 1)
    workers = [harness.Worker(script, "own", 1)]
    workers += [harness.Worker(script, "blas", count) for count in threads]
    for worker, count in zip(workers[1:], threads, strict=True):
        worker.library = f"blas {count}"
    try:
        best = {name: min(limits.ask(name, seconds) for _ in range(3)) for name in ("peak", "copy")}
        cases = {(group, name): p for group, rows in groups().items() for name, p in rows}
        keys = list(dict.fromkeys(map(key, cases.values())))
        found = {row["case"]: row for row in harness.measure(workers, keys, rounds, seconds)}
    finally:
        for worker in [limits, *workers]:
            worker.close()
    compiler.compile("define void @first() {\n  ret void\n}")
    results = []
    for (group, name), p in cases.items():
        row, (written, compiled) = found[key(p)], making(key(p))
        results.append({
            **row, "case": f"{group}: {name}", "group": group, "name": name, "flops": p.flops,
            "shape": [p.m, p.n, p.k], "layout": p.layout, "batch": p.batch,
            "gflops": {k: p.flops / us / 1e3 for k, us in row["microseconds"].items()},
            "milliseconds": {"generate": written, "compile": compiled},
        })  # fmt: skip
    library = blas.find()
    return {
        "benchmark": "gemm",
        "unit": "microseconds a product",
        "machine": harness.machine(max(threads)),
        "versions": {**harness.versions([]), "blas": library.key if library else "none"},
        "libraries": [worker.library for worker in workers],
        "limits": {"peak_gflops": 1e6 / best["peak"], "copy_gbytes": 1e6 / best["copy"]},
        "results": results,
    }


def table(found: Mapping[str, Any]) -> str:
    """Times, GFLOP/s, and the time of BLAS over that of the kernel."""
    first, *others = names = found["libraries"]
    limits, place = found["limits"], found["machine"]
    head = (
        f"{place['cpu']}, {place['cores']} cores; BLAS: {found['versions']['blas']}\n"
        f"one thread does at most {limits['peak_gflops']:.0f} GFLOP/s between registers, "
        f"a copy moves {limits['copy_gbytes']:.1f} GB/s (read and written)"
    )
    titles = ["product", "m, n, k", "", *(f"{n} us" for n in names), *(f"{n} GF/s" for n in names),
              *(f"{n}/{first} (low-high)" for n in others), "write ms", "compile ms"]  # fmt: skip
    rows, groups = [titles], []
    for result in found["results"]:
        groups.append(result["group"])
        ratios = [result["ratio"][name] for name in others]
        rows.append(
            [
                result["name"],
                ", ".join(map(str, result["shape"])),
                result["layout"],
                *(f"{result['microseconds'][name]:.2f}" for name in names),
                *(f"{result['gflops'][name]:.1f}" for name in names),
                *(f"{r['median']:.2f} ({r['low']:.2f}-{r['high']:.2f})" for r in ratios),
                *(f"{result['milliseconds'][what]:.1f}" for what in ("generate", "compile")),
            ]
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(c.rjust(w) for c, w in zip(row, widths, strict=True)) for row in rows]
    body = []
    for group, block in itertools.groupby(
        zip(groups, lines[1:], strict=True), lambda pair: pair[0]
    ):
        body += [f"-- {group}", *(line for _, line in block)]
    return "\n".join([head, lines[0], *body])


def main() -> None:
    title = (__doc__ or "").partition("\n")[0]
    parser = argparse.ArgumentParser(description=title)
    parser.add_argument("--json", metavar="FILE", help="also write the report as JSON")
    parser.add_argument("--quick", action="store_true", help="a smoke run; figures are rough")
    parser.add_argument("--threads", type=int, nargs="+", help="of BLAS (default: 1 and all cores)")
    parser.add_argument("--rounds", type=int, help="rounds of each case (default 5, quick 2)")
    parser.add_argument("--worker", choices=list(MAKERS), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        harness.serve(MAKERS[options.worker])
        return
    threads = options.threads or sorted({1, os.cpu_count() or 1})
    rounds = options.rounds or (2 if options.quick else 5)
    found = report(threads, rounds, 0.005 if options.quick else 0.05)
    print(table(found))
    if options.json:
        Path(options.json).write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
