"""`fathom book`: list, show, ask, verify, run, report."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def fathom(*words: str, cwd: Path | None = None, code: int = 0) -> str:
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-m", "fathom", "book", *words],
        capture_output=True, text=True, cwd=cwd, env=env, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    return done.stdout if code == 0 else done.stderr


def test_list_and_show() -> None:
    rows = json.loads(fathom("list", "2.1", "--json"))
    assert [r["id"] for r in rows][:2] == ["2.1.1", "2.1.2"]
    assert "C2.1.8-03" in fathom("show", "2.1.8") and "偏置" in fathom(
        "show", "2.1.8", "--lang", "zh"
    )


@pytest.mark.parametrize("words", ["what is lost without a bias term", "偏置项 有什么作用"])
def test_ask_in_both_languages(words: str) -> None:
    assert json.loads(fathom("ask", words, "--json"))[0]["id"] == "2.1.8"


def test_verify_says_how_the_verdict_follows() -> None:
    told = fathom("verify", "C2.1.8-03")
    assert "sigmoid / formula: 0.5" in told and "fails for activation = sigmoid" in told
    assert "DEPENDS" in told and "instead   The pre-activation is" in told


def test_run_keeps_results_and_report_shows_them(tmp_path: Path) -> None:
    first = fathom("run", "2.1.8", "--quick", cwd=tmp_path)
    assert re.search(r"\[1/1\] 2\.1\.8: .*\d confirmed", first)
    assert "(kept)" in fathom("run", "2.1.8", "--quick", cwd=tmp_path)
    whole = json.loads((tmp_path / "book-out/ledger-quick.json").read_text(encoding="utf-8"))
    assert whole["quick"] and len(whole["claims"]) == 12 and whole["made_with"]["cores"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("run",), "--all"),
        (("show", "2.1.88"), "did you mean 2.1.8?"),
        (("verify", "C2.1.8-77"), "no claim"),
        (("run", "9.9"), "no question"),
    ],
)
def test_mistakes_are_told_and_end_with_two(words: tuple[str, ...], said: str) -> None:
    assert said in fathom(*words, code=2)
