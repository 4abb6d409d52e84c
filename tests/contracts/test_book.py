"""The whole book: complete, honest, and as it was when its results were committed."""

import ast
import json
import os
from pathlib import Path

import pytest

from fathom.book import Lab, Verdict, catalogue, ledger, runner
from fathom.book.question import KINDS

BOOK = Path(__file__).parents[2] / "fathom" / "book"
SHARED = Path(__file__).parents[3] / "shared" / "book"
QUESTIONS = list(catalogue.catalogue().values())
EXACT = [
    pytest.param(q.id, claim.id, id=claim.id)
    for q in QUESTIONS
    for claim in q.claims.values()
    if claim.kind in ("exact", "reference", "unmeasurable")
]


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda q: q.id)
def test_a_question_is_complete(question: object) -> None:
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


@pytest.mark.skipif(not SHARED.exists(), reason="the book's data lie beside the checkout only")
def test_every_claim_of_the_book_has_its_check() -> None:
    lines = (SHARED / "claims.jsonl").read_text(encoding="utf-8").splitlines()
    asked = [json.loads(line) for line in lines]
    done = {c for q in QUESTIONS for c in q.claims}
    answered = {q.id for q in QUESTIONS}
    missing = [c["id"] for c in asked if c["question"] in answered and c["id"] not in done]
    assert not missing
    assert done <= {c["id"] for c in asked}


@pytest.mark.parametrize(("question", "claim"), EXACT)
def test_exact_checks_say_what_they_said(question: str, claim: str) -> None:
    known = ledger.reference().get(claim)
    if known is None:
        pytest.skip("nothing committed to compare with")
    entry = runner.check(catalogue.claim(claim)[1], Lab(question))
    if entry["verdict"] == "not measurable" != known["verdict"]:
        pytest.skip("a package is missing here")
    assert entry["verdict"] == known["verdict"], entry["evidence"]


def test_reference_is_whole() -> None:
    known = ledger.reference()
    if not known:
        pytest.skip("no results have been committed yet")
    for entry in known.values():
        if entry["verdict"] in ("refuted", "depends"):
            assert entry["correction"], f"{entry['id']} does not say what is true instead"
        assert not entry["quick"]


@pytest.mark.skipif(os.environ.get("FATHOM_BOOK") != "1", reason="FATHOM_BOOK=1: takes minutes")
@pytest.mark.parametrize("question", QUESTIONS, ids=lambda q: q.id)
def test_quick_run_of_everything(question: object) -> None:
    result = runner.answer(question, quick=True)  # type: ignore[arg-type]
    assert len(result["claims"]) == len(question.claims)  # type: ignore[attr-defined]
