"""Running questions: each in a process of its own turn, results kept as they come.

A question's result is found again by the hash of its code (`catalogue.digest`), so a stopped run
goes on where it was. Numbers depend on the question alone, not on how many run at a time.
"""

from __future__ import annotations

import importlib.util
import os
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from fathom.book import catalogue, ledger
from fathom.book.evidence import Evidence, NotMeasurable, as_json, numbers, samples
from fathom.book.lab import Lab
from fathom.book.question import Claim, Question
from fathom.book.text import T
from fathom.book.verdict import Verdict, decide
from fathom.engine import random

Tell = Callable[[dict[str, Any], bool], None]


def check(claim: Claim, lab: Lab) -> dict[str, Any]:
    """Measure one claim: its entry in the ledger."""
    missing = [name for name in claim.needs if importlib.util.find_spec(name) is None]
    began = time.perf_counter()
    evidence: Evidence
    if missing:
        words = ", ".join(missing)
        evidence = NotMeasurable(T(f"needs {words}, not installed", f"需要安装 {words}"))
    else:
        with random.use(random.Random(lab.seeds(1, 1)[0])):
            evidence = claim.measure(lab)
    decision = decide(evidence, claim.region)
    found = numbers(evidence)
    seeds = [sample.n for sample in samples(evidence)]
    correction = None
    if claim.correction and decision.verdict in (Verdict.REFUTED, Verdict.DEPENDS):
        correction = claim.correction.filled(n=found, **_lone(found))._asdict()
    return {
        "id": claim.id,
        "question": claim.id[1:].rpartition("-")[0],
        "text": claim.text._asdict(),
        "kind": claim.kind,
        "method": claim.method,
        "rule": claim.region.words._asdict(),
        "evidence": as_json(evidence),
        "n": min(seeds, default=1),
        "verdict": decision.verdict.value,
        "reason": decision.reason._asdict(),
        "correction": correction,
        "weight": claim.weight,
        "quick": lab.quick,
        "seconds": round(time.perf_counter() - began, 3),
    }


def _lone(found: dict[str, float]) -> dict[str, float]:
    return {"value": next(iter(found.values()))} if found else {}


def answer(question: Question, quick: bool = False) -> dict[str, Any]:
    """Check all claims of a question and draw its figures: its result as JSON values."""
    lab = Lab(question.id, quick)
    began = time.perf_counter()
    claims = [check(claim, lab) for claim in question.claims.values()]
    figures = {}
    for name, drawn in question.figures.items():
        with random.use(random.Random(lab.seeds(1, 1)[0])):
            figures[name] = {"title": drawn.title._asdict(), **drawn.draw(lab).as_json()}
    return {
        "schema": ledger.SCHEMA,
        "question": question.id,
        "digest": catalogue.digest(question.id),
        "quick": quick,
        "seconds": round(time.perf_counter() - began, 2),
        "claims": claims,
        "figures": figures,
    }


def _work(id: str, quick: bool) -> dict[str, Any]:
    """What a worker does: a failure comes back as words."""
    from threadpoolctl import threadpool_limits

    try:
        with threadpool_limits(1):
            return answer(catalogue.question(id), quick)
    except Exception as error:
        return {
            "question": id, "error": f"{type(error).__name__}: {error}",
            "traceback": traceback.format_exc(),
        }  # fmt: skip


def kept(folder: Path, question: Question) -> dict[str, Any] | None:
    """The question's result in the folder, by whatever code it was made."""
    path = folder / f"{question.id}.json"
    found: dict[str, Any] | None = ledger.read(path) if path.exists() else None
    return found


def fresh(folder: Path, question: Question, quick: bool) -> dict[str, Any] | None:
    """The question's result if it was made by the code of today, else None."""
    found = kept(folder, question)
    if found is None or found["digest"] != catalogue.digest(question.id):
        return None
    return found if found["quick"] == quick else None


def run(
    questions: Sequence[Question], folder: Path, *, quick: bool = False, jobs: int | None = None,
    again: bool = False, tell: Tell | None = None,
) -> Iterator[dict[str, Any]]:  # fmt: skip
    """Results of the questions as they come; each is written to the folder first.

    Parameters
    ----------
    jobs : questions at a time; the number of cores where not given.
    again : run also those which the folder has.
    tell : called with (result, whether it was found in the folder).
    """
    left = []
    for question in questions:
        result = None if again else fresh(folder, question, quick)
        if result is None:
            left.append(question)
            continue
        if tell:
            tell(result, True)
        yield result
    for result in _run(left, quick, jobs or os.cpu_count() or 1):
        if "error" not in result:
            ledger.write(folder / f"{result['question']}.json", result)
        if tell:
            tell(result, False)
        yield result


def _run(questions: Sequence[Question], quick: bool, jobs: int) -> Iterator[dict[str, Any]]:
    """The slowest first, so that none is left alone at the end; those that time things alone."""
    beside = sorted((q for q in questions if not q.alone), key=expected_seconds, reverse=True)
    alone = [q for q in questions if q.alone]
    if not questions:
        return
    with _one_thread_each(), ProcessPoolExecutor(jobs, get_context("spawn")) as pool:
        try:
            waiting = {pool.submit(_work, q.id, quick) for q in beside}
            while waiting:
                done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                for future in done:
                    yield future.result()
            for q in alone:
                yield pool.submit(_work, q.id, quick).result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def expected_seconds(question: Question) -> float:
    """How long the question took where the reference was measured; 5 where it is not known."""
    known = ledger.reference()
    return sum(known[c]["seconds"] if c in known else 1.0 for c in question.claims) or 5.0


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Workers use one thread: as many questions as cores run side by side."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "FATHOM_THREADS")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
