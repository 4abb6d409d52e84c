"""`fathom book`: list, show, ask, verify, run, report."""

import json
import re
from pathlib import Path

import pytest


@pytest.fixture
def book(run):
    """`fathom book words...` in this process: what it prints, or complains of."""

    def call(*words: str, code: int = 0) -> str:
        result = run("book", *words, code=code)
        return result.stdout if code == 0 else result.stderr

    return call


def test_list_and_show(book) -> None:
    rows = json.loads(book("list", "2.1", "--json"))
    assert [r["id"] for r in rows][:2] == ["2.1.1", "2.1.2"]
    assert "C2.1.8-03" in book("show", "2.1.8")
    assert "偏置" in book("show", "2.1.8", "--lang", "zh")


@pytest.mark.parametrize("words", ["what is lost without a bias term", "偏置项 有什么作用"])
def test_ask_in_both_languages(book, words: str) -> None:
    assert json.loads(book("ask", words, "--json"))[0]["id"] == "2.1.8"


def test_verify_says_how_the_verdict_follows(book) -> None:
    told = book("verify", "C2.1.8-03")
    assert "sigmoid / formula: 0.5" in told and "fails for activation = sigmoid" in told
    assert "DEPENDS" in told and "instead   The pre-activation is" in told


def test_run_keeps_results_and_report_shows_them(book, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    first = book("run", "3.2.3", "--quick")
    assert re.search(r"\[1/1\] 3\.2\.3: .*\d confirmed", first)
    assert "(kept)" in book("run", "3.2.3", "--quick")
    whole = json.loads((tmp_path / "book-out/ledger-quick.json").read_text(encoding="utf-8"))
    assert whole["quick"] and len(whole["claims"]) == 8 and whole["made_with"]["cores"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("run",), "--all"),
        (("show", "2.1.88"), "did you mean 2.1.8?"),
        (("verify", "C2.1.8-77"), "no claim"),
        (("run", "9.9"), "no question"),
    ],
)
def test_mistakes_are_told_and_end_with_two(book, words: tuple[str, ...], said: str) -> None:
    assert said in book(*words, code=2)
