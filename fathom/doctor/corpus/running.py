"""Run programs of the corpus in processes of their own, and note what came of it."""

from __future__ import annotations

import math
import os
import sys
import time
import warnings
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

from fathom.doctor.corpus.cases import Run

T = TypeVar("T")


def limit_threads() -> None:
    """One thread for each process: the runs are small, and results the same on any machine."""
    warnings.simplefilter("ignore")
    os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


def outcome(run: Run, steps: int = 0) -> tuple[float, str]:
    """The score at the end of a run that nobody watches, or of its first steps, and its error."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = run.program(steps)
            limit_threads()
            program.run()
            return program.score(), ""
    except Exception as error:  # an engine that refuses a faulty program has told it already
        return math.nan, f"{type(error).__name__}: {error}"


def observed(run: Run, options: dict[str, Any]) -> dict[str, Any]:
    """A run under the doctor's eyes, as plain values: findings, and when each was first told.

    options : `budget`, of the doctor's time, if not the default one; `treat`: whether the first
    finding is tried.
    """
    fault = run.of
    record: dict[str, Any] = {
        "id": run.id, "family": run.family, "fault": run.fault, "strength": run.strength,
        "engine": run.engine, "seed": run.seed, "kind": run.source.kind, "findings": [],
        "expected": list(fault.expected) if fault else [], "usage": bool(fault and fault.usage),
        "advice": bool(fault and fault.advice), "error": "", "notes": [], "proven": None,
    }  # fmt: skip
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            _observe(run, record, options)
    except Exception as error:
        record["error"] = f"{type(error).__name__}: {error}"
    return record


def _observe(run: Run, record: dict[str, Any], options: dict[str, Any]) -> None:
    from fathom.doctor.watching import watch

    program, fault = run.program(), run.of
    limit_threads()
    record["planned"] = program.planned
    late = fault is not None and run.strength in fault.onset
    record["onset"] = program.evaluates if late else 0
    record["places"] = sorted(set(fault.where(program.model, fault.recipe(
        run.source, run.strength)))) if fault else []  # fmt: skip
    watches: list[Any] = []

    def watching(*args: Any, **keywords: Any) -> Any:
        if options.get("budget"):
            keywords["budget"] = options["budget"]
        watches.append(watch(*args, **keywords))
        return watches[-1]

    start = time.perf_counter()
    program.run(watching)
    record["seconds"] = round(time.perf_counter() - start, 3)
    for seen in watches:
        end = seen.case.usage.steps
        record["findings"] += [
            {"kind": f.kind, "severity": f.severity, "probability": float(f.probability),
             "strength": float(f.strength), "where": f.where, "since": f.since_step,
             "told": seen.told.get(f.kind, end)}
            for f in seen.findings
        ]  # fmt: skip
        record["notes"] += list(seen.case.notes)
        if options.get("treat") and fault and record["proven"] is None:
            record["proven"] = proven(seen, fault.expected)


def proven(seen: Any, expected: tuple[str, ...]) -> bool | None:
    """Whether the first finding of a right kind has a fix that helped when tried; None: no such."""
    for finding in seen.findings:
        if finding.kind in expected:
            trial = seen.treat(finding).trial
            return bool(trial is not None and trial.helped)
    return None


def shown(results: Iterable[T], total: int, what: str) -> Iterator[T]:
    """The same results, with a bar of progress on a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (what, BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        yield from progress.track(results, total=total)


__all__ = ["limit_threads", "observed", "outcome", "proven", "shown"]
