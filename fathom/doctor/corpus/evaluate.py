"""Run the doctor over the corpus: `python -m fathom.doctor.corpus --split held-out`."""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from fathom.doctor.corpus.api import ENGINES, available
from fathom.doctor.corpus.cases import Run, faulty, healthy
from fathom.doctor.corpus.recipe import SPLITS
from fathom.doctor.corpus.report import report, summary
from fathom.doctor.corpus.running import limit_threads, observed, shown


def runs(
    split: str, engines: Sequence[str], seeds: int = 1, healthy_seeds: int = 3, only: str = ""
) -> list[Run]:
    """All runs of a split, faulty and healthy; only : a part of their ids."""
    found: list[Run] = []
    for engine in engines:
        found += faulty(split, engine, range(seeds))
        found += healthy(split, engine, range(healthy_seeds))
    return [run for run in found if only in run.id]


def evaluate(
    chosen: Sequence[Run], *, jobs: int = 2, resume: str | Path | None = None, **options: Any
) -> list[dict[str, Any]]:
    """What the doctor says of each run, in the order of their ids.

    resume : a JSONL file; runs that it holds for the same doctor and options are not repeated,
    and new ones are added as they end.
    """
    key = fingerprint(options)
    done = _kept(resume, key)
    left = [run for run in chosen if run.id not in done]
    with ProcessPoolExecutor(jobs, get_context("spawn"), limit_threads) as pool:
        waiting = [pool.submit(observed, run, options) for run in left]
        for each in shown(as_completed(waiting), len(left), "doctor"):
            record = each.result()
            done[record["id"]] = record
            if resume is not None:
                with Path(resume).open("a") as file:
                    file.write(json.dumps({"key": key, **record}) + "\n")
    return [done[run.id] for run in sorted(chosen, key=lambda run: run.id)]


def fingerprint(options: dict[str, Any]) -> str:
    """Changes with the doctor's source and with the options of an evaluation."""
    digest = hashlib.blake2b(json.dumps(options, sort_keys=True).encode(), digest_size=8)
    for path in sorted(Path(__file__).parents[1].rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _kept(resume: str | Path | None, key: str) -> dict[str, dict[str, Any]]:
    if resume is None or not Path(resume).is_file():
        return {}
    records = [json.loads(line) for line in Path(resume).read_text().splitlines() if line]
    return {r["id"]: r for r in records if r.pop("key") == key}


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m fathom.doctor.corpus", description=__doc__)
    parser.add_argument("--split", choices=(*SPLITS, "all"), default="held-out")
    parser.add_argument("--engine", choices=(*ENGINES, "both"), default="both")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--seeds", type=int, default=1, help="seeds of faulty runs")
    parser.add_argument("--healthy-seeds", type=int, default=3)
    parser.add_argument("--only", default="", help="runs whose id contains this")
    parser.add_argument("--sample", type=int, default=1, metavar="N", help="each N-th run only")
    parser.add_argument("--resume", metavar="JSONL", help="keep results here, go on from here")
    parser.add_argument("--json", metavar="FILE", help="write the numbers and all runs")
    parser.add_argument("--treat", action="store_true", help="try the fixes, too (slow)")
    parser.add_argument("--budget", type=float, help="share of time for watching, if not the "
                        "default; 1: sampling does not depend on the machine's speed")  # fmt: skip
    parser.add_argument("--overhead", action="store_true", help="measure what watching costs")
    parser.add_argument("--runs", action="store_true", help="a line for each run that went wrong")
    options = parser.parse_args(arguments)
    engines = [e for e in ENGINES if options.engine in (e, "both") and available(e)]
    if options.overhead:
        from fathom.doctor.corpus.overhead import main as overhead

        overhead(engines)
        return
    chosen = runs(options.split, engines, options.seeds, options.healthy_seeds, options.only)
    chosen = chosen[:: options.sample]
    limit_threads()  # before the processes begin that take over this environment
    records = evaluate(chosen, jobs=options.jobs, resume=options.resume, treat=options.treat,
                       budget=options.budget)  # fmt: skip
    print(report(records, wrong=options.runs))
    if options.json:
        found = {"split": options.split, "engines": engines, "summary": summary(records),
                 "runs": records}  # fmt: skip
        Path(options.json).write_text(json.dumps(found, indent=1) + "\n")


__all__ = ["evaluate", "fingerprint", "main", "runs"]
