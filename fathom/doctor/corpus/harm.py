"""Measure which faults do harm, and write `cases.json`: `python -m fathom.doctor.corpus.harm`.

A fault counts in a family if its run ends with a clearly worse score than its repaired twin. The
engines take turns, family by family, to measure that; the others only have to accept the program,
for three steps: what an engine refuses with an error needs no doctor. Faults that are wrong by any
measure (`Fault.always`) count wherever they can be run; with `--full` they are measured, too.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from fathom.doctor.corpus.api import ENGINES, available
from fathom.doctor.corpus.cases import FAMILIES, FAULTS, Run
from fathom.doctor.corpus.running import limit_threads, outcome, shown

GAP = 0.15  # of the score
BRIEF = 3  # steps, where only acceptance is asked for

Combination = tuple[str, str, str]  # family, fault, strength
Job = tuple[Run, int]  # with how many steps, 0 for all


def combinations() -> Iterator[Combination]:
    """All families, faults and strengths that fit each other."""
    for family in FAMILIES.values():
        for fault in FAULTS.values():
            if fault.applies(family):
                for strength in fault.strengths:
                    yield family.name, fault.name, strength


def judge(family: str, engines: Sequence[str]) -> str:
    """The engine that measures a family."""
    return engines[list(FAMILIES).index(family) % len(engines)]


def jobs(chosen: Sequence[Combination], engines: Sequence[str], full: bool) -> list[Job]:
    """All runs to be made: whole ones of twins and faults, and brief ones."""
    families = dict.fromkeys(family for family, _, _ in chosen)
    found: list[Job] = [(Run(f, "", "", judge(f, engines), 0), 0) for f in families]
    for family, name, strength in chosen:
        fault = FAULTS[name]
        only = fault.engines.get(strength) or fault.engines.get("")
        allowed = [e for e in engines if only in (None, e)]
        first = judge(family, allowed) if allowed else ""
        if first and first != judge(family, engines):
            found.append((Run(family, "", "", first, 0), 0))
        for engine in allowed:
            whole = engine == first and (full or not fault.always)
            found.append((Run(family, name, strength, engine, 0), 0 if whole else BRIEF))
    return list(dict.fromkeys(found))


def measured(
    todo: Sequence[Job], pool: Executor, resume: str | None, what: str
) -> dict[Job, tuple[float, str]]:
    """Scores and errors of all jobs; `resume` keeps them as they come."""
    kept: dict[tuple[str, int], tuple[float, str]] = {}
    if resume and Path(resume).is_file():
        rows = map(json.loads, Path(resume).read_text().splitlines())
        kept = {(r["id"], r["steps"]): (r["score"], r["error"]) for r in rows}
    left = [job for job in todo if (job[0].id, job[1]) not in kept]
    waiting = {pool.submit(outcome, *job): job for job in left}
    for done in shown(as_completed(waiting), len(left), what):
        run, steps = waiting[done]
        score, error = kept[run.id, steps] = done.result()
        if resume:
            row = {"id": run.id, "steps": steps, "score": score, "error": error}
            with Path(resume).open("a") as file:
                file.write(json.dumps(row) + "\n")
    return {job: kept[job[0].id, job[1]] for job in todo}


def judged(
    chosen: Sequence[Combination], found: dict[Job, tuple[float, str]]
) -> Iterator[dict[str, Any]]:
    """The combinations that count; scores are null where they were not measured."""
    by: dict[Combination, list[Job]] = {}
    for job in found:
        by.setdefault((job[0].family, job[0].fault, job[0].strength), []).append(job)
    for family, fault, strength in chosen:
        mine = by.get((family, fault, strength), [])
        engines = sorted(run.engine for run, steps in mine if not found[run, steps][1])
        whole = [run for run, steps in mine if not steps and run.engine in engines]
        good = bad = math.nan
        if whole:
            good = found[Run(family, "", "", whole[0].engine, 0), 0][0]
            bad = found[whole[0], 0][0]
        if engines and (FAULTS[fault].always or good - bad >= GAP):
            scores = [None if math.isnan(v) else round(v, 3) for v in (good, bad)]
            yield {"family": family, "fault": fault, "strength": strength, "engines": engines,
                   "healthy": scores[0], "faulty": scores[1]}  # fmt: skip


def update(asked: Sequence[Combination], cases: Sequence[dict[str, Any]]) -> None:
    """Put what was asked for in the place of what `cases.json` knew of it."""
    file = Path(__file__).with_name("cases.json")
    old = json.loads(file.read_text())["cases"] if file.is_file() else []
    known = {(c["family"], c["fault"], c["strength"]): c for c in old}
    known = {key: case for key, case in known.items() if key not in set(asked)}
    known |= {(c["family"], c["fault"], c["strength"]): c for c in cases}
    cases = [known[key] for key in combinations() if key in known]
    lines = ",\n".join(json.dumps(case) for case in cases)
    rule = f"score worse by {GAP} than the repaired twin's, or wrong by any measure"
    text = f'{{"rule": "{rule}",\n"cases": [\n{lines}\n]}}\n'
    file.write_text(text)
    print(f"{asked[0][0]}: {len(cases)} of {len(list(combinations()))} combinations count")


def picked(families: Sequence[str], faults: Sequence[str]) -> Callable[[Combination], bool]:
    """Whether a combination is among those asked for; an empty list stands for all."""
    return lambda c: (not families or c[0] in families) and (not faults or c[1] in faults)


def main() -> None:
    """Measure, and write the file beside this module."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--families", nargs="*", default=[], choices=FAMILIES, metavar="NAME",
                        help="measure these alone; what is known of the others stays")  # fmt: skip
    parser.add_argument("--faults", nargs="*", default=[], choices=FAULTS, metavar="NAME")
    parser.add_argument("--full", action="store_true", help="measure all on one engine")
    parser.add_argument("--resume", metavar="JSONL", help="keep scores here, go on from here")
    options = parser.parse_args()
    engines = [e for e in ENGINES if available(e)]
    asked = picked(options.families, options.faults)
    chosen = [c for c in combinations() if asked(c)]
    with ProcessPoolExecutor(options.jobs, get_context("spawn"), limit_threads) as pool:
        for family in dict.fromkeys(c[0] for c in chosen):
            part = [c for c in chosen if c[0] == family]
            found = measured(jobs(part, engines, options.full), pool, options.resume, family)
            for (run, _), (_, error) in found.items():
                if error and not run.fault:
                    raise SystemExit(f"{run.id}: {error}")
            update(part, list(judged(part, found)))


if __name__ == "__main__":
    main()
