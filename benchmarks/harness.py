"""Measure libraries side by side: each in a process of its own, in turns, on equal threads.

A benchmark script gives `run` its libraries (name -> function that makes the thing to time) and
its cases. The parent starts the script once more for each library, as a worker, and asks them in
turns (A B A B ...), so that a machine that slows down or warms up does so for all. Reported are
medians over rounds, and the ratio within each round with its spread.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # this checkout's fathom
PAUSE = 0.05  # seconds between turns: the thread pool of the last one stops spinning
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
PACKAGES = {"fathom": "", "torch": "torch", "numpy": "numpy", "tape": "numpy"}

# make(case) prepares and returns (function to time, how many units one call is)
Maker = Callable[[str], tuple[Callable[[], Any], float]]


class Worker:
    """A child process that times one library, one case at a time."""

    def __init__(
        self,
        script: str,
        library: str,
        threads: int,
        python: str = sys.executable,
        extra: Mapping[str, str] | None = None,
    ) -> None:
        environment = {**os.environ, **dict.fromkeys(THREAD_VARIABLES, str(threads))}
        self.library = library
        self.process = subprocess.Popen(
            [python, script, "--worker", library, "--threads", str(threads)],
            env={**environment, **(extra or {})},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, case: str, seconds: float) -> float:
        """Microseconds a unit: the median of one round of about `seconds`."""
        return float(self.answer(case=case, seconds=seconds)["microseconds"])

    def answer(self, **question: Any) -> dict[str, Any]:
        """One line of JSON to the worker, and the one it sends back."""
        stdin, stdout = self.process.stdin, self.process.stdout
        if stdin is None or stdout is None:
            raise RuntimeError("the worker has no pipes")
        print(json.dumps(question), file=stdin, flush=True)
        line = stdout.readline()
        if not line:
            raise RuntimeError(f"the worker of {self.library} ended; its error is above")
        return dict(json.loads(line))

    def close(self) -> None:
        with suppress(OSError):  # it ended before
            self.process.communicate()


def serve(make: Maker) -> None:
    """The worker's side: answer the questions on standard input."""
    ready: dict[str, tuple[Callable[[], Any], float]] = {}
    for line in sys.stdin:
        question = json.loads(line)
        case, seconds = question["case"], question["seconds"]
        if case not in ready:
            ready[case] = make(case)
        clock(*ready[case], seconds / 5)  # warm-up, not reported
        print(json.dumps({"microseconds": clock(*ready[case], seconds)}), flush=True)


def clock(call: Callable[[], Any], units: float, seconds: float) -> float:
    """The median time of single calls over about `seconds`, in microseconds a unit."""
    times: list[float] = []
    end = time.perf_counter() + seconds
    while not times or time.perf_counter() < end:
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times) / units * 1e6


def measure(
    workers: Sequence[Worker], cases: Sequence[str], rounds: int, seconds: float
) -> list[dict[str, Any]]:
    """For each case the microseconds of every library in every round, asked in turns."""
    results = []
    for case in cases:
        found: dict[str, list[float]] = {worker.library: [] for worker in workers}
        for worker in workers:
            worker.ask(case, 0.0)  # prepare
        for turn in range(rounds):
            for worker in workers if turn % 2 == 0 else reversed(workers):
                time.sleep(PAUSE)
                found[worker.library].append(worker.ask(case, seconds))
        results.append(summary(case, found))
    return results


def summary(case: str, rounds: Mapping[str, list[float]]) -> dict[str, Any]:
    """Medians, and for each other library its time over that of the first, round by round."""
    first, *others = rounds
    ratios = {
        other: [theirs / ours for ours, theirs in zip(rounds[first], rounds[other], strict=True)]
        for other in others
    }
    return {
        "case": case,
        "microseconds": {name: statistics.median(values) for name, values in rounds.items()},
        "ratio": {
            name: {"median": statistics.median(v), "low": min(v), "high": max(v)}
            for name, v in ratios.items()
        },
        "rounds": dict(rounds),
    }


def machine(threads: int) -> dict[str, Any]:
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [row for row in cpuinfo.read_text().splitlines() if row.startswith("model name")]
        model = names[0].partition(":")[2].strip() if names else model
    return {"cpu": model, "cores": os.cpu_count(), "threads": threads, "system": platform.system()}


def versions(libraries: Sequence[str]) -> dict[str, str]:
    from fathom.version import __version__

    found = {"python": platform.python_version(), "fathom": __version__}
    for package in {"numpy"} | {PACKAGES[name] for name in libraries} - {""}:
        found[package] = importlib.metadata.version(package)
    return found


def installed(library: str) -> bool:
    package = PACKAGES[library]
    try:
        return not package or bool(importlib.metadata.version(package))
    except importlib.metadata.PackageNotFoundError:
        return False


def table(report: Mapping[str, Any]) -> str:
    """The report as aligned text."""
    libraries = report["libraries"]
    first, *others = libraries
    lines = [["case", *(f"{name} us" for name in libraries),
              *(f"{name}/{first} (low-high)" for name in others)]]  # fmt: skip
    for result in report["results"]:
        ratios = [result["ratio"][name] for name in others]
        lines.append(
            [
                result["case"],
                *(f"{result['microseconds'][name]:.2f}" for name in libraries),
                *(f"{r['median']:.2f} ({r['low']:.2f}-{r['high']:.2f})" for r in ratios),
            ]
        )
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    rows = ["  ".join(c.rjust(w) for c, w in zip(line, widths, strict=True)) for line in lines]
    place = report["machine"]
    about = ", ".join(f"{name} {version}" for name, version in report["versions"].items())
    head = f"{place['cpu']}, {place['cores']} cores, {place['threads']} threads; {about}"
    return "\n".join([head, report["unit"], *rows])


def run(
    script: str, unit: str, libraries: Mapping[str, Maker], cases: Sequence[str], title: str
) -> None:
    """The command line of a benchmark script."""
    parser = argparse.ArgumentParser(description=title)
    parser.add_argument("--json", metavar="FILE", help="also write the report as JSON")
    parser.add_argument("--quick", action="store_true", help="a smoke run; figures are rough")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--rounds", type=int, help="rounds of each case (default 9, quick 2)")
    parser.add_argument("--libraries", nargs="+", choices=list(libraries), default=list(libraries))
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        if options.worker == "torch":
            import torch

            torch.set_num_threads(options.threads)
        serve(libraries[options.worker])
        return
    chosen = [name for name in options.libraries if installed(name)]
    workers = [Worker(script, name, options.threads) for name in chosen]
    try:
        rounds = options.rounds or (2 if options.quick else 9)
        results = measure(workers, cases, rounds, 0.02 if options.quick else 0.5)
    finally:
        for worker in workers:
            worker.close()
    report = {
        "benchmark": Path(script).stem,
        "unit": unit,
        "machine": machine(options.threads),
        "versions": versions(chosen),
        "libraries": chosen,
        "results": results,
    }
    print(table(report))
    if options.json:
        Path(options.json).write_text(json.dumps(report, indent=1))
