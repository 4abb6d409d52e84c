"""Compiled training steps beside PyTorch, torch.compile, JAX and scikit-learn.

    python benchmarks/compiled.py [--json FILE] [--quick] [--threads N] [--only ROW ...]
                                  [--libraries fathom torch ...] [--python jax=PATH]

The same networks, data, starting weights and Adam in all of them; the losses after the first
steps are compared, so nobody computes something else. Each library works in a process of its own,
and they take turns. Then come the time to the first result, the memory of a step, and how far the
times are from what the machine can do. `--python` names the interpreter of a library that is
installed in another environment.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))
import harness
from libraries import work
from libraries.report import FIRST, MEMORY, table
from libraries.work import Row
from libraries.worker import LIBRARIES, serve

DIFFERS = 2e-3  # relative: losses that differ by more are told
SLOW = 2.0  # seconds of a call that is measured few times
SQUARE = 1024  # side of the product that says what the BLAS can do


# -- the parent -----------------------------------------------------------------------------------


class Bench:
    """Starts workers and asks them, each library under the same conditions."""

    def __init__(self, threads: int, pythons: Mapping[str, str], cache: Path) -> None:
        self.threads, self.pythons, self.cache = threads, pythons, cache

    def worker(self, library: str, **extra: str) -> harness.Worker:
        given = {
            "NPROC": str(self.threads),  # JAX's pool
            "PJRT_NPROC": str(self.threads),
            "XLA_FLAGS": f"--xla_cpu_multi_thread_eigen={str(self.threads > 1).lower()}",
            "JAX_PLATFORMS": "cpu",
            "FATHOM_CACHE": str(self.cache / "fathom"),
            "TORCHINDUCTOR_CACHE_DIR": str(self.cache / "torch"),
            "PYTHONDONTWRITEBYTECODE": "",  # modules are compiled once, as in an installed package
            **extra,
        }
        python = self.pythons.get(library, sys.executable)
        return harness.Worker(str(Path(__file__).resolve()), library, self.threads, python, given)

    @contextmanager
    def workers(self, libraries: Sequence[str]) -> Iterator[list[harness.Worker]]:
        started = [self.worker(library) for library in libraries]
        try:
            yield started
        finally:
            for worker in started:
                worker.close()

    def once(self, library: str, what: str, row: str, **extra: str) -> dict[str, Any]:
        """The answer of a fresh process to one question."""
        worker = self.worker(library, **extra)
        try:
            return ask(worker, what=what, row=row)
        finally:
            worker.close()


def ask(worker: harness.Worker, **question: Any) -> dict[str, Any]:
    """The answer; of a process that died, that it did."""
    try:
        return worker.answer(**question)
    except (RuntimeError, OSError):
        return {"skipped": f"its process ended at {question['what']!r}; the error is above"}


def measure(
    workers: Sequence[harness.Worker], row: Row, rounds: int, seconds: float
) -> dict[str, Any]:
    """A row: all libraries that do it, in turns."""
    ready: list[harness.Worker] = []
    skipped, checks, slowest = {}, {}, 0.0
    for worker in workers:
        found = ask(worker, what="prepare", row=row.name)
        if "skipped" in found:
            skipped[worker.library] = found["skipped"]
        else:
            ready.append(worker)
            checks[worker.library] = found["check"]
            slowest = max(slowest, found["seconds"])
    times: dict[str, list[float]] = {worker.library: [] for worker in ready}
    for turn in range(min(rounds, 2) if slowest > SLOW else rounds):
        for worker in ready[:: 1 if turn % 2 == 0 else -1]:
            time.sleep(harness.PAUSE)
            found = ask(worker, what="round", seconds=seconds)
            if "skipped" in found:
                ready.remove(worker)
                del times[worker.library]
                skipped[worker.library] = found["skipped"]
            else:
                times[worker.library].append(found["microseconds"])
    return {
        **(harness.summary(row.name, times) if ready else {"case": row.name, "microseconds": {}}),
        "unit": row.unit,
        "targets": row.targets,
        "checks": checks,
        "differs": differing(checks),
        "skipped": skipped,
    }


def differing(checks: Mapping[str, list[float]]) -> list[str]:
    """The libraries whose numbers are not those of the first."""
    held = [(name, values) for name, values in checks.items() if values]
    return [
        name
        for name, values in held[1:]
        if any(
            not math.isclose(a, b, rel_tol=DIFFERS) for a, b in zip(held[0][1], values, strict=True)
        )
    ]


def limits(threads: int, seconds: float) -> dict[str, float]:
    """What the machine can do: GFLOP/s in registers and in a large product, GB/s of a copy."""
    script = str(Path(__file__).resolve().parent / "gemm.py")
    found = {}
    for library, count, case, name, amount in (
        ("limit", 1, "peak", "peak_gflops", 1.0),
        ("limit", 1, "copy", "copy_gbytes", 1.0),
        ("blas", threads, json.dumps([SQUARE, SQUARE, SQUARE, "nt", 1]), "sgemm_gflops",
         2e-9 * SQUARE**3),
    ):  # fmt: skip
        worker = harness.Worker(script, library, count)
        try:
            best = min(worker.ask(case, seconds) for _ in range(3))
        finally:
            worker.close()
        found[name] = amount * 1e6 / best
    return found


def distance(result: dict[str, Any], limit: Mapping[str, float]) -> None:
    """Add how many times the least possible time Fathom takes, and what limits."""
    row, ours = work.ROWS[result["case"]], result["microseconds"].get("fathom")
    copy = result["microseconds"].get("copy")
    if ours and copy:
        result["limit"] = {"by": "copy", "microseconds": copy, "times": ours / copy}
    elif ours and row.flops and limit:
        least = row.flops / limit["sgemm_gflops"] / 1e3
        result["limit"] = {"by": "sgemm", "microseconds": least, "times": ours / least}


def first_results(bench: Bench, libraries: Sequence[str], quick: bool) -> list[dict[str, Any]]:
    """Seconds from the first call to its result: nothing on disk, and once more after that."""
    results = []
    if "fathom" in libraries:
        bench.once("fathom", "first", work.SMALL)  # not reported: now there is bytecode
    for row, most in list(work.FIRST.items())[: 1 if quick else None]:
        seconds: dict[str, dict[str, float]] = {}
        skipped = {}
        for library in [name for name in FIRST if name in libraries]:
            found: dict[str, list[float]] = {"cold": [], "from disk": []}
            for _ in range(3 if library == "fathom" and not quick else 1):
                with tempfile.TemporaryDirectory() as folder:
                    extra = caches(folder)
                    for times in found.values():
                        answer = bench.once(library, "first", row, **extra)
                        if "skipped" in answer:
                            skipped[library] = answer["skipped"]
                        else:
                            times.append(answer["seconds"])
            if library not in skipped:
                seconds[library] = {k: statistics.median(v) for k, v in found.items()}
        at_most = {"cold": most, "from disk": work.FROM_DISK}
        results.append({"case": row, "seconds": seconds, "at_most": at_most, "skipped": skipped})
    return results


def caches(folder: str) -> dict[str, str]:
    """Where the libraries keep what they compiled, all in one new folder."""
    return {
        "FATHOM_CACHE": f"{folder}/fathom",
        "TORCHINDUCTOR_CACHE_DIR": f"{folder}/torch",
        "JAX_COMPILATION_CACHE_DIR": f"{folder}/jax",
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }


def memories(bench: Bench, libraries: Sequence[str], quick: bool) -> list[dict[str, Any]]:
    """Bytes of a step, in a process for each library and network; what is compiled is on disk."""
    results = []
    for row in work.MEMORY[: 1 if quick else None]:
        asked = [name for name in MEMORY if name in libraries]
        for name in asked:
            bench.once(name, "memory", row)  # compiles
        answers = {name: bench.once(name, "memory", row) for name in asked}
        results.append(
            {
                "case": row,
                "bytes": {k: v["bytes"] for k, v in answers.items() if "bytes" in v},
                "skipped": {k: v["skipped"] for k, v in answers.items() if "skipped" in v},
            }
        )
    return results


# -- the command line -----------------------------------------------------------------------------


def chosen_rows(only: Sequence[str] | None) -> list[Row]:
    """The rows asked for: by name, part of it, or kind; all without."""
    rows = work.ROWS
    if not only:
        return list(rows.values())
    wanted = {
        name
        for asked in only
        for name, row in rows.items()
        if name == asked or (asked not in rows and (asked in name or asked == row.kind))
    }
    return [row for name, row in rows.items() if name in wanted]


def run(options: argparse.Namespace, cache: Path) -> dict[str, Any]:
    quick, only = options.quick, options.only
    bench = Bench(options.threads, dict(p.split("=", 1) for p in options.python), cache)
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    versions, absent = harness.versions([]), {}
    with bench.workers(options.libraries) as workers:
        ready = []
        for worker in workers:
            answer = ask(worker, what="version")
            if "skipped" in answer:
                absent[worker.library] = answer["skipped"]
                continue
            ready.append(worker)
            package = LIBRARIES[worker.library][2]
            versions |= {package: answer["version"]} if package else {}
        names = [worker.library for worker in ready]
        results = []
        for row in chosen_rows(only):
            print(f"{row.name} ...", file=sys.stderr, flush=True)
            rounds = options.rounds or (2 if quick else 5 if row.kind == "activation" else 9)
            seconds = 0.01 if quick else 0.06 if row.kind == "activation" else 0.25
            results.append(measure(ready, row, rounds, seconds))
    found = limits(options.threads, 0.01 if quick else 0.3) if "fathom" in names else {}
    for result in results:
        distance(result, found)
    return {
        "benchmark": "compiled",
        "date": time.strftime("%Y-%m-%d"),
        "machine": {**harness.machine(options.threads), "load": load},
        "versions": versions,
        "libraries": names,
        "absent": absent,
        "limits": found,
        "results": results,
        "first": first_results(bench, names, quick) if not only or "first" in only else [],
        "memory": memories(bench, names, quick) if not only or "memory" in only else [],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--json", metavar="FILE", help="also write the report as JSON")
    parser.add_argument("--quick", action="store_true", help="a smoke run; figures are rough")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--rounds", type=int, help="rounds of each row (default 9, quick 2)")
    parser.add_argument(
        "--only", nargs="+", metavar="ROW",
        help="rows by name, part of it or kind (network, activation, epoch ...); first; memory",
    )  # fmt: skip
    parser.add_argument("--libraries", nargs="+", choices=list(LIBRARIES), default=list(LIBRARIES))
    parser.add_argument(
        "--python", nargs="+", default=[], metavar="LIBRARY=PATH",
        help="the interpreter of a library that is installed elsewhere",
    )  # fmt: skip
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        serve(options.worker)
        return
    with tempfile.TemporaryDirectory() as folder:
        report = run(options, Path(folder))
    print(table(report))
    if options.json:
        Path(options.json).write_text(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
