"""The side of `compiled.py` that works: one library in a process of its own, asked by lines."""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import sys
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import harness

from libraries import work
from libraries.work import Job, Row, Skip

# name: (module, its maker, the package to give the version of)
LIBRARIES = {
    "fathom": ("with_fathom", "make", ""),
    "eager": ("with_fathom", "make_eager", ""),
    "torch": ("with_torch", "make", "torch"),
    "torch.compile": ("with_torch", "make_compiled", "torch"),
    "jax": ("with_jax", "make", "jax"),
    "sklearn": ("with_sklearn", "make", "scikit-learn"),
    "copy": ("with_copy", "make", "numpy"),
}


def serve(library: str) -> None:
    """Answer questions, a line of JSON each; whatever the libraries print goes to stderr."""
    answers = sys.stdout
    with redirect_stdout(sys.stderr):
        worker = Answers(library)
        for line in sys.stdin:
            question = json.loads(line)
            try:
                found = getattr(worker, question.pop("what"))(**question)
            except Exception as error:  # a library that is absent or fails is left out, with this
                found = {"skipped": reason(error)}
            print(json.dumps(found), file=answers, flush=True)


def reason(error: Exception) -> str:
    text = str(error).strip().splitlines()
    kind = "" if isinstance(error, Skip) else f"{type(error).__name__}: "
    return f"{kind}{text[0] if text else ''}"[:160]


class Answers:
    """What a worker can be asked."""

    def __init__(self, library: str) -> None:
        self.library = library
        self.job: Job | None = None
        self.last = 0.0  # seconds of the last call of `prepare`

    def make(self, row: str) -> Job:
        module, maker, _ = LIBRARIES[self.library]
        make: Callable[[Row], Job] = getattr(importlib.import_module(f"libraries.{module}"), maker)
        return make(work.ROWS[row])

    def version(self) -> dict[str, Any]:
        package = LIBRARIES[self.library][2]
        importlib.import_module(f"libraries.{LIBRARIES[self.library][0]}")
        return {"version": importlib.metadata.version(package) if package else ""}

    def prepare(self, row: str) -> dict[str, Any]:
        """Build the work, do it a few times, and say what came out."""
        self.job = None  # the memory of the row before
        job = self.make(row)
        for _ in range(job.checks):
            start = time.perf_counter()
            out = job.call()
            self.last = time.perf_counter() - start
        self.job = job
        return {"check": job.read(out), "seconds": self.last}

    def round(self, seconds: float) -> dict[str, Any]:
        """Microseconds a unit, the median over about `seconds`."""
        if self.job is None:
            raise Skip("nothing is prepared")
        if self.last < seconds:
            harness.clock(self.job.call, self.job.units, seconds / 5)  # not reported
        return {"microseconds": harness.clock(self.job.call, self.job.units, seconds)}

    def first(self, row: str) -> dict[str, Any]:
        """Seconds of the first call, the library being imported."""
        job = self.make(row)
        start = time.perf_counter()
        job.call()
        return {"seconds": time.perf_counter() - start}

    def memory(self, row: str) -> dict[str, Any]:
        """Bytes that model, data and steps add to a process in which the library has worked."""
        small = self.make(work.SMALL)
        small.call()
        give_back()
        before = resident("VmRSS")
        job = self.make(row)
        for _ in range(3):
            job.call()
        give_back()
        Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
        for _ in range(5):
            job.call()
        return {"bytes": resident("VmHWM") - before}


def resident(field: str) -> int:
    """Bytes of this process that are in memory now (VmRSS), or were at most (VmHWM). Linux."""
    status = Path("/proc/self/status")
    if not status.exists():
        raise Skip("memory is read from /proc")
    return next(
        int(line.split()[1]) * 1024
        for line in status.read_text().splitlines()
        if line.startswith(f"{field}:")
    )


def give_back() -> None:
    """What is garbage or was freed goes back to the system, so that it is not counted."""
    import ctypes
    import gc

    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
