"""The whole book: complete, honest, and as it was when its results were committed."""

import ast
import importlib.util
import inspect
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fathom.book import Lab, Verdict, catalogue, ledger, runner
from fathom.book.material import speed
from fathom.book.question import KINDS, Claim, Question

BOOK = Path(__file__).parents[2] / "fathom" / "book"
SHARED = Path(__file__).parents[3] / "shared" / "book"
QUESTIONS = list(catalogue.catalogue().values())
KNOWN = ledger.reference()
SAMPLED = 4.0  # seconds that a question's experiments took in the reference, at most, all told


def settled(question: Question) -> list[Claim]:
    """What does not go by seeds: it is checked in full."""
    return [c for c in question.claims.values() if c.kind in ("exact", "reference")]


def unmeasurable(question: Question) -> list[Claim]:
    """What says why it cannot be measured; numbers beside it may be those of a quick run."""
    return [c for c in question.claims.values() if c.kind == "unmeasurable"]


def experiments(question: Question) -> list[Claim]:
    """What takes runs over seeds."""
    return [c for c in question.claims.values() if c.kind == "experiment"]


def sampled(question: Question) -> bool:
    """Whether its experiments are repeated here: the cheap ones, which share their material."""
    took = [KNOWN[c.id]["seconds"] if c.id in KNOWN else SAMPLED for c in experiments(question)]
    return bool(took) and sum(took) < SAMPLED


def changes(
    question: Question, claims: list[Claim], known: dict[str, Any], quick: bool = False
) -> list[str]:
    """A line for each of the claims that is now decided otherwise; they share one lab."""
    lab, found = Lab(question.id, quick), []
    for claim in claims:
        if claim.id in known and all(importlib.util.find_spec(name) for name in claim.needs):
            try:
                found.append(runner.check(claim, lab))
            except Timed:
                assert question.alone, f"{claim.id} measures time"
    return ledger.compare(found, known)


class Timed(Exception):
    """A check asked for the time: tests never assert on it."""


class NoClock:
    def __getattr__(self, name: str) -> Any:
        raise Timed


@pytest.fixture
def no_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "time", NoClock())


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda q: q.id)
def test_a_question_is_complete(question: Question) -> None:
    q = question
    for name in ("title", "answer", "flips", "analogy", "generative", "classical", "driving"):
        en, zh = getattr(q, name)
        assert en.strip() and zh.strip() and en != zh, name
        assert any("一" <= c <= "鿿" for c in zh), name
        assert not any("一" <= c <= "鿿" for c in en), name
    assert 3 <= sum(q.answer.en.count(mark) for mark in (". ", "? ", "! ")) + 1 <= 8
    assert q.figures, "an experiment with a figure"
    for claim in q.claims.values():
        assert claim.kind in KINDS and claim.method, f"{claim.id}: how is it measured?"
        assert 1 <= claim.weight <= 5
    for drawn in q.figures.values():
        assert drawn.draw.__doc__, drawn.name


def test_no_verdict_is_typed() -> None:
    """Only `verdict.py` makes verdicts: nowhere else is one named or built."""
    words = {v.value for v in Verdict} | {v.name for v in Verdict}
    for path in BOOK.rglob("*.py"):
        if path.name == "verdict.py":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            typed = isinstance(node, ast.Constant) and node.value in words - {"not measurable"}
            called = isinstance(node, ast.Name) and node.id == "Decision"
            assert not (typed or called), f"{path.name}:{node.lineno} types a verdict"


@pytest.mark.parametrize("path", sorted(BOOK.rglob("q*.py")), ids=lambda p: p.stem)
def test_no_fact_is_a_verdict(path: Path) -> None:
    """What sources state is a number or a phrase: no yes or no, in no words."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not (isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Published"):
            continue
        for part in [*node.args, *(k.value for k in node.keywords)]:
            at = f"{path.name}:{part.lineno}"
            assert not isinstance(part, ast.Compare | ast.BoolOp), f"{at} compares by itself"
            if isinstance(part, ast.Constant):
                assert not isinstance(part.value, bool), f"{at} types a verdict"
                assert str(part.value).lower() not in ("yes", "no", "true", "false"), at


@pytest.mark.skipif(not SHARED.exists(), reason="the book's data lie beside the checkout only")
def test_every_claim_of_the_book_has_its_check() -> None:
    lines = (SHARED / "claims.jsonl").read_text(encoding="utf-8").splitlines()
    asked = [json.loads(line) for line in lines]
    done = {c for q in QUESTIONS for c in q.claims}
    answered = {q.id for q in QUESTIONS}
    missing = [c["id"] for c in asked if c["question"] in answered and c["id"] not in done]
    assert not missing
    assert done <= {c["id"] for c in asked}


@pytest.mark.skipif(not KNOWN, reason="no results have been committed yet")
@pytest.mark.usefixtures("no_clock")
@pytest.mark.parametrize("question", QUESTIONS, ids=lambda q: q.id)
def test_settled_claims_say_what_they_said(question: Question) -> None:
    changed = changes(question, settled(question), KNOWN)
    changed += changes(question, unmeasurable(question), KNOWN, quick=True)
    assert not changed


@pytest.mark.skipif(os.environ.get("FATHOM_NATIVE") == "0", reason="takes minutes without")
@pytest.mark.usefixtures("no_clock")
@pytest.mark.parametrize("question", [*filter(sampled, QUESTIONS)], ids=lambda q: q.id)
def test_a_sample_of_experiments_says_what_it_said(question: Question) -> None:
    changed = changes(question, experiments(question), KNOWN, quick=True)
    assert not changed


def test_questions_that_measure_time_run_alone() -> None:
    for id, module in catalogue._modules().items():
        source = inspect.getsource(module)
        timed = "material.speed" in source or "material.activation_cost" in source
        assert timed == catalogue.question(id).alone, id


@pytest.mark.parametrize("of", [settled, experiments])
def test_a_changed_verdict_is_found(of: Callable[[Question], list[Claim]]) -> None:
    question = catalogue.question("2.1.3")
    claims, lab = of(question), Lab(question.id, quick=True)
    known = {c.id: runner.check(c, lab) for c in claims}
    assert known and not changes(question, claims, known, quick=True)
    for id, entry in known.items():
        wrong = next(w for w in ("confirmed", "refuted") if w != entry["verdict"])
        planted = {**known, id: {**entry, "verdict": wrong}}
        (line,) = changes(question, claims, planted, quick=True)
        assert line == f"{id}: {wrong} in the reference, {entry['verdict']} here"


@pytest.mark.skipif(not KNOWN, reason="no results have been committed yet")
def test_reference_is_whole() -> None:
    assert set(KNOWN) == {id for q in QUESTIONS for id in q.claims}
    for entry in KNOWN.values():
        if entry["verdict"] in ("refuted", "depends"):
            assert entry["correction"], f"{entry['id']} does not say what is true instead"
        assert not entry["quick"]


@pytest.mark.skipif(os.environ.get("FATHOM_BOOK") != "1", reason="FATHOM_BOOK=1: takes minutes")
@pytest.mark.parametrize("question", QUESTIONS, ids=lambda q: q.id)
def test_quick_run_of_everything(question: Question) -> None:
    result = runner.answer(question, quick=True)
    assert len(result["claims"]) == len(question.claims)
    assert question.alone or not ledger.compare(result["claims"])
